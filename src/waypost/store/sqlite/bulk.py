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

_CHUNKS = (128, 64, 32, 16, 8, 4, 2, 1)


def in_bulk(db: sqlite3.Connection, template: str, values: Sequence[Sequence[Any]]) -> int:
    """Run a statement with `{rows}` over all rows, in chunks whose text the statement cache knows. Rows changed."""
    changed = at = 0
    for size in _CHUNKS:
        while len(values) - at >= size:
            chunk = values[at : at + size]
            cursor = db.execute(_bulk_sql(template, size, len(chunk[0])), list(chain.from_iterable(chunk)))
            changed += cursor.rowcount
            at += size
    return changed


@lru_cache(maxsize=64)
def _bulk_sql(template: str, size: int, width: int) -> str:
    row = f"({', '.join('?' * width)})"
    return template.replace("{rows}", ", ".join([row] * size))
