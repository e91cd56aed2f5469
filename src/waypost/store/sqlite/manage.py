"""Tenants, destinations and keys as SQL. Each function runs inside one transaction."""

from __future__ import annotations

import sqlite3
from typing import Any

from waypost.core import incarnations
from waypost.core.errors import BadRequest, NotFound
from waypost.core.model import SECOND, Destination, Micros, TenantSummary
from waypost.store.base import ApiKey
from waypost.store.sqlite import rows, skips
from waypost.store.vault import Vault

SUBSCRIPTIONS = (
    "(SELECT json_group_array(json(iif(json_valid(d.topics), d.topics, '[]'))) FROM destinations d"
    " WHERE d.tenant_id = t.key AND d.deleted_at IS NULL)"
)


def prefixed(alias: str, columns: str) -> str:
    return ", ".join(f"{alias}.{column.strip()}" for column in columns.split(","))


def put_tenant(db: sqlite3.Connection, tenant_id: str, metadata: str | None, now: Micros) -> tuple[str, bool]:
    """The tenant's key, and whether it is new."""
    sql = "UPDATE tenants SET metadata = ?, updated_at = ? WHERE id = ? RETURNING key"
    (updated,) = db.execute(sql, (metadata, now, tenant_id)).fetchall() or [None]
    if updated is not None:
        return updated[0], False
    former = db.execute("SELECT incarnation FROM former_tenants WHERE id = ?", (tenant_id,)).fetchone()
    incarnation, since = (incarnations.FIRST, now // SECOND) if former is None else (former[0] + 1, now // SECOND + 1)
    sql = """INSERT INTO tenants (id, metadata, created_at, updated_at, incarnation, tokens_since)
             VALUES (?, ?, ?, ?, ?, ?)"""
    db.execute(sql, (tenant_id, metadata, now, now, incarnation, since * SECOND))
    return incarnations.key_of(tenant_id, incarnation), True


def reused(db: sqlite3.Connection) -> dict[str, str]:
    """The keys of the last tenants of all ids that were used more than once."""
    sql = """SELECT id, max(incarnation) FROM (
                 SELECT id, incarnation FROM tenants UNION ALL SELECT id, incarnation FROM former_tenants
             ) WHERE incarnation > ? GROUP BY id"""
    return {id_: incarnations.key_of(id_, incarnation) for id_, incarnation in db.execute(sql, (incarnations.FIRST,))}


def tenant(db: sqlite3.Connection, tenant_id: str) -> TenantSummary | None:
    sql = f"SELECT {prefixed('t', rows.TENANT)}, {SUBSCRIPTIONS} FROM tenants t WHERE t.key = ?"
    found = db.execute(sql, (tenant_id,)).fetchone()
    return None if found is None else rows.tenant_summary(found)


def delete_tenant(db: sqlite3.Connection, vault: Vault, tenant_id: str, now: Micros) -> bool:
    if not db.execute("DELETE FROM tenants WHERE key = ?", (tenant_id,)).rowcount:
        return False
    former = (incarnations.id_of(tenant_id), incarnations.incarnation_of(tenant_id))
    db.execute("REPLACE INTO former_tenants VALUES (?, ?)", former)
    db.execute("DELETE FROM api_keys WHERE tenant_key = ?", (tenant_id,))
    delete_destinations(db, vault, "tenant_id = ?", tenant_id, now)
    db.execute("DELETE FROM news WHERE channel_no IN (SELECT no FROM alert_channels WHERE owner = ?)", (tenant_id,))
    db.execute("DELETE FROM alert_channels WHERE owner = ?", (tenant_id,))
    db.execute("DELETE FROM alert_rules WHERE tenant_id = ?", (tenant_id,))
    return True


def revoke_tokens(db: sqlite3.Connection, tenant_id: str, now: Micros) -> bool:
    sql = "UPDATE tenants SET epoch = epoch + 1, tokens_since = ? WHERE key = ?"
    return db.execute(sql, ((now // SECOND + 1) * SECOND, tenant_id)).rowcount > 0


def add_destination(db: sqlite3.Connection, new: Destination, values: tuple[Any, ...], limit: int) -> int:
    if db.execute("SELECT 1 FROM tenants WHERE key = ?", (new.tenant_id,)).fetchone() is None:
        raise NotFound("tenant not found")
    living = "SELECT count(*), coalesce(sum(id = ?), 0) FROM destinations WHERE tenant_id = ? AND deleted_at IS NULL"
    count, same_id = db.execute(living, (new.id, new.tenant_id)).fetchone()
    if same_id:
        raise BadRequest("destination already exists")
    if count >= limit:
        raise BadRequest("maximum number of destinations per tenant reached")
    marks = ", ".join("?" * len(values))
    sql = f"INSERT INTO destinations ({rows.DESTINATION.removeprefix('no, ')}) VALUES ({marks})"
    no = db.execute(sql, values).lastrowid
    assert no is not None  # noqa: S101  SQLite always gives one for an inserted row
    return no


def replace_destination(db: sqlite3.Connection, old: Destination, values: tuple[Any, ...]) -> bool:
    columns = ", ".join(f"{column.strip()} = ?" for column in rows.DESTINATION.removeprefix("no, ").split(","))
    sql = f"UPDATE destinations SET {columns} WHERE no = ? AND version = ? AND deleted_at IS NULL"
    return db.execute(sql, (*values, old.no, old.version)).rowcount > 0


def is_disabled(db: sqlite3.Connection, no: int) -> bool:
    found = db.execute("SELECT disabled_at FROM destinations WHERE no = ?", (no,)).fetchone()
    return found is not None and found[0] is not None


def delete_destinations(
    db: sqlite3.Connection, vault: Vault, condition: str, parameter: int | str, now: Micros
) -> bool:
    """Whether there was one. What waits for them is still to be cancelled.

    Their rows stay, for the attempts that were made to them, but neither secrets nor what only deliveries need.
    """
    sql = f"""UPDATE destinations SET deleted_at = ?, filter = NULL, subscriptions = NULL, delivery_metadata = NULL,
                  metadata = NULL, retry_policy = NULL
              WHERE {condition} AND deleted_at IS NULL RETURNING no, tenant_id, id"""
    found = db.execute(sql, (now, parameter)).fetchall()
    db.executemany(
        "UPDATE destinations SET credentials = ? WHERE no = ?",
        [(vault.seal(b"{}", rows.credentials_context(tenant_id, id_)), no) for no, tenant_id, id_ in found],
    )
    deleted = [(no,) for no, *_ in found]
    db.executemany("DELETE FROM alert_rules WHERE destination_no = ?", deleted)
    db.executemany("DELETE FROM destination_health WHERE destination_no = ?", deleted)
    skips.forget(db, deleted)
    return bool(deleted)


def add_api_key(db: sqlite3.Connection, key: ApiKey) -> None:
    try:
        marks = ", ".join("?" * len(rows.api_key_values(key)))
        db.execute(f"INSERT INTO api_keys ({rows.API_KEY}) VALUES ({marks})", rows.api_key_values(key))
    except sqlite3.IntegrityError:
        raise BadRequest("an API key of this name already exists") from None
