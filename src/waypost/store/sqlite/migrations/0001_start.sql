-- Instants are microseconds since the Unix epoch. Columns that hold JSON text say so.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    digest     BLOB NOT NULL UNIQUE,      -- SHA-256 of the key; the key itself is never stored
    hint       TEXT NOT NULL,             -- its first characters, to tell keys apart
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tenants (
    id         TEXT PRIMARY KEY,
    metadata   TEXT,                      -- JSON object of text
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tenants_by_age ON tenants (created_at, id);

CREATE TABLE destinations (
    no                INTEGER PRIMARY KEY AUTOINCREMENT,  -- never reused: attempts point here for ever
    tenant_id         TEXT NOT NULL,
    id                TEXT NOT NULL,
    type              TEXT NOT NULL,
    topics            TEXT NOT NULL,      -- JSON list
    filter            TEXT,               -- JSON object
    config            TEXT NOT NULL,      -- JSON object of text
    credentials       BLOB NOT NULL,      -- JSON object of text, encrypted
    delivery_metadata TEXT,               -- JSON object of text
    metadata          TEXT,               -- JSON object of text
    retry_policy      TEXT,               -- JSON object
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    disabled_at       INTEGER,
    deleted_at        INTEGER,
    version           INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX destinations_living ON destinations (tenant_id, id) WHERE deleted_at IS NULL;
CREATE INDEX destinations_by_id ON destinations (id);

CREATE TABLE events (
    seq            INTEGER PRIMARY KEY,   -- time-ordered, made by Waypost
    tenant_id      TEXT NOT NULL,
    id             TEXT NOT NULL,         -- the publisher's, unique within the tenant
    topic          TEXT NOT NULL,
    time           INTEGER NOT NULL,      -- when it happened, as the publisher says
    accepted_at    INTEGER NOT NULL,
    eligible       INTEGER NOT NULL,      -- 1 when failed deliveries may be retried
    destination_id TEXT,                  -- the only destination it is addressed to
    metadata       TEXT,                  -- JSON object of text
    data           BLOB NOT NULL,         -- the JSON object as published, byte for byte
    matched        TEXT NOT NULL,         -- JSON list of destination ids
    skipped        TEXT                   -- JSON list of [destination id, reason, detail]
) STRICT;

CREATE UNIQUE INDEX events_by_id ON events (id, tenant_id);
CREATE INDEX events_by_tenant ON events (tenant_id, time, seq);
CREATE INDEX events_by_time ON events (time, seq);

CREATE TABLE deliveries (
    event_seq      INTEGER NOT NULL,
    destination_no INTEGER NOT NULL,
    state          INTEGER NOT NULL,      -- 0 pending, 1 delivered, 2 exhausted, 3 cancelled
    attempt        INTEGER NOT NULL,      -- the number of the next attempt; results are fenced by it
    retries        INTEGER NOT NULL,      -- automatic retries spent
    manual         INTEGER NOT NULL,      -- 1 when a person asked for the next attempt
    due            INTEGER,               -- when to attempt, or when the lease on the attempt runs out
    leased         INTEGER NOT NULL,      -- 1 while a worker owns the next attempt
    PRIMARY KEY (event_seq, destination_no)
) STRICT, WITHOUT ROWID;

CREATE INDEX deliveries_pending ON deliveries (destination_no, due) WHERE state = 0;
CREATE INDEX deliveries_by_destination ON deliveries (destination_no, event_seq);

CREATE TABLE attempts (
    seq              INTEGER PRIMARY KEY, -- time-ordered: made when the attempt began
    tenant_id        TEXT NOT NULL,
    event_seq        INTEGER NOT NULL,
    destination_no   INTEGER NOT NULL,
    destination_type TEXT NOT NULL,
    number           INTEGER NOT NULL,
    manual           INTEGER NOT NULL,
    ok               INTEGER NOT NULL,
    code             TEXT NOT NULL,
    latency          INTEGER NOT NULL,    -- microseconds
    detail           TEXT,                -- the sentence that says what went wrong
    request          TEXT,                -- JSON object
    response         TEXT                 -- JSON object
) STRICT;

CREATE INDEX attempts_by_tenant ON attempts (tenant_id, seq);
CREATE INDEX attempts_by_destination ON attempts (destination_no, seq);
CREATE INDEX attempts_by_event ON attempts (event_seq, seq);
