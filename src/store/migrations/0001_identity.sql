-- Text that SQLite and PostgreSQL read alike: instants are milliseconds since the Unix epoch in
-- BIGINT, everything else is TEXT. A change of state is one conditional UPDATE on `version`.

-- What replicas ask for at intervals, to see whether the rest is worth reading.
CREATE TABLE changes (
    topic TEXT PRIMARY KEY,
    version BIGINT NOT NULL
);
INSERT INTO changes (topic, version) VALUES ('revocations', 0);

-- What is refused though it verifies. `issued_before` confines it to what was issued up to then.
CREATE TABLE revocations (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    issuer TEXT NOT NULL,
    value TEXT NOT NULL,
    issued_before BIGINT,
    made BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    by_whom TEXT NOT NULL,
    reason TEXT NOT NULL
);
CREATE INDEX revocations_expire ON revocations (expires);

-- Browser sessions. `id` is the digest of what the cookie holds; `sealed` is the issuer's tokens
-- under a key that is not in the store.
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    version BIGINT NOT NULL,
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    issuer_session TEXT,
    sealed TEXT NOT NULL,
    created BIGINT NOT NULL,
    seen BIGINT NOT NULL,
    expires BIGINT NOT NULL
);
CREATE INDEX sessions_of_a_subject ON sessions (issuer, subject);
CREATE INDEX sessions_expire ON sessions (expires);

-- What may be used once: whoever inserts it first has used it.
CREATE TABLE spent (
    purpose TEXT NOT NULL,
    value TEXT NOT NULL,
    expires BIGINT NOT NULL,
    PRIMARY KEY (purpose, value)
);
CREATE INDEX spent_expire ON spent (expires);
