"""The live stream on the wire: what its messages hold, who hears what, and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import jwt
import msgspec
import pytest
from fastapi import FastAPI
from msgspec import structs

from tests.store import builders
from tests.store.builders import OPERATOR
from tests.store.conftest import sqlite_store
from waypost.api import stream as endpoint
from waypost.core.model import SECOND, Destination, Event
from waypost.flow import clock
from waypost.flow.access import ALGORITHM, ISSUER
from waypost.flow.directory import Directory
from waypost.flow.publish import Publisher
from waypost.observe.logs import NullJournal
from waypost.observe.metrics import NullMetrics

from .kit import ADMIN_KEY, API, JWT_SECRET, World, error


class Message(msgspec.Struct, frozen=True):
    """One server-sent event."""

    event: str
    id: str | None
    data: Any


class Stream:
    """A client that reads an answer while it is still being written."""

    def __init__(self, app: FastAPI, credential: str, query: str = "", **headers: str) -> None:
        fields = {"authorization": f"Bearer {credential}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "path": f"{API}/stream",
            "raw_path": f"{API}/stream".encode(),
            "query_string": query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in fields.items()],
            "client": ("192.0.2.7", 1),
        }
        self._app = app
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._inbox.put_nowait({"type": "http.request", "body": b"", "more_body": False})
        self._news = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self.status = 0
        self.body = b""
        self.complete = False

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self._app(self._scope, self._inbox.get, self._send))
        await self._until(lambda: bool(self.body) or self.complete)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hang_up()
        await asyncio.wait_for(self.task, 10)

    def hang_up(self) -> None:
        self._inbox.put_nowait({"type": "http.disconnect"})

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = dict(message["headers"])
        else:
            self.body += message.get("body", b"")
            self.complete = not message.get("more_body", False)
        self._news.set()

    async def messages(self, count: int) -> list[Message]:
        await self._until(lambda: len(self._read()) >= count)
        return self._read()

    def _read(self) -> list[Message]:
        found = []
        for block in self.body.split(b"\n\n")[:-1]:
            lines = [line.split(b": ", 1) for line in block.split(b"\n")]
            data = b"\n".join(value for name, value in lines if name == b"data")
            fields = {name.decode(): value.decode() for name, value in lines}
            if data:
                found.append(Message(fields["event"], fields.get("id"), msgspec.json.decode(data)))
        return found

    async def ends(self) -> None:
        await self._until(lambda: self.complete)

    async def until_it_holds(self, piece: bytes) -> None:
        await self._until(lambda: piece in self.body)

    async def _until(self, holds: Any) -> None:
        async with asyncio.timeout(10):
            while not holds():
                self._news.clear()
                await self._news.wait()


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_LOOK_SECONDS", 0.02)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = sqlite_store(tmp_path)
    await store.open()
    made = World(store, stream_max_listeners=3, stream_max_listeners_per_tenant=1, stream_queue=5, stream_heartbeat=0.1)
    await made.populate()
    yield made
    await store.close()


async def publish(world: World, tenant_id: str = "acme", **changes: Any) -> Event:
    publisher = Publisher(world.store, Directory(world.store), world, NullMetrics(), NullJournal(), live=world.live)
    seq = world.next_seq()
    event = Event(seq=seq, id=f"evt_{seq}", tenant_id=tenant_id, topic="order.created", time=world.now, data=b"{}")
    event = structs.replace(event, **changes)
    await publisher.publish(event)
    return event


async def attempt(world: World, event: Event, to: Destination, **outcome: Any) -> None:
    result = builders.result(builders.delivery(event, to), builders.outcome(started_at=world.now, **outcome))
    assert await world.store.record(result)
    world.live.attempted(to, result)


class TestMessages:
    async def test_are_the_items_of_the_lists(self, world: World) -> None:
        to = await world.destination()
        async with Stream(world.app, ADMIN_KEY) as stream:
            assert stream.status == 200
            assert stream.headers[b"content-type"] == b"text/event-stream; charset=utf-8"
            event = await publish(world, metadata={"a": "b"})
            await attempt(world, event, to, ok=False, code="503", detail="no")
            first, second = await stream.messages(2)
        (listed,) = (await world.admin.get("/events")).json()["models"]
        del listed["data"]
        assert (first.event, first.data, first.id) == ("event", listed, str(event.seq))
        (listed,) = (await world.admin.get("/attempts")).json()["models"]
        assert (second.event, second.data) == ("attempt", listed)
        assert stream.body.startswith(b"retry: 2000\n\n")

    async def test_hold_what_is_asked_for_byte_for_byte(self, world: World) -> None:
        to = await world.destination()
        query = "include=event.data&include=response_data"
        data = b'{\n "price": 1.10,\r\n "n": 123456789012345678901\n}'
        async with Stream(world.app, ADMIN_KEY, query) as stream:
            event = await publish(world, data=data)
            await attempt(world, event, to, response={"body": "thanks"})
            first, second = await stream.messages(2)
        assert first.data["data"] == {"price": 1.10, "n": 123456789012345678901}
        assert b'"data":{\ndata:  "price": 1.10,\ndata:  "n": 123456789012345678901\ndata: }' in stream.body
        assert second.data["event"]["data"] == first.data["data"]
        assert second.data["response_data"] == {"body": "thanks"}

    async def test_go_on_after_the_last_one_seen(self, world: World) -> None:
        first, second, third = [await publish(world) for _ in range(3)]
        async with Stream(world.app, ADMIN_KEY, f"last_id={first.seq}") as stream:
            assert [message.id for message in await stream.messages(2)] == [str(second.seq), str(third.seq)]
        async with Stream(world.app, ADMIN_KEY, f"last_id={first.seq}", last_event_id=str(second.seq)) as stream:
            assert [message.id for message in await stream.messages(1)] == [str(third.seq)]

    async def test_say_how_much_a_slow_client_missed(self, world: World) -> None:
        async with Stream(world.app, ADMIN_KEY, "kind=event") as stream:
            await publish(world)
            await stream.messages(1)
            stream.reads.clear()
            for _ in range(20):
                await publish(world)
            stream.reads.set()
            messages = await stream.messages(2)
            while messages[-1].event != "gap":
                messages = await stream.messages(len(messages) + 1)
            heard = [message for message in messages if message.event == "event"]
            assert messages[-1] == Message("gap", None, {"missed": 21 - len(heard)})

    async def test_are_not_all_there_is_a_quiet_stream_is_kept_open(self, world: World) -> None:
        async with Stream(world.app, ADMIN_KEY) as stream:
            await stream.until_it_holds(b": nothing new\n\n")

    async def test_are_what_the_filter_lets_through(self, world: World) -> None:
        async with Stream(world.app, ADMIN_KEY, "kind=event&tenant_id[]=acme&topic=wanted") as stream:
            await publish(world, topic="other")
            await publish(world, "zeta", topic="wanted")
            event = await publish(world, topic="wanted")
            (message,) = await stream.messages(1)
        assert message.data["id"] == event.id

    @pytest.mark.parametrize(
        "query",
        [
            "event_id=evt_1",
            "code=5xx&code=404",
            "code=200",
            "status_code[gte]=300",
            "latency_ms[gte]=50",
            "latency_ms[lt]=50&status=failed",
            "destination_type=letterbox",
            "destination_type=nats",
            "manual=true",
            "topic=order.created&status=success",
        ],
    )
    async def test_are_narrowed_as_the_list_of_attempts_is(self, world: World, query: str) -> None:
        to = await world.destination()
        first = await publish(world)
        for number, (code, latency) in enumerate([("200", 10), ("503", 80), ("404", 20), ("timeout", 900)]):
            event = await publish(world, id=f"evt_{number}", topic=("order.created", "other")[number % 2])
            await attempt(world, event, to, ok=code == "200", code=code, latency=latency * 1_000)
        listed = (await world.admin.get(f"/attempts?dir=asc&{query}")).json()["models"]
        async with Stream(world.app, ADMIN_KEY, f"kind=attempt&last_id={first.seq}&{query}") as stream:
            last = await publish(world, "zeta")
            async with Stream(world.app, world.access.mint("zeta"), "kind=event", last_event_id=str(first.seq)) as end:
                await end.until_it_holds(last.id.encode())
            heard = await stream.messages(len(listed))
        assert sorted(message.data["id"] for message in heard) == sorted(model["id"] for model in listed)

    @pytest.mark.parametrize("query", ["q=lovelace", "data[customer]=42", "metadata[source]=shop", "q=nobody"])
    async def test_are_narrowed_as_the_list_of_events_is(self, world: World, query: str) -> None:
        first = await publish(world)
        await publish(world, data=b'{"name": "Ada Lovelace", "customer": 42}')
        await publish(world, data=b'{"customer": 43}', metadata={"source": "shop"})
        listed = (await world.admin.get(f"/events?{query}")).json()["models"]
        async with Stream(world.app, ADMIN_KEY, f"last_id={first.seq}&{query}") as stream:
            heard = await stream.messages(len(listed))
        assert [message.data["id"] for message in heard] == [model["id"] for model in listed]

    @pytest.mark.parametrize(
        ("query", "refusal"),
        [
            ("code=5xx&time[gte]=2024-01-01", (422, "validation error", {"query.time[gte]": "is not known"})),
            ("kind=alert", (422, "validation error", {"query.kind": "must be 'event' or 'attempt'"})),
            ("status=odd", (422, "validation error", {"query.status": "must be 'success' or 'failed'"})),
            ("last_id=evt_1", (400, "last_id must be the id of a message of this stream", None)),
            ("last_id=99999999999999999999", (400, "last_id must be the id of a message of this stream", None)),
        ],
    )
    async def test_wrong_questions_are_refused(self, world: World, query: str, refusal: tuple[int, str, Any]) -> None:
        assert error(await world.admin.get(f"/stream?{query}")) == refusal


class TestWhoHearsWhat:
    @pytest.mark.parametrize("query", ["", "tenant_id=acme", "tenant_id[]=acme", "destination_id=ours", "last_id=1"])
    async def test_a_tenant_hears_its_own_only(self, world: World, query: str) -> None:
        to = await world.destination(id="ours")
        async with Stream(world.app, world.access.mint("zeta"), query) as stream:
            event = await publish(world)
            await attempt(world, event, to)
            last = await publish(world, "zeta")
            if query != "destination_id=ours":
                await stream.until_it_holds(last.id.encode())
            assert b"acme" not in stream.body
            assert event.id.encode() not in stream.body

    async def test_so_many_may_listen_and_no_more(self, world: World) -> None:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(Stream(world.app, world.access.mint("acme")))
            refused = await world.acme.get("/stream")
            assert error(refused) == (
                429,
                "at most 1 streams of a tenant are open at a time",
                {"limit": 1, "remaining": 0},
            )
            assert refused.headers["retry-after"] == "5"
            for _ in range(2):
                await stack.enter_async_context(Stream(world.app, ADMIN_KEY))
            refused = await world.zeta.get("/stream")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        async with Stream(world.app, world.access.mint("acme")) as stream:
            assert stream.status == 200


class TestItEnds:
    async def test_when_the_token_expires(self, world: World) -> None:
        now = clock.now() // SECOND
        claims = {"iss": ISSUER, "sub": "acme", "iat": now, "exp": now + 1}
        secret = JWT_SECRET.ljust(64, b"\0")
        async with Stream(world.app, jwt.encode(claims, secret, algorithm=ALGORITHM)) as stream:
            await stream.ends()

    async def test_when_the_key_is_revoked(self, world: World) -> None:
        key = await world.access.add_key("ours")
        async with Stream(world.app, key.secret) as stream:
            await world.access.revoke_key(key.key.id)
            await stream.ends()

    async def test_when_the_tenant_is_deleted(self, world: World) -> None:
        async with Stream(world.app, world.access.mint("acme")) as stream:
            await world.manager.delete_tenant("acme", by=OPERATOR)
            await stream.ends()

    async def test_when_the_server_stops(self, world: World) -> None:
        async with Stream(world.app, ADMIN_KEY) as stream:
            world.live.close()
            await stream.ends()

    async def test_when_the_client_goes(self, world: World) -> None:
        async with Stream(world.app, ADMIN_KEY) as stream:
            assert len(world.live._open) == 1
            stream.hang_up()
            await asyncio.wait_for(stream.task, 10)
        assert not world.live._open

    async def test_when_the_client_takes_nothing(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(endpoint, "_STALLED_SECONDS", 0.05)
        monkeypatch.setattr(endpoint, "_FAREWELL_SECONDS", 0.05)
        async with Stream(world.app, ADMIN_KEY) as stream:
            stream.reads.clear()
            await asyncio.wait_for(stream.task, 10)
        assert not world.live._open
