"""Deliveries over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.store import builders
from waypost.core import ids
from waypost.core.model import SECOND, Destination, Event
from waypost.core.retry import RetryPolicy
from waypost.store.base import Publication

from .kit import NOW, World, error


class Shelf:
    """Deliveries of acme to `one` and `two` and one of zeta, each standing in another way."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.names: dict[str, str] = {}

    async def fill(self) -> None:
        world = self.world
        self.one, self.two = await world.destination(id="one"), await world.destination(id="two")
        theirs = await world.destination("zeta", id="one")
        retrying = await self.event("retrying", self.one)
        await world.attempt(retrying, self.one, ok=False, code="503")
        delivered = await self.event("delivered", self.two)
        await world.attempt(delivered, self.two)
        await self.event("delivering", self.one)
        await self.event("pending", self.two, leased=False)
        await self.event("disabled", self.two, kept=True)
        await self.event("foreign", theirs, tenant_id="zeta")

    async def event(
        self, name: str, to: Destination, *, leased: bool = True, kept: bool = False, tenant_id: str = "acme"
    ) -> Event:
        world = self.world
        world.now += SECOND
        made = Event(seq=world.next_seq(), id=name, tenant_id=tenant_id, topic="a", time=world.now, data=b"{}")
        await world.store.accept(
            Publication(
                event=made,
                matched=() if kept else (to,),
                skipped=(),
                accepted_at=world.now,
                lease_until=world.now + 60 * SECOND if leased else None,
                kept=(to,) if kept else (),
            )
        )
        self.names[name] = ids.encode_pair("dlv", made.seq, to.no)
        return made


@pytest.fixture
async def shelf(world: World) -> Shelf:
    made = Shelf(world)
    await made.fill()
    return made


async def test_a_delivery_tells_how_it_stands(world: World, shelf: Shelf) -> None:
    shown = (await world.acme.get(f"/deliveries/{shelf.names['retrying']}")).json()
    due = shown.pop("next_due")
    assert due > "2027-01-15T08:00:03Z"
    assert shown == {
        "id": shelf.names["retrying"],
        "tenant_id": "acme",
        "event_id": "retrying",
        "topic": "a",
        "accepted_at": "2027-01-15T08:00:01Z",
        "destination_id": "one",
        "status": "retrying",
        "attempts": 1,
        "retries": 1,
        "manual": False,
    }
    for name, status, attempts in (
        ("delivered", "delivered", 1),
        ("delivering", "delivering", 0),
        ("disabled", "disabled", 0),
    ):
        shown = (await world.admin.get(f"/deliveries/{shelf.names[name]}")).json()
        assert (shown["status"], shown["attempts"], shown["next_due"]) == (status, attempts, None)
    waiting = (await world.admin.get(f"/deliveries/{shelf.names['pending']}")).json()
    assert (waiting["status"], waiting["next_due"]) == ("pending", waiting["accepted_at"])


@pytest.mark.parametrize(
    ("query", "expected", "count"),
    [
        ("", ["foreign", "disabled", "pending", "delivering", "delivered", "retrying"], None),
        ("dir=asc&limit=2", ["retrying", "delivered"], None),
        ("tenant_id=zeta", ["foreign"], None),
        ("destination_id=one&tenant_id=acme", ["delivering", "retrying"], None),
        ("destination_id[]=one&destination_id[]=two&tenant_id=acme&status=delivered", ["delivered"], None),
        ("event_id=pending&event_id=delivered", ["pending", "delivered"], 2),
        ("status=pending&status=retrying&status=disabled", ["disabled", "pending", "retrying"], 3),
        ("status=delivering", ["foreign", "delivering"], 2),
        ("status=exhausted", [], 0),
        ("status=delivered", ["delivered"], None),
        ("due[lte]=2027-01-15T08:00:06Z", ["pending"], 1),
        ("due[gt]=2027-01-15T08:00:06Z&status=retrying", ["retrying"], 1),
        ("due[gt]=2027-01-15T08:00:06Z&status=delivered", [], 0),
        ("time[gte]=2027-01-15T08:00:05Z&time[lt]=2027-01-15T08:00:07Z", ["pending", "delivering"], None),
    ],
)
async def test_the_list_is_narrowed(
    world: World, shelf: Shelf, query: str, expected: list[str], count: int | None
) -> None:
    listed = (await world.admin.get(f"/deliveries?{query}")).json()
    assert [item["event_id"] for item in listed["models"]] == expected
    assert listed["count"] == count
    assert listed["pagination"]["order_by"] == "accepted_at"


async def test_the_list_comes_in_pages(world: World, shelf: Shelf) -> None:
    seen: list[str] = []
    following: str | None = ""
    while following is not None:
        page = (await world.acme.get(f"/deliveries?limit=2{following and '&next=' + following}")).json()
        seen += [item["id"] for item in page["models"]]
        following = page["pagination"]["next"]
    assert len(seen) == len(set(seen)) == 5
    assert error(await world.acme.get("/deliveries?next=nonsense"))[0] == 400


@pytest.mark.parametrize(
    ("query", "status", "data"),
    [
        ("status=skipped", 422, "query.status"),
        ("status=gone", 422, "query.status"),
        ("order_by=time", 422, "query.order_by"),
        ("due=2027-01-01", 400, None),
        ("limit=0", 400, None),
    ],
)
async def test_what_makes_no_sense_is_refused(world: World, query: str, status: int, data: str | None) -> None:
    came = error(await world.admin.get(f"/deliveries?{query}"))
    assert came[0] == status
    assert data is None or list(came[2]) == [data]


async def test_a_tenant_sees_its_own(world: World, shelf: Shelf) -> None:
    listed = (await world.zeta.get("/deliveries?tenant_id=acme")).json()
    assert [item["event_id"] for item in listed["models"]] == ["foreign"]
    path = f"/deliveries/{shelf.names['pending']}"
    assert error(await world.zeta.get(path)) == (404, "delivery not found", None)
    assert error(await world.zeta.post(f"{path}/cancel")) == (404, "delivery not found", None)
    assert (await world.acme.get(path)).json()["status"] == "pending"


@pytest.mark.parametrize("name", ["retrying", "delivering", "pending", "disabled"])
async def test_cancel(world: World, shelf: Shelf, name: str) -> None:
    path = f"/deliveries/{shelf.names[name]}"
    answer = await world.acme.post(f"{path}/cancel")
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["next_due"]) == ("cancelled", None)
    assert (await world.admin.post(f"{path}/cancel")).json() == answer.json()
    assert len(world.withdrawn) == 1
    (entry,) = (await world.admin.get("/audit-log?action=delivery.cancel")).json()["models"]
    assert (entry["actor"]["type"], entry["actor"]["name"], entry["subject"]) == ("tenant", "acme", shelf.names[name])
    assert (await world.admin.get("/deliveries?status=cancelled")).json()["count"] == 1


async def test_what_has_ended_is_not_cancelled(world: World, shelf: Shelf) -> None:
    answer = await world.acme.post(f"/deliveries/{shelf.names['delivered']}/cancel")
    assert error(answer) == (409, "the delivery is delivered and cannot be cancelled", None)
    gone = await shelf.event("gone", shelf.one)
    delivery = builders.delivery(gone, shelf.one)
    failed = builders.result(delivery, builders.outcome(ok=False, code="410"), RetryPolicy(limit=0))
    assert await world.store.record(failed)
    answer = await world.acme.post(f"/deliveries/{shelf.names['gone']}/cancel")
    assert error(answer) == (409, "the delivery is exhausted and cannot be cancelled", None)
    assert world.withdrawn == []


@pytest.mark.parametrize("name", ["unknown", "dlv_", "dlv_0000000000000", "dlv_00000000000001", "evt_00000000000001"])
async def test_an_unknown_delivery_is_not_found(world: World, name: str) -> None:
    calls: list[Any] = [
        await world.admin.get(f"/deliveries/{name}"),
        await world.admin.post(f"/deliveries/{name}/cancel"),
    ]
    for answer in calls:
        assert error(answer) == (404, "delivery not found", None)


async def test_events_show_their_deliveries_when_asked(world: World, shelf: Shelf) -> None:
    listed = (await world.acme.get("/events?include=deliveries")).json()["models"]
    shown = {item["id"]: item["deliveries"] for item in listed}
    assert {name: [each["status"] for each in some] for name, some in shown.items()} == {
        name: [name] for name in ("disabled", "pending", "delivering", "delivered", "retrying")
    }
    (delivery,) = shown["pending"]
    assert delivery == {
        "id": shelf.names["pending"],
        "destination_id": "two",
        "status": "pending",
        "attempts": 0,
        "next_due": "2027-01-15T08:00:06Z",
    }
    assert "deliveries" not in (await world.acme.get("/events")).json()["models"][0]
    await world.event(id="nobody")
    assert (await world.acme.get("/events?include=deliveries&id=nobody")).json()["models"][0]["deliveries"] == []
    assert error(await world.acme.get("/events?include=attempts"))[0] == 422
    assert world.now > NOW
