-- Health, alerts, their channels, and the audit log.

ALTER TABLE destinations ADD COLUMN disabled TEXT;  -- JSON object: why, by whom, the last error

CREATE INDEX deliveries_kept ON deliveries (destination_no, event_seq) WHERE state = 4;  -- 4: kept while disabled

CREATE TABLE destination_health (
    destination_no INTEGER PRIMARY KEY,   -- 0: the server as a whole
    streak         INTEGER NOT NULL,      -- failures since the last success
    probe_at       INTEGER,               -- when to try one delivery of a disabled destination
    health         TEXT NOT NULL          -- JSON object
) STRICT;

CREATE INDEX destination_health_probes ON destination_health (probe_at) WHERE probe_at IS NOT NULL;
CREATE INDEX destination_health_failing ON destination_health (destination_no) WHERE streak > 0;

CREATE TABLE alert_rules (
    no             INTEGER PRIMARY KEY AUTOINCREMENT,
    id             TEXT NOT NULL UNIQUE,
    kind           TEXT NOT NULL,
    owner          TEXT,                  -- the tenant whose rule it is; NULL for the operator
    tenant_id      TEXT,                  -- where it holds
    destination_no INTEGER,               -- where it holds
    enabled        INTEGER NOT NULL,
    severity       TEXT NOT NULL,
    thresholds     TEXT NOT NULL,         -- JSON object
    channel_ids    TEXT,                  -- JSON list; NULL for all of the owner's
    muted_until    INTEGER,
    created_at     INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX alert_rules_by_place
    ON alert_rules (kind, ifnull(owner, ''), ifnull(tenant_id, ''), ifnull(destination_no, 0));

CREATE TABLE alert_channels (
    no           INTEGER PRIMARY KEY AUTOINCREMENT,
    id           TEXT NOT NULL UNIQUE,
    owner        TEXT,                    -- the tenant whose channel it is; NULL for the operator
    type         TEXT NOT NULL,
    name         TEXT NOT NULL,
    config       TEXT NOT NULL,           -- JSON object of text
    credentials  BLOB NOT NULL,           -- JSON object of text, encrypted
    topics       TEXT NOT NULL,           -- JSON list
    min_severity TEXT NOT NULL,
    enabled      INTEGER NOT NULL,
    muted_until  INTEGER,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    version      INTEGER NOT NULL,
    sent_at      INTEGER,                 -- when something last arrived
    failed_at    INTEGER,                 -- when something last did not arrive since
    error        TEXT                     -- and why
) STRICT;

CREATE UNIQUE INDEX alert_channels_by_name ON alert_channels (ifnull(owner, ''), name);

CREATE TABLE alerts (
    seq             INTEGER PRIMARY KEY,  -- time-ordered
    kind            TEXT NOT NULL,
    topic           TEXT NOT NULL,
    severity        TEXT NOT NULL,
    audience        TEXT NOT NULL,        -- operator, tenant, both
    rule_id         TEXT NOT NULL,
    tenant_id       TEXT,
    destination_no  INTEGER,
    attempt_seq     INTEGER,              -- the attempt that raised it
    data            TEXT NOT NULL,        -- JSON object
    acknowledged_at INTEGER,
    acknowledged_by TEXT
) STRICT;

CREATE INDEX alerts_by_tenant ON alerts (tenant_id, seq);
CREATE INDEX alerts_by_destination ON alerts (destination_no, seq);

CREATE TABLE news (
    seq         INTEGER PRIMARY KEY,      -- time-ordered
    channel_no  INTEGER NOT NULL,
    topic       TEXT NOT NULL,
    tenant_id   TEXT,
    alert_seq   INTEGER,                  -- what it is about: an alert,
    attempt_seq INTEGER,                  -- or an attempt,
    data        TEXT,                     -- or this JSON object
    tries       INTEGER NOT NULL,
    due         INTEGER,                  -- when to try, or when the lease runs out; NULL when it has been told
    state       INTEGER NOT NULL,         -- 0 to be told, 1 told, 2 given up
    error       TEXT
) STRICT;

CREATE INDEX news_waiting ON news (channel_no, due) WHERE state = 0;

CREATE TABLE audit (
    seq        INTEGER PRIMARY KEY,       -- time-ordered
    actor_kind TEXT NOT NULL,             -- api_key, tenant, system
    actor      TEXT NOT NULL,
    ip         TEXT,
    action     TEXT NOT NULL,
    tenant_id  TEXT,
    subject    TEXT NOT NULL,
    detail     TEXT NOT NULL              -- JSON object
) STRICT;

CREATE INDEX audit_by_tenant ON audit (tenant_id, seq);
CREATE INDEX audit_by_subject ON audit (subject, seq);
