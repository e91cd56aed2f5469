from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from waypost.connect.link import DEFAULT_TIMEOUT, Link, import_aside, timeout_of
from waypost.core.errors import DeliveryError, SettingsError


class Client:
    def __init__(self) -> None:
        self.alive = True
        self.closed = 0

    async def close(self) -> None:
        self.alive = False
        self.closed += 1


class Service:
    """Opens clients, once it is told to."""

    def __init__(self) -> None:
        self.opened: list[Client] = []
        self.failures: list[Exception] = []
        self.ready = asyncio.Event()
        self.ready.set()

    async def open(self) -> Client:
        await self.ready.wait()
        if self.failures:
            raise self.failures.pop()
        self.opened.append(Client())
        return self.opened[-1]


def link_to(
    service: Service, opener: Callable[[], Awaitable[Client]] | None = None, timeout: float = 5
) -> Link[Client]:
    return Link("there:1", opener or service.open, timeout=timeout)


async def used(link: Link[Client]) -> Client:
    async with link.use() as client:
        return client


async def test_one_client_for_all() -> None:
    service = Service()
    link = link_to(service)
    service.ready.clear()
    users = [asyncio.create_task(used(link)) for _ in range(10)]
    await asyncio.sleep(0)
    service.ready.set()
    assert {id(client) for client in await asyncio.gather(*users)} == {id(service.opened[0])}
    assert await used(link) is service.opened[0]
    await link.close()
    await link.close()
    assert [client.closed for client in service.opened] == [1]


async def test_a_dead_client_is_replaced_and_ended() -> None:
    service = Service()
    link = link_to(service)
    first = await used(link)
    first.alive = False
    second = await used(link)
    assert second is not first
    await link.close()
    assert (first.closed, second.closed) == (1, 1)


async def test_a_failure_is_told_to_all_and_forgotten() -> None:
    service = Service()
    service.failures = [DeliveryError("bad_credentials", "no", retryable=False)]
    service.ready.clear()
    link = link_to(service)
    users = [asyncio.create_task(used(link)) for _ in range(3)]
    await asyncio.sleep(0)
    service.ready.set()
    failures = await asyncio.gather(*users, return_exceptions=True)
    assert [getattr(failure, "code", None) for failure in failures] == ["bad_credentials"] * 3
    assert len({id(failure) for failure in failures}) == 3
    assert await used(link) is service.opened[0]
    await link.close()


async def test_a_cancelled_user_does_not_disturb_the_others() -> None:
    service = Service()
    service.ready.clear()
    link = link_to(service)
    first, second = asyncio.create_task(used(link)), asyncio.create_task(used(link))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    service.ready.set()
    assert await second is service.opened[0]
    assert first.cancelled()
    await link.close()


async def test_a_client_that_does_not_answer_is_given_up() -> None:
    service = Service()
    link = link_to(service, timeout=0.05)
    with pytest.raises(DeliveryError, match=r"there:1 did not acknowledge within 0.05 s") as error:
        async with link.use():
            await asyncio.Event().wait()
    assert error.value.code == "timeout"
    assert await used(link) is service.opened[1]
    await link.close()
    assert service.opened[0].closed == 1


async def test_opening_takes_no_longer_than_it_may() -> None:
    service = Service()
    service.ready.clear()
    link = link_to(service, timeout=0.05)
    with pytest.raises(DeliveryError, match=r"there:1 did not answer within 0.05 s") as error:
        await used(link)
    assert error.value.code == "timeout"
    await link.close()


async def test_closed_while_opening() -> None:
    service = Service()
    service.ready.clear()
    link = link_to(service)
    waiting = asyncio.create_task(used(link))
    await asyncio.sleep(0)
    await link.close()
    for work in (waiting, used(link)):
        with pytest.raises(DeliveryError) as error:
            await work
        assert error.value.code == "connection_closed"
    assert service.opened == []


async def test_a_client_that_cannot_be_ended_keeps_nobody_waiting() -> None:
    class Stubborn(Client):
        async def close(self) -> None:
            await asyncio.Event().wait()

    async def open_stubborn() -> Client:
        return Stubborn()

    link = link_to(Service(), open_stubborn, timeout=0.05)
    await used(link)
    await link.close()


def test_the_operators_timeout() -> None:
    assert timeout_of({}, "kafka") == DEFAULT_TIMEOUT
    assert timeout_of({"kafka_timeout": 3}, "kafka") == 3.0
    for wrong in (0, -1, "3", True):
        with pytest.raises(SettingsError, match="kafka_timeout"):
            timeout_of({"kafka_timeout": wrong}, "kafka")


async def test_a_library_is_imported_beside_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_slow_library.py").write_text("import threading\nthread = threading.current_thread()\n")
    monkeypatch.syspath_prepend(tmp_path)

    await import_aside("a_slow_library")
    assert sys.modules.pop("a_slow_library").thread is not threading.current_thread()
    with pytest.raises(ImportError):
        await import_aside("a_library_that_is_not_there")
