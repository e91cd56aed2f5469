"""The audit log as SQL."""

from __future__ import annotations

import sqlite3

from waypost.core.model import Actor
from waypost.store.alerting import Entry
from waypost.store.sqlite import rows

COLUMNS = "seq, actor_kind, actor, ip, action, tenant_id, subject, detail"


def write(db: sqlite3.Connection, seq: int, entry: Entry) -> None:
    actor, detail = entry.actor, rows.json_text(entry.detail)
    db.execute(
        "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (seq, actor.kind, actor.name, actor.ip, entry.action, entry.tenant_id, entry.subject, detail),
    )


def entry(row: rows.Row) -> Entry:
    return Entry(
        seq=row[0],
        actor=Actor(kind=row[1], name=row[2], ip=row[3]),
        action=row[4],
        tenant_id=row[5],
        subject=row[6],
        detail=rows.decoded(row[7]),
    )
