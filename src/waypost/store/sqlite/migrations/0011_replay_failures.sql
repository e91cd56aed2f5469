-- What failed of a replay is soon found, however much did not.

CREATE INDEX replay_deliveries_failed ON replay_deliveries (replay_seq, event_seq, destination_no) WHERE state = 3;
