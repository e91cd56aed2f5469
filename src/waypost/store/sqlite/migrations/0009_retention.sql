-- How long things are kept for tenants that have lifetimes of their own, and what was removed before its time.

CREATE TABLE tenant_lifetimes (           -- these outlive the tenant
    tenant_id TEXT PRIMARY KEY,
    events    INTEGER,                    -- seconds; 0 for ever, NULL as long as the settings say
    attempts  INTEGER,
    data      INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE expunged (                   -- events without their data
    event_seq INTEGER PRIMARY KEY,
    at        INTEGER NOT NULL
) STRICT;

CREATE TABLE expungings (                 -- the removal of all data of a tenant
    tenant_id    TEXT PRIMARY KEY,
    until        INTEGER NOT NULL,        -- the first event number that it leaves alone
    after_time   INTEGER NOT NULL,        -- the last event it has looked at, by its time and
    after_seq    INTEGER NOT NULL,        -- its number
    events       INTEGER NOT NULL,        -- how many had data to remove
    requested_at INTEGER NOT NULL,
    finished_at  INTEGER
) STRICT, WITHOUT ROWID;
