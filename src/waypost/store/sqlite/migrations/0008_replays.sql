-- Sending again: who asked for which manual attempt, and replays with what each of them has to send.

CREATE TABLE retries (
    event_seq      INTEGER NOT NULL,
    destination_no INTEGER NOT NULL,
    attempt        INTEGER NOT NULL,      -- the number of the attempt that was asked for
    initiator      TEXT NOT NULL,         -- who asked, as text
    replay_seq     INTEGER,               -- the replay that asked
    entry_seq      INTEGER,               -- or the entry of the audit log that says so
    PRIMARY KEY (event_seq, destination_no, attempt)
) STRICT, WITHOUT ROWID;

CREATE INDEX retries_by_entry ON retries (entry_seq) WHERE entry_seq IS NOT NULL;

CREATE TABLE retry_hours (
    tenant_id TEXT PRIMARY KEY,
    hour      INTEGER NOT NULL,           -- hours since the Unix epoch
    used      INTEGER NOT NULL            -- events that the tenant had sent again within it
) STRICT, WITHOUT ROWID;

CREATE TABLE replays (
    seq            INTEGER PRIMARY KEY,   -- time-ordered
    tenant_id      TEXT,                  -- NULL for events of all tenants
    destination_no INTEGER,               -- the only destination that it sends to
    asked          TEXT NOT NULL,         -- JSON object: the filter in the words of the caller
    query          TEXT NOT NULL,         -- JSON object: the same as the store takes it
    wanted         TEXT NOT NULL,         -- JSON object: which deliveries of these events
    actor_kind     TEXT NOT NULL,
    actor          TEXT NOT NULL,
    ip             TEXT,
    state          INTEGER NOT NULL,      -- 0 running, 1 cancelling, 2 completed, 3 cancelled
    selected       INTEGER NOT NULL,      -- events
    examined       INTEGER NOT NULL,      -- of them
    planned        INTEGER NOT NULL,      -- 1 when all of them are
    after_time     INTEGER,               -- the last of them, by its time and
    after_seq      INTEGER,               -- its number
    total          INTEGER NOT NULL,      -- deliveries
    delivered      INTEGER NOT NULL,      -- of them
    failed         INTEGER NOT NULL,      -- of them
    skipped        TEXT NOT NULL,         -- JSON object: deliveries left out, by reason
    created_at     INTEGER NOT NULL,
    ended_at       INTEGER
) STRICT;

CREATE INDEX replays_by_tenant ON replays (tenant_id, seq);
CREATE INDEX replays_working ON replays (seq) WHERE state < 2;

CREATE TABLE replay_deliveries (
    replay_seq     INTEGER NOT NULL,
    event_seq      INTEGER NOT NULL,
    destination_no INTEGER NOT NULL,
    state          INTEGER NOT NULL,      -- 0 queued, 1 due, 2 delivered, 3 failed
    PRIMARY KEY (replay_seq, event_seq, destination_no)
) STRICT, WITHOUT ROWID;

CREATE INDEX replay_deliveries_queued ON replay_deliveries (replay_seq, destination_no, event_seq) WHERE state = 0;
CREATE INDEX replay_deliveries_due ON replay_deliveries (replay_seq, destination_no, event_seq) WHERE state = 1;
