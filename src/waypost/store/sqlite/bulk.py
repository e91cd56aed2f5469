"""One statement for many rows.

Python's interpreter lock is given up once per statement, not once per row, which keeps the writing thread from waiting
for the event loop hundreds of times a commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

LARGEST_CHUNK = 64
"""Rows in one statement at most: the texts for 1 to this many rows fit the statement cache."""


def in_bulk(db: sqlite3.Connection, template: str, values: Sequence[Sequence[Any]]) -> int:
    """Run a statement with `{rows}` over all rows. The number of rows changed."""
    changed = 0
    for at in range(0, len(values), LARGEST_CHUNK):
        chunk = values[at : at + LARGEST_CHUNK]
        sql = _bulk_sql(template, len(chunk), len(chunk[0]))
        changed += db.execute(sql, list(chain.from_iterable(chunk))).rowcount
    return changed


@lru_cache(maxsize=8 * LARGEST_CHUNK)
def _bulk_sql(template: str, size: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return template.replace("{rows}", ", ".join([row] * size))
