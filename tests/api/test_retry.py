"""Sending again over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from .kit import World, error


async def test_a_retry_makes_an_attempt_due(world: World) -> None:
    to = await world.destination(id="one")
    made = await world.event(to, id="e1")
    await world.attempt(made, to)
    for caller in (world.admin, world.acme):
        world.rung.clear()
        answer = await caller.post("/retry", json={"event_id": "e1", "destination_id": "one"})
        assert (answer.status_code, answer.json()) == (202, {"success": True})
        assert world.rung == [to.no]


async def test_the_operator_may_say_whose_event_it_is(world: World) -> None:
    ours, theirs = await world.destination(id="one"), await world.destination("zeta", id="one")
    await world.event(ours, id="same")
    await world.event(theirs, tenant_id="zeta", id="same")
    await world.admin.post("/retry", json={"event_id": "same", "destination_id": "one", "tenant_id": "acme"})
    await world.admin.post("/retry", json={"event_id": "same", "destination_id": "one", "tenant_id": "zeta"})
    await world.acme.post("/retry", json={"event_id": "same", "destination_id": "one", "tenant_id": "zeta"})
    assert world.rung == [ours.no, theirs.no, ours.no]


async def test_of_ids_that_several_tenants_have_only_one_can_be_meant(world: World) -> None:
    ours, theirs = await world.destination(id="one"), await world.destination("zeta", id="one")
    only = await world.destination(id="only")
    await world.event(ours, only, id="same")
    await world.event(theirs, tenant_id="zeta", id="same")
    refused = await world.admin.post("/retry", json={"event_id": "same", "destination_id": "one"})
    sentence = "several tenants have an event and a destination of these ids: say tenant_id"
    assert error(refused) == (400, sentence, None)
    answer = await world.admin.post("/retry", json={"event_id": "same", "destination_id": "only"})
    assert (answer.status_code, world.rung) == (202, [only.no])


async def test_a_disabled_destination_is_not_retried(world: World) -> None:
    to = await world.destination(id="one")
    await world.event(to, id="e1")
    await world.manager.disable("acme", "one")
    answer = await world.acme.post("/retry", json={"event_id": "e1", "destination_id": "one"})
    assert error(answer) == (400, "Destination is disabled", None)
    assert world.rung == []


async def test_what_does_not_exist_is_not_retried(world: World) -> None:
    to = await world.destination(id="one")
    await world.event(to, id="e1")
    unknown_event = await world.acme.post("/retry", json={"event_id": "e2", "destination_id": "one"})
    assert error(unknown_event) == (404, "event not found", None)
    unknown_destination = await world.acme.post("/retry", json={"event_id": "e1", "destination_id": "two"})
    assert error(unknown_destination) == (404, "destination not found", None)
    foreign = await world.zeta.post("/retry", json={"event_id": "e1", "destination_id": "one"})
    assert error(foreign) == (404, "event not found", None)


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({}, ["event_id is required", "destination_id is required"]),
        ({"event_id": "e", "destination_id": ""}, ["destination_id is required"]),
        ({"event_id": 1, "destination_id": "d"}, ["event_id must be text"]),
        ({"event_id": "e", "destination_id": "d", "tenant_id": 1}, ["tenant_id must be text"]),
        ([], ["the body must be a JSON object"]),
        ("e1", ["the body must be a JSON object"]),
    ],
)
async def test_a_bad_body_is_refused(world: World, body: Any, faults: list[str]) -> None:
    assert error(await world.acme.post("/retry", json=body)) == (422, "validation error", faults)
