-- Statements that are owed: of models that were let in, or that a job will register when it ends, and
-- that are not stated yet. A row is added before the call is sent, so that nothing that happens then
-- loses a statement.

-- `answered` is 0 while nobody knows what came of the call, and 1 when Azure took it. `due` is when it is
-- looked at next, `version` counts its changes. JSON in TEXT is for the gate alone to read.
CREATE TABLE owed_statements (
    id TEXT PRIMARY KEY,
    decision TEXT NOT NULL,
    made BIGINT NOT NULL,
    due BIGINT NOT NULL,
    answered BIGINT NOT NULL,
    version BIGINT NOT NULL,
    about TEXT NOT NULL
);
CREATE INDEX owed_statements_by_due ON owed_statements (due, id);
CREATE INDEX owed_statements_by_decision ON owed_statements (decision);
