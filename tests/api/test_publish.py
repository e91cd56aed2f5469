"""Publishing as a caller sees it: the bare ASGI endpoint over a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flow.house import FAST, House, Receivers
from waypost.api.publish import Limits, PublishEndpoint
from waypost.core.errors import Unauthorized, Unavailable
from waypost.core.model import DeliveryState
from waypost.flow import clock
from waypost.flow.catalogue import Catalogue
from waypost.flow.deliver import Bounds
from waypost.store.base import EventQuery, Page

AUTH = {"authorization": "Bearer key"}
PUBLISH, BATCH = "/api/v1/publish", "/api/v1/publish/batch"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def authorise(credentials: bytes | None) -> None:
    if credentials != b"Bearer key":
        raise Unauthorized("missing or invalid credentials")


class World:
    def __init__(self, house: House, catalogue: frozenset[str]) -> None:
        self.house = house
        self.refused = 0
        self.topics = Catalogue(house.store, now=clock.now, validation="enforce")
        endpoint = PublishEndpoint(
            house.publisher,
            authorise=authorise,
            next_seq=house.sequence.next,
            catalogue=lambda: catalogue or self.topics.known,
            check=self.topics.check,
            limits=Limits(event_bytes=1000, batch_events=5, batch_bytes=3000),
            refused=self._count,
        )
        transport = httpx.ASGITransport(endpoint)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://waypost", headers=AUTH)

    def _count(self) -> None:
        self.refused += 1

    async def publish(self, body: bytes | dict[str, Any], path: str = PUBLISH) -> httpx.Response:
        return await self.http.post(path, content=body if isinstance(body, bytes) else msgspec.json.encode(body))

    async def stored(self) -> list[Any]:
        return [found.event for found in (await self.house.store.events(EventQuery(), Page(limit=1000))).items]


@pytest.fixture
def catalogue() -> frozenset[str]:
    return frozenset()


@pytest.fixture
async def world(tmp_path: Path, catalogue: frozenset[str]) -> AsyncIterator[World]:
    house = House(tmp_path, Receivers(), Bounds(sweep_interval=0.05, shutdown=0.2), FAST)
    await house.start()
    yield World(house, catalogue)
    await house.close()


async def test_data_that_does_not_fit_its_topic_is_refused(world: World) -> None:
    await world.topics.put("order", {"schema": {"properties": {"n": {"type": "integer"}}}})
    good = {"tenant_id": "acme", "topic": "order", "data": {"n": 1}}
    assert (await world.publish(good)).status_code == 202
    answer = await world.publish(good | {"data": {"n": "1"}})
    assert (answer.status_code, answer.json()["data"]) == (422, ['data: it is not of type "integer" (at /n)'])
    batch = await world.publish({"events": [good, good | {"data": {"n": 1.5}}]}, BATCH)
    assert (batch.status_code, batch.json()["data"]) == (422, ['events[1].data: it is not of type "integer" (at /n)'])
    assert (await world.publish(good | {"topic": "other"})).json()["data"] == ["topic is invalid"]
    assert len(await world.stored()) == 1


async def test_accepts_and_says_who_gets_it(world: World) -> None:
    to = await world.house.add()
    answer = await world.publish({"tenant_id": "acme", "topic": "order.created", "data": {"n": 1}})
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/json"
    (event,) = await world.stored()
    assert answer.json() == {"id": event.id, "duplicate": False, "destination_ids": [to.id]}
    assert event.id.startswith("evt_")
    await world.house.until(event, to, DeliveryState.DELIVERED)


async def test_keeps_every_byte_of_the_data(world: World) -> None:
    data = b'{"b": 1.10, "a" : 123456789012345678901234567890,  "e": 1E400, "\xc3\xa4": "\\u00e4\\ud83d\\ude00"}'
    assert (await world.publish(b'{"tenant_id": "acme", "data": ' + data + b" }")).status_code == 202
    (event,) = await world.stored()
    assert event.data == data


async def test_takes_everything_that_the_wire_knows(world: World) -> None:
    answer = await world.publish(
        {
            "id": "evt_1",
            "tenant_id": "acme",
            "destination_id": "des_unknown",
            "topic": "order.created",
            "eligible_for_retry": False,
            "time": "2024-01-15T11:30:00.25+01:00",
            "metadata": {"source": "crm"},
            "data": {},
            "unknown": "ignored, as by Outpost",
        }
    )
    assert answer.json() == {"id": "evt_1", "duplicate": False, "destination_ids": []}
    (event,) = await world.stored()
    assert event.time == 1_705_314_600_250_000
    assert (event.metadata, event.eligible_for_retry, event.destination_id) == ({"source": "crm"}, False, "des_unknown")


async def test_nulls_mean_not_given(world: World) -> None:
    fields = ("id", "topic", "destination_id", "eligible_for_retry", "time", "metadata")
    answer = await world.publish({"tenant_id": "acme", "data": {}, **dict.fromkeys(fields)})
    assert answer.status_code == 202
    (event,) = await world.stored()
    assert (event.eligible_for_retry, event.topic, event.metadata) == (True, "", None)


async def test_an_id_is_accepted_once_per_tenant(world: World) -> None:
    to = await world.house.add()
    body = {"id": "evt_1", "tenant_id": "acme", "data": {}}
    answers = [(await world.publish(body)).json() for _ in range(3)]
    assert [answer["duplicate"] for answer in answers] == [False, True, True]
    assert all(answer["destination_ids"] == [to.id] for answer in answers)
    assert not (await world.publish(body | {"tenant_id": "umbrella"})).json()["duplicate"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tenant_id": None}, "tenant_id: expected str, got null"),
        ({"tenant_id": ""}, "tenant_id is required"),
        ({"tenant_id": "a b"}, "tenant_id must be 1 to 255 visible ASCII characters"),
        ({"tenant_id": "a" * 256}, "tenant_id must be 1 to 255 visible ASCII characters"),
        ({"id": "a\n"}, "id must be 1 to 255 visible ASCII characters"),
        ({"destination_id": "é"}, "destination_id must be 1 to 255 visible ASCII characters"),
        ({"id": ".."}, "id must not be one or two dots, which mean something else in a path"),
        ({"id": 1}, "id: expected str | null, got int"),
        ({"topic": "not a topic"}, "topic is invalid"),
        ({"data": None}, "data is required"),
        ({"data": []}, "data must be an object"),
        ({"data": "text"}, "data must be an object"),
        ({"time": "yesterday"}, "time: invalid RFC3339 encoded datetime"),
        ({"time": "2024-01-15T10:30:00"}, "time must be an RFC 3339 date-time with an offset"),
        ({"time": "0001-01-01T00:00:00+10:00"}, "time must be from year 1 to year 9999 in UTC"),
        ({"time": "9999-12-31T23:59:59-10:00"}, "time must be from year 1 to year 9999 in UTC"),
        ({"metadata": {"n": 1}}, "metadata[...]: expected str, got int"),
        ({"metadata": {"": "x"}}, "metadata keys must have 1 to 128 characters"),
        ({"metadata": {str(n): "" for n in range(101)}}, "metadata must have at most 100 keys"),
        ({"eligible_for_retry": "yes"}, "eligible_for_retry: expected bool | null, got str"),
    ],
)
async def test_a_wrong_field_is_named(world: World, changes: dict[str, Any], sentence: str) -> None:
    answer = await world.publish({"tenant_id": "acme", "data": {}} | changes)
    assert answer.status_code == 422
    assert answer.json() == {"status": 422, "message": "validation error", "data": [sentence]}
    assert await world.stored() == []
    assert world.refused == 1


async def test_missing_fields_are_named_together(world: World) -> None:
    assert (await world.publish({})).json()["data"] == ["tenant_id is required", "data is required"]


@pytest.mark.parametrize("catalogue", [frozenset({"order.created"})])
async def test_with_a_catalogue_the_topic_must_be_in_it(world: World) -> None:
    for topic, status in (("order.created", 202), ("order.deleted", 422), ("", 422), (None, 422)):
        answer = await world.publish({"tenant_id": "acme", "topic": topic, "data": {}})
        assert answer.status_code == status


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b'{"tenant_id": "acme", "data": {"a": "\xff"}}',
        b'{"tenant_id": "acme", "data": {"a": "\\ud800"}}',
        b'{"tenant_id": "acme", "data": {"a": NaN}}',
        b'{"tenant_id": "acme", "data": {"a": 1,}}',
        b'{"tenant_id": "acme", "data": {}} trailing',
        b'{"tenant_id": "acme", "data": ' + b'{"a":' * 150 + b"1" * 5 + b"}" * 149 + b"}",
    ],
)
async def test_what_is_not_json_is_said_to_be_not_json(world: World, body: bytes) -> None:
    answer = await world.publish(body)
    assert answer.status_code == 422
    assert answer.json()["message"] == "invalid JSON"


async def test_too_deep_is_not_a_crash(tmp_path: Path, world: World) -> None:
    endpoint_limit = 1000
    deep = b'{"data": ' + b"[" * (endpoint_limit // 2 - 10) + b"]" * (endpoint_limit // 2 - 10) + b"}"
    assert (await world.publish(deep)).status_code == 422


@given(body=json_values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_no_body_is_answered_with_a_5xx(world: World, body: Any) -> None:
    for path in (PUBLISH, BATCH):
        assert (await world.http.post(path, json=body)).status_code in {202, 413, 422}


async def test_too_large_is_refused_whether_announced_or_not(world: World) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 100

    async def in_one_piece() -> AsyncIterator[bytes]:
        yield large

    large = msgspec.json.encode({"tenant_id": "acme", "data": {"x": "y" * 1000}})
    unannounced = [await world.http.post(PUBLISH, content=pieces()) for pieces in (in_pieces, in_one_piece)]
    for answer in (await world.publish(large), *unannounced):
        assert answer.status_code == 413
        assert answer.json() == {"status": 413, "message": "the request is larger than 1000 bytes"}
    assert await world.stored() == []


async def test_only_a_post_with_a_key_gets_in(world: World) -> None:
    for path in (PUBLISH, BATCH):
        assert (await world.http.get(path)).status_code == 405
        anonymous = await world.http.post(path, content=b"{}", headers={"authorization": "Bearer other"})
        assert anonymous.status_code == 401
        assert anonymous.headers["www-authenticate"] == "Bearer"


async def test_a_store_that_cannot_take_it_is_a_503_and_never_a_202(world: World) -> None:
    async def refuse(_: object) -> None:
        raise Unavailable("the disk is full")

    world.house.store.accept = refuse  # type: ignore[assignment]
    answer = await world.publish({"tenant_id": "acme", "data": {}})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert world.house.receivers.seen == []


class TestBatch:
    def events(self, *names: str, **changes: Any) -> list[dict[str, Any]]:
        return [{"id": name, "tenant_id": "acme", "data": {}} | changes for name in names]

    async def test_is_answered_in_its_order(self, world: World) -> None:
        to = await world.house.add()
        answer = await world.publish({"events": self.events("a", "b", "a")}, BATCH)
        assert answer.status_code == 202
        results = answer.json()["results"]
        assert [(result["id"], result["duplicate"]) for result in results] == [("a", False), ("b", False), ("a", True)]
        assert all(result["destination_ids"] == [to.id] for result in results)
        for event in await world.stored():
            await world.house.until(event, to, DeliveryState.DELIVERED)

    async def test_may_be_a_bare_list(self, world: World) -> None:
        answer = await world.publish(msgspec.json.encode(self.events("a", "b")), BATCH)
        assert [result["id"] for result in answer.json()["results"]] == ["a", "b"]

    async def test_one_wrong_event_refuses_all(self, world: World) -> None:
        wrong = [*self.events("a"), {"tenant_id": "acme"}, *self.events("b", topic="not a topic")]
        answer = await world.publish({"events": wrong}, BATCH)
        assert answer.status_code == 422
        assert answer.json()["data"] == ["events[1].data is required"]
        assert await world.stored() == []

    async def test_has_bounds(self, world: World) -> None:
        for events in ([], self.events(*"abcdef")):
            answer = await world.publish({"events": events}, BATCH)
            assert answer.status_code == 422
            assert answer.json()["data"] == ["events must hold 1 to 5 events"]
        large = self.events("a", data={"x": "y" * 1000})
        answer = await world.publish({"events": large}, BATCH)
        assert (answer.status_code, answer.json()["message"]) == (413, "events[0] is larger than 1000 bytes")
        huge = self.events(*"abcd", data={"x": "y" * 900})
        assert (await world.publish({"events": huge}, BATCH)).status_code == 413
