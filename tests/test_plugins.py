"""Strategies, tasks and backends of a user's own."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import comparing
import owning
from calling import call
from conftest import SMALL
from owning import OWN
from running import came_to, execute, in_pieces, weights
from tinymetafed import plugins
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import comparison, runner
from tinymetafed.experiments.experiment import Experiment, parse
from tinymetafed.report.groups import compare
from tinymetafed.report.results import Result
from tinymetafed.results.store import Store


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with the small experiment and what is a user's own."""
    (tmp_path / "small.toml").write_text(SMALL)
    owning.write(tmp_path)
    return tmp_path


def read(folder: Path, *changes: str) -> Experiment:
    return parse(SMALL, "f.toml", changes, folder)


def given(folder: Path, text: str, *changes: str) -> Experiment:
    """The small experiment with the strategy Own, of this text."""
    (folder / "own.py").write_text(text)
    return read(folder, "strategy={name='./own.py:Own', query=6}", *changes)


# ---- what works ---------------------------------------------------------------------------------


def test_a_strategy_of_a_file_is_what_it_is_in_the_package(tmp_path: Path):
    text = "from tinymetafed.strategies import Reptile\nclass Own(Reptile):\n    pass\n"
    changes = "query=6, batch=3, epochs=2}"
    (tmp_path / "own.py").write_text(text)
    own = read(tmp_path, f"strategy={{name='./own.py:Own', {changes}")
    builtin = read(tmp_path, f"strategy={{name='reptile', {changes}")
    assert own.strategy.name == f"{tmp_path}/own.py:Own"
    assert np.array_equal(weights(own, tmp_path / "a"), weights(builtin, tmp_path / "b"))


def test_its_settings_do_something(own: Path):
    still, moving = (
        weights(read(own, OWN, f"strategy.momentum={m}"), own / str(m)) for m in (0, 0.9)
    )
    assert not np.array_equal(still, moving)


def test_a_run_goes_on_as_if_it_had_not_stopped(own: Path):
    whole = came_to(*execute(read(own, OWN), own / "whole"))
    assert whole == came_to(*in_pieces(read(own, OWN), own / "pieces"))
    assert whole["server"].keys() == {"velocity"}  # type: ignore[attr-defined]


def test_its_source_is_in_the_run(own: Path):
    store, run = execute(read(own, OWN), own)
    name = str(own / "momentum.py")
    assert store.sources(run.id) == {name: owning.MOMENTUM}
    assert plugins.recorded(run.versions).keys() == {name}


def test_settings_are_the_same_again_from_the_store(own: Path):
    experiment = read(own, OWN)
    again = Experiment.model_validate_json(experiment.model_dump_json())
    assert again == experiment
    assert type(again.strategy) is type(experiment.strategy)


def test_it_can_be_the_client_of_another(own: Path):
    client = "{name='./momentum.py:Momentum', query=6, batch=3, epochs=2, momentum=0.5}"
    experiment = read(own, f"strategy={{name='fedadam', client={client}}}")
    assert experiment.strategy.client.momentum == 0.5  # type: ignore[union-attr]
    _, run = execute(experiment, own)
    assert plugins.recorded(run.versions).keys() == {str(own / "momentum.py")}


def test_a_task_of_a_file(own: Path):
    experiment = read(own, "task={name='./shifted.py:Shifted', scale=2}")
    samples, _ = experiment.task.device(1, 500, 3, 3)
    assert np.allclose(samples.targets, 2 * samples.inputs + 0.5)
    store, run = execute(experiment, own)
    assert run.done == 4
    assert store.sources(run.id) == {str(own / "shifted.py"): owning.SHIFTED}


def test_a_backend_of_a_file_comes_to_the_same_weights(own: Path):
    nodes = "nodes={backend='./in_process.py:InProcess', count=3, options={size=2}}"
    experiment = read(own, nodes)
    assert experiment.nodes.options.size == 2  # type: ignore[union-attr]
    assert np.array_equal(weights(experiment, own / "a"), weights(read(own), own / "b"))
    store = Store(own / "a")
    assert store.run("last").backend == "in_process.py:InProcess"
    assert store.sources(1) == {str(own / "in_process.py"): owning.IN_PROCESS}


def test_in_every_process_of_a_comparison(own: Path):
    text = comparing.TWO.replace("strategies.reptile", "strategies.'./momentum.py:Momentum'")
    (own / "two.toml").write_text(text.replace('"reptile"', '"./momentum.py:Momentum"'))
    _, cells = comparison.read(own / "two.toml")
    store, compared, _ = comparing.execute(own, cells)
    assert compared.failed == {}
    for cell, run in zip(cells, compared.runs, strict=True):
        assert run is not None
        assert np.array_equal(run.weights.view("u4"), weights(cell.experiment, own / str(run.id)))
    # Another text is another run; the others are there.
    (own / "momentum.py").write_text(owning.MOMENTUM.replace("= 0.9", "= 0.8"))
    _, cells = comparison.read(own / "two.toml")
    store, compared, seen = comparing.execute(own, cells)
    assert {i for i, _ in seen} == {2, 3}
    # A report takes them for other settings, and not for the same once more.
    [task] = compare([Result.read(store, run) for run in store.runs()[-4:]])
    assert len(task.groups) == 2


def test_in_the_processes_of_ray(own: Path):
    if importlib.util.find_spec("ray") is None:  # which is not to be imported here
        pytest.skip("Ray is not installed")
    on_ray = read(own, OWN, "nodes={backend='host', count=3, engine='ray', address='local'}",
                  "task={name='./shifted.py:Shifted'}", "rounds=2")  # fmt: skip
    here = read(own, OWN, "task={name='./shifted.py:Shifted'}", "rounds=2")
    assert np.array_equal(weights(on_ray, own / "a"), weights(here, own / "b"))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with an installed package that has entry points."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "tmf_momentum.py").write_text(owning.MOMENTUM)
    (folder / "tmf_broken.py").write_text("import json\njson.loads('{')\n")
    about = folder / "tmf_momentum-1.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: tmf-momentum\nVersion: 1.5\n")
    (about / "top_level.txt").write_text("tmf_momentum\n")
    (about / "entry_points.txt").write_text(
        "[tinymetafed.strategies]\nheavy-ball = tmf_momentum:Momentum\n"
    )
    monkeypatch.syspath_prepend(folder)
    for kept in (plugins._entry_point, plugins._from_module):
        kept.cache_clear()
    yield folder
    sys.modules.pop("tmf_momentum", None)
    for kept in (plugins._entry_point, plugins._from_module):
        kept.cache_clear()


@pytest.mark.parametrize("name", ["heavy-ball", "tmf_momentum:Momentum"])
def test_of_an_installed_package(package: Path, own: Path, name: str):
    experiment = read(own, OWN, f"strategy.name='{name}'")
    assert experiment.strategy.name == name
    [source] = plugins.sources(experiment)
    assert source.version.startswith("tmf-momentum 1.5, SHA-256 ")
    assert np.array_equal(weights(experiment, own / "a"), weights(read(own, OWN), own / "b"))


def test_what_an_installed_package_raises(package: Path, own: Path):
    with pytest.raises(TinyMetaFedError) as caught:
        read(own, "strategy.name='tmf_broken:Momentum'")
    assert str(caught.value).startswith(
        f"f.toml: strategy.name: {package}/tmf_broken.py:2: JSONDecodeError: "
    )


# ---- what is wrong is one line ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (("strategy.name='./no.py:A'",), "strategy.name: {0}/no.py: cannot be read: No such file"),
        (("strategy.name='./momentum.py:A'",),
         "strategy.name: {0}/momentum.py has no 'A'; there is: Momentum"),
        (("strategy.name='./momentum.py'",),
         "strategy.name: ./momentum.py names no class; use ./momentum.py:CLASS"),
        (("strategy.name='./momentum.py:np'",),
         "strategy.name: {0}/momentum.py: np is no class derived from tinymetafed.Strategy"),
        (("strategy.name='./shifted.py:Shifted'",),
         "strategy.name: {0}/shifted.py: Shifted is no class derived from tinymetafed.Strategy"),
        (("strategy.name='no_such.package:A'",),
         "strategy.name: there is no module 'no_such'; is its package installed?"),
        (("strategy.name='momentum'",), "strategy.name: 'momentum' is unknown; use 'fedadam', "),
        ((OWN, "strategy.momentum=1"),
         "strategy.momentum: 1 is not allowed; use a number at least 0 and less than 1"),
        ((OWN, "strategy.momentum='a'"),
         "strategy.momentum: 'a' is not allowed; use a number at least 0 and less than 1"),
        ((OWN, "strategy.momentun=0"), "strategy.momentun: unknown key; known are: query, rate, "),
        (("task={name='./shifted.py:Shifted', scale='x'}",), "task.scale: 'x' is not allowed; "),
        (("task={name='./momentum.py:Momentum'}",),
         "task.name: {0}/momentum.py: Momentum is no class derived from tinymetafed.Task"),
        (("nodes.backend='./in_process.py:No'",),
         "nodes.backend: './in_process.py:No' is not allowed; {0}/in_process.py has no 'No'"),
        (("nodes.backend='./in_process.py:InProcess'", "nodes.options={size='x'}"),
         "nodes.options.size: 'x' is not allowed; use a whole number"),
        (("nodes.backend='./in_process.py:InProcess'", "nodes.link=uart"),
         "nodes.link: a backend of your own has nodes.options; leave it out"),
        (("nodes.options={size=1}",), "nodes.options: {{'size': 1}} is not allowed; only a back"),
    ],
)  # fmt: skip
def test_a_wrong_name_or_setting(own: Path, changes: tuple[str, ...], says: str):
    with pytest.raises(TinyMetaFedError) as caught:
        read(own, *changes)
    text = str(caught.value)
    assert text.startswith("f.toml: " + says.format(own))
    assert "\n" not in text


HEAD = "from tinymetafed.strategies.base import *\nfrom tinymetafed.nodes.program import *\n"
HEAD += "import numpy as np\n"
CLASS = HEAD + "class Own(MiniBatchSGD):\n    "


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_module\n", "1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\ny = x +\n", "2: SyntaxError: invalid syntax"),
        ("def f():\n    return 1 / 0\n\nf()\n", "2: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit('no')\n", "2: SystemExit: no"),
        ("raise ValueError('first\\nsecond')", "1: ValueError: first"),
        (HEAD + "class Own(Strategy):\n    query: int = 1\n",
         " Own has no aggregate, personalise, program, support, which a tinymetafed.Strategy "),
        (CLASS + "capacity = -1\n", "A non-annotated attribute"),
        (CLASS + "x: object = len\n", "its settings cannot be kept as JSON"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_module(tmp_path: Path, text: str, says: str):
    with pytest.raises(TinyMetaFedError) as caught:
        given(tmp_path, text)
    said = str(caught.value)
    assert said.startswith(f"f.toml: strategy.name: {tmp_path}/own.py:")
    assert says in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("@property\n    def capacity(self): return -1", "strategy.capacity: -1 is no whole numbe"),
        ("@property\n    def keeps(self): return 'all'", "strategy.keeps: 'all' is neither None, "),
        ("@property\n    def serial(self): return 0", "strategy.serial: 0 is neither True nor"),
        ("@property\n    def marks(self): return 1 / 0", "own.py:6: ZeroDivisionError: division"),
    ],
)  # fmt: skip
def test_what_it_says_of_itself(tmp_path: Path, text: str, says: str):
    with pytest.raises(TinyMetaFedError) as caught:
        given(tmp_path, CLASS + text)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("def program(self, state, model, at): pass", "round 1: own.py:Own: program() is None, no"),
        ("def program(self, state, model, at): return Train('query', rate=0.1)",
         "round 1: own.py:Own: program() is Train "),
        ("def program(self, state, model, at): return [1]",
         "round 1: own.py:Own: program(): 0 is int 1, no primitive such as Train()"),
        ("def program(self, state, model, at): return (Train('query', rate=float('nan')),)",
         "round 1: own.py:Own: program(): 0, Train: rate: float nan is no finite number"),
        ("def program(self, state, model, at): return (Train('all', rate=0.1),)",
         "program(): 0, Train: samples: str 'all' is not in support, query, stored"),
        ("def program(self, state, model, at): return (Train('query', rate=0.1, batch=0),)",
         "program(): 0, Train: batch: int 0 is no whole number of at least 1"),
        ("def program(self, state, model, at): return (Train('query', rate=0.1, epochs=2),)",
         "the strategy's program: samples that are dropped after use make one epoch"),
        ("def program(self, state, model, at): return Store(), Select(0), Send()",
         "program(): 1, Select: keep: int 0 is no whole number of at least 1"),
        ("def program(self, state, model, at): return (Variate(np.zeros(2)),)",
         "program(): 0, Variate: values is float64 [2], not float32 [53]"),
        ("def start(self, theta, devices): return theta",
         "own.py:Own: start() returned an array float32 [53], no ServerState"),
        ("def start(self, theta, devices): return ServerState(theta, {'a': [1]})",
         "own.py:Own: start(): kept['a'] is list [1], no numbers"),
        ("def aggregate(self, state, updates, at): pass",
         "round 1: own.py:Own: aggregate() returned None, no ServerState"),
        ("def aggregate(self, state, updates, at): return ServerState(state.theta[:2])",
         "round 1: own.py:Own: aggregate(): theta is float32 [2], not float32 [53]"),
        ("def aggregate(self, state, updates, at): return state.moved(state.theta * np.nan)",
         "round 1: own.py:Own: aggregate(): theta is not finite: entry 0 is nan"),
        ("def aggregate(self, state, updates, at): return state.kept['v']",
         "own.py:5: KeyError: 'v'"),
        ("def personalise(self, model, support, steps): return 'train'",
         "own.py:Own: personalise() is str 'train', no tuple of primitives"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("noise", [False, True])
def test_nonsense_that_a_strategy_returns(tmp_path: Path, text: str, says: str, noise: bool):
    # With noise nodes are at work over their links, and else by native threads.
    changes = ("faults.links=[{lost_frames=0.01}]", "nodes.timeout=1") if noise else ()
    experiment = given(tmp_path, CLASS + text, *changes)
    with pytest.raises(TinyMetaFedError, match=re.escape(says)) as caught:
        execute(experiment, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("Samples(x[support:], y[support:])", "None", "is no pair of support and query Samples"),
        ("x[support:], y[support:]", "x[1:], y[1:]",
         "device 1000: 5 support and 12 query samples, where 5 and 8 were asked for"),
        ("device / 1000", "np.nan", "is not finite"),
        ("y = self.scale * x", "y = self.scale * x[:, 5]", "shifted.py:27: IndexError: "),
        ("return Shape(1, 1, 1)", "return 1", "f.toml: task.shape: 1 is no Shape(height, width"),
        ("def outputs(self):\n        return 1", "def outputs(self):\n        return 0",
         "f.toml: task.outputs: 0 is no whole number of at least 1"),
        ('*, part="seen"', "*, unseen=False",
         "f.toml: task.device(): it takes no part; write '*, part' as its last parameter, which is "
         "'seen', 'validation', 'unseen'"),
    ],
)  # fmt: skip
def test_nonsense_that_a_task_returns(own: Path, old: str, new: str, says: str):
    assert old in owning.SHIFTED
    (own / "shifted.py").write_text(owning.SHIFTED.replace(old, new))
    with pytest.raises(TinyMetaFedError, match=re.escape(says)) as caught:
        execute(read(own, "task={name='./shifted.py:Shifted'}"), own)
    assert "\n" not in str(caught.value)


def test_nonsense_that_a_backend_returns(own: Path):
    (own / "in_process.py").write_text(owning.IN_PROCESS.replace("HostTransport()", "directory"))
    experiment = read(own, "nodes={backend='./in_process.py:InProcess', count=3}")
    with pytest.raises(TinyMetaFedError, match=r"open\(\) returned PosixPath, no Transport"):
        execute(experiment, own)


def test_at_the_command_line_it_is_one_line_without_a_traceback(own: Path):
    (own / "momentum.py").write_text(owning.MOMENTUM.replace("self.momentum *", "self.mom *"))
    ended = call(own, "run", "small.toml", "--set", OWN)
    assert ended.returncode == 1
    where = f"{own}/momentum.py:18: AttributeError: 'Momentum' object has no attribute 'mom'"
    assert ended.stderr == f"error: {where}\n"


def test_a_changed_source_is_noticed_when_a_run_goes_on(own: Path):
    experiment = read(own, OWN)

    def stop(done: int, doing: str) -> None:
        if done == 2:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        runner.execute(experiment, Store(own / "runs"), None, stop)
    (own / "momentum.py").write_text(owning.MOMENTUM.replace("= 0.9", "= 0.8"))
    ended = call(own, "run", "--resume", "1")
    assert ended.returncode == 1
    assert ended.stderr.startswith(
        f"error: run 1 cannot go on: {own}/momentum.py has changed since it began (SHA-256 "
    )
    assert ended.stderr.count("\n") == 1
    (own / "momentum.py").unlink()
    ended = call(own, "run", "--resume", "1")
    assert ended.stderr.count("\n") == 1
    assert f"{own}/momentum.py: cannot be read: No such file" in ended.stderr
    assert call(own, "show", "1").returncode == 0  # as far as it can be
    owning.write(own)
    assert call(own, "run", "--resume", "1").returncode == 0
    assert (
        Store(own / "runs").run("1").weights.tobytes() == weights(experiment, own / "w").tobytes()
    )
