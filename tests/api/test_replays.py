"""Replays over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.store.conftest import sqlite_store
from waypost.core import ids, times
from waypost.core.model import Destination, Event
from waypost.flow.replay_runner import Pace, ReplayRunner
from waypost.flow.replays import REPLAY_PREFIX

from .kit import World, error


class Road:
    """Lets every delivery pass, and delivers none."""

    def spare(self, destination_no: int) -> int:
        return 100

    def ring(self, destination_no: int, due: int) -> None:
        pass


async def filled(world: World, count: int = 3) -> tuple[Destination, list[Event]]:
    to = await world.destination(id="one", topics=["order.*"])
    events = [await world.event(to, id=f"e{number}") for number in range(count)]
    for event in events:
        await world.attempt(event, to, ok=False, code="500")
    return to, events


async def step(world: World) -> None:
    """Two rounds of work on every replay: one that looks, and one that sends."""
    runner = ReplayRunner(world.store, world.planner, Road(), Pace(rate=100_000))
    for _ in range(2):
        for replay in await world.store.replays.working():
            await runner._step(replay)


async def attempted(world: World, to: Destination, event: Event, **outcome: Any) -> str:
    """The attempt that a replay asked for, made."""
    await world.store.claim(to.no, now=times.LAST, lease_until=times.LAST, limit=100)
    return ids.encode("atm", await world.attempt(event, to, number=2, manual=True, **outcome))


async def test_a_replay_from_its_beginning_to_its_end(world: World) -> None:
    to, events = await filled(world)
    answer = await world.acme.post("/replays", json={"events": {"topic": "order.created"}})
    assert answer.status_code == 202
    made = answer.json()
    assert made == {
        "id": made["id"],
        "status": "running",
        "tenant_id": "acme",
        "destination_id": None,
        "events": {"topic": "order.created"},
        "missed": False,
        "selected": 3,
        "examined": 0,
        "total": 0,
        "skipped": {},
        "delivered": 0,
        "failed": 0,
        "waiting": 0,
        "initiated_by": {"type": "tenant", "name": "acme", "ip": "127.0.0.1"},
        "created_at": times.render(world.now),
        "ended_at": None,
    }
    path = f"/replays/{made['id']}"
    await step(world)
    under_way = (await world.acme.get(path)).json()
    assert {name: under_way[name] for name in ("examined", "total", "waiting")} == {
        "examined": 3,
        "total": 3,
        "waiting": 3,
    }
    attempts = [await attempted(world, to, event, ok=event is not events[1]) for event in events]
    await step(world)
    ended = (await world.acme.get(path)).json()
    assert (ended["status"], ended["delivered"], ended["failed"], ended["waiting"]) == ("completed", 2, 1, 0)
    assert ended["ended_at"]
    page = (await world.acme.get(f"{path}/deliveries?dir=asc&limit=2")).json()
    assert page["models"] == [
        {
            "event_id": "e0",
            "tenant_id": "acme",
            "destination_id": "one",
            "result": "success",
            "delivery_state": "delivered",
        },
        {
            "event_id": "e1",
            "tenant_id": "acme",
            "destination_id": "one",
            "result": "failed",
            "delivery_state": "pending",
        },
    ]
    following = (await world.acme.get(f"{path}/deliveries?dir=asc&limit=2&next={page['pagination']['next']}")).json()
    assert [each["event_id"] for each in following["models"]] == ["e2"]
    failures = (await world.acme.get(f"{path}/deliveries?result=failed")).json()["models"]
    assert [each["event_id"] for each in failures] == ["e1"]
    shown = (await world.acme.get(f"/attempts/{attempts[0]}")).json()
    assert (shown["manual"], shown["initiated_by"], shown["replay_id"]) == (True, "tenant:acme", made["id"])
    audited = (await world.admin.get(f"/audit-log?dir=asc&subject={made['id']}")).json()["models"]
    assert [(each["action"], each["actor"]) for each in audited] == [
        ("replay.create", made["initiated_by"]),
        ("replay.end", made["initiated_by"]),
    ]
    asked = {"events": {"topic": "order.created"}, "destination_id": None, "missed": False}
    assert audited[0]["detail"] == asked | {"selected": 3}
    assert audited[1]["detail"] == {"status": "completed", "total": 3, "delivered": 2, "failed": 1, "skipped": {}}


async def test_a_dry_run_answers_counts_and_does_nothing(world: World) -> None:
    await filled(world)
    body = {"tenant_id": "acme", "destination_id": "one", "events": {"id": ["e0", "e2"]}, "dry_run": True}
    counts = {"dry_run": True, "selected": 2, "examined": 2, "total": 2, "skipped": {}, "complete": True}
    answer = await world.admin.post("/replays", json=body)
    assert (answer.status_code, answer.json()) == (200, counts | {"remaining_this_hour": None})
    assert (await world.acme.post("/replays", json=body)).json() == counts | {"remaining_this_hour": 100_000}
    assert (await world.admin.get("/replays")).json()["models"] == []
    assert (await world.admin.get("/audit-log?action=replay.create")).json()["models"] == []


@pytest.mark.parametrize(
    ("words", "selected"),
    [
        ({"q": "hello"}, ["e1", "e2"]),
        ({"data": {"n": 2}}, ["e2"]),
        ({"data": {"n": [1, "2"]}}, ["e1", "e2"]),
        ({"metadata": {"source": "shop"}, "topic": "order.created"}, ["e1"]),
        ({"status": ["delivered"]}, ["e0"]),
        ({"status": "retrying", "id": ["e0", "e1"]}, ["e1"]),
    ],
)
async def test_a_filter_can_say_what_the_list_can(world: World, words: dict[str, Any], selected: list[str]) -> None:
    to = await world.destination(id="one", topics=["order.*"])
    made = [
        await world.event(to, id="e0", data=b'{"n": 0}'),
        await world.event(to, id="e1", data=b'{"n": 1, "note": "hello"}', metadata={"source": "shop"}),
        await world.event(to, id="e2", data=b'{"n": 2, "note": "Hello!"}'),
    ]
    for event in made:
        await world.attempt(event, to, ok=event.id == "e0", code="200" if event.id == "e0" else "500")
    replay = (await world.acme.post("/replays", json={"events": words})).json()
    assert (replay["events"], replay["selected"]) == (words, len(selected))
    await step(world)
    found = (await world.acme.get(f"/replays/{replay['id']}/deliveries?dir=asc")).json()["models"]
    assert [each["event_id"] for each in found] == selected


async def test_what_a_later_destination_missed(world: World) -> None:
    _, events = await filled(world)
    await world.destination(id="later", topics=["*"])
    body = {"tenant_id": "acme", "destination_id": "later", "events": {"time": {"gte": times.render(events[1].time)}}}
    missed = await world.admin.post("/replays", json=body | {"missed": True, "dry_run": True})
    assert (missed.json()["selected"], missed.json()["total"]) == (2, 2)
    without = await world.admin.post("/replays", json=body | {"dry_run": True})
    assert (without.json()["selected"], without.json()["total"]) == (0, 0)


async def test_a_disabled_destination_is_refused(world: World) -> None:
    await filled(world)
    await world.manager.disable("acme", "one")
    for caller in (world.admin, world.acme):
        answer = await caller.post("/replays", json={"tenant_id": "acme", "destination_id": "one"})
        assert error(answer) == (400, "Destination is disabled", None)


async def test_cancelling(world: World) -> None:
    await filled(world)
    made = (await world.admin.post("/replays", json={"tenant_id": "acme", "events": {"topic": "order.created"}})).json()
    path = f"/replays/{made['id']}"
    for caller in (world.acme, world.admin):
        answer = await caller.post(f"{path}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelling")
    await step(world)
    assert (await world.admin.get(path)).json()["status"] == "cancelled"
    audited = (await world.admin.get(f"/audit-log?dir=asc&subject={made['id']}")).json()["models"]
    assert [(each["action"], each["actor"]["type"]) for each in audited] == [
        ("replay.create", "api_key"),
        ("replay.cancel", "tenant"),
        ("replay.end", "api_key"),
    ]
    assert audited[2]["detail"]["status"] == "cancelled"
    other = (await world.admin.post("/replays", json={"events": {"topic": "none"}})).json()
    await step(world)
    assert error(await world.admin.post(f"/replays/{other['id']}/cancel"))[:2] == (
        409,
        "the replay has come to its end",
    )


async def test_they_are_listed(world: World) -> None:
    bodies = [
        {"tenant_id": "acme", "events": {"topic": "a"}},
        {"events": {"tenant_id": "zeta"}},
        {"events": {"id": "x"}},
    ]
    made = [(await world.admin.post("/replays", json=body)).json()["id"] for body in bodies]
    for path, expected in (
        ("/replays?dir=asc", made),
        ("/replays?tenant_id=zeta", made[1:2]),
        ("/replays?status=running&dir=asc", made),
        ("/replays?status=completed", []),
    ):
        assert [each["id"] for each in (await world.admin.get(path)).json()["models"]] == expected, path
    assert [each["id"] for each in (await world.acme.get("/replays?tenant_id=zeta")).json()["models"]] == made[:1]
    assert (await world.acme.get("/replays")).json()["models"][0]["initiated_by"]["ip"] is None


async def test_what_is_not_there_is_not_found(world: World) -> None:
    (await filled(world))
    for path in (
        "/replays/rpl_0000000000000",
        "/replays/nonsense",
        f"/replays/{ids.encode(REPLAY_PREFIX, 1)}/deliveries",
    ):
        assert error(await world.admin.get(path)) == (404, "replay not found", None)
    unknown = await world.admin.post("/replays", json={"tenant_id": "acme", "destination_id": "two"})
    assert error(unknown) == (404, "destination not found", None)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ([], "the body must be a JSON object"),
        ({}, "events or destination_id is required"),
        ({"event": {}}, "event is not a field of a replay"),
        ({"events": []}, "events must be an object"),
        ({"events": {}}, "events or destination_id is required"),
        ({"events": {"colour": "red"}}, "events.colour is not known; use id, tenant_id, "),
        ({"events": {"topic": ""}}, "events.topic must be text that is not empty"),
        ({"events": {"topic": []}}, "events.topic must not be empty"),
        ({"events": {"topic": ["a", None]}}, "events.topic must be text that is not empty"),
        ({"events": {"topic": {"a": "b"}}}, "events.topic[a] is not of a form that `GET /events` knows"),
        ({"events": {"time": {"gte": ["2024-01-01", "2025-01-01"]}}}, "events.time[gte] is not of a form"),
        ({"events": {"metadata": {"source": {"a": "b"}}}}, "events.metadata must be text that is not empty"),
        ({"events": {"id": [f"e{number}" for number in range(501)]}}, "events.id must have at most 500 values"),
        ({"events": {"skip_reason": "rain"}}, "events.skip_reason must be 'not_addressed'"),
        ({"destination_id": "one"}, "tenant_id is required with destination_id"),
        ({"tenant_id": "acme", "missed": True, "events": {"id": "e"}}, "destination_id is required with missed"),
        ({"tenant_id": "acme", "events": {"tenant_id": "acme"}}, "tenant_id and events.tenant_id cannot be used"),
        ({"tenant_id": 1, "events": {"id": "e"}}, "tenant_id must be text"),
        ({"events": {"id": "e"}, "dry_run": "yes"}, "dry_run must be true or false"),
    ],
)
async def test_a_body_that_could_mean_more_than_it_says_is_refused(world: World, body: Any, fault: str) -> None:
    status, message, data = error(await world.admin.post("/replays", json=body))
    assert (status, message) == (422, "validation error")
    assert data[0].startswith(fault)


async def test_a_time_that_is_none_is_refused(world: World) -> None:
    answer = await world.acme.post("/replays", json={"events": {"time": {"since": "2024-01-01"}}})
    fault = "events.time[since] is not known: use time[gte], time[lte], time[gt], time[lt]"
    assert error(answer) == (422, "validation error", [fault])


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[World]:
    """A world with hardly any room for sending again."""
    store = sqlite_store(tmp_path)
    await store.open()
    made = World(store, replay_max_per_event=2, replay_max_per_hour=4, replay_max_events=5, replay_max_running=1)
    await made.populate()
    yield made
    await store.close()


async def test_an_event_is_sent_again_by_hand_so_often_by_whomever(strict: World) -> None:
    to, (event,) = await filled(strict, 1)
    retry = {"event_id": "e0", "destination_id": "one", "tenant_id": "acme"}
    for number, caller in ((2, strict.admin), (3, strict.acme)):
        assert (await caller.post("/retry", json=retry)).status_code == 202
        await strict.store.claim(to.no, now=times.LAST, lease_until=times.LAST, limit=1)
        await strict.attempt(event, to, number=number, manual=True)
    for caller in (strict.admin, strict.acme):
        fault = "the event was sent again by hand 2 times; the limit is 2"
        assert error(await caller.post("/retry", json=retry)) == (422, "validation error", [fault])
    preview = await strict.admin.post("/replays", json={"events": {"id": "e0"}, "dry_run": True})
    assert (preview.json()["total"], preview.json()["skipped"]) == (0, {"limit": 1})


async def test_a_tenant_sends_so_many_events_again_within_an_hour(strict: World) -> None:
    await filled(strict, 4)
    bulk = {"tenant_id": "acme", "events": {"topic": "order.created"}}
    single = {"event_id": "e0", "destination_id": "one"}
    assert (await strict.acme.post("/retry", json=single)).status_code == 202
    refused = await strict.acme.post("/replays", json=bulk)
    status, message, data = error(refused)
    assert (status, message) == (429, "at most 4 events may be sent again within an hour; 3 are left")
    assert (data["limit"], data["remaining"]) == (4, 3)
    assert 0 < int(refused.headers["retry-after"]) <= 3600
    assert (await strict.acme.post("/replays", json=bulk | {"dry_run": True})).json()["remaining_this_hour"] == 3
    for event_id in ("e1", "e2", "e3"):
        assert (await strict.acme.post("/retry", json=single | {"event_id": event_id})).status_code == 202
    await strict.event(await strict.manager.destination("acme", "one"), id="e9")
    refused = await strict.acme.post("/retry", json=single | {"event_id": "e9"})
    assert error(refused)[:2] == (429, "at most 4 events may be sent again within an hour; 0 are left")
    assert refused.headers["retry-after"]
    assert (await strict.admin.post("/replays", json=bulk)).status_code == 202
    assert (await strict.zeta.post("/replays", json=bulk)).status_code == 202


async def test_a_replay_has_so_many_events(strict: World) -> None:
    await filled(strict, 6)
    body = {"events": {"topic": "order.created"}}
    hourly, one = "all that a tenant may send again within an hour", "all that one replay may have"
    for caller, most, limit in ((strict.acme, 4, hourly), (strict.admin, 5, one)):
        fault = f"events selects more than {most} events, which is {limit}; narrow it"
        assert error(await caller.post("/replays", json=body)) == (422, "validation error", [fault])
        assert error(await caller.post("/replays", json=body | {"dry_run": True}))[2] == [fault]


async def test_a_tenant_has_so_many_replays_at_one_time(strict: World) -> None:
    await filled(strict, 1)
    body = {"tenant_id": "acme", "events": {"topic": "order.created"}}
    first = (await strict.acme.post("/replays", json=body)).json()
    assert (await strict.acme.post("/replays", json=body)).json() == first
    refused = await strict.acme.post("/replays", json=body | {"events": {"topic": "order.*"}})
    assert error(refused) == (429, "at most 1 replays of a tenant run at one time", {"limit": 1, "remaining": 0})
    assert refused.headers["retry-after"] == "10"
    assert (await strict.admin.post("/replays", json=body)).status_code == 202
    await strict.acme.post(f"/replays/{first['id']}/cancel")
    await step(strict)
    assert (await strict.acme.post("/replays", json=body)).status_code == 202


async def test_a_single_retry_is_audited_with_its_outcome(world: World) -> None:
    to, (event,) = await filled(world, 1)
    await world.acme.post("/retry", json={"event_id": "e0", "destination_id": "one"})

    async def audited() -> Any:
        (entry,) = (await world.admin.get("/audit-log?action=event.retry")).json()["models"]
        return entry

    before = await audited()
    assert before["actor"] == {"type": "tenant", "name": "acme", "ip": "127.0.0.1"}
    assert (before["subject"], before["detail"]) == ("e0", {"destination_id": "one"})
    attempt = await attempted(world, to, event, ok=False, code="503")
    assert (await audited())["detail"] == {
        "destination_id": "one",
        "attempt_id": attempt,
        "status": "failed",
        "code": "503",
    }
    shown = (await world.acme.get(f"/attempts/{attempt}")).json()
    assert (shown["initiated_by"], shown["replay_id"]) == ("tenant:acme", None)
