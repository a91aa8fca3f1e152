"""The keywords: what they say when something is not as it should be, and that nothing stays behind.
The scenarios in robot_tests, on the host."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from robot.api import ExecutionResult, SkipExecution
from robot.libdoc import LibraryDocumentation

from conftest import SMALL
from planting import line, plant
from tinymetafed.nodes import renode_console
from tinymetafed.places import PROJECT
from tinymetafed.robot import Energy, FederationLibrary, Size


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """An experiment on three host nodes."""
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.fixture
def keywords() -> Iterator[FederationLibrary]:
    library = FederationLibrary()
    yield library
    library.close()


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Energy, "3 mJ", 3e-3), (Energy, "250uJ", 250e-6), (Energy, "0.5 µJ", 0.5e-6),
        (Energy, " 2 J ", 2.0), (Size, "4096 B", 4096), (Size, "1.5 kB", 1500), (Size, "2MB", 2e6),
    ],
)  # fmt: skip
def test_quantities_have_units(kind: Any, text: str, value: float):
    assert kind.parse(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["3", "mJ", "3 kB", "3 MJ", "-1 mJ", "1e3 mJ", "3 mJ 4"])
def test_a_quantity_without_a_known_unit(text: str):
    with pytest.raises(ValueError, match="give a number and one of J, mJ, uJ, µJ"):
        Energy.parse(text)


def test_figures_that_are_not_below_their_limits(keywords: FederationLibrary, small: Path):
    keywords.start_federation(small, "rounds=2", federation="few")
    running = keywords._current
    keywords.run_rounds(2)
    moved = sum(row.bytes_down + row.bytes_up for row in running.rows) / 2
    with pytest.raises(AssertionError) as failure:
        keywords.bytes_per_round_should_be_below(Size(moved))
    assert str(failure.value) == (
        f"few moved {moved:,.0f} bytes per round, not below {moved:,.0f} bytes"
    )
    keywords.bytes_per_round_should_be_below(Size(moved + 1))
    loss = keywords.get_loss()
    with pytest.raises(AssertionError, match=f"is {loss:.4f} after 2 rounds, not below {loss:.4f}"):
        keywords.loss_should_be_below(loss)
    keywords.loss_should_be_below(loss * 1.001)


def test_what_is_counted_on_qemu(keywords: FederationLibrary, small: Path):
    keywords.start_federation(small, "nodes.backend=qemu", "nodes.count=1", federation="one")
    keywords.skip_unless_instructions_are_counted()
    keywords.run_rounds(1)
    used = keywords._current.energy_per_round()
    with pytest.raises(AssertionError, match=r"one used \d\.\d{3} mJ per round, not below 0\.001"):
        keywords.energy_per_round_should_be_below(Energy(1e-6))
    keywords.energy_per_round_should_be_below(Energy(used * 1.001))
    with pytest.raises(AssertionError, match=r"one executed [\d,]+ instructions in 'learn' per"):
        keywords.instructions_per_round_should_be_below("learn", 1000)
    with pytest.raises(AssertionError, match="no phase 'leaning'; there were.* learn, receive"):
        keywords.instructions_per_round_should_be_below("leaning", 1000)
    keywords.start_federation(
        small, "nodes.backend=qemu", "nodes.count=1", "strategy.query=60", federation="more"
    )
    keywords.run_rounds(1)
    keywords.should_use_less_energy("one", "more")
    with pytest.raises(AssertionError, match=r"more used .* mJ per round, one .* mJ: not less"):
        keywords.should_use_less_energy("more", "one")


def test_an_unplugged_node_uses_no_energy_and_a_boot_is_counted(
    keywords: FederationLibrary, small: Path
):
    keywords.start_federation(small, "nodes.backend=qemu", "nodes.count=2", "energy.interval=1e6")
    keywords.run_rounds(1)
    both = keywords._current.energy_per_round()  # asleep, most of the interval
    keywords.unplug_node(1)
    keywords.run_rounds(1)
    assert keywords._current.energy_per_round() == pytest.approx(both / 2, rel=0.1)
    keywords.plug_in_node(1)
    keywords.run_rounds(1)
    assert keywords._current.energy_per_round() == pytest.approx(both, rel=0.1)
    assert keywords._current.instructions_per_round()["start"] > 10_000
    keywords.cut_power_of_node(0)
    keywords.run_rounds(1)
    with pytest.raises(AssertionError, match="node-0 was started again in round 4, so what it"):
        keywords.energy_per_round_should_be_below(Energy(1))


@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda k: k.run_rounds(5), "cannot do 5 rounds: 0 of its 4 are done; start it with"),
        (lambda k: k.run_rounds(0), "cannot do 0 rounds"),
        (lambda k: k.unplug_node(3), "no node 3; federation has 0 to 2"),
        (lambda k: k.plug_in_node(1), "node-1 is plugged in already"),
        (lambda k: k.cut_power_of_node(-1), "no node -1"),
        (lambda k: k.corrupt_links(1.5), "a probability is from 0 to 1, not 1.5"),
        (lambda k: k.corrupt_links(lost_frames=2), "Corrupt Links: lost_frames: 2 is not allowed"),
        (lambda k: k.corrupt_links(0.1, nodes=[3]), "no node 3; federation has 0 to 2"),
        (
            lambda k: k.links_should_have_been_corrupted(),
            "no frame was spoiled on the links of",
        ),
        (lambda k: k.node_should_be_lost(0), "node-0 is running"),
        (lambda k: k.switch_federation("b"), "no federation 'b' is running; there is federation"),
        (lambda k: k.bytes_per_round_should_be_below(Size(1)), "has done no rounds yet; run some"),
        (lambda k: k.every_node_should_run_version("9.9"), "node-0 runs 0.1.0, not 9.9"),
        (lambda k: k.start_federation(Path("no.toml")), "no.toml: cannot be read: No such file"),
    ],
)
def test_what_cannot_be_done_or_is_not_so(
    keywords: FederationLibrary, small: Path, use: Callable[[FederationLibrary], None], says: str
):
    keywords.start_federation(small)
    with pytest.raises(AssertionError, match=says):
        use(keywords)


def test_without_a_federation(keywords: FederationLibrary):
    with pytest.raises(AssertionError, match="no federation is running; use 'Start Federation'"):
        keywords.run_rounds(1)


def test_host_nodes_are_not_counted(keywords: FederationLibrary, small: Path):
    keywords.start_federation(small)
    with pytest.raises(SkipExecution, match="host nodes are not counted"):
        keywords.skip_unless_instructions_are_counted()
    keywords.run_rounds(1)
    with pytest.raises(AssertionError, match="federation: host nodes are not counted; use qemu"):
        keywords.energy_per_round_should_be_below(Energy(1))


def test_a_node_that_is_lost_and_comes_back(keywords: FederationLibrary, small: Path):
    keywords.start_federation(small)
    keywords.node_should_be_running(1)
    keywords.unplug_node(1)
    keywords.node_should_be_lost(1)
    with pytest.raises(AssertionError, match="node-1 is not running: node-1 is not running"):
        keywords.node_should_be_running(1)
    keywords.run_rounds(1)
    assert {row.node for row in keywords._current.rows} == {0, 2}
    keywords.plug_in_node(1)
    keywords.node_should_be_running(1)
    keywords.cut_power_of_node(1)
    with pytest.raises(AssertionError, match="node-1 is not running: node-1: it lost its power"):
        keywords.node_should_be_running(1)
    keywords.run_rounds(1)
    keywords.node_should_be_running(1)
    assert {row.node for row in keywords._current.rows} == {0, 1, 2}


def test_asking_a_node_is_no_part_of_the_figures(keywords: FederationLibrary, small: Path):
    for name in ("asked", "unasked"):
        keywords.start_federation(small, federation=name)
        if name == "asked":
            keywords.node_should_be_running(0)
        keywords.run_rounds(1)
    rows = [keywords._named(name).rows for name in ("asked", "unasked")]
    assert rows[0] == rows[1]


def test_weights_that_differ(keywords: FederationLibrary, small: Path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        keywords.start_federation(small, f"seed={seed}", federation=name)
        keywords.run_rounds(1)
    keywords.weights_should_be_identical("a", "b")
    with pytest.raises(AssertionError, match=r"\d+ of 53 weights differ; number 0 is .* in a af"):
        keywords.weights_should_be_identical("a", "c")
    keywords.start_federation(small, "model.layers=[{units=1}]", 'strategy={name="reptile"}',
                              federation="d")  # fmt: skip
    with pytest.raises(AssertionError, match="a has 53 weights, d has 2"):
        keywords.weights_should_be_identical("a", "d")


def test_nodes_of_different_builds(keywords: FederationLibrary, small: Path):
    keywords.start_federation(small)
    keywords.every_node_should_run_the_same_build()
    keywords._current.nodes[1] = _other_build(keywords, small)
    with pytest.raises(AssertionError, match="different builds: node-0, node-2: .*; node-1: "):
        keywords.every_node_should_run_the_same_build()


def _other_build(keywords: FederationLibrary, small: Path) -> Any:
    """A node of another backend, which has another image."""
    keywords.start_federation(small, "nodes.backend=qemu", federation="other")
    node = keywords._current.nodes[1]
    keywords.switch_federation("federation")
    return node


def test_a_federation_is_the_current_one_until_another_is_started_or_it_stops(
    keywords: FederationLibrary, small: Path
):
    for name in ("a", "b", "c"):
        keywords.start_federation(small, federation=name)
    keywords.switch_federation("a")
    assert keywords._current.name == "a"
    keywords.stop_federation()
    assert keywords._current.name == "c"


def test_without_renode(keywords: FederationLibrary, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(renode_console, "program", lambda: None)
    with pytest.raises(SkipExecution, match="Renode is not installed"):
        keywords.skip_unless_renode_is_installed()


def test_every_keyword_is_documented():
    library = LibraryDocumentation("tinymetafed.robot")
    assert len(library.keywords) > 15
    assert all(keyword.doc for keyword in library.keywords)


def _robot(folder: Path, *arguments: str | Path) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit status, and for each test whether it passed, and its message."""
    ran = subprocess.run(
        [sys.executable, "-m", "robot", "--console=none", "--log=NONE", "--report=NONE",
         f"--outputdir={folder}", *arguments],
        env=os.environ | {"TMPDIR": str(folder)}, timeout=120, check=False,
    )  # fmt: skip
    result = ExecutionResult(folder / "output.xml")
    return ran.returncode, {
        test.name: (test.status, test.message) for test in result.suite.all_tests
    }


def test_the_scenarios_pass_on_the_host(tmp_path: Path):
    status, tests = _robot(
        tmp_path, "--variable=BACKEND:host", "--exclude=renode-test", PROJECT / "robot_tests"
    )
    assert status == 0, tests
    passed = [name for name, (how, _) in tests.items() if how == "PASS"]
    assert len(passed) >= 8


SUITE = """
*** Settings ***
Library        tinymetafed.robot
Suite Setup    Start Two Federations

*** Test Cases ***
Fails
    Switch Federation    first
    Start Federation    {small}    nodes.backend=qemu    federation=of the test
    Node Should Be Lost    0

The Next One
    Nothing Should Be Left
    Stop Federation
    Switch Federation    of the test

Takes Too Long
    [Timeout]    300 ms
    Start Federation    {small}    nodes.backend=qemu    rounds=1000000
    Run Rounds    1000000

Comes After It
    Nothing Should Be Left

Is Wrong
    Start Federation    {small}    nodes.backend=qemux
    Energy Per Round Should Be Below    5

*** Keywords ***
Nothing Should Be Left
    ${{sockets}}=    Evaluate    list(pathlib.Path("{folder}").glob("tinymetafed-*/*.sock"))
    Should Be Empty    ${{sockets}}

Start Two Federations
    Start Federation    {small}    federation=first
    Start Federation    {small}    federation=last
"""


def test_nothing_stays_behind_a_test_that_fails(tmp_path: Path, small: Path):
    suite = tmp_path / "suite.robot"
    suite.write_text(SUITE.format(small=small, folder=tmp_path))
    status, tests = _robot(tmp_path, suite)
    assert status == 4
    messages = {name: message for name, (_, message) in tests.items()}
    assert messages["Fails"] == "node-0 is running"
    assert messages["The Next One"] == "no federation 'of the test' is running; there is first"
    assert messages["Comes After It"] == ""
    assert messages["Takes Too Long"] == "Test timeout 300 milliseconds exceeded."
    assert messages["Is Wrong"] == (
        f"{small}: nodes.backend: 'qemux' is not allowed; use 'qemu', 'renode', 'serial' or 'host'"
    )
    assert not list(tmp_path.glob("tinymetafed-*"))
    assert not _processes(str(tmp_path))


FAULTS = """
*** Settings ***
Library    tinymetafed.robot

*** Test Cases ***
Learns
    Start Federation    {small}    nodes.backend=qemu    nodes.count=1
    Run Rounds    1
    Node Should Not Have Faulted

Faults
    Start Federation    {small}    nodes.backend=qemu    nodes.count=1
    Run Rounds    2

Fails And Faults
    Start Federation    {small}    nodes.backend=qemu    nodes.count=1
    Run Rounds    2
    Stop Federation
    Fail    For another reason

Expects It
    Start Federation    {small}    nodes.backend=qemu    nodes.count=1
    Run Rounds    2
    Run Keyword And Expect Error    *HardFault in bad_write*    Node Should Not Have Faulted

Tolerates It
    Start Federation    {small}    nodes.backend=qemu    nodes.count=1    faults.tolerate=true
    Run Rounds    2
"""


FAULTS_AFTERWARDS = """
*** Settings ***
Library           tinymetafed.robot
Suite Teardown    Fault Afterwards

*** Test Cases ***
Learns
    Start Federation    {small}

*** Keywords ***
Fault Afterwards
    Start Federation    {small}    nodes.backend=qemu    nodes.count=1
    Run Rounds    2
"""


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Emulated nodes have a mistake, also in a process of the test's; what is said of it."""
    image = plant("bad_write", tmp_path)
    (tmp_path / "sitecustomize.py").write_text(
        "from pathlib import Path\nfrom tinymetafed.nodes import backends\n"
        f"backends.MPS2_IMAGE = Path({str(image)!r})\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    return (
        "firmware fault in federation, node-0: HardFault in bad_write, "
        f"planted_faults.c:{line('line: bad_write')}"
    )


def test_a_test_in_which_a_node_faults_fails(tmp_path: Path, small: Path, faulty: str):
    """With function, file and line, in JUnit too."""
    suite = tmp_path / "suite.robot"
    suite.write_text(FAULTS.format(small=small))
    status, tests = _robot(tmp_path, "--xunit=junit.xml", suite)
    assert status == 2
    assert tests["Faults"][0] == tests["Fails And Faults"][0] == "FAIL"
    assert tests["Faults"][1].startswith(faulty)
    assert tests["Fails And Faults"][1].startswith(f"For another reason\n\nAlso: {faulty}")
    assert (tmp_path / "junit.xml").read_text().count(faulty) >= 2


def test_a_suite_in_whose_teardown_a_node_faults_fails(tmp_path: Path, small: Path, faulty: str):
    suite = tmp_path / "suite.robot"
    suite.write_text(FAULTS_AFTERWARDS.format(small=small))
    status, tests = _robot(tmp_path, suite)
    assert status == 1
    assert tests["Learns"] == ("FAIL", tests["Learns"][1])
    assert tests["Learns"][1].startswith(f"Parent suite teardown failed:\n{faulty}")


@pytest.mark.parametrize("number", [signal.SIGALRM, signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_work_at_an_await_and_has_its_handler_called_then(
    keywords: FederationLibrary, number: signal.Signals
):
    steps: list[str] = []

    class Ended(Exception):
        pass

    def handler(*_: object) -> None:
        steps.append("handled")
        raise Ended

    async def work() -> None:
        signal.raise_signal(number)
        steps.append("went on")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            steps.append("cleaned up")

    before = signal.signal(number, handler)
    try:
        with pytest.raises(Ended):
            keywords._do(work())
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert steps == ["went on", "cleaned up", "handled"]


def _processes(of: str) -> list[str]:
    """Command lines with this in them."""
    found: list[str] = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            found.append(path.read_text(errors="replace"))
    assert found
    return [command for command in found if of in command]
