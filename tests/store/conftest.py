from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from waypost.core.alerts import Rule
from waypost.flow.clock import Sequence as SequenceNumbers
from waypost.store.base import Store
from waypost.store.sqlite import SqliteStore
from waypost.store.vault import Vault

from . import builders
from .builders import NOW

KEY = bytes(range(32))


def sqlite_store(folder: Path, *keys: bytes, rules: Sequence[Rule] = (), search: bool = True) -> SqliteStore:
    return SqliteStore(
        folder / "waypost.db",
        Vault(keys or (KEY,)),
        clock=lambda: NOW,
        next_seq=SequenceNumbers(node=3, clock=lambda: NOW).next,
        rules=rules,
        search=search,
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
