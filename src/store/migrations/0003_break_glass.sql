-- Break-glass. JSON in TEXT is for the gate alone to read; what is asked by is in columns.

INSERT INTO changes (topic, version) VALUES ('break_glass', 0);

-- `slot` is 'current' from when somebody asks until the review is closed, and the row's own id after
-- that: there is one at a time. `due` is when something comes of it by itself.
CREATE TABLE break_glass (
    id TEXT PRIMARY KEY,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    slot TEXT NOT NULL UNIQUE,
    person TEXT NOT NULL,
    made BIGINT NOT NULL,
    due BIGINT NOT NULL,
    about TEXT NOT NULL
);
CREATE INDEX break_glass_by_time ON break_glass (made, id);
