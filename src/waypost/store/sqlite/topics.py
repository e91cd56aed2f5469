"""The catalogue of topics as SQL. Each function runs inside one transaction."""

from __future__ import annotations

import sqlite3

from waypost.core.model import Topic
from waypost.store.sqlite import rows

SELECT = "SELECT name, description, schema, example, deprecated, created_at, updated_at FROM topics ORDER BY name"


def put(db: sqlite3.Connection, topic: Topic) -> bool:
    """Add or replace a topic, which keeps its first `created_at`. True when it is new."""
    values = (
        topic.description,
        rows.json_text(topic.schema),
        rows.json_text(topic.example),
        topic.deprecated,
        topic.updated_at,
    )
    sql = "UPDATE topics SET description = ?, schema = ?, example = ?, deprecated = ?, updated_at = ? WHERE name = ?"
    if db.execute(sql, (*values, topic.name)).rowcount:
        return False
    columns = "description, schema, example, deprecated, updated_at, name, created_at"
    db.execute(f"INSERT INTO topics ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", (*values, topic.name, topic.created_at))
    return True


def delete(db: sqlite3.Connection, name: str) -> bool:
    return db.execute("DELETE FROM topics WHERE name = ?", (name,)).rowcount > 0


def topic(row: rows.Row) -> Topic:
    return Topic(
        name=row[0],
        description=row[1],
        schema=rows.readable(f"topic {row[0]}", "schema", row[2]),
        example=rows.readable(f"topic {row[0]}", "example", row[3]),
        deprecated=bool(row[4]),
        created_at=row[5],
        updated_at=row[6],
    )
