"""Waypost delivers a platform's events to its customers' own event destinations."""

__version__ = "0.1.0"
