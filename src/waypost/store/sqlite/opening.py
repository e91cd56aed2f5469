"""Opening a database file: one process at a time, the schema up to date, the right key."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
from importlib import resources
from pathlib import Path

from waypost.core.errors import SettingsError
from waypost.store.sqlite import rows
from waypost.store.sqlite.place import Place
from waypost.store.vault import Vault


def migrate(db: sqlite3.Connection) -> None:
    """Bring the schema up to date, one numbered file a transaction. Raises SettingsError for a newer schema."""
    (version,) = db.execute("PRAGMA user_version").fetchone()
    scripts = migrations()
    if version > len(scripts):
        raise SettingsError(f"database_url: the database has schema {version}; this Waypost knows up to {len(scripts)}")
    for number, script in enumerate(scripts[version:], start=version + 1):
        db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")


def vacuum(path: Path) -> tuple[int, int]:
    """Give what is free in a database file back to the file system: its size in bytes before and after.

    Raises SettingsError when there is no database, another process uses it, or the disk has no room for a copy.
    """
    if not path.exists():
        raise SettingsError(f"database_url: there is no database at {path}")
    place = Place(path)
    try:
        before = path.stat().st_size
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("PRAGMA secure_delete = ON")
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return before, path.stat().st_size
    except sqlite3.Error as error:
        raise SettingsError(f"database_url: cannot vacuum {path}: {error}") from None
    finally:
        place.leave()


def migrations() -> list[str]:
    """The schema's history: the SQL files of `waypost/store/sqlite/migrations` in their order."""
    folder = resources.files("waypost.store.sqlite") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [file.read_text(encoding="utf-8") for file in files]


def check_key(db: sqlite3.Connection, vault: Vault) -> None:
    """Raise SettingsError now, not at the first delivery, when the encryption key is not the database's."""
    found = db.execute("SELECT value FROM meta WHERE name = 'sealed'").fetchone()
    if found is not None:
        vault.open(found[0], "the key check")
    if found is None or not vault.is_current(found[0]):
        db.execute("REPLACE INTO meta VALUES ('sealed', ?)", (vault.seal(b"waypost", "the key check"),))


def identity(db: sqlite3.Connection) -> int:
    """A number by which what is kept beside this database knows it again."""
    db.execute("INSERT OR IGNORE INTO meta VALUES ('identity', ?)", (secrets.token_bytes(3),))
    (value,) = db.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()
    return int.from_bytes(value)


def reseal(db: sqlite3.Connection, vault: Vault) -> None:
    """Encrypt anew, under the current key, what an old key encrypted (key rotation), and what was kept unsealed."""
    sealed_rows = [
        ("destinations", no, sealed, rows.credentials_context(tenant_id, destination_id))
        for no, tenant_id, destination_id, sealed in db.execute(
            "SELECT no, tenant_id, id, credentials FROM destinations"
        )
    ]
    sealed_rows += [
        ("alert_channels", no, sealed, rows.channel_context(channel_id))
        for no, channel_id, sealed in db.execute("SELECT no, id, credentials FROM alert_channels")
    ]
    with db:
        db.execute("BEGIN IMMEDIATE")
        for table, no, sealed, context in sealed_rows:
            if not vault.is_current(sealed):
                with contextlib.suppress(SettingsError):  # what is damaged stays, and is told where it is read
                    anew = vault.seal(vault.open(sealed, context), context)
                    db.execute(f"UPDATE {table} SET credentials = ? WHERE no = ?", (anew, no))
        for kind, keys in vault.secret_config.items():
            for key in keys:
                _seal_config(db, vault, kind, key)


def _seal_config(db: sqlite3.Connection, vault: Vault, kind: str, key: str) -> None:
    """Seal a config value of a type that was kept in clear before it counted as a secret."""
    where = " WHERE type = ? AND CASE WHEN json_valid(config) THEN json_extract(config, ?) END IS NOT NULL"
    path = (kind, f'$."{key}"')
    for row in db.execute(f"SELECT {rows.DESTINATION} FROM destinations{where}", path).fetchall():
        found = rows.destination(row, vault)
        if found.damaged:
            continue
        context = rows.credentials_context(found.tenant_id, found.id)
        columns = rows.sealed_apart(kind, found.config, found.credentials, context, vault)
        db.execute("UPDATE destinations SET config = ?, credentials = ? WHERE no = ?", (*columns, found.no))
    for row in db.execute(f"SELECT {rows.CHANNEL} FROM alert_channels{where}", path).fetchall():
        channel = rows.channel(row, vault)
        if channel.damaged:
            continue
        context = rows.channel_context(channel.id)
        columns = rows.sealed_apart(kind, channel.config, channel.credentials, context, vault)
        db.execute("UPDATE alert_channels SET config = ?, credentials = ? WHERE no = ?", (*columns, channel.no))
