-- Counts that only tell successes from failures, by topic (8) and by destination (9): far fewer rows to read.

CREATE VIEW wider AS
    SELECT no AS part, 8 AS view, '' AS tenant_id, topic, '' AS destination_id, '' AS destination_type, ok
    FROM series WHERE view = 2
    UNION ALL SELECT no, 9, tenant_id, '', destination_id, destination_type, ok FROM series WHERE view = 2;

INSERT INTO series (view, tenant_id, topic, destination_id, destination_type, code, ok, manual, number)
    SELECT DISTINCT view, tenant_id, topic, destination_id, destination_type, '', ok, 0, 0 FROM wider;

INSERT INTO series_sums
    SELECT w.part, s.no FROM wider w
    CROSS JOIN series s ON s.view = w.view AND s.tenant_id = w.tenant_id AND s.topic = w.topic
        AND s.destination_id = w.destination_id AND s.destination_type = w.destination_type AND s.code = ''
        AND s.ok = w.ok AND s.manual = 0 AND s.number = 0;

DROP VIEW wider;

INSERT INTO rollups
    SELECT r.width, s.no, r.bucket, sum(r.count)
    FROM series s
    CROSS JOIN series_sums m ON m.whole = s.no
    CROSS JOIN rollup_tiers t
    CROSS JOIN rollups r ON r.width = t.width AND r.series = m.part
    WHERE s.view IN (8, 9)
    GROUP BY r.width, s.no, r.bucket;
