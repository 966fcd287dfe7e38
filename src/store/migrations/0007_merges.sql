-- Changes that code hosts say were merged, and how far each branch has been read. What the columns of
-- `merges` do not say lies in `about`: JSON in TEXT for the gate alone to read.

-- A row is added once and never changed. `merged` is when, by the code host's clock, `seen` when the gate
-- read of it.
CREATE TABLE merges (
    server TEXT NOT NULL,
    project TEXT NOT NULL,
    branch TEXT NOT NULL,
    number BIGINT NOT NULL,
    commit_id TEXT NOT NULL,
    merged BIGINT NOT NULL,
    seen BIGINT NOT NULL,
    about TEXT NOT NULL,
    PRIMARY KEY (server, project, branch, number, commit_id)
);
CREATE INDEX merges_by_time ON merges (server, project, branch, seen);

-- A branch is watched from `since` on, and whatever happened on it before `walked` was read.
CREATE TABLE watched_branches (
    server TEXT NOT NULL,
    project TEXT NOT NULL,
    branch TEXT NOT NULL,
    since BIGINT NOT NULL,
    walked BIGINT NOT NULL,
    PRIMARY KEY (server, project, branch)
);
