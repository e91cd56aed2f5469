-- Tenants that bear an id one after another (see core/incarnations.py), what their tokens must not be older than, tokens
-- that were revoked, and what API keys may do.

ALTER TABLE tenants ADD COLUMN incarnation INTEGER NOT NULL DEFAULT 1;
ALTER TABLE tenants ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;         -- how often all of its tokens were revoked
ALTER TABLE tenants ADD COLUMN tokens_since INTEGER NOT NULL DEFAULT 0;  -- of tokens that do not say the epoch
ALTER TABLE tenants ADD COLUMN key TEXT AS (CASE incarnation WHEN 1 THEN id ELSE id || ' ' || incarnation END);

UPDATE tenants SET tokens_since = created_at / 1000000 * 1000000;

CREATE UNIQUE INDEX tenants_by_key ON tenants (key);

CREATE TABLE former_tenants (
    id          TEXT PRIMARY KEY,
    incarnation INTEGER NOT NULL          -- the last one that was deleted
) STRICT, WITHOUT ROWID;

INSERT INTO former_tenants
    SELECT DISTINCT tenant_id, 1 FROM (
        SELECT tenant_id FROM destinations WHERE deleted_at IS NOT NULL
        UNION SELECT subject FROM audit WHERE action = 'tenant.delete'
    ) WHERE tenant_id NOT IN (SELECT id FROM tenants);

ALTER TABLE api_keys ADD COLUMN scopes TEXT NOT NULL DEFAULT '["admin"]';  -- JSON list
ALTER TABLE api_keys ADD COLUMN tenant_key TEXT;                           -- the only tenant that it is for
ALTER TABLE api_keys ADD COLUMN expires_at INTEGER;

CREATE TABLE revoked_tokens (
    id         TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL           -- from then on the token is worthless by itself
) STRICT, WITHOUT ROWID;
