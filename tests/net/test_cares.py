"""Names looked up at a real name server that hangs, lies, and says too much."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.net.dns import (
    AAAA,
    NO_SUCH_NAME,
    REFUSED,
    SERVER_FAILURE,
    A,
    Answer,
    NameServer,
    address_record,
    alias,
    name_server,
)
from tests.net.test_resolve import Clock
from waypost.core.errors import DeliveryError, Unavailable
from waypost.net.cares import CaresResolver
from waypost.net.guard import AddressGuard
from waypost.net.resolve import GuardedResolver
from waypost.net.shares import Places, on_behalf_of, parent_of

PATIENCE = 0.6


class Zone:
    """What the name server says: by the beginning of a name, unless `known` has it. `hung` names get no answer."""

    def __init__(self) -> None:
        self.known: dict[str, Answer] = {}
        self.down = False

    def __call__(self, name: str, kind: int) -> Answer:
        if self.down or name.startswith("hang"):
            return None
        if name in self.known:
            found = self.known[name]
            return [record for record in found if record[1] in {kind, 5}] if isinstance(found, list) else found
        return [address_record(name, "8.8.8.8")] if kind == A else []


@contextlib.asynccontextmanager
async def resolver(zone: Zone, **how: Any) -> AsyncIterator[tuple[GuardedResolver, NameServer]]:
    async with name_server(zone) as server:
        inner = CaresResolver(timeout=PATIENCE, servers=[server.address])
        made = GuardedResolver(inner, AddressGuard(), **({"patience": PATIENCE} | how))
        try:
            yield made, server
        finally:
            await made.close()


async def outcome(made: GuardedResolver, host: str, tenant: str = "acme") -> tuple[str, ...] | str:
    """The addresses, or the name of the failure."""

    async def ask() -> tuple[str, ...]:
        on_behalf_of.set(tenant)
        return await made.addresses(host, 443)

    try:
        return await asyncio.create_task(ask())
    except DeliveryError as error:
        return error.code
    except Unavailable:
        return "unavailable"


async def test_names_are_found_in_both_kinds_of_records() -> None:
    zone = Zone()
    zone.known["both.test"] = [address_record("both.test", "8.8.8.8"), address_record("both.test", "2606:4700::1111")]
    async with resolver(zone) as (made, server):
        assert set(await made.addresses("both.test", 443)) == {"8.8.8.8", "2606:4700::1111"}
        assert {kind for _, kind in server.asked} == {A, AAAA}


async def test_the_machine_itself_needs_no_name_server() -> None:
    found = await CaresResolver(timeout=PATIENCE, servers=["127.0.0.1:9"]).addresses("localhost", 80)
    assert set(found) <= {"127.0.0.1", "::1"}


async def test_names_are_absolute() -> None:
    async with resolver(Zone()) as (made, server):
        await made.addresses("short", 443)
    assert {name for name, _ in server.asked} == {"short"}


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (NO_SUCH_NAME, "There is no address for a.test"),
        ([], "There is no address for a.test"),
        (SERVER_FAILURE, "a.test could not be looked up"),
        (REFUSED, "a.test could not be looked up"),
        (b"", "The lookup of a.test took longer than 0.6 s"),
        (b"\x00" * 500, "The lookup of a.test took longer than 0.6 s"),
        (b"\xff" * 500, "The lookup of a.test took longer than 0.6 s"),
        (None, "The lookup of a.test took longer than 0.6 s"),
    ],
)
async def test_what_is_no_answer(answer: Answer, sentence: str) -> None:
    zone = Zone()
    zone.known["a.test"] = answer
    async with resolver(zone) as (made, _):
        with pytest.raises(DeliveryError, match=r"a\.test") as caught:
            await made.addresses("a.test", 443)
    assert caught.value.code == "dns_error"
    assert caught.value.sentence.startswith((sentence, "a.test could not be looked up"))


async def test_aliases_are_followed_and_loops_are_not() -> None:
    zone = Zone()
    chain = [alias(f"c{number}.test", f"c{number + 1}.test") for number in range(10)]
    zone.known["c0.test"] = [*chain, address_record("c10.test", "8.8.8.8")]
    zone.known["loop.test"] = [alias("loop.test", "pool.test"), alias("pool.test", "loop.test")]
    zone.known["inward.test"] = [alias("inward.test", "db.internal"), address_record("db.internal", "10.0.0.5")]
    async with resolver(zone) as (made, _):
        assert await outcome(made, "c0.test") == ("8.8.8.8",)
        assert await outcome(made, "loop.test") == "dns_error"
        assert await outcome(made, "inward.test") == "blocked_address"


async def test_of_very_many_addresses_all_are_judged_and_some_are_kept() -> None:
    zone = Zone()
    many = [address_record("many.test", f"8.8.{number >> 8}.{number & 255}") for number in range(2_000)]
    zone.known["many.test"] = many
    zone.known["one-is-bad.test"] = [(("one-is-bad.test"), *record[1:]) for record in many] + [
        address_record("one-is-bad.test", "127.0.0.1")
    ]
    async with resolver(zone) as (made, _):
        assert len(await made.addresses("many.test", 443)) == 16
        assert await outcome(made, "one-is-bad.test") == "blocked_address"


async def test_hanging_names_of_one_tenant_hold_up_nobody_else() -> None:
    places = Places(all=8, tenant=4, domain=100)
    async with resolver(Zone(), places=places) as (made, _):
        hanging = [asyncio.create_task(outcome(made, f"hang{n}.evil{n}.test", "evil")) for n in range(40)]
        while len(made._asking) < 40:
            await asyncio.sleep(0)
        healthy = [await outcome(made, f"good{n}.test", "good") for n in range(10)]
        assert healthy == [("8.8.8.8",)] * 10
        assert set(await asyncio.gather(*hanging)) == {"dns_error"}


async def test_a_burst_of_names_that_answer_finds_its_places() -> None:
    async with resolver(Zone(), places=Places(all=8, tenant=4, domain=2), patience=60) as (made, _):
        found = await asyncio.gather(*(outcome(made, f"good{n}.example{n % 7}.test") for n in range(100)))
    assert set(found) == {("8.8.8.8",)}


async def test_a_domain_that_hangs_is_its_tenants_trouble_and_not_others() -> None:
    """Others with names under that domain are put off; the rest do not notice."""
    async with resolver(Zone(), places=Places(all=100, tenant=50, domain=4), patience=PATIENCE / 3) as (made, _):
        hanging = [asyncio.create_task(outcome(made, f"hang{n}.evil.test", "evil")) for n in range(20)]
        while not made._shares._held["evil", "evil.test"]:
            await asyncio.sleep(0)
        assert await outcome(made, "good.evil.test", "good") == "unavailable"
        assert await outcome(made, "good.other.test", "evil") == ("8.8.8.8",)
        assert set(await asyncio.gather(*hanging)) == {"dns_error"}


async def test_no_place_at_all_is_nobodys_failure() -> None:
    async with resolver(Zone(), places=Places(all=2, tenant=2, domain=2), patience=PATIENCE / 3) as (made, _):
        hanging = [asyncio.create_task(outcome(made, f"hang{n}.test", "evil")) for n in range(2)]
        while not made._shares._held:
            await asyncio.sleep(0)
        assert await outcome(made, "good.example", "good") == "unavailable"
        await asyncio.gather(*hanging)
        assert await outcome(made, "good.example", "good") == ("8.8.8.8",)
    assert made._shares._shares == {}


async def test_what_one_tenant_used_up_is_not_remembered_against_another() -> None:
    async with resolver(Zone(), places=Places(tenant=1), patience=PATIENCE / 3) as (made, _):
        hanging = asyncio.create_task(outcome(made, "hang.test", "evil"))
        while not made._shares._held:
            await asyncio.sleep(0)
        assert await outcome(made, "good.example", "evil") == "dns_error"
        assert await outcome(made, "good.example", "good") == ("8.8.8.8",)
        await hanging


async def test_an_old_answer_stands_in_when_the_name_server_is_down() -> None:
    zone, clock = Zone(), Clock()
    async with resolver(zone, ttl=30, stale=1_000, recheck=30, lively=0.05, clock=clock) as (made, server):
        assert await outcome(made, "a.test") == ("8.8.8.8",)
        zone.down = True
        clock.now += 31
        assert await outcome(made, "a.test") == ("8.8.8.8",)
        while made._looking:
            await asyncio.sleep(0.01)
        asked = len(server.asked)
        assert [await outcome(made, "a.test") for _ in range(3)] == [("8.8.8.8",)] * 3
        assert len(server.asked) == asked  # not again before `recheck`
        zone.down = False
        zone.known["a.test"] = [address_record("a.test", "9.9.9.9")]
        clock.now += 31
        assert await outcome(made, "a.test") == ("9.9.9.9",)
        zone.down = True
        clock.now += 31 + 1_000
        assert await outcome(made, "a.test") == "dns_error"


async def test_a_name_that_is_gone_has_no_old_answer() -> None:
    zone, clock = Zone(), Clock()
    async with resolver(zone, clock=clock) as (made, _):
        assert await outcome(made, "a.test") == ("8.8.8.8",)
        zone.known["a.test"] = NO_SUCH_NAME
        clock.now += 31
        assert await outcome(made, "a.test") == "dns_error"
        zone.known["a.test"] = [address_record("a.test", "10.0.0.1")]
        clock.now += 31
        assert await outcome(made, "a.test") == "blocked_address"
        zone.known["a.test"] = SERVER_FAILURE
        clock.now += 31
        assert await outcome(made, "a.test") == "dns_error"


async def test_failures_that_are_remembered_are_bounded() -> None:
    zone = Zone()
    zone.known = {f"no{n}.test": NO_SUCH_NAME for n in range(50)}
    async with resolver(zone, failures=10) as (made, _):
        await asyncio.gather(*(outcome(made, f"no{n}.test") for n in range(50)))
        assert len(made._failed) == 10
        assert made._known == {}


async def test_no_name_server_is_nobodys_failure() -> None:
    async with name_server(Zone()) as server:
        gone = server.address
    made = GuardedResolver(CaresResolver(timeout=PATIENCE, servers=[gone]), AddressGuard())
    assert await outcome(made, "a.test") == "unavailable"
    await made.close()


def test_who_answers_for_a_name() -> None:
    assert [parent_of(name) for name in ("a.b.example.com", "example.com", "com")] == [
        "example.com",
        "example.com",
        "com",
    ]
