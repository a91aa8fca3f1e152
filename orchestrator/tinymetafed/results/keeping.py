"""What people do with runs that are there: name, tag, note, find, extend and delete them."""

import fcntl
import json
import os
import sqlite3
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

from ..errors import TinyMetaFedError
from . import opening
from .database import Database
from .rows import Run

RUN = ", ".join(field.name for field in fields(Run))


@dataclass(frozen=True)
class Labels:
    """What a user says of a run. note: empty where there is none."""

    tags: tuple[str, ...] = ()
    note: str = ""


class Keeping(Database):
    """The rows of the table run, and what users say of them.

    Attributes:
        labels: of each run that is created here.
    """

    labels = Labels()

    def runs(self) -> list[Run]:
        """All runs, the oldest first."""
        return [Run(*row) for row in self._all(f"SELECT {RUN} FROM run ORDER BY id")]

    def run(self, which: str) -> Run:
        """The run with that number, the newest for "last", or the one of that name. Raises
        TinyMetaFedError where there is none, or several have the name."""
        query = f"SELECT {RUN} FROM run WHERE id = ?"
        arguments: Sequence[str] = (which,)
        if which == "last":
            query, arguments = f"SELECT {RUN} FROM run ORDER BY id DESC LIMIT 1", ()
        elif not which.isdecimal():
            query = f"SELECT {RUN} FROM run WHERE name = ? ORDER BY id"
        rows = self._all(query, *arguments)
        if len(rows) > 1:
            numbers = ", ".join(str(row[0]) for row in rows[-10:])
            raise TinyMetaFedError(
                f"{self.path}: {len(rows)} runs are called {which!r:.80}; give a number: {numbers}"
            )
        if not rows:
            known = [str(number) for (number,) in self._all("SELECT id FROM run ORDER BY id")]
            there = f"there are: {', '.join(known[-10:])}" if known else "there is none yet"
            raise TinyMetaFedError(f"{self.path}: no run {which!r:.80}; {there}")
        return Run(*rows[0])

    def find(self, **columns: str) -> Run | None:
        """The run that has these values in these columns; where several do, the one with the most
        rounds done, of these the oldest. A run to which rounds were added is none: it need not be
        the one that had them from the start."""
        return next(self.matching(**columns), None)

    def matching(self, **columns: str) -> Iterator[Run]:
        """All of them, in that order."""
        rows = self._all(
            f"SELECT {RUN} FROM run WHERE {' AND '.join(f'{name} = ?' for name in columns)}"
            " AND id NOT IN (SELECT run FROM extension) ORDER BY done DESC, id",
            *columns.values(),
        )
        return (Run(*row) for row in rows)

    def named(self, which: Iterable[str]) -> list[Run]:
        """The runs with these numbers or names, the newest for "last"; each once, the oldest first.
        Raises TinyMetaFedError."""
        found: dict[int, Run] = {}
        for one in which:
            number = one == "last" or one.isdecimal()
            query = f"SELECT {RUN} FROM run WHERE name = ?"
            named = [] if number else [Run(*row) for row in self._all(query, one)]
            found |= {run.id: run for run in named or [self.run(one)]}
        return [found[number] for number in sorted(found)]

    def labels_of(self, run: int) -> Labels:
        """What is said of a run; its tags in alphabetical order."""
        tags = self._all("SELECT name FROM tag WHERE run = ? ORDER BY name", run)
        notes = self._all("SELECT text FROM note WHERE run = ?", run)
        return Labels(tuple(name for (name,) in tags), notes[0][0] if notes else "")

    def edit(
        self,
        runs: Iterable[int],
        *,
        name: str | None = None,
        tag: Collection[str] = (),
        untag: Collection[str] = (),
        note: str | None = None,
    ) -> None:
        """Gives runs a name, tags more or fewer, and another note, none where it is empty; all or
        nothing."""
        with self._transaction():
            for run in runs:
                if name is not None:
                    self._db.execute("UPDATE run SET name = ? WHERE id = ?", (name, run))
                self._db.executemany(
                    "DELETE FROM tag WHERE run = ? AND name = ?", [(run, one) for one in untag]
                )
                self._put_labels(run, Labels(tuple(tag), note or ""))
                if note == "":
                    self._db.execute("DELETE FROM note WHERE run = ?", (run,))

    def _put_labels(self, run: int, labels: Labels) -> None:
        rows = [(run, one) for one in labels.tags]
        self._db.executemany("INSERT OR IGNORE INTO tag VALUES (?, ?)", rows)
        if labels.note:
            self._db.execute("INSERT OR REPLACE INTO note VALUES (?, ?)", (run, labels.note))

    def put_comparison(self, name: str, settings: str, cells: str) -> None:
        """Keeps what a comparison was, in place of an earlier one of the name. settings, cells:
        JSON, see schema.py."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO comparison VALUES (?, ?, ?)", (name, settings, cells)
            )

    def comparison(self, name: str) -> tuple[str, str] | None:
        """Settings and cells of the comparison of that name, as they were put; None where there is
        none."""
        rows = self._all("SELECT settings, cells FROM comparison WHERE name = ?", name)
        return rows[0] if rows else None

    def comparisons(self) -> list[str]:
        """Names of those that are kept, in alphabetical order."""
        return [name for (name,) in self._all("SELECT name FROM comparison ORDER BY name")]

    def extensions(self, run: int) -> list[int]:
        """After how many rounds, which were all that it was to have, more were added; ascending."""
        rows = self._all("SELECT after FROM extension WHERE run = ? ORDER BY after", run)
        return [after for (after,) in rows]

    def extend(self, run: Run, rounds: int) -> None:
        """Gives a run whose rounds are all done more of them, `rounds` in all. Raises
        TinyMetaFedError where another process has done so, or has deleted it."""
        with self.readable(run.id):
            tree = json.loads(run.settings) | {"rounds": rounds}
        # As pydantic writes it, so that only the rounds are another text.
        settings = json.dumps(tree, separators=(",", ":"), ensure_ascii=False)
        with self._transaction():
            updated = self._db.execute(
                "UPDATE run SET rounds = ?, settings = ? WHERE id = ? AND rounds = ? AND done = ?",
                (rounds, settings, run.id, run.rounds, run.rounds),
            )
            if updated.rowcount != 1:
                raise TinyMetaFedError(
                    f"run {run.id} is being continued by another process, or was deleted"
                )
            self._db.execute("INSERT INTO extension VALUES (?, ?)", (run.id, run.rounds))

    def delete(self, runs: Iterable[int]) -> None:
        """Deletes runs with all that is stored of them; all or none. Raises TinyMetaFedError where
        a process goes on with one."""
        with self._transaction():
            for run in runs:
                with self.going_on(run):
                    self._db.execute("DELETE FROM run WHERE id = ?", (run,))

    def shrink(self) -> bool:
        """Gives the file system what deleted runs took. False where it cannot, since another
        process uses the file or there is no room for a copy: new runs take the place then."""
        self._db.execute("PRAGMA busy_timeout = 1000")
        try:
            self._db.execute("VACUUM")
            (busy, *_) = self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.Error:
            return False
        finally:
            self._db.execute("PRAGMA busy_timeout = 30000")
        return not busy

    @contextmanager
    def going_on(self, run: int) -> Iterator[None]:
        """Nobody else goes on with the run meanwhile, or deletes it. Raises TinyMetaFedError where
        somebody does. What ends the process ends this too."""
        with opening.in_words(self.path):
            file = os.open(self.folder / "runs.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                # A byte for each run; of the open file, since one of the process would also be
                # given up where the process opens and closes the file elsewhere.
                fcntl.fcntl(file, fcntl.F_OFD_SETLK, _byte(run))
            except (BlockingIOError, PermissionError):
                raise TinyMetaFedError(
                    f"run {run} is going on in another process; stop that first"
                ) from None
            yield
        finally:
            os.close(file)


def _byte(run: int) -> bytes:
    """A struct flock (fcntl(2)): exclusive, from the start of the file, one byte; no process."""
    return struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, run, 1, 0)
