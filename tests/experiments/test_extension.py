"""More rounds for a run that has all of its own: what it is then, and what it is not."""

from pathlib import Path

import pytest

import tinymetafed
from conftest import SMALL
from running import STRATEGIES, came_to, execute
from tinymetafed.errors import TinyMetaFedError
from tinymetafed.experiments import runner
from tinymetafed.experiments.experiment import Experiment, parse
from tinymetafed.experiments.extension import extended, note, scheduled
from tinymetafed.report import described
from tinymetafed.report.groups import compare
from tinymetafed.report.results import Result
from tinymetafed.results.store import Run, Store

SCHEDULE = "{name='tinymetafed', support=4, query=6, percent={start=60, end=10}}"
OTHERS = {
    "fedadam, annealed client": (
        "strategy={name='fedadam', client={name='reptile', query=6, batch=3, epochs=2}}",
    ),
    "fedadam, scheduled client": (f"strategy={{name='fedadam', client={SCHEDULE}}}",),
    "reptile, steady": ("strategy={name='reptile', query=6, batch=3, epochs=2, anneal=false}",),
    "tinymetafed, steady": ("strategy={name='tinymetafed', support=4, query=6, anneal=false}",),
    "tinymetafed, steady but for P": (f"strategy={SCHEDULE}", "strategy.anneal=false"),
}


def _extend(store: Store, run: Run, rounds: int, *, reschedule: bool = False) -> Run:
    experiment = extended(described.settings(run), run, rounds, reschedule=reschedule)
    run, _ = runner.execute(experiment, store, run, lambda done, doing: None)
    return run


def _ended(changes: tuple[str, ...], folder: Path) -> tuple[Experiment, Store, Run]:
    experiment = parse(SMALL, "SMALL", (*changes, "rounds=2"))
    return experiment, *execute(experiment, folder)


@pytest.mark.parametrize("name", [*STRATEGIES, *OTHERS])
def test_it_is_the_run_that_was_planned_so_only_where_nothing_is_scheduled(
    name: str, tmp_path: Path
):
    changes = {**STRATEGIES, **OTHERS}[name]
    experiment, store, run = _ended(changes, tmp_path / "extended")
    planned = execute(parse(SMALL, "SMALL", (*changes, "rounds=4")), tmp_path / "planned")
    if scheduled(experiment.strategy):
        with pytest.raises(TinyMetaFedError, match="it is not the run of 4 rounds"):
            _extend(store, run, 4)
    longer = _extend(store, run, 4, reschedule=True)
    assert (longer.rounds, longer.done, store.extensions(run.id)) == (4, 4, [2])
    assert described.settings(longer) == parse(SMALL, "SMALL", (*changes, "rounds=4"))
    # Unseen devices were judged at what was the end, and again at the new one.
    judged = store.judged(run.id, "unseen")
    assert [(one.round, one.devices) for one in judged] == [(2, 5), (4, 5)]
    rows = [one for one in store.evaluations(run.id) if (one.round, one.part) != (2, "unseen")]
    same = came_to(store, longer) | {"evaluations": rows} == came_to(*planned)
    assert same != scheduled(experiment.strategy)
    says = note([2], 4, experiment) or ""
    assert ("not the run" in says) != same


def test_a_strategy_of_somebody_else_may_be_scheduled():
    experiment = parse(SMALL, "SMALL", STRATEGIES["fedavg"])
    kind = type(experiment.strategy)
    own = type("Own", (kind,), {})
    assert scheduled(own.model_validate(experiment.strategy.model_dump()))
    assert not scheduled(experiment.strategy)


def test_what_is_no_longer_run_is_refused(tmp_path: Path):
    _, store, run = _ended(STRATEGIES["fedavg"], tmp_path / "runs")
    with pytest.raises(TinyMetaFedError, match=r"--rounds: 1, but run 1 has 2; give more"):
        _extend(store, run, 1)
    with pytest.raises(TinyMetaFedError, match="--rounds 20000000: rounds: 20000000 is not allow"):
        _extend(store, run, 20_000_000)
    store._db.execute("UPDATE run SET done = 1")
    with pytest.raises(TinyMetaFedError, match=r"1 of 2 rounds are done; 'tinymetafed run --resu"):
        _extend(store, store.run("1"), 4)
    assert store.extensions(1) == []
    sampled = parse(SMALL, "SMALL", ("nodes.emulate=1", "strategy={name='fedavg', query=8}"))
    with pytest.raises(TinyMetaFedError, match=r"which of its rounds are counted"):
        extended(sampled, run, 4, reschedule=True)


def test_a_run_that_does_not_start_keeps_its_rounds(tmp_path: Path):
    _, store, _ = _ended(STRATEGIES["fedavg"], tmp_path / "runs")
    store._db.execute("""UPDATE run SET firmware = '{"build": "another"}'""")
    with pytest.raises(TinyMetaFedError, match="another build of the firmware"):
        _extend(store, store.run("1"), 4)
    assert (store.run("1").rounds, store.extensions(1)) == (2, [])


def test_the_same_command_goes_on(tmp_path: Path):
    """Where the extension was interrupted, and where it has ended."""
    _, store, run = _ended(STRATEGIES["fedavg"], tmp_path / "runs")

    def stop(done: int, doing: str) -> None:
        if (done, doing) == (3, "training"):
            raise InterruptedError

    experiment = extended(described.settings(run), run, 4, reschedule=False)
    with pytest.raises(InterruptedError):
        runner.execute(experiment, store, run, stop)
    assert (store.run("1").done, store.run("1").rounds) == (3, 4)
    ended = _extend(store, store.run("1"), 4)
    assert (ended.done, _extend(store, ended, 4)) == (4, ended)
    assert _extend(store, ended, 6).done == 6
    assert store.extensions(1) == [2, 4]
    assert "there were to be 2, then 4, now 6." in str(note([2, 4], 6, experiment))


def test_by_the_public_api(tmp_path: Path):
    _, store, run = _ended(STRATEGIES["reptile"], tmp_path / "runs")
    store.edit([run.id], name="short", tag=["b", "a"], note="few rounds")
    with pytest.raises(TinyMetaFedError, match="it is not the run of 3 rounds"):
        tinymetafed.resume("short", rounds=3, store=store.folder)
    result = tinymetafed.resume("short", rounds=3, reschedule=True, store=store.folder)
    assert (result.done, result.rounds, result.experiment.rounds) == (3, 3, 3)
    assert (result.name, result.tags, result.note) == ("short", ["a", "b"], "few rounds")


def test_a_report_and_a_comparison_tell_them_apart(tmp_path: Path):
    """Also where the extension is judged after a round that the other is not."""
    changes = (*STRATEGIES["reptile"], "evaluation.every=3")
    _, store, run = _ended(changes, tmp_path / "runs")
    longer = _extend(store, run, 4, reschedule=True)
    planned = parse(SMALL, "SMALL", (*changes, "rounds=4"))
    other = execute(planned, tmp_path / "runs")[1]
    third = execute(planned.model_copy(update={"seed": 2}), tmp_path / "runs")[1]
    results = [Result.read(store, one) for one in (longer, other, third)]
    [task] = compare(results)
    assert [[one.run.id for one in group.results] for group in task.groups] == [[1], [2, 3]]
    assert task.groups[0].label == "reptile, rounds added after=2"
    assert [len(group.rounds) for group in task.groups] == [4, 3]
    assert longer.settings == other.settings
    found = store.find(settings=longer.settings)
    assert found is not None
    assert found.id == 2
