"""A store's file is opened: to write, or to read what can be read of it, whoever's it is."""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from ..errors import TinyMetaFedError
from ..nodes.folder import private_directory
from .migration import create, migrate
from .schema import SCHEMA_VERSION

REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full; what was stored before is there",
    sqlite3.SQLITE_BUSY: "another process has locked the store; try again when it has ended",
    sqlite3.SQLITE_CORRUPT: "the store is damaged; 'sqlite3 runs.sqlite .recover' saves what is "
    "readable",
    sqlite3.SQLITE_NOTADB: "this is no store of tinymetafed; set TMF_RUNS to another folder",
    sqlite3.SQLITE_READONLY: "the store may not be written; set TMF_RUNS to another folder",
    sqlite3.SQLITE_CANTOPEN: "the file may not be opened, or is none",
    sqlite3.SQLITE_PERM: "the file may not be opened",
    sqlite3.SQLITE_IOERR: "the disk is full, or cannot be read or written",
}
"""Of SQLite's primary result codes, what a user can do something about."""


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """What goes wrong with the file in a user's words: TinyMetaFedError."""
    try:
        yield
    except OSError as error:
        raise TinyMetaFedError(f"{path}: the store cannot be opened: {error.strerror}") from None
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
        raise
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        raise TinyMetaFedError(f"{path}: {REASONS.get(code, error)}") from None


def _connect(path: Path, query: str = "") -> sqlite3.Connection:
    # As a URI no file is created that was not there, whatever characters the path has.
    uri = f"file:{quote(str(path.absolute()))}?{query or 'mode=rw'}"
    return sqlite3.connect(uri, timeout=30, isolation_level=None, uri=True)


def _version(db: sqlite3.Connection, path: Path) -> int:
    """Of its schema; 0 where the file is empty. Raises TinyMetaFedError where it is no store."""
    # One statement, so of one moment: another process may be making the tables.
    rows = db.execute(
        "SELECT user_version, name FROM pragma_user_version LEFT JOIN sqlite_master ON TRUE"
    ).fetchall()
    version, tables = rows[0][0], {name for _, name in rows if name is not None}
    if (version == 0) != (not tables) or (tables and "run" not in tables):
        raise TinyMetaFedError(f"{path}: {REASONS[sqlite3.SQLITE_NOTADB]}")
    return version


def to_write(path: Path) -> sqlite3.Connection:
    """The store, made where it was not there, migrated where it is older. Raises
    TinyMetaFedError."""
    with in_words(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        db = _connect(path)
        version = _version(db, path)
        if version > SCHEMA_VERSION:
            raise TinyMetaFedError(f"{path}: {_newer(version)}; set TMF_RUNS to another folder")
        db.execute("PRAGMA journal_mode = WAL")
        # Rounds outlive the process without waiting for the disk; a power cut may take some.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA foreign_keys = ON")
        if version < SCHEMA_VERSION:
            migrate(db)
        return db


def to_read(path: Path, copies: ExitStack) -> tuple[sqlite3.Connection, str | None]:
    """The store as it is, an empty one where there is none; and what of it a reader has to know.
    copies: keeps the private folder of its copy, until it is closed.

    There is a copy where the file may not be written but would have to be: it is of an older
    schema, or a process was killed that wrote to it. Raises TinyMetaFedError.
    """
    with in_words(path):
        if not path.exists():
            db = sqlite3.connect(":memory:", isolation_level=None)
            create(db)
            return db, None
        folder = None
        if _writable(path):
            db = _connect(path)
        elif path.with_name(f"{path.name}-shm").exists():
            # Whoever writes it has made the files that SQLite needs beside it.
            db = _connect(path, "mode=ro")
        elif _nonempty(log := path.with_name(f"{path.name}-wal")):
            folder = copies.enter_context(private_directory())
            for file in (path, log):  # its last rounds are in the log alone
                shutil.copyfile(file, folder / file.name)
            db = _connect(folder / path.name)
        else:
            db = _connect(path, "immutable=1")
        version = _version(db, path)
        if version > SCHEMA_VERSION:
            return db, f"{path}: {_newer(version)}; what this version knows is shown"
        if version < SCHEMA_VERSION and not _writable(path):
            folder = folder or copies.enter_context(private_directory())
            copy = sqlite3.connect(folder / "migrated.sqlite", isolation_level=None)
            db.backup(copy)
            db.close()
            db = copy
        if version < SCHEMA_VERSION:
            migrate(db)
        return db, None


def _nonempty(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def _writable(path: Path) -> bool:
    return os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)


def _newer(version: int) -> str:
    return (
        f"made by a newer version of tinymetafed (schema {version}, this one has {SCHEMA_VERSION})"
    )
