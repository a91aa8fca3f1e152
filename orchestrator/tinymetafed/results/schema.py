"""The tables of the store."""

SCHEMA_VERSION = 14
SCHEMA = """
CREATE TABLE IF NOT EXISTS run (
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
    changed    BLOB NOT NULL,            -- int32, little-endian: version in which each changed last
    schema     INTEGER NOT NULL          -- of these tables when the run was begun
) STRICT;
CREATE TABLE IF NOT EXISTS node_round (  -- what one node did in one round
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round        INTEGER NOT NULL,       -- from 1
    node         INTEGER NOT NULL,
    device       INTEGER NOT NULL,       -- whose task it played
    bytes_down   INTEGER NOT NULL,
    bytes_up     INTEGER NOT NULL,
    bytes_sensor INTEGER NOT NULL,
    counted      INTEGER NOT NULL,       -- 1, or 0 where it has no rows in profile
    late         INTEGER NOT NULL,       -- 1 where its update came too late to be aggregated
    diverged     INTEGER NOT NULL,       -- 1 where its training did, and there was no update
    sequence     INTEGER NOT NULL,       -- number of the last frame that it was sent
    messages     TEXT NOT NULL,          -- by request: [bytes down, bytes up] as JSON
    frames       TEXT NOT NULL,          -- [bytes of each frame down, of each up] as JSON
    PRIMARY KEY (run, round, node)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS server_state ( -- what the strategy keeps besides theta, by name
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    name         TEXT NOT NULL,
    value        BLOB NOT NULL,          -- an array as numpy's .npy file has it
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS source (      -- of what is a user's own, see plugins.py
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    name         TEXT NOT NULL,          -- absolute path of a file, or a module
    text         TEXT NOT NULL,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS backbone (    -- the frozen weights, of runs that have some
    run          INTEGER PRIMARY KEY REFERENCES run ON DELETE CASCADE,
    value        BLOB NOT NULL           -- float32, little-endian
) STRICT;
CREATE TABLE IF NOT EXISTS kept (        -- what a node keeps, after the last round that changed it
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    owner        INTEGER NOT NULL,       -- the node, or the device whose control variate it is
    value        BLOB NOT NULL,          -- float32, little-endian
    PRIMARY KEY (run, owner)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS layout (      -- what the numbers of a profile are
    id           INTEGER PRIMARY KEY,
    names        TEXT NOT NULL UNIQUE    -- type of the numbers, phases, cores, classes: JSON
) STRICT;
CREATE TABLE IF NOT EXISTS profile (     -- what the nodes executed in one round, see profiles.py
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round        INTEGER NOT NULL,
    layout       INTEGER NOT NULL REFERENCES layout,
    cycles       BLOB NOT NULL,          -- a row of numbers for each node and phase
    classes      BLOB NOT NULL,          -- of each its instructions by class, compressed
    PRIMARY KEY (run, round)
) STRICT;
CREATE TABLE IF NOT EXISTS measured (    -- cycles by the node's own counter, where it has one
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round        INTEGER NOT NULL,
    node         INTEGER NOT NULL,
    phase        TEXT NOT NULL,
    cycles       INTEGER NOT NULL,
    PRIMARY KEY (run, round, node, phase)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ledger (      -- energy of runs begun before schema 7, without frames
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
CREATE TABLE IF NOT EXISTS evaluation (  -- few-shot adaptation of a device that is not learnt from
    run             INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round           INTEGER NOT NULL,    -- rounds that were done, 0 before training
    device          INTEGER NOT NULL,
    loss_before     REAL,                -- all are NULL where it diverged
    loss_after      REAL,
    accuracy_before REAL,
    accuracy_after  REAL,
    part            TEXT NOT NULL,       -- of the devices: validation or unseen
    PRIMARY KEY (run, round, device)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS class_count ( -- what an unseen device takes its query samples for
    run             INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round           INTEGER NOT NULL,    -- as in evaluation
    device          INTEGER NOT NULL,
    actual          TEXT NOT NULL,       -- name of the class that the samples are of
    predicted       TEXT NOT NULL,       -- and of the one that they are taken for after adaptation
    samples         INTEGER NOT NULL,    -- at least one
    PRIMARY KEY (run, round, device, actual, predicted)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS event (       -- what a node did that no undisturbed one does, in order
    run             INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round           INTEGER,             -- from 1, NULL outside of rounds: a boot, an evaluation
    node            INTEGER NOT NULL,
    device          INTEGER,             -- whose task it played, NULL where it played none
    kind            TEXT NOT NULL,       -- one of nodes/events.py
    detail          TEXT NOT NULL        -- "text" for people, and what there is else, as JSON
) STRICT;
CREATE TABLE IF NOT EXISTS tag (         -- what users say of runs, to find them by
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    name         TEXT NOT NULL,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS note (        -- and what they write down of them
    run          INTEGER PRIMARY KEY REFERENCES run ON DELETE CASCADE,
    text         TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS extension (   -- rounds were added to a run that had all of its rounds
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    after        INTEGER NOT NULL,       -- so many: all that there were to be until then
    PRIMARY KEY (run, after)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS wall_time (   -- of rounds, of runs begun with schema 14
    run          INTEGER NOT NULL REFERENCES run ON DELETE CASCADE,
    round        INTEGER NOT NULL,       -- from 1
    seconds      REAL NOT NULL,
    PRIMARY KEY (run, round)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS comparison (  -- as it was played last under that name
    name         TEXT PRIMARY KEY,
    settings     TEXT NOT NULL,          -- what its file has, as JSON
    cells        TEXT NOT NULL           -- of each run: labels of task and strategy, settings
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS event_of_run ON event (run, round);
"""
RESUMABLE = 7
"""The oldest schema whose runs have all that is needed to go on."""
WITH_VALIDATION = 13
"""The oldest schema whose runs have devices for validation; those of others were judged on unseen
ones while they went on."""
