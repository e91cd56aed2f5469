ALTER TABLE events ADD COLUMN trace TEXT;  -- W3C trace context: traceparent and, behind a space, tracestate if any
