"""How a destination is doing, and what was kept for it, over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import structs

from tests.store import builders
from waypost.core.model import SECOND, DeliveryState, Destination, Event
from waypost.core.routing import Skip
from waypost.flow import replay

from .kit import Caller, World, error

HOME = "/tenants/acme/destinations/des_1"


async def rule(world: World, kind: str, **parameters: Any) -> None:
    answer = await world.admin.post("/alert-rules", json={"kind": kind, "parameters": parameters})
    assert answer.status_code == 201, answer.text


async def attempt(world: World, to: Destination, *, ok: bool = False, **outcome: Any) -> None:
    event = await world.event(to)
    plain = {"code": "200"} if ok else {"code": "503", "detail": "The receiver answered 503."}
    await world.attempt(event, to, ok=ok, **plain | outcome)


async def kept(world: World, to: Destination, count: int) -> list[Event]:
    """Events that would have gone there, a second after one another."""
    made = []
    for _ in range(count):
        world.now += SECOND
        seq = world.next_seq()
        event = builders.event(seq=seq, id=f"evt_{seq}", time=world.now)
        plain = builders.publication(event, leased=False)
        skipped = (Skip(to.id, "disabled"),)
        await world.store.accept(structs.replace(plain, kept=(to,), skipped=skipped, accepted_at=world.now))
        made.append(event)
    return made


async def health(caller: Caller) -> dict[str, Any]:
    answer = await caller.get(f"{HOME}/health")
    assert answer.status_code == 200
    shown: dict[str, Any] = answer.json()
    return shown


@pytest.fixture
async def to(world: World) -> Destination:
    return await world.destination(id="des_1")


async def test_a_destination_that_works_is_healthy(world: World, to: Destination) -> None:
    well = {
        "status": "healthy",
        "consecutive_failures": 0,
        "failing_since": None,
        "kept_events": 0,
        "next_trial_at": None,
    }
    assert await health(world.acme) == well
    await attempt(world, to, ok=True)
    assert await health(world.admin) == well
    await attempt(world, to, latency=0)
    await attempt(world, to)
    assert await health(world.acme) == well | {
        "status": "failing",
        "consecutive_failures": 2,
        "failing_since": "2027-01-15T08:00:04Z",
    }
    await attempt(world, to, ok=True)
    assert await health(world.acme) == well


async def test_the_whole_story_can_be_read(world: World, to: Destination) -> None:
    await rule(world, "consecutive_failures", count=2, steps=[50, 100])
    await rule(world, "auto_disable", count=2, failing_seconds=None, probe_after_seconds=60)
    for kind in ("destination_disabled", "recovered"):
        await rule(world, kind)
    for _ in range(2):
        await attempt(world, to, latency=0)
    down = await world.store.destination_by_no(to.no)
    assert down is not None
    events = await kept(world, down, 3)
    assert await health(world.acme) == {
        "status": "disabled",
        "consecutive_failures": 2,
        "failing_since": "2027-01-15T08:00:02Z",
        "kept_events": 3,
        "next_trial_at": "2027-01-15T08:01:04Z",
    }
    assert error(await world.acme.post(f"{HOME}/recover")) == (400, "Destination is disabled", None)

    await world.acme.put(f"{HOME}/enable")
    assert (await health(world.acme))["status"] == "healthy"
    assert (await health(world.acme))["kept_events"] == 3
    answer = await world.acme.post(f"{HOME}/recover")
    assert (answer.status_code, answer.json()) == (202, {"recovered": 3})
    assert world.rung == [to.no]
    claim = await world.store.claim(to.no, now=world.now * 2, lease_until=world.now * 2 + 60 * SECOND, limit=9)
    assert {delivery.event.id for delivery in claim.deliveries} >= {event.id for event in events}
    for delivery in claim.deliveries:
        assert await world.store.record(builders.result(delivery, builders.outcome()))
    assert (await world.acme.post(f"{HOME}/recover")).json() == {"recovered": 0}
    assert (await health(world.acme))["kept_events"] == 0

    told = [alert["topic"] for alert in (await world.acme.get("/alerts?dir=asc")).json()["models"]]
    assert told == [
        "alert.destination.consecutive_failure",
        "alert.destination.consecutive_failure",
        "alert.destination.disabled",
        "alert.destination.recovered",
    ]
    log = (await world.acme.get("/audit-log?dir=asc&subject=des_1")).json()["models"]
    assert [(entry["actor"]["type"], entry["action"]) for entry in log] == [
        ("api_key", "destination.create"),
        ("system", "destination.disable"),
        ("tenant", "destination.enable"),
        ("tenant", "destination.recover"),
    ]
    assert log[-1]["detail"] == {"kept": 3}


async def test_only_what_was_accepted_since_then_is_sent(world: World, to: Destination) -> None:
    events = await kept(world, to, 5)
    since = {"since": "2027-01-15T09:00:04+01:00"}
    assert (await world.acme.post(f"{HOME}/recover", json=since)).json() == {"recovered": 2}
    states = [(await world.store.delivery_states(event.seq))["des_1"] for event in events]
    assert states == [DeliveryState.KEPT] * 3 + [DeliveryState.PENDING] * 2
    assert (await world.acme.post(f"{HOME}/recover", json={"since": None})).json() == {"recovered": 3}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
async def test_it_is_sent_in_pieces_and_once(
    world: World, to: Destination, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "_RECOVERED_AT_ONCE", 2)
    events = await kept(world, to, count)
    answers = [(await world.acme.post(f"{HOME}/recover", json={})).json()["recovered"] for _ in range(2)]
    assert answers == [count, 0]
    claim = await world.store.claim(to.no, now=world.now * 2, lease_until=world.now * 2 + SECOND, limit=9)
    assert [delivery.event for delivery in claim.deliveries] == events
    log = (await world.acme.get("/audit-log?action=destination.recover")).json()["models"]
    assert [entry["detail"] for entry in log] == [{"kept": count}]


async def test_what_was_kept_goes_with_its_destination(world: World, to: Destination) -> None:
    events = await kept(world, to, 2)
    await world.acme.delete(HOME)
    states = [(await world.store.delivery_states(event.seq))["des_1"] for event in events]
    assert states == [DeliveryState.CANCELLED] * 2
    assert error(await world.acme.post(f"{HOME}/recover")) == (404, "destination not found", None)
    again = await world.destination(id="des_1")
    assert again.no != to.no
    assert (await world.acme.post(f"{HOME}/recover")).json() == {"recovered": 0}


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ([], "the body must be a JSON object"),
        ({"since": "yesterday"}, "since must be an RFC 3339 date-time"),
        ({"since": 5}, "since must be an RFC 3339 date-time"),
        ({"since": ""}, "since must be an RFC 3339 date-time"),
        ({"sinc": "2027-01-15T08:00:00Z"}, "sinc is not a field of a recovery"),
    ],
)
async def test_a_wrong_body_is_refused_before_anything_is_sent(
    world: World, to: Destination, body: Any, fault: str
) -> None:
    await kept(world, to, 1)
    answer = await world.acme.post(f"{HOME}/recover", content=json.dumps(body))
    assert error(answer) == (422, "validation error", [fault])
    assert (await health(world.acme))["kept_events"] == 1


async def test_since_the_beginning_of_time_is_everything(world: World, to: Destination) -> None:
    await kept(world, to, 1)
    assert (await world.acme.post(f"{HOME}/recover", json={"since": "9999-12-31T23:59:59Z"})).json()["recovered"] == 0
    assert (await world.acme.post(f"{HOME}/recover", json={"since": "0001-01-01T00:00:00Z"})).json()["recovered"] == 1


async def test_another_tenants_destination_is_not_there(world: World, to: Destination) -> None:
    for method, path in (("GET", f"{HOME}/health"), ("POST", f"{HOME}/recover")):
        assert error(await world.zeta(method, path))[0] == 403
        foreign = path.replace("acme", "zeta")
        assert error(await world.zeta(method, foreign)) == (404, "destination not found", None)
