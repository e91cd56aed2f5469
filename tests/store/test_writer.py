"""The thread that writes: whatever happens to it, nobody waits for work that nobody does."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from waypost.core.errors import Unavailable
from waypost.store.sqlite.writer import GroupWriter

Start = Callable[..., GroupWriter]


class Watching:
    def __init__(self) -> None:
        self.done: list[dict[str, int]] = []
        self.wrong: list[BaseException] = []
        self.failures: list[str] = []

    def committed(self, size: int, seconds: float, kinds: Mapping[str, int]) -> None:
        if self.wrong:
            raise self.wrong.pop(0)
        self.done.append(dict(kinds))

    def failed(self, error: str, kinds: Mapping[str, int]) -> None:
        self.failures.append(error)

    def logged(self, size: int) -> None:
        pass


def call(db: sqlite3.Connection, changes: Sequence[Any]) -> list[Any]:
    return [change(db) for change in changes]


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
async def start(tmp_path: Path, watching: Watching) -> AsyncIterator[Start]:
    started: list[GroupWriter] = []

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(tmp_path / "some.db", isolation_level=None)

    def one(**changes: Any) -> GroupWriter:
        usual: dict[str, Any] = {
            "connect": connect,
            "handlers": {"call": call},
            "largest_group": 10,
            "observer": watching,
            "committed": lambda: None,
            "undone": lambda: None,
        }
        started.append(GroupWriter(**usual | changes))
        started[-1].start()
        return started[-1]

    yield one
    for writer in started:
        await writer.close(20)


def write(writer: GroupWriter) -> asyncio.Future[Any]:
    return writer.submit("call", lambda _: 7)


async def test_it_begins_again_after_a_crash(start: Start, watching: Watching) -> None:
    writer = start()
    watching.wrong = [ValueError("a"), MemoryError()]
    with capture_logs() as lines:
        async with asyncio.timeout(20):
            while len(watching.failures) < 2 or not writer.well:
                await asyncio.wait([write(writer)])
    assert await write(writer) == 7
    assert [line["event"] for line in lines] == ["writer_crashed"] * 2
    assert watching.failures == ["a", ""]


async def test_what_it_holds_when_it_crashes_fails(start: Start) -> None:
    crashes = 3

    def undone() -> None:
        nonlocal crashes
        if crashes:
            crashes -= 1
            raise SystemError("the memory of what was undone is damaged")

    def wrong(_: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    writer = start(undone=undone)
    with pytest.raises((Unavailable, SystemError)):
        await asyncio.wait_for(writer.submit("call", wrong), 20)
    assert await asyncio.wait_for(write(writer), 20) == 7


async def test_a_database_that_cannot_be_opened_is_tried_again_and_holds_nobody_up(
    start: Start, tmp_path: Path
) -> None:
    tries = 0

    def connect() -> sqlite3.Connection:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise sqlite3.OperationalError("unable to open database file")
        return sqlite3.connect(tmp_path / "some.db", isolation_level=None)

    writer = start(connect=connect)
    async with asyncio.timeout(20):
        while True:
            try:
                assert await write(writer) == 7
            except Unavailable:
                await asyncio.sleep(0.01)
            else:
                break
    assert tries == 4
    async with asyncio.timeout(20):
        while not writer.well:
            await asyncio.sleep(0.01)


async def test_a_close_amidst_crashes_is_seen(start: Start) -> None:
    def connect() -> sqlite3.Connection:
        raise sqlite3.OperationalError("unable to open database file")

    writer = start(connect=connect)
    waiting = write(writer)
    assert await writer.close(20)
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await write(writer)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_one_that_dies_fails_what_it_holds(start: Start) -> None:
    def check() -> None:
        raise KeyboardInterrupt

    writer = start(check=check)
    others = [write(writer) for _ in range(30)]
    await asyncio.wait(others, timeout=20)
    for future in others:
        assert isinstance(future.exception(), Unavailable)
    await asyncio.to_thread(writer.thread.join, 20)
    assert not writer.well
    with pytest.raises(Unavailable):
        await write(writer)


async def test_that_the_disk_is_full_is_said_once_with_what_is_left(start: Start) -> None:
    def full(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA max_page_count = 1")
        db.execute("CREATE TABLE IF NOT EXISTS t (x)")
        db.execute("INSERT INTO t VALUES (zeroblob(100000))")

    writer = start(free=lambda: 4_096)
    with capture_logs() as lines:
        for _ in range(5):
            with pytest.raises(Unavailable, match="full"):
                await writer.submit("call", full)
    said = [line for line in lines if line["event"] == "disk_full"]
    assert [(line["free_bytes"], line["log_level"]) for line in said] == [(4_096, "critical")]
