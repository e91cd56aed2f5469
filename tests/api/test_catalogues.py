"""Topics and destination types over HTTP."""

from __future__ import annotations

from tests.flow.samples import letterbox

from .kit import World, error


async def test_without_a_catalogue_there_are_no_topics(world: World) -> None:
    assert (await world.acme.get("/topics")).json() == []


async def test_the_catalogue_is_listed_and_obeyed(world: World) -> None:
    strict = World(world.store, topics="order.created,order.shipped")
    assert (await strict.acme.get("/topics")).json() == ["order.created", "order.shipped"]
    answer = await strict.acme.post("/tenants/acme/destinations", json=letterbox(topics=["invoice.paid"]))
    assert error(answer) == (422, "validation error", ["topics: no known topic is covered by invoice.paid"])


async def test_all_types_are_listed_with_their_fields(world: World) -> None:
    listed = (await world.acme.get("/destination-types")).json()
    assert [kind["type"] for kind in listed] == ["letterbox", "pigeon"]
    assert listed[1]["credential_fields"] == [
        {
            "key": "ring",
            "type": "text",
            "label": "Ring",
            "description": "On its leg.",
            "required": True,
            "sensitive": True,
        }
    ]
    assert (await world.admin.get("/destination-types/pigeon")).json() == listed[1]
    assert error(await world.admin.get("/destination-types/telex")) == (404, "destination type not found", None)
