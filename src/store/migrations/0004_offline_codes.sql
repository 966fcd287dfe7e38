-- Codes that sign in for a break-glass without the identity provider. `tag` is a keyed tag of a code,
-- `sealed` what its holder's token said, under keys that are not in the store. `glass` is the
-- break-glass that it was spent on, and empty before that.
CREATE TABLE offline_codes (
    tag TEXT PRIMARY KEY,
    person TEXT NOT NULL,
    glass TEXT NOT NULL,
    made BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    sealed TEXT NOT NULL
);
CREATE INDEX offline_codes_of_a_person ON offline_codes (person);
CREATE INDEX offline_codes_expire ON offline_codes (expires);
