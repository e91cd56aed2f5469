-- Counts of events and attempts over time. Buckets are minutes since the Unix epoch, whatever their width.

CREATE TABLE series (
    no               INTEGER PRIMARY KEY,
    view             INTEGER NOT NULL,    -- 0 events, 1 events by destination, 2 attempts; others are sums of those
    tenant_id        TEXT NOT NULL,
    topic            TEXT NOT NULL,
    destination_id   TEXT NOT NULL,
    destination_type TEXT NOT NULL,
    code             TEXT NOT NULL,
    ok               INTEGER NOT NULL,
    manual           INTEGER NOT NULL,
    number           INTEGER NOT NULL     -- of the attempt
) STRICT;

CREATE UNIQUE INDEX series_by_key
    ON series (view, tenant_id, topic, destination_id, destination_type, code, ok, manual, number);

CREATE TABLE series_sums (                -- what is counted in a series counts there too
    part  INTEGER NOT NULL,
    whole INTEGER NOT NULL,               -- the series itself, or one that tells less apart
    PRIMARY KEY (part, whole)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollups_fresh (              -- one row beside another, as they are written
    bucket INTEGER NOT NULL,
    series INTEGER NOT NULL,
    count  INTEGER NOT NULL,
    PRIMARY KEY (bucket, series)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollups (                    -- all of a series together, as it is read
    width  INTEGER NOT NULL,              -- in minutes
    series INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    count  INTEGER NOT NULL,
    PRIMARY KEY (width, series, bucket)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollup_tiers (
    width INTEGER PRIMARY KEY,            -- in minutes
    since INTEGER NOT NULL                -- rollups of this width are complete from here on
) STRICT;

INSERT INTO rollup_tiers VALUES
    (1, (strftime('%s', 'now') / 86400 - 3) * 1440),
    (60, (strftime('%s', 'now') / 86400 - 90) * 1440),
    (1440, 0);

-- What is on record already, row by row: none of these statements sorts all of it.

CREATE VIEW recorded AS
    SELECT 0 AS view, tenant_id, topic, '' AS destination_id, '' AS destination_type, '' AS code, 0 AS ok, 0 AS manual,
           0 AS number, time / 60000000 AS bucket
    FROM events WHERE time >= 0
    UNION ALL
    SELECT 1, e.tenant_id, e.topic, m.value, '', '', 0, 0, 0, e.time / 60000000
    FROM events e JOIN json_each(e.matched) m WHERE e.time >= 0
    UNION ALL
    SELECT 2, a.tenant_id, e.topic, d.id, a.destination_type, a.code, a.ok, a.manual, a.number,
           ((a.seq >> 22) + 1704067200000) / 60000
    FROM attempts a JOIN events e ON e.seq = a.event_seq JOIN destinations d ON d.no = a.destination_no;

INSERT INTO series (view, tenant_id, topic, destination_id, destination_type, code, ok, manual, number)
    SELECT DISTINCT view, tenant_id, topic, destination_id, destination_type, code, ok, manual, number FROM recorded;

CREATE VIEW wider AS
    SELECT no AS part, view, tenant_id, topic, destination_id, destination_type, code, ok, manual, number
    FROM series WHERE view IN (0, 1, 2)
    UNION ALL SELECT no, 3, '', topic, '', '', '', 0, 0, 0 FROM series WHERE view = 0
    UNION ALL SELECT no, 4, tenant_id, '', destination_id, '', '', 0, 0, 0 FROM series WHERE view = 1
    UNION ALL SELECT no, 5, '', topic, '', destination_type, code, ok, manual, number FROM series WHERE view = 2
    UNION ALL SELECT no, 6, tenant_id, '', '', '', code, ok, manual, number FROM series WHERE view = 2
    UNION ALL SELECT no, 7, tenant_id, '', destination_id, destination_type, code, ok, manual, number
    FROM series WHERE view = 2;

INSERT OR IGNORE INTO series (view, tenant_id, topic, destination_id, destination_type, code, ok, manual, number)
    SELECT view, tenant_id, topic, destination_id, destination_type, code, ok, manual, number FROM wider;

INSERT INTO series_sums
    SELECT w.part, s.no FROM wider w
    CROSS JOIN series s ON s.view = w.view AND s.tenant_id = w.tenant_id AND s.topic = w.topic
        AND s.destination_id = w.destination_id AND s.destination_type = w.destination_type AND s.code = w.code
        AND s.ok = w.ok AND s.manual = w.manual AND s.number = w.number;

DROP VIEW wider;

INSERT INTO rollups_fresh
    SELECT r.bucket, s.no, 1 FROM recorded r
    CROSS JOIN series s ON s.view = r.view AND s.tenant_id = r.tenant_id AND s.topic = r.topic
        AND s.destination_id = r.destination_id AND s.destination_type = r.destination_type AND s.code = r.code
        AND s.ok = r.ok AND s.manual = r.manual AND s.number = r.number
    WHERE true
    ON CONFLICT (bucket, series) DO UPDATE SET count = count + 1;

INSERT INTO rollups
    SELECT t.width, s.whole, f.bucket / t.width * t.width, f.count
    FROM rollups_fresh f
    CROSS JOIN series_sums s ON s.part = f.series
    CROSS JOIN rollup_tiers t ON f.bucket >= t.since
    WHERE true
    ON CONFLICT (width, series, bucket) DO UPDATE SET count = count + excluded.count;

DELETE FROM rollups_fresh;

DROP VIEW recorded;
