-- Workers that share what a service may be asked.
CREATE TABLE budget_member (
    budget          TEXT NOT NULL,
    worker          INTEGER NOT NULL,    -- a number of its own
    seen_ms         INTEGER NOT NULL,
    wants_since_ms  INTEGER,             -- NULL: it has nothing to call
    max_calls_per_s REAL,                -- NULL: no limit
    PRIMARY KEY (budget, worker)
) STRICT;
