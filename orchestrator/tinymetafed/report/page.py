"""Runs on one HTML page that needs nothing but itself; its charts and tables as files."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..errors import TinyMetaFedError, printable
from ..experiments import extension
from ..files import writing
from . import axes, charts, figures, happened, page_tables, vega
from .colors import ON_DARK, style
from .curves import Curves
from .figures import COLUMN, Chart
from .groups import TaskRuns
from .prices import Price
from .results import MOST_POINTS, Result
from .summary import unvalidated
from .table import Table
from .verdict import Column, Sentence, Verdict, verdicts

TEMPLATE = Path(__file__).parent / "template"
MOST_FIGURED = 4
"""Runs on a page whose own charts are files, too."""
RELOAD = 10
"""Seconds after which a page loads itself again while runs go on."""


@dataclass(frozen=True)
class TaskPart:
    """A task on the page. stem: of its files. verdicts: by price; one where nothing is priced."""

    stem: str
    curves: Curves
    verdicts: list[Verdict]
    charts: list[Chart]
    notes: list[str]

    @property
    def name(self) -> str:
        """Of the task."""
        return self.curves.task.task

    @cached_property
    def strategies(self) -> list[dict[str, Any]]:
        """Label, style and seeds of each; note: what of it is not there."""
        task = self.curves.task
        return [
            {"label": group.label, "seeds": len(group.settled), "note": _standing(task, i)}
            | asdict(style(i))
            for i, group in enumerate(task.groups)
        ]


@dataclass(frozen=True)
class Page:
    """title: of the page. baseline: the label of a strategy. tuned: the file with the settings of
    the strategies, None where they are those of the comparison. absent: tasks of which there is no
    run."""

    title: str
    results: list[Result]
    tasks: list[TaskPart]
    prices: list[Price]
    baseline: str
    tuned: str | None = None
    absent: Sequence[str] = ()

    @property
    def baselines(self) -> list[str]:
        """What can be one, in any task."""
        return list(dict.fromkeys(label for part in self.tasks for label in part.curves.labels))

    @cached_property
    def labels(self) -> dict[int, str]:
        """Of the strategies, by the run's number."""
        return {
            one.run.id: group.label
            for part in self.tasks
            for group in part.curves.task.groups
            for one in group.results
        }

    @cached_property
    def happened(self) -> list[Table]:
        """Tables of what happened besides learning, and by class how well was learnt."""
        by_class = (page_tables.classes(part.stem, part.curves.task) for part in self.tasks)
        known = [table for table in by_class if table is not None]
        return happened.tables(self.results, self.labels) + known

    @cached_property
    def tables(self) -> list[Table]:
        """Runs, their settings, and the means that charts are of."""
        return [
            *page_tables.runs(self.results, self.labels),
            *(table for part in self.tasks for table in page_tables.means(part.stem, part.curves)),
        ]

    @property
    def eventful(self) -> int:
        """The place of the first run with the most of events and absences."""
        counts = [happened.count(one) for one in self.results]
        return counts.index(max(counts))

    @property
    def papers(self) -> list[Table]:
        """The first and the second table of each task."""
        return [
            table
            for part in self.tasks
            for table in page_tables.papers(
                part.stem, part.curves.task, part.verdicts[0], self.baseline
            )
        ]


def page(
    tasks: Sequence[TaskRuns],
    title: str = "",
    prices: Sequence[Price] = (),
    baseline: str | None = None,
    results: Sequence[Result] = (),
) -> Page:
    """What there is to show of these runs. prices: come first. baseline: the first strategy where
    none is given. results: all runs, with those that the tasks have not. Raises TinyMetaFedError
    where there is no such baseline."""
    runs = list(results) or [one for task in tasks for one in task.results]
    priced = _prices(runs, prices)
    parts = [_part(i, task, priced) for i, task in enumerate(tasks, 1)]
    labels = list(dict.fromkeys(label for part in parts for label in part.curves.labels))
    if baseline is not None:
        check_baseline(baseline, labels)
    names = list(dict.fromkeys(one.run.name for one in runs))
    title = title or ", ".join(names[:3]) + ("…" if len(names) > 3 else "")
    return Page(title, runs, parts, priced, baseline or labels[0])


def check_baseline(baseline: str, labels: Sequence[str]) -> None:
    """Raises TinyMetaFedError where it is none of these."""
    if baseline not in labels:
        raise TinyMetaFedError(
            f"--baseline {printable(baseline)}: no such strategy; there are: {', '.join(labels)}"
        )


def _prices(results: Sequence[Result], first: Sequence[Price]) -> list[Price]:
    """That any run has, those that are asked for first, then the runs' own."""
    known = dict.fromkeys(price for one in results for price in one.courses)
    return [*(price for price in first if price in known), *(p for p in known if p not in first)]


def _part(number: int, task: TaskRuns, prices: Sequence[Price]) -> TaskPart:
    stem = re.sub(r"[^a-z0-9]+", "-", f"{task.task} {number}".lower()).strip("-")
    curves = Curves(task, prices)
    found = verdicts(task, prices)
    notes = [*([f"Target: {found[0].at_start}"] if found[0].at_start else []), *_notes(task)]
    return TaskPart(stem, curves, found, figures.of_task(stem, curves), notes)


def _standing(task: TaskRuns, i: int) -> str:
    """What of a strategy has not come to its end."""
    group = task.groups[i]
    going = [one for one in group.results if one.run.done < one.run.rounds]
    lacking = task.missing.get(group.label, len(going))
    if not lacking:
        return ""
    done = max((one.run.done for one in going), default=0)
    rounds = group.results[0].run.rounds
    at = f", at round {done:,} of {rounds:,}" if going else ""
    return f"{lacking} seed{'s' if lacking > 1 else ''} not at the end{at}"


def _notes(task: TaskRuns) -> Iterator[str]:
    results = task.results
    unseen, validation, every = (
        _listed(sorted(some))
        for some in (
            {one.experiment.evaluation.unseen for one in results},
            {one.experiment.evaluation.devices for one in results},
            {min(one.experiment.evaluation.every, one.run.rounds) for one in results},
        )
    )
    yield (
        f"Final figures are of {unseen} unseen devices, judged once after the last round; curves, "
        f"and what it took to a target, of {validation} devices for validation, judged every "
        f"{every} rounds. Bytes and joules are those of all nodes together."
    )
    yield from _said({one.run.id: f"{one.counting}." for one in results})
    yield from _said({one.run.id: told for one in results if (told := unvalidated(one.run))})
    for one in task.repeated:
        yield (
            f"Run {one.run.id} is in no figure but its own: a later run has the same settings and "
            "seed."
        )
    for one in results:
        if added := extension.note(one.extensions, one.run.rounds, one.experiment):
            yield f"Run {one.run.id}: {added}"
    thinned = [one.run.id for one in results if one.thinned]
    if thinned:
        yield (
            f"Of the evaluations of run {_numbers(thinned)}, {MOST_POINTS} evenly spread ones are "
            "shown."
        )


def _said(notes: Mapping[int, str]) -> Iterator[str]:
    """A line for all runs of which the same is to be said."""
    runs: dict[str, list[int]] = {}
    for run, note in notes.items():
        runs.setdefault(note, []).append(run)
    for note, numbers in runs.items():
        yield f"Run{'s' * (len(numbers) > 1)} {_numbers(numbers)}: {note}"


def _listed(values: Sequence[int]) -> str:
    return " or ".join(f"{one:,}" for one in values)


def _numbers(runs: Iterable[int]) -> str:
    """With three or more that follow each other as a range."""
    found: list[str] = []
    for _, pairs in groupby(enumerate(sorted(runs)), key=lambda pair: pair[1] - pair[0]):
        numbers = [str(number) for _, number in pairs]
        found += [f"{numbers[0]}–{numbers[-1]}"] if len(numbers) > 2 else numbers
    return ", ".join(found)


def _absent(part: TaskPart) -> list[Sentence]:
    """A sentence, where some of a comparison's strategies have no run."""
    absent = part.curves.task.absent
    return [[f"Not run: {', '.join(absent)}."]] if absent else []


def _data(found: Page) -> dict[str, Any]:
    """For the page's script."""
    pool: list[Column] = []
    places: dict[str, int] = {}

    def pooled(column: Column) -> int:
        key = json.dumps(asdict(column))
        if key not in places:
            places[key] = len(pool)
            pool.append(column)
        return places[key]

    tasks = [
        {
            "name": part.name, "stem": part.stem, "strategies": part.strategies,
            "verdicts": [
                {"columns": [pooled(one) for one in known.columns],
                 "sentences": [*known.sentences[:1], *_absent(part), *known.sentences[1:]]}
                for known in part.verdicts
            ],
            "charts": [chart.embedded for chart in part.charts],
        }
        for part in found.tasks
    ]  # fmt: skip
    runs = [
        {"title": f"{one.name}: {found.labels.get(one.run.id, '')}".rstrip(": "),
         "charts": [{**chart.embedded, "note": chart.note} for chart in figures.of_run(one)]}
        for one in found.results
    ]  # fmt: skip
    return {
        "prices": found.prices, "eventful": found.eventful, "baseline": found.baseline,
        "tasks": tasks, "first": page_tables.FIRST,
        "columns": [asdict(column) for column in pool], **_shared(runs), "config": charts.CONFIG,
        "dark": ON_DARK, "log": axes.LOG, "linear": axes.LINEAR, "decades": axes.DECADES,
    }  # fmt: skip


def _shared(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Runs whose charts have the same specifications, with these apart."""
    specs: dict[str, int] = {}
    for run in runs:
        for chart in run["charts"]:
            text = json.dumps(chart["spec"])
            chart["spec"] = specs.setdefault(text, len(specs))
    return {"runs": runs, "specs": [json.loads(text) for text in specs]}


def _json(value: Any) -> Markup:
    """As a script has it: no character of it ends the element that it is in."""

    def plain(one: Any) -> Any:
        if isinstance(one, float) and one in (float("inf"), float("-inf")):
            return 1e308 if one > 0 else -1e308
        if isinstance(one, dict):
            return {key: plain(item) for key, item in one.items()}
        return [plain(item) for item in one] if isinstance(one, list | tuple) else one

    text = json.dumps(plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, safe in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"),
                            ("\u2028", "\\u2028"), ("\u2029", "\\u2029")):  # fmt: skip
        text = text.replace(character, safe)
    return Markup(text)


def render(found: Page, *, going_on: bool = False) -> str:
    """The page. going_on: it loads itself again, now and then. Everything in it that is not the
    template's is escaped. Raises TinyMetaFedError without the extra."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    done, rounds = (
        sum(getattr(one.run, key) for one in found.results) for key in ("done", "rounds")
    )
    return environment.get_template("page.html").render(
        page=found, on_dark=ON_DARK, data=_json(_data(found)), script=Markup(vega.script()),
        reload=RELOAD if going_on else 0, share=done / max(1, rounds),
        happened=happened.sentences(found.results), seeds=_seeds(found),
        now=datetime.now(UTC).strftime("%H:%M:%S UTC") if going_on else "",
        first=min(one.run.created for one in found.results)[:16].replace("T", " ") + " UTC",
    )  # fmt: skip


def _seeds(found: Page) -> str:
    runs = len(found.results)
    strategies = len(found.baselines)
    seeds = len({one.run.seed for one in found.results})
    tasks = ", ".join(part.name for part in found.tasks)

    def count(n: int, one: str, many: str) -> str:
        return f"{n} {one if n == 1 else many}"

    return (
        f"{tasks}: {count(strategies, 'strategy', 'strategies')}, {count(seeds, 'seed', 'seeds')}, "
        f"{count(runs, 'run', 'runs')}"
    )


def write(text: str, path: Path) -> None:
    """Raises TinyMetaFedError."""
    with writing(path) as file:
        file.write(text)


def write_parts(found: Page, folder: Path, inches: float = COLUMN) -> int:
    """Every chart and table as files, those of single runs where there are few; returns the number
    of files. inches: how wide charts are. Raises TinyMetaFedError."""
    labels: dict[str, list[str]] = {}
    drawn: list[Chart] = []
    for part in found.tasks:
        drawn += part.charts
        labels |= {chart.name: part.curves.labels for chart in part.charts}
    if len(found.results) <= MOST_FIGURED:
        drawn += [chart for one in found.results for chart in figures.of_run(one)]
    tables = [*found.papers, *found.tables, *found.happened]
    return figures.write(drawn, tables, labels, found.prices, folder, inches)
