-- Jobs that were given to a fleet, by region.
CREATE TABLE submission (
    job          TEXT NOT NULL REFERENCES job (id),
    region       TEXT NOT NULL,
    service      TEXT NOT NULL,          -- the fleet's name
    number       INTEGER NOT NULL,       -- grows with each submission: the order of the queue
    state        TEXT NOT NULL CHECK (state IN ('submitted', 'done', 'failed', 'cancelled')),
    path         TEXT NOT NULL,          -- the job file: its directory is what paths in it are relative to
    params       TEXT NOT NULL,          -- JSON
    resolved     TEXT NOT NULL,          -- the job file after substitution, TOML; secrets are references
    ingress      TEXT NOT NULL,          -- Avro schemas, JSON
    egress       TEXT NOT NULL,
    note         TEXT NOT NULL,          -- why it failed or is tried again, by whom it was cancelled
    submitted_ms INTEGER NOT NULL,
    changed_ms   INTEGER NOT NULL,
    PRIMARY KEY (job, region)
) STRICT;

-- Processes of fleets.
CREATE TABLE fleet_member (
    service      TEXT NOT NULL,
    region       TEXT NOT NULL,
    member       INTEGER NOT NULL,       -- a number of its own
    host         TEXT NOT NULL,
    pid          INTEGER NOT NULL,
    max_jobs     INTEGER NOT NULL,
    started_ms   INTEGER NOT NULL,
    seen_ms      INTEGER NOT NULL,
    jobs         TEXT NOT NULL,          -- JSON: what it works on now, and how far that is
    PRIMARY KEY (service, region, member)
) STRICT;
