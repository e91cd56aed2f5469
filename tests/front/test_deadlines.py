"""Whoever is too slow, silent or one too many is let go, and the others notice nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import weakref

import msgspec
import pytest

from waypost.front.connection import Connection
from waypost.front.exchange import Exchange
from waypost.front.limits import Limits
from waypost.front.memory import Memory
from waypost.front.server import _within_descriptors

from .conftest import Starter, chunked, get, post

SECRET = get("/", "Authorization: Bearer x")


class TestDeadlines:
    async def test_a_silent_connection_is_closed(self, serving: Starter) -> None:
        async with serving(head_timeout=0.1) as front:
            assert await (await front.client()).rest() == b""

    @pytest.mark.parametrize("first", [b"", SECRET], ids=["first request", "later request"])
    async def test_a_head_that_does_not_end_gets_408(self, serving: Starter, first: bytes) -> None:
        async with serving(head_timeout=0.1) as front:
            client = await front.client(first)
            if first:
                assert (await client.answer()).status == 200
            for byte in b"GET / HTTP":
                await client.send(bytes([byte]))

            assert (await client.answer()).status == 408
            assert await client.rest() == b""
            assert len(front.calls) == bool(first)

    @pytest.mark.parametrize("request_", [post("/", length=9_000), chunked()], ids=["length", "chunks"])
    async def test_a_body_that_comes_too_slowly_gets_408(self, serving: Starter, request_: bytes) -> None:
        async with serving(body_grace=0.1, body_rate=1_000) as front:
            client = await front.client(request_ + b"1")
            answer = await client.answer()
            await client.close()

            assert (answer.status, answer.closes) == (408, True)
            await front.until(lambda: front.gone == 1 and not front.gate.connections)
            assert front.gate.memory.taken == 0

    async def test_the_rest_of_a_body_that_nobody_reads_has_a_deadline(self, serving: Starter) -> None:
        async with serving(body_grace=0.1, body_rate=1_000) as front:
            client = await front.client(post("/ignore", length=10))
            assert (await client.answer()).status == 200
            await front.until(lambda: not front.gate.connections)

    async def test_a_body_that_waits_for_the_application_is_not_slow(self, serving: Starter) -> None:
        async with serving(body_grace=0.1, body_rate=1 << 30) as front:
            client = await front.client(post("/hold", body=b"a" * 500_000))
            await front.until(lambda: front.calls)
            reads = front.gate.now
            await front.until(lambda: front.gate.now > reads + 0.5)
            front.go.set()

            assert (await client.answer()).body == b"500000"

    async def test_an_idle_connection_is_closed(self, serving: Starter) -> None:
        async with serving(idle_timeout=0.1) as front:
            client = await front.client(get())
            assert (await client.answer()).status == 200
            assert await client.rest() == b""

    async def test_a_request_may_be_answered_as_late_as_it_takes(self, serving: Starter) -> None:
        async with serving(idle_timeout=0.05, head_timeout=0.05, body_grace=0.05, answer_timeout=0.05) as front:
            client = await front.client(get("/hold"))
            await front.until(lambda: front.calls)
            began = front.gate.now
            await front.until(lambda: front.gate.now > began + 0.3)
            front.go.set()
            assert (await client.answer()).status == 200

    @pytest.mark.parametrize("times", [1, 20])
    async def test_who_takes_nothing_of_an_answer_is_dropped(self, serving: Starter, times: int) -> None:
        async with serving(answer_timeout=0.2) as front:
            await front.narrow_client(get("/large") * times)
            await front.until(lambda: front.calls)
            await front.until(lambda: not front.gate.connections)

    async def test_who_takes_his_answer_slowly_gets_it(self, serving: Starter) -> None:
        async with serving(answer_timeout=0.2, body_rate=1) as front:
            slow = await front.narrow_client(get("/large", "Connection: close"), room=65_536)
            taken, loop = 0, asyncio.get_running_loop()
            while piece := await loop.sock_recv(slow, 65_536):
                taken += len(piece)
                await asyncio.sleep(0.001)
            assert taken > 1 << 24

    async def test_unread_answers_go_when_all_are_too_many(self, serving: Starter) -> None:
        async with serving(answer_memory=1 << 26, body_grace=0.1) as front:
            for _ in range(12):
                await front.narrow_client(get("/large"))
            await front.until(lambda: len(front.calls) == 12)
            await front.until(lambda: len(front.gate.connections) < 7)
            assert len(front.gate.connections) >= 3
            assert (await front.ask(get())).status == 200

    async def test_a_flood_is_not_read_on_once_it_is_refused(self, serving: Starter) -> None:
        async with serving(head_bytes=1_024) as front:
            loop = asyncio.get_running_loop()
            flood = await front.narrow_client(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
            await front.until(lambda: front.gate.connections)
            (connection,) = front.gate.connections
            with contextlib.suppress(OSError):
                while front.gate.connections:
                    await loop.sock_sendall(flood, b"a" * 65_536)

            assert 0 < connection._unheard < 1 << 20


class TestPlaces:
    async def test_silent_connections_of_one_address_take_its_share_only(self, serving: Starter) -> None:
        async with serving(connections=100, connections_per_address=10) as front:
            silent = [await front.client() for _ in range(40)]
            answer = await front.ask(get())

            assert answer.status == 200
            assert len(front.gate.connections) <= 10
            assert await silent[0].rest() == b""

    async def test_those_with_credentials_are_not_counted_for_their_address(self, serving: Starter) -> None:
        async with serving(connections=100, connections_per_address=4) as front:
            known = []
            for _ in range(10):
                known.append(await front.client(SECRET))
                assert (await known[-1].answer()).status == 200
            for _ in range(20):
                await front.client()
            for client in known:
                await client.send(SECRET)
                assert (await client.answer()).status == 200

    async def test_refused_credentials_are_none(self, serving: Starter) -> None:
        async with serving(connections_per_address=3) as front:
            for _ in range(6):
                client = await front.client(get("/secret"))
                assert (await client.answer()).status == 401
            assert len(front.gate.connections) == 3

    async def test_idle_connections_go_first_when_all_places_are_taken(self, serving: Starter) -> None:
        async with serving(connections=20, connections_per_address=100) as front:
            busy = [await front.client(get("/hold")) for _ in range(10)]
            idle = []
            for _ in range(10):
                idle.append(await front.client(SECRET))
                await idle[-1].answer()
            fresh = await front.client(get())

            assert (await fresh.answer()).status == 200
            assert await idle[0].rest() == b""
            front.go.set()
            assert [(await client.answer()).status for client in busy] == [200] * 10

    async def test_one_too_many_gets_503(self, serving: Starter) -> None:
        async with serving(connections=5) as front:
            for _ in range(5):
                await front.client(get("/hold"))
            await front.until(lambda: len(front.calls) == 5)
            late = await front.client()
            answer = await late.answer()

            assert (answer.status, answer.closes, answer.headers["retry-after"]) == (503, True, "1")
            assert await late.rest() == b""

    async def test_places_come_back(self, serving: Starter) -> None:
        async with serving(connections=5, connections_per_address=2) as front:
            for _ in range(30):
                client = await front.client(get())
                assert (await client.answer()).status == 200
                await client.close()
            await front.until(lambda: not front.gate.connections)
            assert front.gate._strangers == {}

    async def test_nothing_of_a_connection_waits_for_the_collector(self, serving: Starter) -> None:
        gc.collect()
        gc.disable()
        try:
            async with serving(body_grace=0.1) as front:
                for request in (SECRET, post(body=b"a" * 90_000), post("/hold", body=b"a"), b"nonsense\r\n", chunked()):
                    client = await front.client(request)
                    await front.until(lambda: front.gate.connections)
                    front.go.set()
                    await client.close()
                    await front.until(lambda: not front.gate.connections and not front.state.tasks)
                made = weakref.WeakSet(one for one in gc.get_objects() if isinstance(one, Connection | Exchange))
                await front.until(lambda: not made)
        finally:
            gc.enable()

    def test_half_of_the_descriptors_are_left(self) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        many = msgspec.structs.replace(Limits(), connections=1 << 40)
        assert _within_descriptors(many).connections == (soft // 2 if soft != resource.RLIM_INFINITY else 1 << 40)
        assert _within_descriptors(Limits(connections=7)).connections == 7


class TestMemory:
    async def test_bodies_beyond_the_memory_for_them_get_503(self, serving: Starter) -> None:
        async with serving(memory=3_000, memory_per_address=2_000) as front:
            first = await front.client(post("/", length=1_500))
            await front.until(lambda: front.gate.memory.taken == 1_500)
            answer = await front.ask(post("/", length=600))
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            elsewhere = await front.client(post("/", length=1_400), source="127.0.0.2")
            await front.until(lambda: front.gate.memory.taken == 2_900)
            assert (await (await front.client(post("/", length=200), source="127.0.0.3")).answer()).status == 503

            await first.send(b"a" * 1_500)
            await elsewhere.send(b"a" * 1_400)
            assert (await first.answer()).status == (await elsewhere.answer()).status == 200
            await front.until(lambda: front.gate.memory.taken == 0)

    async def test_a_body_in_chunks_is_counted_as_it_comes(self, serving: Starter) -> None:
        async with serving(memory=3_000, memory_per_address=2_000) as front:
            client = await front.client(chunked())
            for number in range(1, 4):
                await client.send(b"1F4\r\n" + b"a" * 500 + b"\r\n")
                await front.until(lambda: front.gate.memory.taken == 500 * number)  # noqa: B023
            await client.send(b"3E8\r\n" + b"a" * 1_000 + b"\r\n")
            assert (await client.answer()).status == 503
            await front.until(lambda: front.gate.memory.taken == 0)

    def test_the_largest_body_is_taken_by_a_server_that_does_nothing_else(self) -> None:
        memory = Memory(10, 5)

        assert memory.take("a", 20)
        assert not memory.take("b", 1)
        memory.give("a", 20)
        assert memory.take("b", 5)
        assert not memory.take("b", 1)
        assert memory.take("a", 5)
