from __future__ import annotations

import contextlib
import functools
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from pathlib import Path

import pytest

from waypost.core.alerts import Rule
from waypost.core.keeping import Keeping
from waypost.flow.clock import Sequence as SequenceNumbers
from waypost.store.base import Store
from waypost.store.sqlite import SqliteStore
from waypost.store.sqlite.opening import migrate
from waypost.store.vault import Vault

from . import builders
from .builders import NOW

KEY = bytes(range(32))


@functools.cache
def _empty() -> bytes:
    """A file with the schema and nothing else: making one anew takes longer than most of the tests that need it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "empty.db"
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            migrate(db)
        return path.read_bytes()


def new_file(folder: Path) -> Path:
    path = folder / "waypost.db"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(_empty())
    return path


def sqlite_store(
    folder: Path,
    *keys: bytes,
    rules: Sequence[Rule] = (),
    search: bool = True,
    secret_config: Mapping[str, Collection[str]] | None = None,
    keeping: Keeping | None = None,
) -> SqliteStore:
    return SqliteStore(
        new_file(folder),
        Vault(keys or (KEY,), secret_config),
        clock=lambda: NOW,
        next_seq=SequenceNumbers(node=3, clock=lambda: NOW).next,
        rules=rules,
        search=search,
        keeping=keeping,
    )


@pytest.fixture(autouse=True)
def numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The events of a test came in at NOW, however many were made in this process before."""
    monkeypatch.setattr(builders, "_sequence", SequenceNumbers(node=1, clock=lambda: NOW))


@pytest.fixture(params=["sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Every store that there is, empty, with one tenant."""
    opened = {"sqlite": sqlite_store}[request.param](tmp_path)
    await opened.open()
    await opened.put_tenant("acme", None, now=NOW)
    yield opened
    await opened.close()
