"""Events over HTTP."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import structs

from tests.store import builders
from waypost.core.model import SECOND, Destination
from waypost.core.routing import Skip
from waypost.store.base import Publication

from .kit import NOW, World, error

ODD = b'{"z": 1,  "a":12345678901234567890123, "f": 1.10, "e":1e400, "s":"\\u00e9\xc3\xa9", "a":2}'


async def test_an_event_is_shown_with_its_data_byte_for_byte(world: World) -> None:
    to = await world.destination()
    made = await world.event(to, id="mine", data=ODD, metadata={"source": "crm"}, eligible_for_retry=False)
    answer = await world.acme.get("/events/mine")
    assert answer.status_code == 200
    assert b'"data":' + ODD in answer.content
    listed = await world.acme.get("/events")
    assert b'"data":' + ODD in listed.content
    shown = msgspec.json.decode(answer.content, type=dict[str, msgspec.Raw])
    del shown["data"]
    assert {name: msgspec.json.decode(part) for name, part in shown.items()} == {
        "id": "mine",
        "tenant_id": "acme",
        "matched_destination_ids": [to.id],
        "topic": "order.created",
        "time": "2027-01-15T08:00:01Z",
        "eligible_for_retry": False,
        "metadata": {"source": "crm"},
        "skipped": [],
    }
    assert made.time == NOW + SECOND


async def test_an_event_says_who_did_not_get_it_and_why(world: World) -> None:
    skips = (Skip("des_a", "topic"), Skip("des_b", "filter", "data.amount is not at least 10"))
    made = await world.event()
    other = msgspec.structs.replace(made, seq=made.seq + 1, id="other")
    await world.store.accept(Publication(event=other, matched=(), skipped=skips, accepted_at=NOW, lease_until=None))
    assert (await world.acme.get("/events/other")).json()["skipped"] == [
        {"destination_id": "des_a", "reason": "topic", "detail": None},
        {"destination_id": "des_b", "reason": "filter", "detail": "data.amount is not at least 10"},
    ]


async def skipping(
    world: World, *skips: Skip, to: tuple[Destination, ...] = (), kept: tuple[Destination, ...] = ()
) -> str:
    """The id of an event with this routing."""
    made = builders.event("acme", time=NOW)
    await world.store.accept(structs.replace(builders.publication(made, *to), skipped=skips, kept=kept))
    return made.id


async def test_events_by_who_did_not_get_them(world: World) -> None:
    by_topic = await skipping(world, Skip("des_a", "topic"), Skip("des_b", "filter", "no"))
    by_filter = await skipping(world, Skip("des_a", "filter", "no"))
    await skipping(world)

    async def found(query: str) -> set[str]:
        answer = await world.acme.get(f"/events?{query}")
        assert answer.status_code == 200, answer.text
        return {item["id"] for item in answer.json()["models"]}

    assert await found("skipped_by=des_a") == {by_topic, by_filter}
    assert await found("skipped_by=des_a&skip_reason=filter") == {by_filter}
    assert await found("skipped_by[]=des_a&skipped_by[]=des_b&skip_reason=filter") == {by_topic, by_filter}
    assert await found("skip_reason=topic") == {by_topic}
    assert await found("skipped_by=des_c") == set()
    assert (await world.zeta.get("/events?skipped_by=des_a")).json()["models"] == []
    status, _, data = error(await world.acme.get("/events?skip_reason=weather"))
    assert (status, list(data)) == (422, ["query.skip_reason"])


async def test_the_routing_tells_of_every_destination_and_where_its_delivery_stands(world: World) -> None:
    done, off = await world.destination(id="done"), await world.destination(id="off")
    skips = (
        Skip("picky", "filter", "Does not pass: data.n is missing."),
        Skip("off", "disabled"),
        Skip("users", "topic"),
    )
    event_id = await skipping(world, *skips, to=(done,), kept=(off,))
    found = await world.store.event(event_id, tenant_id="acme")
    assert found is not None
    await world.attempt(found.event, done)
    late = await world.destination(id="late")
    await world.replayer.retry(event_id, late.id, "acme")
    routing = await world.acme.get(f"/events/{event_id}/routing")
    assert routing.status_code == 200
    assert [tuple(each.values()) for each in routing.json()] == [
        ("done", True, None, None, "delivered"),
        ("picky", False, "filter", "Does not pass: data.n is missing.", None),
        ("off", False, "disabled", None, "disabled"),
        ("users", False, "topic", None, None),
        ("late", False, None, None, "pending"),
    ]
    assert list(routing.json()[0]) == ["destination_id", "matched", "reason", "detail", "delivery_state"]
    assert error(await world.zeta.get(f"/events/{event_id}/routing")) == (404, "event not found", None)


async def test_a_destination_counts_what_it_did_not_get(world: World) -> None:
    to = await world.destination(id="box")
    world.skips.note("acme", [Skip("box", "topic"), Skip("other", "topic")])
    world.skips.note("acme", [Skip("box", "filter", "no")])
    answer = await world.acme.get("/tenants/acme/destinations/box/skips")
    counts = {"not_addressed": 0, "topic": 1, "filter": 1, "filter_cost": 0, "disabled": 0}
    assert answer.json() == {"destination_id": to.id, "skipped": counts}
    assert error(await world.acme.get("/tenants/acme/destinations/other/skips")) == (404, "destination not found", None)


async def test_the_list_is_newest_first(world: World) -> None:
    made = [await world.event() for _ in range(3)]
    listed = (await world.acme.get("/events")).json()
    assert [item["id"] for item in listed["models"]] == [event.id for event in reversed(made)]
    assert listed["pagination"] == {"order_by": "time", "dir": "desc", "limit": 100, "next": None, "prev": None}
    assert "skipped" not in listed["models"][0]


@pytest.fixture
async def shelf(world: World) -> dict[str, Destination]:
    """Events `e1` to `e4`, a second apart: two topics, two destinations, two tenants."""
    one, two = await world.destination(id="one"), await world.destination(id="two")
    await world.event(one, id="e1", topic="a")
    await world.event(two, id="e2", topic="b")
    await world.event(one, two, id="e3", topic="b")
    await world.event(id="e4", tenant_id="zeta", topic="a")
    return {"one": one, "two": two}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["e4", "e3", "e2", "e1"]),
        ("dir=asc", ["e1", "e2", "e3", "e4"]),
        ("id=e1&id=e3", ["e3", "e1"]),
        ("tenant_id=acme", ["e3", "e2", "e1"]),
        ("tenant_id=acme&tenant_id=zeta", ["e4", "e3", "e2", "e1"]),
        ("tenant_id=nobody", []),
        ("destination_id=one", ["e3", "e1"]),
        ("destination_id[0]=one&destination_id[1]=two", ["e3", "e2", "e1"]),
        ("topic=a", ["e4", "e1"]),
        ("topic=a,b", []),
        ("topic=a&tenant_id=acme", ["e1"]),
        ("time[gte]=2027-01-15T08:00:02Z&time[lt]=2027-01-15T08:00:04Z", ["e3", "e2"]),
        ("time[gt]=2027-01-15T08:00:02Z&time[lte]=2027-01-15T08:00:04Z", ["e4", "e3"]),
        ("time[gte]=2027-01-15", ["e4", "e3", "e2", "e1"]),
        ("time[lt]=2027-01-15", []),
        ("time[gte]=2027-01-15T09:00:03+01:00", ["e4", "e3"]),
        ("order_by=time&limit=1", ["e4"]),
    ],
)
@pytest.mark.usefixtures("shelf")
async def test_the_list_is_narrowed(world: World, query: str, expected: list[str]) -> None:
    answer = await world.admin.get(f"/events?{query}")
    assert [item["id"] for item in answer.json()["models"]] == expected


@pytest.mark.usefixtures("shelf")
async def test_a_token_sees_its_own_whatever_it_asks_for(world: World) -> None:
    for query in ("", "?tenant_id=acme", "?tenant_id=acme&tenant_id=zeta"):
        listed = (await world.zeta.get(f"/events{query}")).json()
        assert [item["id"] for item in listed["models"]] == ["e4"]
    assert error(await world.zeta.get("/events/e1")) == (404, "event not found", None)
    assert error(await world.zeta.get("/events/e1?tenant_id=acme")) == (404, "event not found", None)


@pytest.mark.usefixtures("shelf")
async def test_an_event_is_found_within_the_tenant_asked_for(world: World) -> None:
    assert (await world.admin.get("/events/e1?tenant_id=acme")).json()["tenant_id"] == "acme"
    assert error(await world.admin.get("/events/e1?tenant_id=zeta")) == (404, "event not found", None)
    assert error(await world.admin.get("/events/unknown")) == (404, "event not found", None)
    await world.event(id="e1", tenant_id="zeta")
    assert (await world.admin.get("/events/e1")).json()["tenant_id"] == "zeta"
    assert (await world.acme.get("/events/e1")).json()["tenant_id"] == "acme"
