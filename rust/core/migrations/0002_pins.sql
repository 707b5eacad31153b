-- Which job a request is answered with, and where and how its files were then: the newest that was asked for.
CREATE TABLE pin (
    request   TEXT PRIMARY KEY,          -- SHA-256 of what the job file asks for
    job       TEXT NOT NULL REFERENCES job (id),
    snapshot  TEXT NOT NULL,             -- JSON: the pinned files
    pinned_ms INTEGER NOT NULL
) STRICT;
