"""Windows on lists: every item once, in both directions, whatever the page size."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from waypost.core.model import SECOND

from .kit import World, error

ITEMS = 7


@pytest.fixture
async def full(world: World) -> World:
    """Seven of each: tenants, events and attempts. Neighbours share an instant, so that the tie-breaker counts."""
    to = await world.destination(id="one")
    for number in range(ITEMS):
        world.now -= SECOND * (number % 2)
        made = await world.event(to, id=f"e{number}")
        world.now -= SECOND
        await world.attempt(made, to)
        if number < ITEMS - 2:
            await world.admin.put(f"/tenants/t{number}")
    return world


async def walk(world: World, path: str, key: str, **query: Any) -> list[dict[str, Any]]:
    """All pages from the first one on, following one of the cursors."""
    pages = [(await world.admin.get(path, params=query)).json()]
    while pages[-1]["pagination"][key] is not None:
        query |= {key: pages[-1]["pagination"][key]}
        pages.append((await world.admin.get(path, params=query)).json())
        assert len(pages) <= ITEMS + 1
    return pages


def names(pages: list[dict[str, Any]]) -> list[str]:
    return [item["id"] for page in pages for item in page["models"]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.sampled_from(["/tenants", "/events", "/attempts", "/tenants/acme/destinations/one/attempts"]),
    limit=st.integers(1, ITEMS + 1),
    direction=st.sampled_from(["asc", "desc"]),
)
async def test_pages_cover_the_list_forward_and_backward(full: World, path: str, limit: int, direction: str) -> None:
    whole = names([(await full.admin.get(path, params={"dir": direction})).json()])
    assert len(whole) == ITEMS
    query = {"limit": limit, "dir": direction}
    forward = await walk(full, path, "next", **query)
    assert names(forward) == whole
    assert forward[0]["pagination"]["prev"] is None
    assert all(len(page["models"]) == limit for page in forward[:-1])
    if len(forward) > 1:
        start = forward[-1]["pagination"]["prev"]
        backward = await walk(full, path, "prev", prev=start, **query)
        assert names(backward[::-1]) + names(forward[-1:]) == whole
        assert backward[0]["pagination"]["next"] is not None


async def test_the_first_page_reached_backwards_is_the_first_page(full: World) -> None:
    first = (await full.admin.get("/events?limit=3")).json()
    second = (await full.admin.get("/events", params={"limit": 3, "next": first["pagination"]["next"]})).json()
    again = (await full.admin.get("/events", params={"limit": 3, "prev": second["pagination"]["prev"]})).json()
    assert again == first


async def test_opposite_directions_are_mirror_images(full: World) -> None:
    for path in ("/tenants", "/events", "/attempts"):
        up, down = [names([(await full.admin.get(path, params={"dir": dir_})).json()]) for dir_ in ("asc", "desc")]
        assert up == down[::-1]


async def test_new_items_do_not_shift_the_next_page(full: World) -> None:
    first = (await full.admin.get("/events?limit=3")).json()
    expected = (await full.admin.get("/events", params={"next": first["pagination"]["next"]})).json()["models"]
    full.now += 100 * SECOND
    await full.event(id="newer")
    assert (await full.admin.get("/events", params={"next": first["pagination"]["next"]})).json()["models"] == expected


async def test_filters_hold_on_every_page(full: World) -> None:
    wanted = ["e1", "e3", "e4", "e6"]
    pages = await walk(full, "/events", "next", id=wanted, limit=3, dir="asc")
    assert sorted(names(pages)) == wanted


def cursor(*parts: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


@pytest.mark.parametrize("key", ["next", "prev"])
@pytest.mark.parametrize(
    "text",
    [
        "x",
        "!!!!",
        "é",
        "\x00",
        "A" * 2_000,
        "e30",
        "W10",
        cursor("events", "desc", 1),
        cursor("events", "desc", 1, 2, 3),
        cursor("events", "desc", "1", 2),
        cursor("events", "desc", 1, "2"),
        cursor("events", "desc", 1.5, 2),
        cursor("events", "desc", 1 << 63, 2),
        cursor("events", "desc", 1, -(1 << 80)),
        cursor("events", "desc", None, None),
        cursor("events", "asc", 1, 2),
        cursor("attempts", "desc", 1, 2),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        cursor("events", "desc", 1, 2) + "\n",
    ],
)
async def test_a_bad_cursor_is_refused(world: World, key: str, text: str) -> None:
    status, message, _ = error(await world.admin.get("/events", params={key: text}))
    assert (status, message) == (400, f"{key} is not a cursor of this list in this direction")


@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_cursor_breaks_the_server(world: World, text: str) -> None:
    for path in ("/tenants", "/events", "/attempts"):
        assert (await world.admin.get(path, params={"next": text})).status_code in {200, 400}


async def test_a_cursor_of_one_list_is_none_of_another(full: World) -> None:
    taken = (await full.admin.get("/events?limit=1")).json()["pagination"]["next"]
    assert error(await full.admin.get("/attempts", params={"next": taken}))[0] == 400
    assert error(await full.admin.get("/events", params={"next": taken, "dir": "asc"}))[0] == 400


async def test_only_one_cursor_at_a_time(world: World) -> None:
    answer = await world.admin.get("/events?next=a&prev=b")
    assert error(answer) == (400, "next and prev cannot be used together", None)


@pytest.mark.parametrize(("path", "most"), [("/tenants", 100), ("/events", 1_000), ("/attempts", 1_000)])
async def test_limits(world: World, path: str, most: int) -> None:
    assert (await world.admin.get(f"{path}?limit={most}")).json()["pagination"]["limit"] == most
    for bad in ("0", str(most + 1), "-1", "x", "1e2"):
        expected = (400, f"limit must be a whole number from 1 to {most}", None)
        assert error(await world.admin.get(f"{path}?limit={bad}")) == expected


async def test_an_empty_list_has_no_neighbours(world: World) -> None:
    answer = (await world.admin.get("/events")).json()
    assert answer == {
        "models": [],
        "pagination": {"order_by": "time", "dir": "desc", "limit": 100, "next": None, "prev": None},
    }
