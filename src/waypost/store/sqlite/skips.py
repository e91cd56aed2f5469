"""Skipped destinations as SQL: conditions on the reasons stored with events, and the counts of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from itertools import product

from waypost.store.base import SkipKey
from waypost.store.sqlite import rows

_ADD = """
    INSERT INTO destination_skips SELECT no, ?, ? FROM destinations
    WHERE tenant_id = ? AND id = ? AND deleted_at IS NULL
    ON CONFLICT (destination_no, reason) DO UPDATE SET count = count + excluded.count
"""


def marks(destination_ids: Sequence[str], reasons: Sequence[str]) -> list[str]:
    """The texts of which one is part of `events.skipped` when an event skipped one of them for one of the reasons.

    That column is JSON without blanks, [["des_1","topic",null], ...]. No text within it can look like this: quotes are
    escaped there.
    """
    starts = [f"[{rows.json_text(destination_id)}," for destination_id in destination_ids]
    ends = [f"{rows.json_text(reason)}," for reason in reasons]
    if starts and ends:
        return [start + end for start, end in product(starts, ends)]
    return starts or [f'",{end}' for end in ends]


def add(db: sqlite3.Connection, counts: Mapping[SkipKey, int]) -> None:
    added = [
        (reason, count, tenant_id, destination_id) for (tenant_id, destination_id, reason), count in counts.items()
    ]
    db.executemany(_ADD, added)


def counts(db: sqlite3.Connection, destination_no: int) -> dict[str, int]:
    return dict(db.execute("SELECT reason, count FROM destination_skips WHERE destination_no = ?", (destination_no,)))


def forget(db: sqlite3.Connection, destination_nos: Sequence[tuple[int]]) -> None:
    db.executemany("DELETE FROM destination_skips WHERE destination_no = ?", destination_nos)
