"""One SQLite file for all runs; a round is in it whole or not at all."""

import io
import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..energy.ledger import Entry
from ..errors import TinyMetaFedError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

SCHEMA_VERSION = 8
SCHEMA = """
CREATE TABLE run (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL,
    created    TEXT NOT NULL,            -- UTC, ISO 8601
    settings   TEXT NOT NULL,            -- the experiment, every key, as JSON
    seed       INTEGER NOT NULL,
    backend    TEXT NOT NULL,
    versions   TEXT NOT NULL,            -- of what the run depended on, as JSON
    firmware   TEXT NOT NULL,            -- version and build-id, as the nodes' hello gives them
    memory     INTEGER NOT NULL,         -- bytes on a node for the model and its training
    rounds     INTEGER NOT NULL,         -- to do
    done       INTEGER NOT NULL,         -- rounds in the store
    seconds    REAL NOT NULL,            -- wall time of these
    theta      BLOB NOT NULL,            -- float32, little-endian: the weights after them
    changed    BLOB NOT NULL             -- int32, little-endian: version in which each changed last
) STRICT;
CREATE TABLE node_round (                -- what one node did in one round
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round        INTEGER NOT NULL,       -- from 1
    node         INTEGER NOT NULL,
    device       INTEGER NOT NULL,       -- whose task it played
    bytes_down   INTEGER NOT NULL,
    bytes_up     INTEGER NOT NULL,
    bytes_sensor INTEGER NOT NULL,
    counted      INTEGER NOT NULL,       -- 1, or 0 where it has no rows in phase
    late         INTEGER NOT NULL,       -- 1 where its update came too late to be aggregated
    diverged     INTEGER NOT NULL,       -- 1 where its training did, and there was no update
    sequence     INTEGER NOT NULL,       -- number of the last frame that it was sent
    messages     TEXT NOT NULL,          -- by request: [bytes down, bytes up] as JSON
    frames       TEXT NOT NULL,          -- [bytes of each frame down, of each up] as JSON
    PRIMARY KEY (run, round, node)
) STRICT, WITHOUT ROWID;
CREATE TABLE server_state (              -- what the strategy keeps besides theta, by name
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    name         TEXT NOT NULL,
    value        BLOB NOT NULL,          -- an array as numpy's .npy file has it
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE kept (                      -- what a node keeps, after the last round that changed it
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    owner        INTEGER NOT NULL,       -- the node, or the device whose control variate it is
    value        BLOB NOT NULL,          -- float32, little-endian
    PRIMARY KEY (run, owner)
) STRICT, WITHOUT ROWID;
CREATE TABLE phase (                     -- what it executed meanwhile
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round        INTEGER NOT NULL,
    node         INTEGER NOT NULL,
    phase        TEXT NOT NULL,
    instructions INTEGER NOT NULL,
    classes      TEXT NOT NULL,          -- these by class, and entries of exceptions: JSON
    cycles       TEXT NOT NULL,          -- by core: [shortest, expected, longest] as JSON
    PRIMARY KEY (run, round, node, phase)
) STRICT, WITHOUT ROWID;
CREATE TABLE ledger (                    -- its energy, by the run's device and radio
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round        INTEGER NOT NULL,
    node         INTEGER NOT NULL,
    account      TEXT NOT NULL,          -- a phase, or one of energy/ledger.py
    seconds      REAL NOT NULL,
    joules       REAL NOT NULL,
    low          REAL NOT NULL,          -- joules by the shortest and the longest cycles
    high         REAL NOT NULL,
    PRIMARY KEY (run, round, node, account)
) STRICT, WITHOUT ROWID;
CREATE TABLE evaluation (                -- few-shot adaptation of one unseen device
    run             INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round           INTEGER NOT NULL,    -- rounds that were done, 0 before training
    device          INTEGER NOT NULL,
    loss_before     REAL,                -- all are NULL where it diverged
    loss_after      REAL,
    accuracy_before REAL,
    accuracy_after  REAL,
    PRIMARY KEY (run, round, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE event (                     -- what a node did that no undisturbed one does, in order
    run             INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round           INTEGER,             -- from 1, NULL outside of rounds: a boot, an evaluation
    node            INTEGER NOT NULL,
    device          INTEGER,             -- whose task it played, NULL where it played none
    kind            TEXT NOT NULL,       -- one of nodes/events.py
    detail          TEXT NOT NULL        -- "text" for people, and what there is else, as JSON
) STRICT;
CREATE INDEX event_of_run ON event (run, round);
"""


@dataclass(frozen=True)
class NodeRound:
    """A row of node_round; see the schema."""

    round: int
    node: int
    device: int
    bytes_down: int
    bytes_up: int
    bytes_sensor: int
    counted: bool
    late: bool
    diverged: bool
    sequence: int
    messages: str
    frames: str


@dataclass(frozen=True)
class PhaseCount:
    """A row of phase; see the schema."""

    round: int
    node: int
    phase: str
    instructions: int
    classes: str
    cycles: str


@dataclass(frozen=True)
class DeviceEvaluation:
    """A row of evaluation; see the schema."""

    round: int
    device: int
    loss_before: float | None
    loss_after: float | None
    accuracy_before: float | None
    accuracy_after: float | None


@dataclass(frozen=True)
class Event:
    """A row of event; see the schema."""

    round: int | None
    node: int
    device: int | None
    kind: str
    detail: str


@dataclass(frozen=True)
class Run:
    """A row of run; see the schema."""

    id: int
    name: str
    created: str
    settings: str
    seed: int
    backend: str
    versions: str
    firmware: str
    memory: int
    rounds: int
    done: int
    seconds: float
    theta: bytes
    changed: bytes

    @property
    def weights(self) -> NDArray[np.float32]:
        """The weights after the last round: float32 [parameters]."""
        return np.frombuffer(self.theta, "<f4").astype(np.float32)

    @property
    def changes(self) -> NDArray[np.int64]:
        """The version in which each of them changed last, as in a broadcast: int64 [parameters]."""
        return np.frombuffer(self.changed, "<i4").astype(np.int64)


class Store:
    """The runs in one folder, which is private to the user.

    Raises TinyMetaFedError where the folder or the file cannot be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "runs.sqlite"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.touch(mode=0o600)
            self._db = sqlite3.connect(self.path, timeout=30, isolation_level=None)
            weakref.finalize(self, self._db.close)
            self._db.execute("PRAGMA journal_mode = WAL")
            # Rounds outlive the process without waiting for the disk; a power cut may take some.
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            raise TinyMetaFedError(f"{self.path}: the store cannot be opened: {error}") from None

    def _prepare(self) -> None:
        with self._transaction():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in SCHEMA.split(";"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif version != SCHEMA_VERSION:
                raise TinyMetaFedError(
                    f"{self.path}: made by another version of tinymetafed (schema {version}, this "
                    f"is {SCHEMA_VERSION}); set TMF_RUNS to another folder"
                )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def create(
        self,
        evaluations: Iterable[DeviceEvaluation],
        server: Mapping[str, NDArray[Any]] | None = None,
        events: Iterable[Event] = (),
        **columns: Any,
    ) -> Run:
        """A new run with these columns, none of its rounds done, judged before training. server:
        what it keeps besides the weights. events: until now."""
        columns |= {"created": datetime.now(UTC).isoformat(timespec="seconds"), "done": 0}
        with self._transaction():
            cursor = self._db.execute(
                f"INSERT INTO run ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                tuple(columns.values()),
            )
            assert cursor.lastrowid is not None
            self._insert("evaluation", cursor.lastrowid, evaluations)
            self._insert("event", cursor.lastrowid, events)
            self._put_server_state(cursor.lastrowid, server or {})
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
        phases: Iterable[PhaseCount] = (),
        ledger: Iterable[Entry] = (),
        kept: Mapping[int, NDArray[np.float32]] | None = None,
        server: Mapping[str, NDArray[Any]] | None = None,
        events: Iterable[Event] = (),
    ) -> None:
        """Adds a round, its evaluations and events, the weights after it with the version in which
        each changed last, by owner the vectors that nodes keep and that it has changed, and all
        that the server keeps else, in place of what it kept before; all or nothing.

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
            self._insert("node_round", run, nodes)
            self._insert("evaluation", run, evaluations)
            self._insert("phase", run, phases)
            self._insert("ledger", run, ledger)
            self._insert("event", run, events)
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
        rows: Iterable[NodeRound | DeviceEvaluation | PhaseCount | Entry | Event],
    ) -> None:
        values = [(run, *vars(row).values()) for row in rows]
        if values:
            marks = ", ".join("?" * len(values[0]))
            self._db.executemany(f"INSERT INTO {table} VALUES ({marks})", values)

    def runs(self) -> list[Run]:
        """All runs, the oldest first."""
        return [Run(*row) for row in self._db.execute("SELECT * FROM run ORDER BY id")]

    def run(self, which: str) -> Run:
        """The run with that number, or the newest for "last". Raises TinyMetaFedError."""
        query = "SELECT * FROM run WHERE id = ?"
        arguments: Sequence[str] = (which,)
        if which == "last":
            query, arguments = "SELECT * FROM run ORDER BY id DESC LIMIT 1", ()
        row = self._db.execute(query, arguments).fetchone()
        if row is None:
            known = [str(run.id) for run in self.runs()]
            there = f"there are: {', '.join(known[-10:])}" if known else "there is none yet"
            raise TinyMetaFedError(f"{self.path}: no run '{which}'; {there}")
        return Run(*row)

    def find(self, **columns: str) -> Run | None:
        """The run that has these values in these columns; where several do, the one with the most
        rounds done, of these the oldest."""
        row = self._db.execute(
            f"SELECT * FROM run WHERE {' AND '.join(f'{name} = ?' for name in columns)}"
            " ORDER BY done DESC, id LIMIT 1",
            tuple(columns.values()),
        ).fetchone()
        return None if row is None else Run(*row)

    def named(self, which: Iterable[str]) -> list[Run]:
        """The runs with these numbers or names, the newest for "last"; each once, the oldest first.
        Raises TinyMetaFedError."""
        found: dict[int, Run] = {}
        for one in which:
            number = one == "last" or one.isdecimal()
            named = [run for run in self.runs() if run.name == one and not number]
            found |= {run.id: run for run in named or [self.run(one)]}
        return [found[number] for number in sorted(found)]

    def node_rounds(self, run: int) -> list[NodeRound]:
        """What the nodes did, by round and node."""
        return self._rows(NodeRound, "node_round", run, "round, node")

    def last_rounds(self, run: int) -> dict[int, tuple[int, int]]:
        """The last round of each node that was in any, and the number of its last frame."""
        query = "SELECT node, max(round), sequence FROM node_round WHERE run = ? GROUP BY node"
        return {node: (number, last) for node, number, last in self._db.execute(query, (run,))}

    def phases(self, run: int) -> list[PhaseCount]:
        """What the nodes executed, by round, node and phase."""
        return self._rows(PhaseCount, "phase", run, "round, node, phase")

    def ledger(self, run: int) -> list[Entry]:
        """The nodes' energy, by round and node."""
        return self._rows(Entry, "ledger", run, "round, node, account")

    def kept(self, run: int) -> dict[int, NDArray[np.float32]]:
        """What nodes keep after the last round, float32 [parameters], by owner: the node, or the
        device whose it is; those are not there that keep nothing."""
        query = "SELECT owner, value FROM kept WHERE run = ? ORDER BY owner"
        rows = self._db.execute(query, (run,))
        return {owner: np.frombuffer(blob, "<f4").astype(np.float32) for owner, blob in rows}

    def server_state(self, run: int) -> dict[str, NDArray[Any]]:
        """What the strategy keeps besides the weights after the last round, by name."""
        query = "SELECT name, value FROM server_state WHERE run = ? ORDER BY name"
        rows = self._db.execute(query, (run,))
        return {name: np.load(io.BytesIO(blob), allow_pickle=False) for name, blob in rows}

    def evaluations(self, run: int) -> list[DeviceEvaluation]:
        """The evaluations, by round and device."""
        return self._rows(DeviceEvaluation, "evaluation", run, "round, device")

    def events(self, run: int) -> list[Event]:
        """What nodes did that no undisturbed one does, in its order."""
        return self._rows(Event, "event", run, "rowid")

    def _rows(self, kind: type[T], table: str, run: int, order: str) -> list[T]:
        columns = ", ".join(field.name for field in fields(kind))
        query = f"SELECT {columns} FROM {table} WHERE run = ? ORDER BY {order}"
        return [kind(*row) for row in self._db.execute(query, (run,))]
