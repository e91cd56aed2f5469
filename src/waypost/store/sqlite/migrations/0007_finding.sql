-- Indexes that lists are narrowed by, and what operators see of a failure.

-- The last column is there for the filter by it: it needs no look at the events themselves, which are large.
DROP INDEX events_by_tenant;
CREATE INDEX events_by_tenant ON events (tenant_id, time, seq, topic);
CREATE INDEX events_by_topic ON events (topic, time, seq, tenant_id);

CREATE INDEX events_skipped ON events (
    tenant_id, time, seq, instr(skipped, '","not_addressed",'), instr(skipped, '","topic",'),
    instr(skipped, '","filter",'), instr(skipped, '","disabled",')
) WHERE skipped IS NOT NULL;                  -- with the reasons: see Skip

-- The state stands in them again so that they answer by themselves.
CREATE INDEX deliveries_exhausted ON deliveries (destination_no, event_seq, state) WHERE state = 2;
CREATE INDEX deliveries_cancelled ON deliveries (destination_no, event_seq, state) WHERE state = 3;

CREATE INDEX destinations_by_tenant ON destinations (tenant_id);

-- Attempts that somebody may look for: failed, slow, asked for by hand, or with a rarer code.
CREATE INDEX attempts_notable ON attempts (seq, tenant_id, destination_no, ok, code, latency, manual)
    WHERE NOT (ok = 1 AND manual = 0 AND latency < 1000000 AND code IN ('200', '201', '202', '204', 'ack'));
CREATE INDEX attempts_notable_by_tenant ON attempts (tenant_id, seq, destination_no, ok, code, latency, manual)
    WHERE NOT (ok = 1 AND manual = 0 AND latency < 1000000 AND code IN ('200', '201', '202', '204', 'ack'));

ALTER TABLE attempts ADD COLUMN causes TEXT;  -- JSON list: the exceptions behind a failure
