-- Bytes that the attempts of a delivery but its first have left on record.
ALTER TABLE deliveries ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
