"""What tables of the terminal show, as JSON for scripts: figures as they are, in bytes, cycles,
seconds and joules. What is not known is null, or not there."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..energy import ledger, power
from ..energy.settings import Priced
from ..energy.timing import READINGS
from ..errors import TinyMetaFedError
from ..experiments.experiment import Experiment
from ..results.spending import Spent
from ..results.store import MeasuredCycles, NodeRound, NodeTotal, Run, Store
from ..settings import names
from . import events, summary
from .described import Description, describe

if TYPE_CHECKING:  # it imports what runs nodes, for which a list of runs need not wait
    from ..experiments.plan import Freezing, LayerPlan, Memory, Played

Tree = dict[str, Any]


def text(tree: Tree | list[Tree]) -> str:
    """JSON, which has no NaN: null stands for it."""
    return json.dumps(_finite(tree), indent=2, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def of_runs(store: Store, runs: Sequence[Run]) -> list[Tree]:
    """A table for each run. Raises TinyMetaFedError."""
    return [_head(store, run, describe(store, run)) for run in runs]


def of_run(store: Store, run: Run) -> Tree:
    """All that `show` shows. Raises TinyMetaFedError."""
    known = describe(store, run)
    experiment, totals = known.experiment, store.node_totals(run.id)
    spent = known.account(store, run).spent()
    tree = _head(store, run, known) | {
        "seconds": run.seconds,
        "settings": _parsed(run.settings),
        "versions": _parsed(run.versions),
        "firmware": run.firmware,
        "evaluations": [asdict(one) for one in store.judged(run.id)],
        "classes": [asdict(one) for one in store.class_counts(run.id, run.done)],
        "nodes": [_node(one, spent) for one in totals],
        "events": [
            {"round": e.round, "node": e.node, "device": e.device, "kind": e.kind}
            | {"text": events.text(e)}
            for e in store.events(run.id)
        ],
    }
    if experiment is not None:
        found = summary.shares(experiment, run.done, totals, store.event_counts(run.id))
        tree["participation"] = {what: {"number": n, "of": of} for what, (n, of) in found.items()}
    if known.priced is not None and spent is not None and spent.accounts:
        tree["energy"] = of_energy(spent, known.priced)
    return tree


def _parsed(text: str) -> Any:
    """None where the row is damaged."""
    try:
        return json.loads(text)
    except ValueError:
        return None


def _head(store: Store, run: Run, known: Description) -> Tree:
    problem = known.problem
    try:
        last = store.judged(run.id, last=True)
    except TinyMetaFedError as error:  # what of a run cannot be read is no reason to hide the rest
        last, problem = [], str(error)
    labels = store.labels_of(run.id)
    return {
        "run": run.id, "name": run.name, "tags": labels.tags, "note": labels.note,
        "created": run.created, "strategy": known.strategy,
        "task": known.task, "seed": run.seed, "backend": run.backend, "nodes_of_run": known.count,
        "rounds": run.rounds, "rounds_done": run.done,
        "rounds_added_after": store.extensions(run.id),
        "last_evaluation": asdict(last[0]) if last else None, "problem": problem,
    }  # fmt: skip


def _node(one: NodeTotal, spent: Spent | None) -> Tree:
    tree: Tree = asdict(one)
    if spent is not None and one.counted:
        tree["instructions"] = int(spent.instructions[one.node].sum())
        if spent.accounts:
            tree["joules"] = spent.balance(node=one.node).joules
    return tree


def of_energy(
    spent: Spent,
    priced: Priced,
    classes: dict[str, dict[str, int]] | None = None,
    measured: Sequence[MeasuredCycles] | None = None,
) -> Tree:
    """What all nodes executed in all rounds, and its price by account. classes: of instructions, by
    phase. measured: by the nodes' own counters, where they have any."""
    instructions = dict(zip(spent.phases, spent.instructions.sum(axis=0).tolist(), strict=True))
    cycles = dict(zip(spent.phases, spent.cycles.tolist(), strict=True))
    tree: Tree = {
        "priced_for": [
            {"nodes": [nodes.start, nodes.stop - 1], "device": one.device, "radio": one.radio}
            for nodes, one in priced
        ],
        "phases": {
            name: {"instructions": instructions[name], "cycles": _readings(cycles[name])}
            for name in spent.phases
        },
        "accounts": {name: asdict(spent.balance(name)) for name in spent.accounts},
        "all": asdict(spent.balance()),
    }
    if classes is not None:
        tree["classes"] = classes
    if measured is not None:
        cycles_of: Counter[str] = Counter()
        for one in measured:
            cycles_of[one.phase] += one.cycles
        tree["measured_cycles"] = cycles_of
    return tree


def _readings(cycles: Iterable[int]) -> dict[str, int]:
    return dict(zip(READINGS, map(int, cycles), strict=True))


def of_plan(
    experiment: Experiment,
    layers: "Sequence[LayerPlan]",
    memory: "Memory",
    freezing: "Sequence[Freezing]",
    played: "Played | None",
    uncounted: str | None,
) -> Tree:
    """All that `plan` shows. played: None where the model does not fit. uncounted: why nothing
    counts what a round executes."""
    from .plan import entries_of

    devices: Tree = {}
    ram = memory.needed + memory.ram
    for name in names(power.FOLDER):
        missing = power.device(name).missing(memory.flash, memory.needed, ram)
        devices[name] = {"fits": not missing, "too_few_bytes": missing}
    tree: Tree = {
        "name": experiment.name, "strategy": experiment.strategy.name,
        "task": experiment.task.name, "nodes": experiment.nodes.count,
        "nodes_per_round": experiment.per_round,
        "layers": [
            {"layer": one.name, "shape": list(one.shape), "parameters": one.parameters}
            | {"part": one.part, "bytes_of_activations": one.outputs}
            for one in layers
        ],
        "memory": {
            "fits": memory.fits, "parts": memory.parts, "needed": memory.needed,
            "available": memory.available, "ram_of_image": memory.ram, "ram": ram,
            "flash": memory.flash,
        },
        "devices": devices,
        "frozen": [asdict(one) | {"fits": one.fits} for one in freezing],
        "uncounted": uncounted,
    }  # fmt: skip
    if played is None:
        return tree
    tree["rounds"] = {"first": _round(played.first), "later": _round(played.later)}
    if uncounted is not None:
        return tree
    tree["cycles"] = {
        one.phase: {core: _readings(figures) for core, figures in one.cycles.items()}
        for one in played.phases
        if one.phase != ledger.ASLEEP
    }
    radio = experiment.energy.radio
    tree["energy"] = {
        name: _priced(entries_of(experiment, played, name, radio)) for name in devices
    }
    tree["radios"] = {
        name: _priced(entries_of(experiment, played, experiment.energy.device, name))
        for name in names(power.FOLDER / "radios")
    }
    return tree


def _round(row: NodeRound) -> Tree:
    messages = json.loads(row.messages)
    return {
        "bytes_down": row.bytes_down, "bytes_up": row.bytes_up, "bytes_sensor": row.bytes_sensor,
        "messages": {name: {"down": n[0], "up": n[1]} for name, n in messages.items()},
    }  # fmt: skip


def _priced(entries: Sequence[ledger.Entry]) -> Tree:
    found = {
        name: [e for e in entries if e.account == name] for name in {e.account for e in entries}
    }
    return {name: asdict(ledger.balance(found[name])) for name in sorted(found)} | {
        "all": asdict(ledger.balance(entries))
    }
