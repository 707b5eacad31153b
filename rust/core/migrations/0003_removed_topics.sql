-- A topic that was deleted after everything in it had been explained: later stages don't look for it.
ALTER TABLE topic ADD COLUMN removed INTEGER NOT NULL DEFAULT 0;
