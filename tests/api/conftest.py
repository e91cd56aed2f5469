from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.store.conftest import sqlite_store

from .kit import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = sqlite_store(tmp_path)
    await store.open()
    made = World(store)
    await made.populate()
    yield made
    await store.close()
