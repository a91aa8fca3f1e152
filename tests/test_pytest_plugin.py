"""The fixtures of pytest: on which backends they run, how tests fail where the firmware faults, and
that a run without them does not know of the bench."""

import os
import shutil
import sys
import tomllib
from importlib.metadata import EntryPoint

import pytest

from conftest import SMALL
from planting import line, plant
from tinymetafed import pytest_plugin
from tinymetafed.places import PROJECT


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with an experiment, in which pytest has this plugin and no other."""
    (pytester.path / "small.toml").write_text(SMALL)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(pytester.path), *sys.path]))
    monkeypatch.setenv("TMPDIR", str(pytester.path))
    return pytester


def run(project: pytest.Pytester, test: str, *arguments: str) -> pytest.RunResult:
    project.makepyfile(test)
    options = ("-p", "tinymetafed.pytest_plugin", "--strict-markers", "-rs", "-W", "error")
    return project.runpytest_subprocess(*options, *arguments)


WEIGHTS = """
    import pytest

    seen = {}

    @pytest.mark.tmf_experiment("small.toml", {"nodes.count": 2})
    def test_the_same_weights(tmf_federation, tmf_backend):
        assert len(tmf_federation.nodes) == 2
        tmf_federation.run_rounds(2)
        assert tmf_federation.rounds_done == 2
        assert tmf_federation.bytes_per_round > 0
        seen[tmf_backend] = tmf_federation.theta.tobytes()
        assert len(set(seen.values())) == 1

    def test_all_have_been(tmf_backend):
        assert tmf_backend in seen
"""


def test_a_test_is_run_on_each_backend(project: pytest.Pytester):
    found = run(project, WEIGHTS, "-v")
    found.assert_outcomes(passed=4)
    found.stdout.fnmatch_lines(["*test_the_same_weights?host? PASSED*", "*?qemu? PASSED*"])


ONE = """
    import pytest

    pytestmark = pytest.mark.tmf_experiment("small.toml")

    @pytest.mark.tmf_backends("qemu")
    def test_counted(tmf_node):
        federation = tmf_node.federation
        assert len(federation.nodes) == 1
        federation.run_rounds()
        assert federation.counts_instructions
        assert federation.instructions_per_round["learn"] > 1000
        assert 0 < federation.joules_per_round < 1

    def test_a_node(tmf_node, tmf_backend):
        assert tmf_node.version
        assert bytes.fromhex(tmf_node.build)
        assert 0 < tmf_node.memory < 10_000
        assert tmf_node.is_running
        tmf_node.unplug()
        assert not tmf_node.is_running
        tmf_node.plug_in()
        tmf_node.cut_power()
        tmf_node.federation.run_rounds()
        assert tmf_node.is_running

    def test_two(tmf_start):
        one, other = (tmf_start("small.toml", {"seed": seed}, name=f"{seed}") for seed in (1, 2))
        assert one.loss() != other.loss()
"""


def test_the_option_chooses_backends(project: pytest.Pytester):
    found = run(project, ONE, "--tmf-backend", "host")
    found.assert_outcomes(passed=2, skipped=1)
    found.stdout.fnmatch_lines(["*it is not for host nodes*"])
    found = run(project, ONE, "--tmf-backend", "qemu", "-k", "not two")
    found.assert_outcomes(passed=2, deselected=1)


def test_qemu_is_left_out_where_it_is_not_installed_unless_it_is_asked_for(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "/nowhere")
    test = "def test_it(tmf_node):\n    assert tmf_node.is_running"
    found = run(project, test)
    found.assert_outcomes(passed=1, skipped=1)
    found.stdout.fnmatch_lines(["*qemu-system-arm is not installed*"])
    run(project, test, "--tmf-backend=qemu").assert_outcomes(errors=1)


FAULTS = """
    import pytest

    pytestmark = pytest.mark.tmf_experiment("small.toml")

    def test_learns(tmf_node):
        tmf_node.federation.run_rounds(1)

    def test_faults(tmf_node):
        tmf_node.federation.run_rounds(2)

    def test_fails_and_faults(tmf_node):
        tmf_node.federation.run_rounds(2)
        assert 1 == 2

    def test_skips_and_faults(tmf_node):
        tmf_node.federation.run_rounds(2)
        pytest.skip("for another reason")

    def test_expects_it(tmf_node):
        tmf_node.federation.run_rounds(2)
        assert "HardFault in bad_write" in tmf_node.federation.take_faults()

    @pytest.mark.tmf_experiment("small.toml", {"faults.tolerate": True})
    def test_tolerates_it(tmf_node):
        tmf_node.federation.run_rounds(2)

    @pytest.fixture
    def learning_at_the_end(tmf_node):
        yield
        tmf_node.federation.run_rounds(2)

    def test_faults_at_the_end(learning_at_the_end):
        pass
"""


def test_a_test_in_which_a_node_faults_fails_with_the_place(project: pytest.Pytester):
    image = plant("bad_write", project.path)
    (project.path / "sitecustomize.py").write_text(
        "from pathlib import Path\nfrom tinymetafed.nodes import backends\n"
        f"backends.MPS2_IMAGE = Path({str(image)!r})\n"
    )
    found = run(project, FAULTS, "--tmf-backend=qemu", "--junit-xml=junit.xml")
    found.assert_outcomes(passed=4, failed=3, errors=1)
    place = (
        "firmware fault in federation, node-0: HardFault in bad_write, "
        f"planted_faults.c:{line('line: bad_write')}"
    )
    said = found.stdout.str()
    assert f"Also: {place}" in said
    assert "for another reason" in said
    assert (project.path / "junit.xml").read_text().count(place) >= 4


def test_nothing_is_left_behind(project: pytest.Pytester):
    test = "def test_it(tmf_node):\n    raise KeyError"
    run(project, test, "--tmf-backend=qemu").assert_outcomes(failed=1)
    assert not list(project.path.glob("tinymetafed-*"))


@pytest.mark.parametrize(
    ("test", "says"),
    [
        (
            "import pytest\n@pytest.mark.tmf_experiment('no.toml')\ndef test_it(tmf_node): pass",
            "*no.toml: cannot be read: No such file or directory*",
        ),
        ("def test_it(tmf_node):\n    tmf_node.plug_in()", "*node-0 is plugged in already*"),
        (
            "def test_it(tmf_federation):\n    tmf_federation.joules_per_round",
            "*has done no rounds yet*",
        ),
    ],
)
def test_what_is_wrong_is_one_line(project: pytest.Pytester, test: str, says: str):
    found = run(project, test, "--tmf-backend=host")
    assert found.ret == 1
    found.stdout.fnmatch_lines([says])


def test_the_experiment_of_the_configuration(project: pytest.Pytester):
    project.makeini("[pytest]\ntmf_experiment = small.toml")
    test = "def test_it(tmf_federation):\n    assert len(tmf_federation.theta) == 53"
    run(project, test, "--tmf-backend=host").assert_outcomes(passed=1)


def test_a_run_without_the_fixtures_imports_nothing_of_the_bench(project: pytest.Pytester):
    test = """
        import sys

        def test_it():
            ours = {one for one in sys.modules if one.partition(".")[0] == "tinymetafed"}
            assert ours == {"tinymetafed", "tinymetafed.pytest_plugin"}
            assert "numpy" not in sys.modules
    """
    run(project, test).assert_outcomes(passed=1)


def test_pytest_finds_the_plugin():
    entries = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["entry-points"]
    [(name, value)] = entries["pytest11"].items()
    assert EntryPoint(name, value, "pytest11").load() is pytest_plugin


def test_the_code_of_the_documentation(project: pytest.Pytester):
    text = (PROJECT / "docs/your-ci.md").read_text()
    section = text.partition("## Tests in pytest")[2]
    code = section.partition("```python\n")[2].partition("```")[0]
    shutil.copy(PROJECT / "experiments/smoke.toml", project.path / "mine.toml")
    run(project, code).assert_outcomes(passed=3)
