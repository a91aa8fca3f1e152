CREATE TABLE run (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL,
    created    TEXT NOT NULL,
    settings   TEXT NOT NULL,
    seed       INTEGER NOT NULL,
    backend    TEXT NOT NULL,
    versions   TEXT NOT NULL,
    firmware   TEXT NOT NULL,
    rounds     INTEGER NOT NULL,
    done       INTEGER NOT NULL,
    seconds    REAL NOT NULL,
    theta      BLOB NOT NULL
) STRICT;
CREATE TABLE node_round (
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round        INTEGER NOT NULL,
    node         INTEGER NOT NULL,
    device       INTEGER NOT NULL,
    bytes_down   INTEGER NOT NULL,
    bytes_up     INTEGER NOT NULL,
    bytes_sensor INTEGER NOT NULL,
    counted      INTEGER NOT NULL,
    PRIMARY KEY (run, round, node)
) STRICT, WITHOUT ROWID;
CREATE TABLE phase (
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round        INTEGER NOT NULL,
    node         INTEGER NOT NULL,
    phase        TEXT NOT NULL,
    instructions INTEGER NOT NULL,
    classes      TEXT NOT NULL,
    cycles       TEXT NOT NULL,
    PRIMARY KEY (run, round, node, phase)
) STRICT, WITHOUT ROWID;
CREATE TABLE ledger (
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round        INTEGER NOT NULL,
    node         INTEGER NOT NULL,
    account      TEXT NOT NULL,
    seconds      REAL NOT NULL,
    joules       REAL NOT NULL,
    low          REAL NOT NULL,
    high         REAL NOT NULL,
    PRIMARY KEY (run, round, node, account)
) STRICT, WITHOUT ROWID;
CREATE TABLE evaluation (
    run             INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round           INTEGER NOT NULL,
    device          INTEGER NOT NULL,
    loss_before     REAL NOT NULL,
    loss_after      REAL NOT NULL,
    accuracy_before REAL NOT NULL,
    accuracy_after  REAL NOT NULL,
    PRIMARY KEY (run, round, device)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 2;
