"""A database file belongs to one process, whatever name it is reached by, and is missed when it goes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from waypost.core.errors import Unavailable
from waypost.store.sqlite import SqliteStore

from .builders import NOW, event, publication
from .conftest import sqlite_store

ANOTHER = """
import sqlite3, sys
from pathlib import Path
from waypost.store.sqlite import opening
from waypost.store.sqlite.place import Place
path = Path(sys.argv[1])
opening.vacuum(path) if sys.argv[2] == "vacuum" else Place(path)
"""


def another(path: Path, action: str = "serve") -> str:
    """What another process says that wants the file."""
    program = [sys.executable, "-c", ANOTHER, str(path), action]
    return subprocess.run(program, capture_output=True, text=True, check=False).stderr


async def opened(folder: Path) -> SqliteStore:
    folder.mkdir(exist_ok=True)
    store = sqlite_store(folder)
    await store.open()
    await store.put_tenant("acme", None, now=NOW)
    return store


def same_name(path: Path, folder: Path) -> Path:
    return path


def symlink(path: Path, folder: Path) -> Path:
    (link := folder / "link.db").symlink_to(path)
    return link


def hard_link(path: Path, folder: Path) -> Path:
    (link := folder / "link.db").hardlink_to(path)
    return link


def folder_link(path: Path, folder: Path) -> Path:
    (link := folder / "elsewhere").symlink_to(path.parent)
    return link / path.name


@pytest.mark.parametrize("way", [same_name, symlink, hard_link, folder_link])
async def test_no_other_process_gets_at_it(tmp_path: Path, way: Callable[[Path, Path], Path]) -> None:
    store = await opened(tmp_path / "data")
    name = way(store._db.path, tmp_path)
    for action in ("serve", "vacuum"):
        assert "another Waypost process is using" in await asyncio.to_thread(another, name, action)
    await store.close()
    assert await asyncio.to_thread(another, name) == ""


async def test_the_lock_leaves_those_of_sqlite_alone(tmp_path: Path) -> None:
    """A tool that has the last connection would take the log away, had this process lost its locks."""
    store = await opened(tmp_path)
    await store.accept(publication(event()))
    program = "import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute('SELECT 1 FROM events'); d.close()"
    await asyncio.to_thread(another, store._db.path)  # it tries, and lets go
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program, str(store._db.path)], check=True)
    assert (tmp_path / "waypost.db-wal").exists()
    await store.accept(publication(event()))
    assert store.writing
    await store.close()


def unlink(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    fresh = path.with_name("fresh.db")
    fresh.write_bytes(path.read_bytes())
    fresh.replace(path)


def move(path: Path) -> None:
    path.rename(path.with_name("moved.db"))


def unlink_the_log(path: Path) -> None:
    path.with_name(path.name + "-wal").unlink()


@pytest.mark.parametrize("lose", [unlink, replace, move, unlink_the_log])
async def test_nothing_is_acknowledged_once_the_file_is_gone(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    store = await opened(tmp_path)
    await store.accept(publication(event()))
    lose(store._db.path)
    with capture_logs() as lines:
        for _ in range(3):
            with pytest.raises(Unavailable, match="was removed or replaced"):
                await store.accept(publication(event()))
        with pytest.raises(Unavailable):
            await store.probe(0)
    assert [line["event"] for line in lines].count("database_displaced") == 1
    assert (store.writing, store.alive) == (False, True)
    await store.close()


async def test_a_file_that_is_put_back_is_used_again(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    away = tmp_path / "away.db"
    store._db.path.rename(away)
    with pytest.raises(Unavailable):
        await store.accept(publication(event()))
    away.rename(store._db.path)
    await store.accept(publication(event()))
    assert store.writing
    await store.close()
