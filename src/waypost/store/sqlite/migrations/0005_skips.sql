-- How often each destination was passed over; the reasons for each event are in events.skipped.

CREATE TABLE destination_skips (
    destination_no INTEGER NOT NULL,
    reason         TEXT NOT NULL,
    count          INTEGER NOT NULL,
    PRIMARY KEY (destination_no, reason)
) STRICT, WITHOUT ROWID;
