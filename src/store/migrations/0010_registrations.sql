-- Models of which somebody else told that they were registered: each is looked at when it is due, and is
-- settled then. `model` is the model's id in lower case, `named` the id as it was spelled, `resource` as
-- Resource Manager names it. `claimed` is until when a replica looks at it; `settled` is 0 before it is.

CREATE TABLE registrations (
    model TEXT PRIMARY KEY,
    named TEXT NOT NULL,
    resource TEXT NOT NULL,
    hook TEXT NOT NULL,
    event TEXT NOT NULL,
    happened BIGINT NOT NULL,
    due BIGINT NOT NULL,
    claimed BIGINT NOT NULL,
    settled BIGINT NOT NULL
);
CREATE INDEX registrations_due ON registrations (settled, due);
