-- A job whose rows are published by other processes has a topic of receipts.
CREATE TABLE topic_with_receipts (
    job        TEXT NOT NULL REFERENCES job (id),
    region     TEXT NOT NULL REFERENCES region (name),
    role       TEXT NOT NULL CHECK (role IN ('ingress', 'egress', 'deadletter', 'verdict', 'receipts')),
    name       TEXT NOT NULL,
    cluster_id TEXT NOT NULL,
    topic_id   TEXT NOT NULL,
    partitions INTEGER NOT NULL,
    start      TEXT NOT NULL,            -- JSON [[partition, offset]]: where this job's records begin
    removed    INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job, region, role)
) STRICT;
INSERT INTO topic_with_receipts SELECT job, region, role, name, cluster_id, topic_id, partitions, start, removed FROM topic;
DROP TABLE topic;
ALTER TABLE topic_with_receipts RENAME TO topic;
