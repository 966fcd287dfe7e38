-- What triggers start, once for each change that was merged. JSON in TEXT is for the gate alone to read.

-- From when on a trigger starts anything, and up to which merges, by when the gate read of them, it was
-- looked for what it starts.
CREATE TABLE trigger_branches (
    trigger_name TEXT NOT NULL,
    server TEXT NOT NULL,
    project TEXT NOT NULL,
    branch TEXT NOT NULL,
    since BIGINT NOT NULL,
    walked BIGINT NOT NULL,
    PRIMARY KEY (trigger_name, server, project, branch)
);

-- `due` is when a run is to be looked at next, the end of time for one that is over; `lease` until when
-- somebody does. Whoever changes a row counts `version` up.
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    trigger_name TEXT NOT NULL,
    server TEXT NOT NULL,
    change_number BIGINT NOT NULL,
    commit_id TEXT NOT NULL,
    made BIGINT NOT NULL,
    due BIGINT NOT NULL,
    lease BIGINT NOT NULL,
    version BIGINT NOT NULL,
    about TEXT NOT NULL,
    UNIQUE (trigger_name, server, change_number, commit_id)
);
CREATE INDEX runs_due ON runs (due);
