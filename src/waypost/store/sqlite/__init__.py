"""The embedded store: one SQLite file, nothing else."""

from waypost.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
