"""Stores as older versions made them."""

import json
import sqlite3
from contextlib import closing
from dataclasses import astuple
from pathlib import Path

from running import ledger
from tinymetafed.results.store import Store

SCHEMAS = Path(__file__).parent / "results/schemas"
QEMU = 6
"""The run of the fixture `compared` that was counted."""


def as_old(version: int, compared: Store, folder: Path) -> Path:
    """The runs of a store as one of that schema had them, judged on the same devices: they were the
    unseen ones."""
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "runs.sqlite", isolation_level=None)) as db:
        db.executescript((SCHEMAS / f"{version}.sql").read_text())
        db.execute("ATTACH ? AS new", (str(compared.path),))
        tables = [name for (name,) in db.execute("SELECT name FROM main.sqlite_master")]
        for table in ("run", "node_round", "evaluation", "server_state", "kept"):
            if table in tables:
                there = [row[1] for row in db.execute(f"PRAGMA new.table_info({table})")]
                columns = [row[1] for row in db.execute(f"PRAGMA main.table_info({table})")]
                names = ", ".join(name for name in columns if name in there)
                judged = " WHERE part = 'validation'" * (table == "evaluation")
                db.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM new.{table}{judged}")
        db.execute("UPDATE run SET settings = json_remove(settings, '$.evaluation.unseen')")
        if "node_state" in tables:
            db.execute("INSERT INTO node_state VALUES (1, 2, X'0000803F')")
        phases = [(run.id, row) for run in compared.runs() for row in compared.phases(run.id)]
        for run, row in phases:
            values = (run, row.round, row.node, row.phase, row.instructions)
            more = json.dumps(row.classes), json.dumps(row.cycles)
            if "phase" in tables:
                db.execute("INSERT INTO phase VALUES (?, ?, ?, ?, ?, ?, ?)", (*values, *more))
            else:
                db.execute(
                    "UPDATE node_round SET instructions = coalesce(instructions, 0) + ?"
                    " WHERE run = ? AND round = ? AND node = ?",
                    (row.instructions, run, row.round, row.node),
                )
        if "ledger" in tables:
            db.executemany(
                "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(one.id, *astuple(e)) for one in compared.runs() for e in ledger(compared, one)],
            )
    return folder


def in_two_parts(store: Store, folder: Path) -> Path:
    """The same runs as schema 12 had them: judged on the same devices, which were the unseen
    ones, and without a word of others."""
    folder.mkdir(parents=True)
    path = folder / "runs.sqlite"
    with closing(sqlite3.connect(store.path, isolation_level=None)) as db:
        db.execute("VACUUM INTO ?", (str(path),))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DELETE FROM evaluation WHERE part = 'unseen'")
        db.execute("ALTER TABLE evaluation DROP COLUMN part")
        db.execute("UPDATE run SET schema = 12, settings = json_remove(settings,"
                   " '$.evaluation.unseen', '$.task.validation')")  # fmt: skip
        db.execute("PRAGMA user_version = 12")
    return folder
