from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator

import pytest

from tests.net.conftest import Names
from waypost.core.errors import DeliveryError
from waypost.net.guard import AddressGuard
from waypost.net.resolve import GuardedResolver, SystemResolver


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Gated(Names):
    """Answers once the gate is open."""

    def __init__(self, **known: tuple[str, ...]) -> None:
        super().__init__(**known)
        self.gate = asyncio.Event()

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        found = await super().addresses(host, port)
        await self.gate.wait()
        return found


async def error_of(resolver: GuardedResolver | SystemResolver, host: str) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await resolver.addresses(host, 443)
    return caught.value


async def test_answers_are_remembered_for_a_while() -> None:
    names, clock = Names(a_test=("8.8.8.8", "1.1.1.1")), Clock()
    resolver = GuardedResolver(names, AddressGuard(), ttl=30, clock=clock)
    for _ in range(3):
        assert await resolver.addresses("a.test", 443) == ("8.8.8.8", "1.1.1.1")
    clock.now += 29
    await resolver.addresses("a.test", 80)
    assert names.asked == ["a.test"]
    clock.now += 1
    names.known["a.test"] = ("9.9.9.9",)
    assert await resolver.addresses("a.test", 443) == ("9.9.9.9",)


async def test_failures_are_remembered_for_less() -> None:
    names, clock = Names(), Clock()
    resolver = GuardedResolver(names, AddressGuard(), negative_ttl=2, clock=clock)
    first, second = await error_of(resolver, "b.test"), await error_of(resolver, "b.test")
    assert first.code == second.code == "dns_error"
    assert first.sentence == second.sentence
    assert first is not second
    assert names.asked == ["b.test"]
    clock.now += 2
    names.known["b.test"] = ("8.8.8.8",)
    assert await resolver.addresses("b.test", 443) == ("8.8.8.8",)


async def test_the_oldest_name_is_forgotten() -> None:
    names = Names(a_test=("8.8.8.8",), b_test=("8.8.8.8",), c_test=("8.8.8.8",))
    resolver = GuardedResolver(names, AddressGuard(), size=2)
    for host in ("a.test", "b.test", "c.test", "b.test", "a.test"):
        await resolver.addresses(host, 443)
    assert names.asked == ["a.test", "b.test", "c.test", "a.test"]


@pytest.mark.parametrize("bad", ["10.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::808:808", "fe80::1%eth0"])
async def test_one_bad_address_spoils_the_name(bad: str) -> None:
    for answer in ([bad, "8.8.8.8"], ["8.8.8.8", "2606:4700::1111", bad]):
        error = await error_of(GuardedResolver(Names(a_test=tuple(answer)), AddressGuard()), "a.test")
        assert (error.code, error.retryable) == ("blocked_address", True)
        assert "a.test resolves to " in error.sentence
        assert bad not in error.sentence


async def test_a_name_that_moves_to_a_bad_address_is_refused_from_then_on() -> None:
    names, clock = Names(a_test=("8.8.8.8",)), Clock()
    resolver = GuardedResolver(names, AddressGuard(), clock=clock)
    await resolver.addresses("a.test", 443)
    names.known["a.test"] = ("127.0.0.1",)
    clock.now += 31
    assert (await error_of(resolver, "a.test")).code == "blocked_address"


async def test_addresses_need_no_lookup() -> None:
    names = Names()
    resolver = GuardedResolver(names, AddressGuard())
    assert await resolver.addresses("8.8.8.8", 443) == ("8.8.8.8",)
    assert await resolver.addresses("0x08080808", 443) == ("8.8.8.8",)
    assert await resolver.addresses("2606:4700::1111", 443) == ("2606:4700::1111",)
    assert (await error_of(resolver, "2130706433")).code == "blocked_address"
    assert (await error_of(resolver, "1.2.3.4.5")).code == "dns_error"
    assert names.asked == []


async def test_lookups_of_one_name_are_one_lookup() -> None:
    names = Gated(a_test=("8.8.8.8",))
    resolver = GuardedResolver(names, AddressGuard())
    waiting = [asyncio.create_task(resolver.addresses("a.test", 443)) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    names.gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [("8.8.8.8",)] * 19
    assert names.asked == ["a.test"]


# the system's resolver


class Slow:
    """A lookup in which the names that begin with `slow` hang until released."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> tuple[str, ...]:
        self.asked.append(host)
        if host.startswith("slow"):
            self.release.wait(30)
        return ("8.8.8.8",)


@pytest.fixture
async def slow() -> AsyncIterator[Slow]:
    made = Slow()
    yield made
    made.release.set()


async def test_the_system_knows_localhost() -> None:
    assert set(await SystemResolver().addresses("localhost", 80)) <= {"127.0.0.1", "::1"}


async def test_a_hanging_lookup_delays_nobody_else(slow: Slow) -> None:
    resolver = SystemResolver(timeout=20, lookup=slow)
    hanging = [asyncio.create_task(resolver.addresses(f"slow{number}.test", 80)) for number in range(20)]
    await asyncio.sleep(0)
    assert await resolver.addresses("quick.test", 80) == ("8.8.8.8",)
    assert not any(task.done() for task in hanging)
    slow.release.set()
    assert await asyncio.gather(*hanging) == [("8.8.8.8",)] * 20


async def test_a_hanging_lookup_is_given_up(slow: Slow) -> None:
    error = await error_of(SystemResolver(timeout=0.05, lookup=slow), "slow.test")
    assert (error.code, error.sentence) == ("dns_error", "The lookup of slow.test took longer than 0.05 s")


async def test_hanging_threads_are_bounded_and_come_back(slow: Slow) -> None:
    resolver = SystemResolver(timeout=0.05, threads=2, lookup=slow)
    await error_of(resolver, "slow1.test")
    await error_of(resolver, "slow2.test")
    await error_of(resolver, "quick.test")
    assert slow.asked == ["slow1.test", "slow2.test"]
    slow.release.set()
    async with asyncio.timeout(20):
        while "quick.test" not in slow.asked:
            with contextlib.suppress(DeliveryError):
                await resolver.addresses("quick.test", 80)


@pytest.mark.parametrize(
    ("raised", "sentence"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "There is no address for a.test"),
        (socket.gaierror(socket.EAI_AGAIN, "Try again"), "a.test could not be looked up: Try again"),
        (UnicodeError("label too long"), "a.test is not a name that can be looked up"),
    ],
)
async def test_failed_lookups(raised: Exception, sentence: str) -> None:
    def fail(host: str, port: int) -> tuple[str, ...]:
        raise raised

    error = await error_of(SystemResolver(lookup=fail), "a.test")
    assert (error.code, error.sentence, error.retryable) == ("dns_error", sentence, True)


async def test_no_address_at_all() -> None:
    error = await error_of(SystemResolver(lookup=lambda host, port: ()), "a.test")
    assert error.sentence == "a.test has no address"
