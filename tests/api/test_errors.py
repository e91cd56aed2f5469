"""Every row of the error table, and that nothing a client sends is answered with a 5xx."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flow.samples import letterbox
from waypost.api.errors import describe, headers_of
from waypost.api.render import INCLUDES
from waypost.core.errors import Conflict, Invalid, SettingsError, Unauthorized, Unavailable

from .kit import World, error

HOME = "/tenants/acme/destinations"

WRITES = [
    ("PUT", "/tenants/acme"),
    ("POST", HOME),
    ("PATCH", f"{HOME}/des_1"),
    ("POST", "/retry"),
    ("POST", "/api-keys"),
]

NOT_JSON = [
    b"{",
    b"{'a': 1}",
    b'{"a": 1}}',
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": 1e999}',
    b'{"a": "\xff"}',
    b'{"a": "\\ud800"}',
    b"\xff\xfe{\x00}\x00",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b"9" * 10_000,
    b"a=1&b=2",
    b"\x00",
]


@pytest.mark.parametrize("body", NOT_JSON, ids=lambda body: repr(body[:12]))
async def test_what_is_not_json_is_said_to_be_not_json(world: World, body: bytes) -> None:
    for method, path in WRITES:
        answer = await world.admin(method, path, content=body)
        assert error(answer) == (422, "invalid JSON", None), path


async def test_an_empty_body_is_not_json_where_one_is_needed(world: World) -> None:
    for method, path in WRITES[1:]:
        assert error(await world.admin(method, path)) == (422, "invalid JSON", None), path


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/json; charset=utf-8", "multipart/form-data"])
async def test_json_is_json_whatever_it_is_called(world: World, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    answer = await world.admin.put("/tenants/new", content=b'{"metadata": {"a": "\xc3\xa9"}}', headers=headers)
    assert answer.json()["metadata"] == {"a": "é"}


async def test_a_body_over_the_limit_is_refused(world: World) -> None:
    small = World(world.store, request_max_bytes=100)
    expected = (413, "the request body must be at most 100 bytes", None)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 10

    for method, path in WRITES:
        assert error(await small.admin(method, path, content=b" " * 101)) == expected, path
        assert error(await small.admin(method, path, content=pieces())) == expected, path
    fitting = await small.admin.put("/tenants/new", content=b'{"metadata": null}'.ljust(100))
    assert fitting.status_code == 201


async def test_a_request_that_breaks_off_is_a_bad_request(world: World) -> None:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    key = str(world.admin.http.headers["authorization"]).encode()
    scope = {
        "type": "http",
        "method": "PUT",
        "path": "/api/v1/tenants/new",
        "query_string": b"",
        "headers": [(b"authorization", key)],
    }
    await world.app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert await world.store.tenant("new") is None


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/events?dir=up", {"query.dir": "must be 'asc' or 'desc'"}),
        ("/events?order_by=id", {"query.order_by": "must be 'time'"}),
        ("/tenants?order_by=id", {"query.order_by": "must be 'created_at'"}),
        ("/attempts?status=ok", {"query.status": "must be 'success' or 'failed'"}),
        (
            "/attempts?include=all",
            {"query.include": f"must be {', '.join(map(repr, INCLUDES))} or 'causes'"},
        ),
        ("/events?dir=asc&dir=desc", {"query.dir": "must be given once"}),
        ("/events/e?tenant_id=a&tenant_id=b", {"query.tenant_id": "must be given once"}),
        ("/events?" + "&".join(["id=a"] * 501), {"query.id": "must have at most 500 values"}),
    ],
)
async def test_query_parameters_are_named(world: World, path: str, expected: dict[str, str]) -> None:
    assert error(await world.admin.get(path)) == (422, "validation error", expected)


@pytest.mark.parametrize(
    "path",
    ["/events?time[eq]=2024-01-01", "/attempts?time[gte]=yesterday", "/events?time=2024-01-01", "/tenants?limit=x"],
)
async def test_bad_bounds_are_bad_requests(world: World, path: str) -> None:
    assert error(await world.admin.get(path))[0] == 400


async def test_too_many_destinations(world: World) -> None:
    tight = World(world.store, max_destinations_per_tenant=1)
    await tight.acme.post(HOME, json=letterbox())
    assert error(await tight.acme.post(HOME, json=letterbox())) == (
        400,
        "maximum number of destinations per tenant reached",
        None,
    )


@pytest.mark.parametrize(
    "path", ["/nothing", "/tenants/", "/tenants/acme/", "/tenants/a/b", "/../v2/events", "/events/a/b", "//events", "/"]
)
async def test_an_unknown_route_is_not_found(world: World, path: str) -> None:
    for caller in (world.admin, world.nobody):
        assert error(await caller.get(path)) == (404, "not found", None)


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/", "/api/v2/events", "/docs/assets/app.py", "/docs/assets/..%2fapp.py"]
)
async def test_an_unknown_path_is_not_found(world: World, path: str) -> None:
    assert error(await world.nobody.http.get(path)) == (404, "not found", None)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/events", "GET"),
        ("DELETE", "/topics", "GET"),
        ("PATCH", "/tenants/acme", "DELETE, GET, PUT"),
        ("OPTIONS", f"{HOME}/des_1", "DELETE, GET, PATCH"),
        ("PUT", "/api-keys", "GET, POST"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(world: World, method: str, path: str, allowed: str) -> None:
    answer = await world.admin(method, path)
    assert error(answer) == (405, "method not allowed", None)
    assert answer.headers["allow"] == allowed


async def test_an_unavailable_store_is_a_503_that_says_when_to_come_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any, **__: Any) -> None:
        raise Unavailable("database or disk is full")

    monkeypatch.setattr(world.store, "put_tenant", full)
    answer = await world.admin.put("/tenants/new")
    assert error(answer) == (503, "temporarily unavailable; nothing was accepted", None)
    assert answer.headers["retry-after"] == "1"


async def test_an_unexpected_error_gives_nothing_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(world.store, "put_tenant", broken)
    assert error(await world.admin.put("/tenants/new")) == (500, "internal server error", None)


@pytest.mark.parametrize(
    ("raised", "expected", "headers"),
    [
        (Invalid(["a"]), (422, {"status": 422, "message": "validation error", "data": ["a"]}), {}),
        (Conflict("busy"), (409, {"status": 409, "message": "busy"}), {}),
        (Unauthorized("who?"), (401, {"status": 401, "message": "who?"}), {"www-authenticate": "Bearer"}),
        (SettingsError("key"), (500, {"status": 500, "message": "internal server error"}), {}),
    ],
)
def test_an_error_describes_itself(raised: Any, expected: Any, headers: dict[str, str]) -> None:
    assert (describe(raised), headers_of(raised)) == (expected, headers)


async def test_answers_are_kept_by_no_cache(world: World) -> None:
    for path in ("/tenants", "/nothing", "/tenants/acme/token"):
        answer = await world.admin.get(path)
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await world.admin.get("/tenants")).headers["cache-control"] == "no-store"


SEGMENT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
READS = st.sampled_from(
    [
        "/tenants/{}",
        "/tenants/{}/destinations",
        "/tenants/{}/portal",
        "/events/{}",
        "/attempts/{}",
        "/destination-types/{}",
        "/tenants/acme/destinations/{}",
        "/tenants/acme/destinations/{}/attempts",
        "/tenants/acme/destinations/x/attempts/{}",
    ]
)
PARAMETERS = st.sampled_from(
    [
        "id",
        "tenant_id",
        "destination_id",
        "topic",
        "time",
        "time[gte]",
        "limit",
        "next",
        "prev",
        "order_by",
        "dir",
        "include",
        "status",
        "type",
        "topics",
        "theme",
        "id[0]",
        "event_id[]",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(read=READS, segment=SEGMENT, query=st.dictionaries(PARAMETERS, SEGMENT, max_size=3))
async def test_no_path_or_query_is_answered_with_a_5xx(
    world: World, read: str, segment: str, query: dict[str, str]
) -> None:
    path = read.format(quote(segment, safe=""))
    for target in (path, "/events", "/attempts", "/tenants"):
        answer = await world.admin.get(target, params=query)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            error(answer)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(write=st.sampled_from(WRITES), body=JSON | st.binary(max_size=20))
async def test_no_body_is_answered_with_a_5xx(world: World, write: tuple[str, str], body: Any) -> None:
    options = {"content": body} if isinstance(body, bytes) else {"json": body}
    assert (await world.admin(*write, **options)).status_code < 500
