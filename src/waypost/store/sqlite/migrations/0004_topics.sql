-- The catalogue of topics, and several subscriptions on one destination.

CREATE TABLE topics (
    name        TEXT PRIMARY KEY,
    description TEXT,
    schema      TEXT,                     -- JSON Schema of the events' data
    example     TEXT,                     -- JSON object
    deprecated  INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE destinations ADD COLUMN subscriptions TEXT;  -- JSON list; NULL when topics and filter are the only one
