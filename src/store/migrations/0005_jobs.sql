-- Which commit a job was submitted from. A row is added before the job is sent and never changed: the
-- job itself says by which decision it came, so that what never reached Azure is never asked for.
-- JSON in TEXT is for the gate alone to read.

CREATE TABLE jobs (
    job TEXT NOT NULL,
    decision TEXT NOT NULL,
    commit_id TEXT,
    made BIGINT NOT NULL,
    about TEXT NOT NULL,
    PRIMARY KEY (job, decision)
);
