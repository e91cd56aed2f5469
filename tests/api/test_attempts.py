"""Attempts over HTTP, the general routes and those of one destination."""

from __future__ import annotations

from typing import Any

import pytest

from waypost.connect.fields import mask
from waypost.core import ids
from waypost.core.model import Event

from .kit import World, error

DATA = b'{"n":10000000000000000000001, "b":1,"a":2}'


class Record:
    """A failed attempt to `one` and a good one to `two`, both of acme, and a good one of zeta's."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def write(self) -> None:
        world = self.world
        self.one = await world.destination(id="one", credentials={"pin": "1234567890"})
        self.two = await world.destination(id="two")
        self.theirs = await world.destination("zeta", id="one")
        self.event: Event = await world.event(self.one, self.two, id="e1", data=DATA, topic="a")
        other = await world.event(self.theirs, tenant_id="zeta", id="e1", topic="b")
        self.failed = await world.attempt(
            self.event,
            self.one,
            ok=False,
            code="503",
            latency=87_654,
            detail="The receiver answered 503.",
            response={"status": 503, "body": "no"},
            request={"url": "https://elm"},
        )
        self.good = await world.attempt(self.event, self.two)
        self.foreign = await world.attempt(other, self.theirs)

    def name(self, seq: int) -> str:
        return ids.encode("atm", seq)

    def names(self, *seqs: int) -> list[str]:
        return [self.name(seq) for seq in seqs]


@pytest.fixture
async def record(world: World) -> Record:
    made = Record(world)
    await made.write()
    return made


async def test_an_attempt_is_shown_as_it_was(world: World, record: Record) -> None:
    plain = {
        "id": record.name(record.failed),
        "tenant_id": "acme",
        "status": "failed",
        "time": "2027-01-15T08:00:03Z",
        "code": "503",
        "detail": "The receiver answered 503.",
        "attempt_number": 1,
        "manual": False,
        "initiated_by": None,
        "replay_id": None,
        "destination_type": "letterbox",
        "event_id": "e1",
        "destination_id": "one",
        "latency_ms": 87,
    }
    for path in (f"/attempts/{plain['id']}", f"/tenants/acme/destinations/one/attempts/{plain['id']}"):
        for caller in (world.admin, world.acme):
            assert (await caller.get(path)).json() == plain


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ("include=response_data", {"response_data"}),
        ("include=request_data", {"request_data"}),
        ("include=event", {"event"}),
        ("include=destination", {"destination"}),
        ("include=event&include=response_data", {"event", "response_data"}),
        ("include[0]=event.data&include[1]=destination", {"event", "destination"}),
    ],
)
async def test_include_says_what_is_shown_beside_it(
    world: World, record: Record, include: str, expected: set[str]
) -> None:
    name = record.name(record.failed)
    plain = (await world.acme.get(f"/attempts/{name}")).json()
    for path in (f"/attempts/{name}", f"/tenants/acme/destinations/one/attempts/{name}"):
        shown = (await world.acme.get(f"{path}?{include}")).json()
        assert set(shown) - set(plain) == expected
    for path in ("/attempts", "/tenants/acme/destinations/one/attempts"):
        (shown,) = [item for item in (await world.acme.get(f"{path}?{include}")).json()["models"] if item["id"] == name]
        assert set(shown) - set(plain) == expected


async def test_what_is_included(world: World, record: Record) -> None:
    path = f"/attempts/{record.name(record.failed)}?include=event&include=response_data&include=destination"
    shown = (await world.acme.get(path)).json()
    assert shown["response_data"] == {"status": 503, "body": "no"}
    assert shown["event"] == {
        "id": "e1",
        "tenant_id": "acme",
        "destination_id": "one",
        "topic": "a",
        "time": "2027-01-15T08:00:01Z",
        "eligible_for_retry": True,
        "metadata": None,
    }
    whole = (await world.acme.get("/tenants/acme/destinations/one")).json()
    masked = {name: mask(value) for name, value in whole.pop("credentials").items()}
    assert shown["destination"] == whole | {"tenant_id": "acme", "credentials": masked}
    with_data = await world.acme.get(f"/attempts/{record.name(record.failed)}?include=event.data")
    assert b'"data":' + DATA in with_data.content
    assert (await world.acme.get(f"/attempts/{record.name(record.good)}?include=response_data")).json()[
        "response_data"
    ] is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["foreign", "good", "failed"]),
        ("dir=asc", ["failed", "good", "foreign"]),
        ("tenant_id=acme", ["good", "failed"]),
        ("event_id=e1&tenant_id=zeta", ["foreign"]),
        ("event_id=unknown", []),
        ("destination_id=two", ["good"]),
        ("destination_id=one&destination_id=two&tenant_id=acme", ["good", "failed"]),
        ("destination_type=letterbox", ["foreign", "good", "failed"]),
        ("destination_type=pigeon", []),
        ("status=failed", ["failed"]),
        ("status=success", ["foreign", "good"]),
        ("topic=a", ["good", "failed"]),
        ("time[gte]=2027-01-15T08:00:04Z&time[lt]=2027-01-15T08:00:05Z", ["good"]),
        ("limit=2", ["foreign", "good"]),
    ],
)
async def test_the_list_is_narrowed(world: World, record: Record, query: str, expected: list[str]) -> None:
    listed = (await world.admin.get(f"/attempts?{query}")).json()
    assert [item["id"] for item in listed["models"]] == [record.name(getattr(record, name)) for name in expected]


async def test_a_destinations_attempts_are_its_own(world: World, record: Record) -> None:
    listed = (await world.acme.get("/tenants/acme/destinations/one/attempts")).json()
    assert [item["id"] for item in listed["models"]] == record.names(record.failed)
    none = (await world.acme.get("/tenants/acme/destinations/one/attempts?status=success")).json()
    assert none["models"] == []
    other = record.name(record.good)
    assert error(await world.acme.get(f"/tenants/acme/destinations/one/attempts/{other}")) == (
        404,
        "attempt not found",
        None,
    )
    assert error(await world.acme.get("/tenants/acme/destinations/none/attempts")) == (
        404,
        "destination not found",
        None,
    )


async def test_a_token_sees_its_own_whatever_it_asks_for(world: World, record: Record) -> None:
    for query in ("", "?tenant_id=acme", "?tenant_id[]=acme&tenant_id[]=zeta"):
        listed = (await world.zeta.get(f"/attempts{query}")).json()
        assert [item["id"] for item in listed["models"]] == record.names(record.foreign)
    for query in ("", "?tenant_id=acme"):
        answer = await world.zeta.get(f"/attempts/{record.name(record.failed)}{query}")
        assert error(answer) == (404, "attempt not found", None)


async def test_an_attempt_is_found_within_the_tenant_asked_for(world: World, record: Record) -> None:
    name = record.name(record.failed)
    assert (await world.admin.get(f"/attempts/{name}?tenant_id=acme")).status_code == 200
    assert (await world.admin.get(f"/attempts/{name}?tenant_id=zeta")).status_code == 404


@pytest.mark.parametrize(
    "name", ["unknown", "atm_", "atm_0000000000000", "evt_0000000000000", "atm_zzzzzzzzzzzzz", "%F0"]
)
async def test_an_unknown_attempt_is_not_found(world: World, name: str) -> None:
    assert error(await world.admin.get(f"/attempts/{name}")) == (404, "attempt not found", None)


async def test_attempts_outlive_their_destination(world: World, record: Record) -> None:
    await world.acme.delete("/tenants/acme/destinations/one")
    shown: dict[str, Any] = (await world.acme.get(f"/attempts/{record.name(record.failed)}?include=destination")).json()
    assert shown["destination"]["id"] == "one"
