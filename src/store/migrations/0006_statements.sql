-- Statements of where models came from: signed envelopes, which anybody can check without this store.

-- `model` is the model's id in lower case, `tail` its part from the workspace or registry on, `named`
-- the id as it was spelled; `digest` is what the statements know the model by. One decision makes one
-- row.
CREATE TABLE statements (
    id TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    tail TEXT NOT NULL,
    named TEXT NOT NULL,
    digest TEXT NOT NULL,
    decision TEXT NOT NULL,
    made BIGINT NOT NULL,
    provenance TEXT NOT NULL,
    summary TEXT NOT NULL,
    UNIQUE (model, decision)
);
CREATE INDEX statements_by_model ON statements (model, made);
CREATE INDEX statements_by_tail ON statements (tail, made);
CREATE INDEX statements_by_time ON statements (made, id);
