"""Lifetimes of tenants, and removing data before its time, on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from waypost.core.model import DAY, DeliveryState
from waypost.flow import clock

from .kit import World, error

FOR_EVER_AND_A_DAY = 315_360_001


class TestLifetimes:
    async def test_are_the_servers_until_a_tenant_has_its_own(self, world: World) -> None:
        usual = {"events_seconds": 7_776_000, "attempts_seconds": 7_776_000, "data_seconds": 7_776_000}
        nothing = dict.fromkeys(usual)
        assert (await world.acme.get("/tenants/acme/retention")).json() == {**nothing, "effective": usual}
        answer = await world.admin.put(
            "/tenants/acme/retention", json={"events_seconds": 604_800, "data_seconds": 3600}
        )
        assert answer.json() == {
            "events_seconds": 604_800,
            "attempts_seconds": None,
            "data_seconds": 3600,
            "effective": {"events_seconds": 604_800, "attempts_seconds": 604_800, "data_seconds": 3600},
        }
        assert (await world.acme.get("/tenants/acme/retention")).json() == answer.json()
        assert (await world.zeta.get("/tenants/zeta/retention")).json() == {**nothing, "effective": usual}
        assert (await world.admin.put("/tenants/acme/retention", json={})).json() == {**nothing, "effective": usual}

    @pytest.mark.parametrize(
        ("body", "problems"),
        [
            ({"events_seconds": "long"}, ["events_seconds must be a whole number from 0 to 315360000"]),
            ({"data_seconds": FOR_EVER_AND_A_DAY}, ["data_seconds must be a whole number from 0 to 315360000"]),
            ([1], ["the body must be a JSON object"]),
        ],
    )
    async def test_that_make_no_sense_are_refused(self, world: World, body: Any, problems: list[str]) -> None:
        refused = await world.admin.put("/tenants/acme/retention", json=body)
        assert error(refused) == (422, "validation error", problems)

    async def test_of_nobody_are_not_found(self, world: World) -> None:
        assert error(await world.admin.put("/tenants/nobody/retention", json={}))[0] == 404

    async def test_are_in_the_audit_log(self, world: World) -> None:
        await world.admin.put("/tenants/acme/retention", json={"events_seconds": 60})
        (entry,) = (await world.admin.get("/audit-log?action=tenant.retention")).json()["models"]
        assert entry["actor"]["type"] == "api_key"
        assert entry["detail"] == {"events_seconds": 60, "attempts_seconds": None, "data_seconds": None}


class TestExpungingAnEvent:
    async def test_takes_its_data_and_leaves_its_record(self, world: World) -> None:
        to = await world.destination()
        event = await world.event(to, data=b'{"name": "Ada"}', metadata={"name": "Ada"})
        await world.attempt(event, to, ok=False, code="500", detail="Ada!", response={"body": "Ada"})
        answer = await world.admin.delete(f"/events/{event.id}/data?tenant_id=acme")
        shown = answer.json()
        assert answer.status_code == 200
        assert (shown["data"], shown["metadata"]) == ({}, None)
        assert shown["expunged_at"] is not None
        assert (await world.acme.get(f"/events/{event.id}")).json()["expunged_at"] == shown["expunged_at"]
        include = "include=event.data&include=response_data&include=request_data"
        attempts = await world.admin.get(f"/attempts?{include}")
        (attempt,) = attempts.json()["models"]
        assert attempt["event"]["expunged_at"] == shown["expunged_at"]
        assert attempt["code"] == "500"
        assert b"Ada" not in attempts.content
        again = await world.admin.delete(f"/events/{event.id}/data?tenant_id=acme")
        assert again.json() == shown
        assert len((await world.admin.get("/audit-log?action=event.expunge")).json()["models"]) == 1

    async def test_cancels_what_waits_and_is_not_undone_by_a_retry(self, world: World) -> None:
        to = await world.destination()
        event = await world.event(to)
        await world.admin.delete(f"/events/{event.id}/data?tenant_id=acme")
        assert await world.store.delivery_states(event.seq) == {to.id: DeliveryState.CANCELLED}
        refused = await world.acme.post("/retry", json={"event_id": event.id, "destination_id": to.id})
        assert error(refused)[:2] == (400, "the event's data was removed")

    async def test_asks_whose_event_it_is(self, world: World) -> None:
        event = await world.event()
        refused = await world.admin.delete(f"/events/{event.id}/data")
        assert error(refused) == (422, "validation error", {"query.tenant_id": "is required"})
        assert error(await world.admin.delete(f"/events/{event.id}/data?tenant_id=zeta"))[0] == 404
        assert error(await world.admin.delete("/events/unknown/data?tenant_id=acme"))[0] == 404
        assert "expunged_at" not in (await world.acme.get(f"/events/{event.id}")).json()


class TestExpungingATenant:
    async def test_is_done_in_the_background_also_when_the_tenant_is_gone(self, world: World) -> None:
        world.now = clock.now() - DAY
        events = [await world.event(data=b'{"name": "Ada"}') for _ in range(3)]
        await world.event(tenant_id="zeta", data=b'{"name": "Eve"}')
        await world.admin.delete("/tenants/acme")
        assert error(await world.admin.get("/tenants/acme/expunge"))[0] == 404
        begun = await world.admin.post("/tenants/acme/expunge")
        assert begun.status_code == 202
        assert begun.json()["status"] == "running"
        assert (await world.admin.get("/tenants/acme/expunge")).json() == begun.json()
        await world.expunger._work_off()
        done = (await world.admin.get("/tenants/acme/expunge")).json()
        assert (done["status"], done["events"]) == ("completed", len(events))
        assert done["finished_at"] is not None
        listed = (await world.admin.get("/events")).content
        assert b"Ada" not in listed
        assert b"Eve" in listed
        actions = [entry["action"] for entry in (await world.admin.get("/audit-log")).json()["models"]]
        assert actions[:2] == ["tenant.expunged", "tenant.expunge"]
