"""One SQLite file for all runs; a round is in it whole or not at all."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from ..energy.ledger import Entry
from ..errors import TinyMetaFedError
from ..plugins import Source
from ..tasks.base import Part
from . import opening
from .keeping import Keeping, Labels
from .migration import insert_profile
from .profiles import PhaseCount, unpack
from .rows import (
    ClassCount,
    DeviceEvaluation,
    DeviceTotal,
    Event,
    Judged,
    MeasuredCycles,
    NodeRound,
    NodeTotal,
    Run,
    columns_of,
)
from .schema import SCHEMA_VERSION

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

__all__ = [
    "ClassCount", "DeviceEvaluation", "DeviceTotal", "Entry", "Event", "Judged", "Labels",
    "MeasuredCycles", "NodeRound", "NodeTotal", "PhaseCount", "Run", "Store",
]  # fmt: skip


class Store(Keeping):
    """The runs in one folder, which is private to the user; see Database for what goes wrong."""

    def create(
        self,
        evaluations: Iterable[DeviceEvaluation],
        server: Mapping[str, NDArray[Any]] | None = None,
        backbone: NDArray[np.float32] | None = None,
        events: Iterable[Event] = (),
        sources: Iterable[Source] = (),
        **columns: Any,
    ) -> Run:
        """A new run with these columns, none of its rounds done, judged before training. server:
        what it keeps besides the weights. backbone: the frozen weights. events: until now.
        sources: of what is a user's own."""
        created = datetime.now(UTC).isoformat(timespec="seconds")
        columns |= {"created": created, "done": 0, "schema": SCHEMA_VERSION}
        with self._transaction():
            cursor = self._db.execute(
                f"INSERT INTO run ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                tuple(columns.values()),
            )
            assert cursor.lastrowid is not None
            self._insert_evaluations(cursor.lastrowid, evaluations)
            self._insert("event", cursor.lastrowid, events)
            self._put_server_state(cursor.lastrowid, server or {})
            for one in sources:
                row = cursor.lastrowid, one.name, one.text
                self._db.execute("INSERT INTO source VALUES (?, ?, ?)", row)
            self._put_labels(cursor.lastrowid, self.labels)
            if backbone is not None and len(backbone):
                self._db.execute(
                    "INSERT INTO backbone VALUES (?, ?)",
                    (cursor.lastrowid, backbone.astype("<f4").tobytes()),
                )
        return self.run(str(cursor.lastrowid))

    def commit(
        self,
        run: int,
        done: int,
        theta: NDArray[np.float32],
        changed: NDArray[np.int64],
        seconds: float,
        nodes: Iterable[NodeRound],
        evaluations: Iterable[DeviceEvaluation] = (),
        phases: Sequence[PhaseCount] = (),
        kept: Mapping[int, NDArray[np.float32]] | None = None,
        server: Mapping[str, NDArray[Any]] | None = None,
        events: Iterable[Event] = (),
        measured: Iterable[MeasuredCycles] = (),
    ) -> None:
        """Adds a round, its evaluations and events, cycles that nodes have measured, the weights
        after it with the version in which each changed last, by owner the vectors that nodes keep
        and that it has changed, and all that the server keeps else, in place of what it kept
        before; all or nothing.

        Raises TinyMetaFedError where another process has gone on with the run.
        """
        with self._transaction():
            weights = theta.astype("<f4").tobytes(), changed.astype("<i4").tobytes()
            updated = self._db.execute(
                "UPDATE run SET done = ?, theta = ?, changed = ?, seconds = seconds + ?"
                " WHERE id = ? AND done = ?",
                (done, *weights, seconds, run, done - 1),
            )
            if updated.rowcount != 1:
                raise TinyMetaFedError(
                    f"run {run} is being continued by another process, or was deleted"
                )
            self._db.execute("INSERT INTO wall_time VALUES (?, ?, ?)", (run, done, seconds))
            self._insert("node_round", run, nodes)
            self._insert_evaluations(run, evaluations)
            if phases:
                insert_profile(self._db, run, done, phases)
            self._insert("event", run, events)
            self._insert("measured", run, measured)
            for owner, vector in (kept or {}).items():
                self._db.execute(
                    "INSERT OR REPLACE INTO kept VALUES (?, ?, ?)",
                    (run, owner, vector.astype("<f4").tobytes()),
                )
            self._put_server_state(run, server or {})

    def add_events(self, run: int, events: Iterable[Event]) -> None:
        """Adds events of a round that an error has ended, so that the store says why."""
        with self._transaction():
            self._insert("event", run, events)

    def add_evaluations(self, run: int, evaluations: Iterable[DeviceEvaluation]) -> None:
        """Adds those of a round that is in the store without any."""
        with self._transaction():
            self._insert_evaluations(run, evaluations)

    def _put_server_state(self, run: int, server: Mapping[str, NDArray[Any]]) -> None:
        self._db.execute("DELETE FROM server_state WHERE run = ?", (run,))
        for name, array in server.items():
            file = io.BytesIO()
            np.save(file, array, allow_pickle=False)
            self._db.execute(
                "INSERT INTO server_state VALUES (?, ?, ?)", (run, name, file.getvalue())
            )

    def _insert(
        self,
        table: str,
        run: int,
        rows: Iterable[NodeRound | Event | MeasuredCycles],
    ) -> None:
        self._put(table, [(run, *vars(row).values()) for row in rows])

    def _insert_evaluations(self, run: int, evaluations: Iterable[DeviceEvaluation]) -> None:
        names = columns_of(DeviceEvaluation)
        for row in evaluations:
            self._put("evaluation", [(run, *(getattr(row, name) for name in names))])
            counted = [(run, row.round, row.device, *astuple(one)) for one in row.classes]
            self._put("class_count", counted)

    def _put(self, table: str, values: Sequence[tuple[Any, ...]]) -> None:
        if values:
            marks = ", ".join("?" * len(values[0]))
            self._db.executemany(f"INSERT INTO {table} VALUES ({marks})", values)

    def node_rounds(self, run: int, first: int = 1) -> list[NodeRound]:
        """What the nodes did, by round and node; from round `first` on."""
        return self._rows(NodeRound, "node_round", run, "round, node", f"round >= {first}")

    def node_totals(self, run: int) -> list[NodeTotal]:
        """What each node that was in any round did in all of them, by node."""
        columns = "bytes_down", "bytes_up", "counted", "late", "diverged"
        sums = ", ".join(f"sum({name})" for name in columns)
        query = f"SELECT node, count(*), {sums} FROM node_round WHERE run = ? GROUP BY node"
        return [NodeTotal(*row) for row in self._all(query, run)]

    def device_totals(self, run: int) -> list[DeviceTotal]:
        """In how many rounds each device was played, and what became of these, by device."""
        query = "SELECT device, count(*), sum(late), sum(diverged) FROM node_round WHERE run = ?"
        return [DeviceTotal(*row) for row in self._all(f"{query} GROUP BY device", run)]

    def fates(self, run: int, nodes: int, first: int) -> list[tuple[int, int, int, int]]:
        """Round, node, and whether it was late and diverged, of the first nodes in the rounds from
        round `first` on in which each took part."""
        query = "SELECT round, node, late, diverged FROM node_round WHERE run = ? AND node < ?"
        return self._all(f"{query} AND round >= ? ORDER BY node, round", run, nodes, first)

    def bytes_by_round(self, run: int) -> list[tuple[int, int]]:
        """Bytes down and up of all nodes together, by round, ascending."""
        query = "SELECT round, sum(bytes_down + bytes_up) FROM node_round WHERE run = ?"
        return self._all(f"{query} GROUP BY round ORDER BY round", run)

    def wall_times(self, run: int) -> dict[int, float]:
        """Seconds that each round has taken; of those done before schema 14 they are not known."""
        return dict(self._all("SELECT round, seconds FROM wall_time WHERE run = ?", run))

    def messages(self, run: int) -> list[tuple[str, int]]:
        """What is in `messages` of node_round, and in how many rows."""
        query = "SELECT messages, count(*) FROM node_round WHERE run = ? GROUP BY messages"
        return self._all(query, run)

    def uncounted(self, run: int, nodes: Iterable[range], limit: int) -> list[tuple[int, int]]:
        """Node and round of the first rows of some nodes that were not counted."""
        some = " OR ".join(f"node >= {one.start} AND node < {one.stop}" for one in nodes)
        query = f"SELECT node, round FROM node_round WHERE run = ? AND NOT counted AND ({some})"
        return self._all(f"{query} ORDER BY round, node LIMIT {limit}", run)

    def extent(self, run: int) -> tuple[int, int]:
        """Rounds that are done, and rows of node_round."""
        query = (
            "SELECT done, (SELECT count(*) FROM node_round WHERE run = id) FROM run WHERE id = ?"
        )
        return self._all(query, run)[0]

    def layouts(self, run: int) -> list[str]:
        """Names of the layouts that the run's profiles have; none where nothing was counted."""
        query = "SELECT names FROM layout WHERE id IN (SELECT layout FROM profile WHERE run = ?)"
        return [names for (names,) in self._all(f"{query} ORDER BY id", run)]

    def work(
        self, run: int, first: int, last: int, *, counted: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_], list[str]]:
        """Round, node, counted, frames of the rows of some rounds, by round and node; of those
        counted alone."""
        only = " AND counted" if counted else ""
        names = "round", "node", "counted", "frames"
        # A row at a time takes twice as long, and there may be millions.
        arrays = ", ".join(f"json_group_array({name})" for name in names)
        query = (
            f"SELECT {arrays} FROM (SELECT {', '.join(names)} FROM node_round WHERE run = ?"
            f" AND round BETWEEN ? AND ?{only} ORDER BY round, node)"
        )
        [columns] = self._all(query, run, first, last)
        with self.readable(run):
            rounds, nodes, were_counted, frames = map(from_json, columns)
            return (
                np.array(rounds, np.int64), np.array(nodes, np.int64),
                np.array(were_counted, np.bool_), frames,
            )  # fmt: skip

    def cycles(self, run: int, names: str, first: int, last: int) -> list[tuple[int, bytes]]:
        """Round and cycles of those profiles of some rounds whose layout has these names."""
        query = (
            "SELECT round, cycles FROM profile WHERE run = ? AND round BETWEEN ? AND ?"
            " AND layout = (SELECT id FROM layout WHERE names = ?) ORDER BY round"
        )
        return self._all(query, run, first, last, names)

    def classes(self, run: int) -> Iterator[tuple[str, bytes, bytes]]:
        """Names of the layout, cycles and classes of each profile."""
        query = "SELECT names, cycles, classes FROM profile JOIN layout ON id = layout"
        with opening.in_words(self.path):
            yield from self._db.execute(f"{query} WHERE run = ? ORDER BY round", (run,))

    def measured(self, run: int) -> list[MeasuredCycles]:
        """Cycles that the nodes have measured themselves, by round, node and phase."""
        return self._rows(MeasuredCycles, "measured", run, "round, node, phase")

    def counted(self, run: int) -> int:
        """Rows of node_round that were counted."""
        query = "SELECT count(*) FROM node_round WHERE run = ? AND counted"
        return self._all(query, run)[0][0]

    def phases(self, run: int) -> list[PhaseCount]:
        """What the nodes executed, by round, node and phase."""
        query = "SELECT round, names, cycles, classes FROM profile JOIN layout ON id = layout"
        rows = self._all(f"{query} WHERE run = ? ORDER BY round", run)
        with self.readable(run):
            return [count for row in rows for count in unpack(*row)]

    def ledger(self, run: int, first: int = 1) -> list[Entry]:
        """The nodes' energy of a run begun before schema 7, by round and node; from round `first`
        on. That of others is in no table: spending.py."""
        return self._rows(Entry, "ledger", run, "round, node, account", f"round >= {first}")

    def ledger_totals(self, run: int) -> list[tuple[int, str, float, float, float, float]]:
        """Node, account and sums of such a run's energy."""
        sums = "sum(seconds), sum(joules), sum(low), sum(high)"
        query = f"SELECT node, account, {sums} FROM ledger WHERE run = ? GROUP BY node, account"
        return self._all(query, run)

    def joules_by_round(self, run: int) -> list[tuple[int, float]]:
        """Of such a run."""
        return self._all("SELECT round, sum(joules) FROM ledger WHERE run = ? GROUP BY round", run)

    def last_rounds(self, run: int) -> dict[int, tuple[int, int]]:
        """The last round of each node that was in any, and the number of its last frame."""
        query = "SELECT node, max(round), sequence FROM node_round WHERE run = ? GROUP BY node"
        return {node: (number, last) for node, number, last in self._all(query, run)}

    def kept(self, run: int) -> dict[int, NDArray[np.float32]]:
        """What nodes keep after the last round, float32 [parameters], by owner: the node, or the
        device whose it is; those are not there that keep nothing."""
        rows = self._all("SELECT owner, value FROM kept WHERE run = ? ORDER BY owner", run)
        with self.readable(run):
            return {owner: np.frombuffer(blob, "<f4").astype(np.float32) for owner, blob in rows}

    def server_state(self, run: int) -> dict[str, NDArray[Any]]:
        """What the strategy keeps besides the weights after the last round, by name."""
        rows = self._all("SELECT name, value FROM server_state WHERE run = ? ORDER BY name", run)
        with self.readable(run):
            return {name: np.load(io.BytesIO(blob), allow_pickle=False) for name, blob in rows}

    def backbone(self, run: int) -> NDArray[np.float32]:
        """The frozen weights: float32 [backbone_parameters], none in most runs."""
        rows = self._all("SELECT value FROM backbone WHERE run = ?", run)
        with self.readable(run):
            return np.frombuffer(b"".join(value for (value,) in rows), "<f4").astype(np.float32)

    def sources(self, run: int) -> dict[str, str]:
        """The text of what is a user's own, by its file or module."""
        return dict(self._all("SELECT name, text FROM source WHERE run = ? ORDER BY name", run))

    def evaluations(self, run: int, done: int | None = None) -> list[DeviceEvaluation]:
        """The evaluations, by round and device, those for validation first; those after so many
        rounds, where given."""
        where = "TRUE" if done is None else f"round = {done}"
        rows = self._rows(DeviceEvaluation, "evaluation", run, "round, device", where)
        classes: dict[tuple[int, int], list[ClassCount]] = {}
        query = f"SELECT * FROM class_count WHERE run = ? AND {where} ORDER BY actual, predicted"
        for _, number, device, *counted in self._all(query, run):
            classes.setdefault((number, device), []).append(ClassCount(*counted))
        return [
            replace(row, classes=tuple(found))
            if (found := classes.get((row.round, row.device)))
            else row
            for row in rows
        ]

    def class_counts(self, run: int, done: int) -> list[ClassCount]:
        """What the query samples of all unseen devices together were taken for after so many
        rounds, by their classes' names; empty where that is not known."""
        query = (
            "SELECT actual, predicted, sum(samples) FROM class_count WHERE run = ? AND round = ?"
            " GROUP BY actual, predicted ORDER BY actual, predicted"
        )
        return [ClassCount(*row) for row in self._all(query, run, done)]

    def events(self, run: int, *kinds: str, most: int = -1) -> list[Event]:
        """Faults, restarts, repeated frames and the like in their order: of these kinds, or of all;
        at most so many, where given."""
        columns = ", ".join(columns_of(Event))
        chosen = f" AND kind IN ({', '.join('?' * len(kinds))})" if kinds else ""
        query = f"SELECT {columns} FROM event WHERE run = ?{chosen} ORDER BY rowid LIMIT ?"
        return [Event(*row) for row in self._all(query, run, *kinds, most)]

    def event_counts(self, run: int) -> dict[tuple[str, int], int]:
        """How many there are, by kind and node."""
        query = "SELECT kind, node, count(*) FROM event WHERE run = ? GROUP BY kind, node"
        return {(kind, node): count for kind, node, count in self._all(query, run)}

    def judged(self, run: int, *parts: Part, last: bool = False) -> list[Judged]:
        """The evaluations by round and part: of these parts, or of all; last: of the last round
        that was judged, and where both parts were, the unseen devices alone."""
        columns = "loss_before", "loss_after", "accuracy_before", "accuracy_after"
        means = ", ".join(f"avg({name})" for name in columns)
        chosen = f" AND part IN ({', '.join('?' * len(parts))})" if parts else ""
        order = "round DESC, min(device) DESC LIMIT 1" if last else "round, min(device)"
        rows = self._all(
            f"SELECT round, count(*), sum(loss_after IS NULL), {means}, part FROM evaluation"
            f" WHERE run = ?{chosen} GROUP BY round, part ORDER BY {order}",
            run, *parts,
        )  # fmt: skip
        return [Judged(*row) for row in rows]

    def learning(self, run: int) -> list[Judged]:
        """The evaluations by round on the devices for validation; on the unseen ones in a run
        without any for validation, as those begun before schema 13 are."""
        return self.judged(run, "validation") or self.judged(run, "unseen")

    def _rows(
        self, kind: type[T], table: str, run: int, order: str, where: str = "TRUE"
    ) -> list[T]:
        columns = ", ".join(columns_of(kind))
        query = f"SELECT {columns} FROM {table} WHERE run = ?1 AND {where} ORDER BY {order}"
        return [kind(*row) for row in self._all(query, run)]
