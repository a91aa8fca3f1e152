"""Stores of older schemas are brought to today's, as far as their data go, or stay as they were."""

import json
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

from .profiles import PhaseCount, pack
from .schema import RESUMABLE, SCHEMA, SCHEMA_VERSION, WITH_VALIDATION

log = logging.getLogger(__name__)

WITH_PROFILES = 8
"""The oldest schema that lacks tables of today's, and is else the same."""
MISSING: dict[str, dict[str, str]] = {
    "run": {"memory": "0", "changed": "X''"},
    "node_round": {
        "counted": "instructions IS NOT NULL",
        "late": "0",
        "diverged": "0",
        "sequence": "0",
        "messages": "'{}'",
        "frames": "''",  # unknown: what would price them says so
    },
    "evaluation": {"part": "'unseen'"},
}
"""By table, what stands for columns that an older one did not have."""

NO_VALIDATION: dict[str, Any] = {
    "omniglot": [],
    **dict.fromkeys(("tabular", "keywords", "table", "signals", "images", "audio"), 0.0),
}
"""By task, how it says that no device is for validation; the others need not say it."""


def migrate(db: sqlite3.Connection) -> None:
    """In one transaction, so that whatever ends it leaves the old store. Raises sqlite3.Error."""
    db.execute("PRAGMA foreign_keys = OFF")
    db.execute("PRAGMA legacy_alter_table = ON")  # else references follow a table's old name
    db.execute("BEGIN IMMEDIATE")
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version == 0:
            create(db)
        elif version >= WITH_PROFILES:
            db.execute("ALTER TABLE evaluation RENAME TO old_evaluation")
            create(db)
            _copy(db, "evaluation")
            db.execute("DROP TABLE old_evaluation")
        else:
            _rebuild(db, version)
        if 0 < version < WITH_VALIDATION:
            _without_validation(db)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    if 0 < version < WITH_PROFILES:
        with suppress(sqlite3.Error):  # it only takes more room else
            db.execute("VACUUM")
    db.execute("PRAGMA legacy_alter_table = OFF")
    db.execute("PRAGMA foreign_keys = ON")


def create(db: sqlite3.Connection) -> None:
    """The tables that there are not, empty."""
    for statement in SCHEMA.split(";"):
        db.execute(statement)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _rebuild(db: sqlite3.Connection, version: int) -> None:
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    old = [name for (name,) in db.execute(query)]
    for table in old:
        db.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    create(db)
    _copy(db, "run", {"schema": str(version)})
    _copy(db, "node_round")
    _copy(db, "evaluation")
    for table in ("server_state", "kept"):
        if table in old:
            _copy(db, table)
    if "node_state" in old:
        db.execute("INSERT INTO kept SELECT run, node, residual FROM old_node_state")
    if "ledger" in old and version < RESUMABLE:
        _copy(db, "ledger")
    _pack_phases(db, "phase" in old)
    # Numbers of runs that were deleted are not given again.
    db.execute("DELETE FROM sqlite_sequence WHERE name = 'run'")
    db.execute("UPDATE sqlite_sequence SET name = 'run' WHERE name = 'old_run'")
    for table in old:
        db.execute(f"DROP TABLE old_{table}")


def _without_validation(db: sqlite3.Connection) -> None:
    """The settings of runs whose devices were in two parts: all devices that they were judged on
    are unseen ones, and stay those. So such a run goes on, and is exported, with the same."""
    for run, settings in db.execute("SELECT id, settings FROM run").fetchall():
        with suppress(ValueError, AttributeError, TypeError):  # damaged: it stays as it is
            tree = json.loads(settings)
            judged, task = tree.get("evaluation", {}), tree.get("task", {})
            judged |= {"devices": 0, "unseen": judged.get("devices", 50)}
            if task.get("name") in NO_VALIDATION:
                task["validation"] = NO_VALIDATION[task["name"]]
            tree |= {"evaluation": judged, "task": task}
            text = json.dumps(tree, separators=(",", ":"), ensure_ascii=False)
            db.execute("UPDATE run SET settings = ? WHERE id = ?", (text, run))


def _columns(db: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def _copy(db: sqlite3.Connection, table: str, values: dict[str, str] | None = None) -> None:
    """The rows of a table; `values` for columns that the old one does not have."""
    there = _columns(db, f"old_{table}")
    missing = MISSING.get(table, {}) | (values or {})
    columns = _columns(db, table)
    found = [name if name in there else missing[name] for name in columns]
    db.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(found)} FROM old_{table}"
    )


def _pack_phases(db: sqlite3.Connection, by_phase: bool) -> None:
    """What was executed. by_phase: else there are instructions alone, NULL or by node and round."""
    if by_phase:
        query = "SELECT run, round, node, phase, instructions, classes, cycles FROM old_phase"
    else:
        query = (
            "SELECT run, round, node, 'all', instructions, '{}', '{}' FROM old_node_round"
            " WHERE instructions IS NOT NULL"
        )
    rows = db.execute(f"{query} ORDER BY run, round, node")
    for (run, number), group in groupby(rows, key=lambda row: (row[0], row[1])):
        try:
            insert_profile(db, run, number, list(_counts(group)))
        except (ValueError, TypeError, KeyError):
            log.warning("run %d, round %d: what was executed is damaged, and lost", run, number)
            db.execute(
                "UPDATE node_round SET counted = 0 WHERE run = ? AND round = ?", (run, number)
            )


def _counts(rows: Iterator[tuple[int, int, int, str, int, str, str]]) -> Iterator[PhaseCount]:
    for _, number, node, phase, instructions, classes, cycles in rows:
        yield PhaseCount(number, node, phase, instructions, json.loads(classes), json.loads(cycles))


def insert_profile(
    db: sqlite3.Connection, run: int, number: int, counts: Sequence[PhaseCount]
) -> None:
    """What the nodes executed in round `number` of a run."""
    found, cycles, classes = pack(counts)
    db.execute("INSERT OR IGNORE INTO layout (names) VALUES (?)", (found.names,))
    db.execute(
        "INSERT INTO profile SELECT ?, ?, id, ?, ? FROM layout WHERE names = ?",
        (run, number, cycles, classes, found.names),
    )
