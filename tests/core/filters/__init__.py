"""Payload filters: the three dialects, what they ask, and how that is run."""
