"""Fixtures of pytest: federations of emulated nodes, whose firmware's faults fail the test.

    @pytest.mark.tmf_experiment("mine.toml", {"nodes.count": 2})
    def test_it_learns(tmf_federation):
        before = tmf_federation.loss()
        tmf_federation.run_rounds(20)
        assert tmf_federation.loss() < before

pytest imports this module in every run where the package is installed: it imports nothing else of
it before a fixture is used.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .testing import Federation, Node

Start = Callable[..., "Federation"]

_started = pytest.StashKey["list[Federation]"]()
DEFAULT = ("host", "qemu")
DEFAULT_EXPERIMENT = "smoke"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option and the key of the configuration."""
    parser.getgroup("tinymetafed").addoption(
        "--tmf-backend", action="append", metavar="BACKEND",
        help="Run tests of nodes on this backend: qemu, renode, serial, host. May be given several "
        "times; host and qemu where it is not.",
    )  # fmt: skip
    parser.addini(
        "tmf_experiment",
        "Experiment of tests without @pytest.mark.tmf_experiment: a file, from the folder of this "
        "configuration, or a name.",
        default=DEFAULT_EXPERIMENT,
    )


def pytest_configure(config: pytest.Config) -> None:
    """The markers."""
    for text in (
        "tmf_experiment(path, changes={}): the experiment of tmf_federation and tmf_node, from the "
        "folder of the test's file, or by name; changes as {'nodes.count': 2}",
        "tmf_backends(*names): the test is for these backends alone",
    ):
        config.addinivalue_line("markers", text)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of nodes is run on each backend."""
    if "tmf_backend" in metafunc.fixturenames:
        backends = list(dict.fromkeys(metafunc.config.getoption("tmf_backend") or DEFAULT))
        marker = metafunc.definition.get_closest_marker("tmf_backends")
        wanted = [one for one in backends if marker is None or one in marker.args]
        skip = pytest.mark.skip(reason=f"it is not for {' or '.join(backends)} nodes")
        found = wanted or [pytest.param(backends[0], marks=skip)]
        metafunc.parametrize("tmf_backend", found, scope="session", indirect=True)


@pytest.fixture(scope="session")
def tmf_backend(request: pytest.FixtureRequest) -> str:
    """The backend of the test's nodes: the test is run on each that --tmf-backend names, or on host
    and, where it is installed, qemu."""
    asked = request.config.getoption("tmf_backend")
    if request.param == "qemu" and not asked and shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not installed")
    return request.param


@pytest.fixture
def tmf_start(request: pytest.FixtureRequest, tmf_backend: str) -> Iterator[Start]:
    """Starts federations: tmf_start(experiment, changes={}, name="federation"). experiment: a file
    from the folder of the test's file, a name, or an Experiment. Its nodes are of tmf_backend, but
    where changes have another nodes.backend. All are closed after the test."""
    from .experiments.experiment import Experiment, read
    from .testing import Federation

    started: list[Federation] = request.node.stash.setdefault(_started, [])

    def start(
        experiment: Any, changes: Mapping[str, Any] | None = None, name: str = "federation"
    ) -> Federation:
        if not isinstance(experiment, Experiment):
            path = _found(request.path.parent, str(experiment))
            experiment = read(path, {"nodes.backend": tmf_backend} | dict(changes or {}))
        elif changes:
            raise TypeError("changes are for an experiment that is read from a file")
        federation = Federation(experiment, name)
        started.append(federation)
        return federation

    yield start
    faults = _new_faults(started)  # of teardowns
    while started:
        started.pop().close()
    if faults:
        pytest.fail(faults, pytrace=False)


@pytest.fixture
def tmf_federation(request: pytest.FixtureRequest, tmf_start: Start) -> Federation:
    """A federation whose nodes have booted, of the experiment that the marker tmf_experiment names,
    else the configuration's."""
    return _start(request, tmf_start, {})


@pytest.fixture
def tmf_node(request: pytest.FixtureRequest, tmf_start: Start) -> Node:
    """The node of such a federation that has one. Its `federation` has the rounds."""
    return _start(request, tmf_start, {"nodes.count": 1}).nodes[0]


def _start(request: pytest.FixtureRequest, start: Start, least: dict[str, Any]) -> Federation:
    from .errors import TinyMetaFedError

    path, changes = _experiment(request)
    try:
        return start(path, changes | least)
    except TinyMetaFedError as error:
        pytest.fail(str(error), pytrace=False)


def _experiment(request: pytest.FixtureRequest) -> tuple[Path | str, dict[str, Any]]:
    def named(path: str, changes: Mapping[str, Any] | None = None) -> Any:
        return path, dict(changes or {})

    marker = request.node.get_closest_marker("tmf_experiment")
    if marker is None:
        given, file = str(request.config.getini("tmf_experiment")), request.config.inipath
        return _found(file.parent if file is not None else Path(), given), {}
    return named(*marker.args, **marker.kwargs)


def _found(folder: Path, given: str) -> Path:
    """A file from a folder; what is no file may be a name, and stays as it is."""
    is_name = not Path(given).suffix and "/" not in given
    return Path(given) if is_name else folder / given


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fails a test in which the firmware of a node has faulted, whatever else it finds."""
    try:
        result = yield
    except (pytest.fail.Exception, pytest.skip.Exception) as outcome:
        if faults := _new_faults(item.stash.get(_started, ())):
            pytest.fail(f"{outcome.msg}\n\nAlso: {faults}", pytrace=False)
        raise
    except Exception as error:
        if faults := _new_faults(item.stash.get(_started, ())):
            error.add_note(f"Also: {faults}")
        raise
    if faults := _new_faults(item.stash.get(_started, ())):
        pytest.fail(faults, pytrace=False)
    return result


def _new_faults(started: Any) -> str:
    """Of all federations, that were not looked at yet; empty for nothing."""
    return "\n".join(text for one in started if (text := one.take_faults()))
