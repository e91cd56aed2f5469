"""Truth: events, deliveries and attempts on disk. One verb is one transaction."""
