-- Leave for tenants' alert channels that use means of the operator's.

ALTER TABLE alert_channels ADD COLUMN confirmed TEXT NOT NULL DEFAULT '[]';  -- JSON list of addresses; * for all

CREATE TABLE message_hours (              -- how many messages a tenant's channels have sent by them
    tenant_id TEXT PRIMARY KEY,
    hour      INTEGER NOT NULL,           -- since 1970
    used      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
