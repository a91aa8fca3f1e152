"""The store's file: statements, transactions, and what goes wrong with it in a user's words."""

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ..errors import TinyMetaFedError
from . import opening


class Database:
    """The file in a folder that is private to the user.

    notice: what a reader has to know of it, or None. Raises TinyMetaFedError where the folder or
    the file cannot be used, as all methods do.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        """read_only: nothing is made that is not there, and the file may be one that cannot be
        written, or of a newer version."""
        self.folder = folder
        self.path = folder / "runs.sqlite"
        self.notice: str | None = None
        if read_only:
            copies = ExitStack()
            weakref.finalize(self, copies.close)
            self._db, self.notice = opening.to_read(self.path, copies)
        else:
            self._db = opening.to_write(self.path)
        self._close = weakref.finalize(self, self._db.close)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with opening.in_words(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # SQLite has ended it where the disk is full
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read meanwhile is of one moment, also where a process adds rounds."""
        with opening.in_words(self.path):
            self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    def _all(self, query: str, *arguments: Any) -> list[Any]:
        with opening.in_words(self.path):
            return self._db.execute(query, arguments).fetchall()

    @contextmanager
    def readable(self, run: int) -> Iterator[None]:
        """What a run's row has that nobody can have written raises TinyMetaFedError."""
        try:
            yield
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise TinyMetaFedError(
                f"{self.path}: run {run}: what is stored of it is damaged: {error}"
            ) from None

    def close(self) -> None:
        """Closes the file; that is up to the thread that has opened it."""
        self._close()
