"""What is SQLite's own: the file, its lock, its key, its failures."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from msgspec import structs
from structlog.testing import capture_logs

from waypost.core.alerts import Channel
from waypost.core.errors import SettingsError, Unavailable
from waypost.core.model import DeliveryState, Destination
from waypost.flow.clock import Sequence
from waypost.store.base import EventQuery, Page
from waypost.store.sqlite import SqliteStore
from waypost.store.sqlite import store as sqlite_module
from waypost.store.sqlite.checkpoints import Checkpoints
from waypost.store.vault import Vault, key_beside, parse_key

from .builders import NOW, destination, entry, event, publication
from .conftest import KEY, sqlite_store

OTHER_KEY = bytes(range(1, 33))


async def filled(folder: Path, *keys: bytes) -> SqliteStore:
    store = sqlite_store(folder, *keys)
    await store.open()
    await store.put_tenant("acme", None, now=NOW)
    return store


async def test_what_was_acknowledged_is_there_after_reopening(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    to = await store.add_destination(destination(), limit=5)
    new = event()
    await store.accept(publication(new, to))
    await store.close()
    again = sqlite_store(tmp_path)
    await again.open()
    assert await again.destination("acme", to.id) == to
    assert await again.delivery_states(new.seq) == {to.id: DeliveryState.PENDING}
    await again.close()


async def test_a_dead_predecessors_leases_are_taken_back(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    to = await store.add_destination(destination(), limit=5)
    await store.accept(publication(event(), to))
    await store.close()
    again = sqlite_store(tmp_path)
    await again.open()
    assert await again.due_destinations() == [(to.no, NOW)]
    await again.close()


async def test_what_waits_for_a_deleted_destination_is_cancelled_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_module, "_CANCELLED_AT_ONCE", 2)
    store = await filled(tmp_path)
    to, states = await with_five_waiting_and_five_kept(store)
    await store.delete_destination("acme", to.id, now=NOW)
    assert await states(store) == {DeliveryState.CANCELLED}
    await store.close()


async def test_a_start_cancels_what_a_crash_has_left_of_a_deleted_destination(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await filled(tmp_path)
    _, states = await with_five_waiting_and_five_kept(store)
    with monkeypatch.context() as crash:
        crash.setattr(SqliteStore, "cancel", AsyncMock(side_effect=Unavailable("it went down")))
        with pytest.raises(Unavailable):
            await store.delete_tenant("acme", now=NOW)
    assert await states(store) == {DeliveryState.PENDING, DeliveryState.KEPT}
    await store.close()
    again = sqlite_store(tmp_path)
    await again.open()
    assert await states(again) == {DeliveryState.CANCELLED}
    await again.close()


async def with_five_waiting_and_five_kept(
    store: SqliteStore,
) -> tuple[Destination, Callable[[SqliteStore], Awaitable[set[DeliveryState]]]]:
    to = await store.add_destination(destination(), limit=5)
    events = [event() for _ in range(10)]
    for new in events[:5]:
        await store.accept(publication(new, to, leased=False))
    for new in events[5:]:
        await store.accept(structs.replace(publication(new), kept=(to,)))

    async def states(of: SqliteStore) -> set[DeliveryState]:
        return {(await of.delivery_states(new.seq))[to.id] for new in events}

    return to, states


async def test_commits_wait_for_the_disk(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    connection = store._db.connect()
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    await store.close()


async def test_what_was_committed_gets_from_the_log_into_the_file_with_no_further_commit(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    async with asyncio.timeout(10):
        while b"acme" not in store._db.path.read_bytes():
            await asyncio.sleep(0.05)
    await store.close()


async def test_the_log_begins_anew_while_commits_go_on(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    log = tmp_path / f"{store._db.path.name}-wal"
    for _ in range(1_000):
        await store.accept(publication(event(data=b'{"a": "%s"}' % (b"x" * 40_000))))
    assert log.stat().st_size < 6_000 * 4_096
    await store.close()


def test_a_log_that_cannot_be_carried_over_is_told_of() -> None:
    broken = sqlite3.connect(":memory:", check_same_thread=False)
    broken.close()
    checkpoints = Checkpoints(lambda: broken)
    with capture_logs() as lines:
        checkpoints.start()
        checkpoints.committed()
        end = time.monotonic() + 10
        while not lines and time.monotonic() < end:
            time.sleep(0.05)
        checkpoints.close()
    assert [line["event"] for line in lines] == ["checkpoint_failed"]


async def test_a_second_process_is_kept_off(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    program = (
        "import asyncio, sys; sys.path.insert(0, '.')\n"
        "from pathlib import Path; from tests.store.conftest import sqlite_store\n"
        f"asyncio.run(sqlite_store(Path({str(tmp_path)!r})).open())"
    )
    other = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert "another Waypost process is using" in other.stderr
    await store.close()
    await store.close()


async def test_a_locked_file_refuses_and_recovers(tmp_path: Path) -> None:
    store = SqliteStore(
        tmp_path / "waypost.db", Vault([KEY]), clock=lambda: NOW, next_seq=Sequence().next, busy_timeout=0.05
    )
    await store.open()
    intruder = sqlite3.connect(tmp_path / "waypost.db", isolation_level=None)
    intruder.execute("BEGIN IMMEDIATE")
    new = event()
    with pytest.raises(Unavailable, match="locked"):
        await store.accept(publication(new))
    intruder.execute("ROLLBACK")
    intruder.close()
    assert await store.event(new.id, tenant_id=None) is None
    assert not (await store.accept(publication(new))).duplicate
    await store.close()


async def test_a_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    """SQLite's own page limit raises the very error of a full disk; `tests/crash` fills a real one."""
    store = await filled(tmp_path)

    def limit(pages: int) -> None:
        store._db.submit("call", lambda db: db.execute(f"PRAGMA max_page_count = {pages}"))

    limit(1)
    refused = 0
    for _ in range(200):
        try:
            await store.accept(publication(event(data=b'{"x": "' + b"y" * 10_000 + b'"}')))
        except Unavailable as error:
            assert "full" in str(error)  # noqa: PT017
            refused += 1
    assert refused > 0
    stored = len((await store.events(EventQuery(), Page(limit=1000))).items)
    assert stored == 200 - refused
    limit(1 << 30)
    assert not (await store.accept(publication(event()))).duplicate
    await store.close()


async def test_work_after_close_is_refused(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    await store.close()
    with pytest.raises(Unavailable):
        await store.accept(publication(event()))
    with pytest.raises(Unavailable):
        await store.tenant("acme")


async def test_close_finishes_what_was_handed_in(tmp_path: Path) -> None:
    store = await filled(tmp_path)
    accepting = [asyncio.ensure_future(store.accept(publication(event()))) for _ in range(1000)]
    await asyncio.sleep(0)
    await store.close()
    assert not any(answer.duplicate for answer in await asyncio.gather(*accepting))


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    await (await filled(tmp_path)).close()
    connection = sqlite3.connect(tmp_path / "waypost.db")
    connection.execute("PRAGMA user_version = 9999")
    connection.close()
    with pytest.raises(SettingsError, match="schema 9999"):
        await sqlite_store(tmp_path).open()


@pytest.mark.parametrize("content", [b"no database at all" * 100, None])
async def test_an_unusable_path_is_a_sentence(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "waypost.db"
    path.write_bytes(content) if content else path.mkdir()
    with pytest.raises(SettingsError, match="cannot use"):
        await sqlite_store(tmp_path).open()


class TestSecrets:
    async def test_are_not_in_the_file(self, tmp_path: Path) -> None:
        store = await filled(tmp_path)
        await store.add_destination(destination(credentials={"secret": "a-very-secret-value"}), limit=5)
        await store.close()
        for file in tmp_path.iterdir():
            assert b"a-very-secret-value" not in file.read_bytes()

    async def test_a_wrong_key_stops_the_start(self, tmp_path: Path) -> None:
        await (await filled(tmp_path)).close()
        with pytest.raises(SettingsError, match="encrypted with another key"):
            await sqlite_store(tmp_path, OTHER_KEY).open()

    async def test_rotation_encrypts_anew_and_lets_the_old_key_go(self, tmp_path: Path) -> None:
        store = await filled(tmp_path)
        to = await store.add_destination(destination(), limit=5)
        await store.close()
        for keys in ((OTHER_KEY, KEY), (OTHER_KEY,)):
            store = sqlite_store(tmp_path, *keys)
            await store.open()
            assert await store.destination("acme", to.id) == to
            await store.close()

    @pytest.mark.parametrize("known", [True, False], ids=["from the start", "only after a while"])
    async def test_secret_config_is_sealed_with_them(self, tmp_path: Path, known: bool) -> None:
        new = structs.replace(destination(), config={"url": "https://a.test", "custom_headers": '{"x-key":"hush"}'})
        secret = {new.type: ("custom_headers",)}
        store = sqlite_store(tmp_path, secret_config=secret if known else {})
        await store.open()
        await store.put_tenant("acme", None, now=NOW)
        to = await store.add_destination(new, limit=5)
        channel = await store.alerting.add_channel(channel_like(new), entry(), limit=5)
        await store.close()

        store = sqlite_store(tmp_path, secret_config=secret)
        await store.open()
        assert await store.destination("acme", to.id) == to
        assert await store.alerting.channels() == (channel,)
        for table in ("destinations", "alert_channels"):
            assert await store._db.all(f"SELECT config FROM {table}") == [('{"url":"https://a.test"}',)]
        changed = await store.replace_destination(structs.replace(to, config=to.config | {"url": "https://b.test"}))
        assert changed is not None
        assert changed.config["custom_headers"] == '{"x-key":"hush"}'
        assert await store.destination("acme", to.id) == changed
        await store.close()
        assert b"hush" not in (tmp_path / "waypost.db").read_bytes()

    async def test_moved_to_another_row_do_not_open(self, tmp_path: Path) -> None:
        store = await filled(tmp_path)
        await store.add_destination(destination(), limit=5)
        await store.put_tenant("umbrella", None, now=NOW)
        await store.add_destination(structs.replace(destination("umbrella")), limit=5)
        steal = "UPDATE destinations SET credentials = (SELECT credentials FROM destinations WHERE tenant_id = 'acme')"
        await store._db.write(lambda db: db.execute(steal))
        (moved,) = await store.destinations("umbrella")
        assert ("credentials" in moved.damaged, moved.credentials) == (True, {})
        await store.close()


def channel_like(value: Destination) -> Channel:
    return Channel(
        no=0,
        id="chn_1",
        owner=value.tenant_id,
        type=value.type,
        name="post",
        config=value.config,
        credentials=value.credentials,
        created_at=NOW,
        updated_at=NOW,
    )


class TestKeyFile:
    def test_is_made_once_for_its_owner_only(self, tmp_path: Path) -> None:
        key = key_beside(tmp_path / "new" / "waypost.db")
        path = tmp_path / "new" / "waypost.db.key"
        assert key_beside(tmp_path / "new" / "waypost.db") == key
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_lost_beside_a_database_is_said_not_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "waypost.db").write_bytes(b"something")
        with pytest.raises(SettingsError, match="lost its encryption key"):
            key_beside(tmp_path / "waypost.db")

    @pytest.mark.parametrize("text", ["", "not base64!", "c2hvcnQ="])
    def test_must_hold_32_bytes(self, text: str) -> None:
        with pytest.raises(SettingsError, match="encryption_key"):
            parse_key(text)

    def test_purposes_have_secrets_of_their_own(self) -> None:
        assert Vault([KEY]).derive("a") == Vault([KEY, OTHER_KEY]).derive("a")
        assert len({Vault([key]).derive(purpose) for key in (KEY, OTHER_KEY) for purpose in "ab"}) == 4
