CREATE TABLE job (
    id            TEXT PRIMARY KEY,      -- 16 hex digits
    fingerprint   TEXT NOT NULL,         -- the whole SHA-256 of which id is a prefix
    name          TEXT NOT NULL,
    params        TEXT NOT NULL,         -- JSON
    resolved      TEXT NOT NULL,         -- the job file after substitution, TOML
    snapshot      TEXT NOT NULL,         -- JSON: the pinned files
    rows          INTEGER NOT NULL,
    created_ms    INTEGER NOT NULL
) STRICT;

CREATE TABLE region (
    name              TEXT PRIMARY KEY,
    bootstrap_servers TEXT NOT NULL,
    cap_max           INTEGER NOT NULL CHECK (cap_max >= 0),
    reserved          INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0)
) STRICT;

CREATE TABLE child (
    job     TEXT NOT NULL REFERENCES job (id),
    name    TEXT NOT NULL,
    rows    INTEGER NOT NULL,
    state   TEXT NOT NULL CHECK (state IN ('waiting', 'queued', 'active', 'done')),
    region  TEXT REFERENCES region (name),
    token   INTEGER NOT NULL DEFAULT 0,  -- fencing token of the newest placement
    PRIMARY KEY (job, name)
) STRICT;

CREATE TABLE split (
    job             TEXT NOT NULL REFERENCES job (id),
    split           INTEGER NOT NULL,
    child           TEXT NOT NULL,
    file            INTEGER NOT NULL,
    row_group_first INTEGER NOT NULL,
    row_group_count INTEGER NOT NULL,
    first_row       INTEGER NOT NULL,
    rows            INTEGER NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('pending', 'open', 'closed')),
    noted           TEXT,                -- JSON [[partition, offset]]: where read-back starts if the publisher dies
    acknowledged    INTEGER NOT NULL DEFAULT 0,
    rejected        INTEGER NOT NULL DEFAULT 0,
    ranges          TEXT,                -- JSON [[partition, first, last]]: where the acknowledged rows are
    PRIMARY KEY (job, split)
) STRICT;

CREATE TABLE ledger (
    job    TEXT NOT NULL REFERENCES job (id),
    split  INTEGER NOT NULL,
    stage  TEXT NOT NULL,                -- acknowledged, rejected, landed, filtered, dead_lettered
    rows   BLOB NOT NULL,                -- a roaring bitmap of seqs
    PRIMARY KEY (job, split, stage)
) STRICT;

CREATE TABLE reject_count (
    job    TEXT NOT NULL REFERENCES job (id),
    split  INTEGER NOT NULL,
    field  TEXT NOT NULL,
    reason TEXT NOT NULL,
    count  INTEGER NOT NULL,
    PRIMARY KEY (job, split, field, reason)
) STRICT;

CREATE TABLE topic (
    job        TEXT NOT NULL REFERENCES job (id),
    region     TEXT NOT NULL REFERENCES region (name),
    role       TEXT NOT NULL CHECK (role IN ('ingress', 'egress', 'deadletter', 'verdict')),
    name       TEXT NOT NULL,
    cluster_id TEXT NOT NULL,
    topic_id   TEXT NOT NULL,
    partitions INTEGER NOT NULL,
    start      TEXT NOT NULL,            -- JSON [[partition, offset]]: where this job's records begin
    PRIMARY KEY (job, region, role)
) STRICT;

CREATE TABLE event (
    id     INTEGER PRIMARY KEY,
    job    TEXT NOT NULL,
    at_ms  INTEGER NOT NULL,
    stage  TEXT NOT NULL,
    label  TEXT NOT NULL,
    what   TEXT NOT NULL,
    detail TEXT NOT NULL                 -- JSON
) STRICT;

CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
