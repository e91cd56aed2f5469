"""A path is served in one spelling; ids in it may have any character."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.api import paths
from waypost.api.app import PREFIX
from waypost.api.openapi import document

from .kit import ADMIN_KEY, World

PREFIXES = ("/api/v1/tenants", "/api/v1/events/evt_1/routing", "/healthz", "/docs")
AWKWARD = ["a/b", "a.b", "a%2Fb", "a%b", "a?b=c", "a#b", "../a", "a\\b", '"<>^`{|}', "a:b@c", "...", "a/", "/"]


def others(path: str) -> list[str]:
    """Further spellings of a path that a lenient server would take for it."""
    _, *segments = path.split("/")
    found = []
    for at, segment in enumerate(segments):
        encoded = f"%{ord(segment[0]):02x}{segment[1:]}"
        instead = [encoded, encoded.upper()[:3] + segment[1:], f"/{segment}", f"./{segment}", f"x/../{segment}"]
        instead += [segment.swapcase()] if segment.isalpha() else []
        found += ["/" + "/".join([*segments[:at], each, *segments[at + 1 :]]) for each in instead]
    joined = "/".join(segments)
    found += [f"/{joined}/", f"//{joined}", f"/{joined}/.", f"/{joined}//", f"/{joined}%00"]
    found += [] if joined.endswith("x_1") else [f"/{joined}%2F"]
    found += [f"/{joined.replace('/', back)}" for back in ("\\", "%2F", "%5C", ";/") if "/" in joined]
    return found


async def status(world: World, raw: str, method: str = "GET", *, key: str = ADMIN_KEY, body: bytes | None = b"") -> int:
    """Ask for exactly this path. A body of None may not be read."""
    sent: list[Any] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(raw),
        "raw_path": raw.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"authorization", f"Bearer {key}".encode())],
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
    }

    async def receive() -> dict[str, Any]:
        assert body is not None, "the body was read"
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await world.app(scope, receive, send)
    return int(sent[0]["status"])


async def test_no_route_has_a_second_spelling(world: World) -> None:
    described = document(world.app, world.backend.registry, PREFIX)["paths"]
    served = {re.sub(r"{\w+}", "x_1", path): operations for path, operations in described.items()}
    assert len(served) > 30
    for path, operations in served.items():
        for other in others(path):
            for method in operations:
                assert await status(world, other, method.upper()) == 404, (method, other)


@pytest.mark.parametrize("path", PREFIXES)
async def test_the_one_spelling_is_served(world: World, path: str) -> None:
    await world.event(id="evt_1")

    assert await status(world, path) == 200
    assert [each for each in others(path) if await status(world, each) != 404] == []


@pytest.mark.parametrize("event_id", AWKWARD)
async def test_an_id_may_have_any_character(world: World, event_id: str) -> None:
    to = await world.destination()
    await world.event(to, id=event_id)
    raw = quote(event_id, safe="")

    for tail in ("", "/routing"):
        assert await status(world, f"/api/v1/events/{raw}{tail}") == 200
    assert await status(world, f"/api/v1/events/{raw}x") == 404
    found = await world.admin.get(f"/events/{raw}")
    assert found.json()["id"] == event_id
    retried = await world.admin.post("/retry", json={"event_id": event_id, "destination_id": to.id})
    assert retried.status_code == 202
    expunged = await world.admin.delete(f"/events/{raw}/data?tenant_id=acme")
    assert (expunged.status_code, expunged.json()["id"]) == (200, event_id)


async def test_an_encoded_slash_does_not_lead_to_another_route(world: World) -> None:
    for method, path in (("GET", "/tenants/acme%2Ftoken"), ("DELETE", "/tenants/acme%2Fdestinations")):
        response = await world.admin(method, path)
        assert response.status_code == 404
        assert msgspec.json.decode(response.content)["message"] == "tenant not found"


@given(st.text(min_size=1))
def test_whatever_an_id_is_its_usual_encoding_is_proper(text: str) -> None:
    raw = quote(text, safe="", errors="replace").encode()

    control = any(ord(letter) < 0x20 or ord(letter) == 0x7F for letter in text)
    assert paths.is_proper(b"/events/" + raw) == (not control and text not in {".", ".."})


async def test_nothing_of_a_body_is_read_before_the_caller_is_known(world: World) -> None:
    described = document(world.app, world.backend.registry, PREFIX)["paths"]
    asked = 0
    for path, operations in described.items():
        for method, operation in operations.items():
            if operation.get("security") and "requestBody" in operation and "/publish" not in path:
                asked += 1
                raw = re.sub(r"{\w+}", "x_1", path)
                assert await status(world, raw, method.upper(), key="nonsense", body=None) == 401, (method, path)
    assert asked > 10
