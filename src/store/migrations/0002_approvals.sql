-- Approvals. JSON in TEXT is for the gate alone to read; what is asked by is in columns.

INSERT INTO changes (topic, version) VALUES ('approvals', 0);

-- Calls that were refused for want of an approval, one row for each entry that demands one: whoever
-- made the call asks from here.
CREATE TABLE refused_calls (
    decision TEXT NOT NULL,
    entry TEXT NOT NULL,
    person TEXT NOT NULL,
    made BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    about TEXT NOT NULL,
    PRIMARY KEY (decision, entry)
);
CREATE INDEX refused_calls_of_a_person ON refused_calls (person, made);
CREATE INDEX refused_calls_expire ON refused_calls (expires);

-- `waiting` is what a grant would be bound to while the request is pending, and its own id after that:
-- of one call there is one request at a time.
CREATE TABLE approval_requests (
    id TEXT PRIMARY KEY,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    waiting TEXT NOT NULL UNIQUE,
    person TEXT NOT NULL,
    made BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    decided BIGINT,
    asked TEXT NOT NULL,
    votes TEXT NOT NULL
);
CREATE INDEX approval_requests_by_time ON approval_requests (made, id);
CREATE INDEX approval_requests_of_a_person ON approval_requests (person, made, id);
CREATE INDEX approval_requests_of_a_state ON approval_requests (state, made, id);

-- `uses` is 0 for as often as it holds. `state` is active, revoked or expired; that it was used up
-- says `used`.
CREATE TABLE approval_grants (
    id TEXT PRIMARY KEY,
    version BIGINT NOT NULL,
    state TEXT NOT NULL,
    bound TEXT NOT NULL,
    person TEXT NOT NULL,
    uses BIGINT NOT NULL,
    used BIGINT NOT NULL,
    made BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    terms TEXT NOT NULL
);
CREATE INDEX approval_grants_of_a_call ON approval_grants (bound, expires);
CREATE INDEX approval_grants_of_a_person ON approval_grants (person, made, id);
CREATE INDEX approval_grants_by_time ON approval_grants (made, id);
CREATE INDEX approval_grants_of_a_state ON approval_grants (state, expires);

-- `resend` is the same for a call that is sent again.
CREATE TABLE approval_uses (
    id TEXT PRIMARY KEY,
    version BIGINT NOT NULL,
    grant_id TEXT NOT NULL,
    resend TEXT NOT NULL,
    decision TEXT NOT NULL,
    state TEXT NOT NULL,
    tries BIGINT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX approval_uses_of_a_call ON approval_uses (grant_id, resend, at);
CREATE INDEX approval_uses_by_time ON approval_uses (at);
