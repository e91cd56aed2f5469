"""What is not a request of HTTP/1.1, or larger than it may be, is refused before it reaches the application."""

from __future__ import annotations

import pytest

from .conftest import Starter, chunked, get, post

HOST = b"Host: a\r\n"


class TestHead:
    async def test_a_head_that_fits_is_served(self, serving: Starter) -> None:
        async with serving(head_bytes=1_024) as front:
            answer = await front.ask(get("/x?y=1", f"X-A: {'a' * 900}"))

            assert (answer.status, answer.closes) == (200, False)
            assert (front.calls[0]["path"], front.calls[0]["query_string"]) == ("/x", b"y=1")

    @pytest.mark.parametrize("ending", [b"", b"\r\n\r\n"], ids=["endless", "complete"])
    @pytest.mark.parametrize(
        "headers",
        [b"X: " + b"a" * 2_000, b"\r\n".join([b"X: " + b"a" * 40] * 40), b"X" * 2_000 + b": a"],
        ids=["value", "many", "name"],
    )
    async def test_a_large_head_is_refused(self, serving: Starter, headers: bytes, ending: bytes) -> None:
        async with serving(head_bytes=1_024) as front:
            answer = await front.ask(b"GET / HTTP/1.1\r\n" + HOST + headers + ending)

            assert (answer.status, answer.closes) == (431, True)
            assert "1024 bytes" in answer.message
            assert front.calls == []

    async def test_a_large_head_in_small_pieces_is_refused_where_it_becomes_too_large(self, serving: Starter) -> None:
        async with serving(head_bytes=1_024) as front:
            client = await front.client(b"GET / HTTP/1.1\r\n" + HOST + b"X: ")
            for _ in range(4):
                await client.send(b"a" * 300)
                await front.until(lambda: front.gate.connections)

            assert (await client.answer()).status == 431

    async def test_the_second_request_of_a_connection_is_counted_by_itself(self, serving: Starter) -> None:
        async with serving(head_bytes=1_024) as front:
            client = await front.client()
            for _ in range(5):
                await client.send(get("/", f"X-A: {'a' * 700}"))
                assert (await client.answer()).status == 200
            await client.send(get("/", f"X-A: {'a' * 1_100}"))
            assert (await client.answer()).status == 431

    async def test_many_headers_are_refused(self, serving: Starter) -> None:
        async with serving(headers=10) as front:
            assert (await front.ask(get("/", *["X: a"] * 9))).status == 200
            assert (await front.ask(get("/", *["X: a"] * 10))).status == 431

    @pytest.mark.parametrize("ending", [b"", b" HTTP/1.1\r\nHost: a\r\n\r\n"], ids=["endless", "complete"])
    async def test_a_long_target_is_refused(self, serving: Starter, ending: bytes) -> None:
        async with serving(line_bytes=300) as front:
            assert (await front.ask(b"GET /" + b"a" * 400 + ending)).status == 414
            assert (await front.ask(get("/" + "a" * 200))).status == 200


BAD = {
    "both lengths": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "lengths both": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "signed length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde",
    "huge length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "space before the colon": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare LF": b"GET / HTTP/1.1\nHost: a\n\n",
    "bare LF in a header": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "bare CR": b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
    "NUL": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
    "folded first": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "no name": b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two authorizations": b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n",
    "method in small letters": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "unknown method": b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n",
    "bytes in the target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "star": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "another scheme": b"GET ftp://a/b HTTP/1.1\r\nHost: a\r\n\r\n",
    "user in the target": b"GET http://u:p@a/b HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}
OTHERS = {
    "xchunked": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    "identity": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\nabc"),
    "version 2": (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    "gzip": (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "expectation": (417, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: luck\r\n\r\n"),
    "connect": (405, b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
}


class TestForm:
    @pytest.mark.parametrize("request_", BAD.values(), ids=BAD)
    async def test_what_two_servers_may_read_differently_is_refused(self, serving: Starter, request_: bytes) -> None:
        async with serving() as front:
            client = await front.client(request_ + get("/smuggled"))
            answer = await client.answer()

            assert (answer.status, answer.closes) == (400, True)
            assert answer.message
            assert await client.rest() == b""
            assert front.calls == []

    @pytest.mark.parametrize(("status", "request_"), OTHERS.values(), ids=OTHERS)
    async def test_what_is_not_understood_is_refused(self, serving: Starter, status: int, request_: bytes) -> None:
        async with serving() as front:
            answer = await front.ask(request_)

            assert (answer.status, answer.closes) == (status, True)
            assert front.calls == []

    @pytest.mark.parametrize("url", ["http://a/x?y", "HTTP://other:80/x?y", "/x?y"])
    async def test_the_absolute_form_means_its_path(self, serving: Starter, url: str) -> None:
        async with serving() as front:
            assert (await front.ask(get(url))).status == 200
            assert (front.calls[0]["raw_path"], front.calls[0]["query_string"]) == (b"/x", b"y")

    async def test_http_1_0_gets_an_answer_without_chunks_and_the_end(self, serving: Starter) -> None:
        async def app(_scope: object, _receive: object, send: object) -> None:
            await send({"type": "http.response.start", "status": 200})  # type: ignore[operator]
            await send({"type": "http.response.body", "body": b"abc"})  # type: ignore[operator]

        async with serving(app) as front:
            answer = await (await front.client(b"GET / HTTP/1.0\r\n\r\n")).rest()
            assert answer == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"
            answer = await (await front.client(get("/", "Connection: close"))).rest()
            assert answer.endswith(b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n3\r\nabc\r\n0\r\n\r\n")

    @pytest.mark.parametrize("upgrade", ["h2c", "websocket", "TLS/1.0"])
    @pytest.mark.parametrize("framing", ["length", "chunks", "none"])
    async def test_an_upgrade_that_nobody_serves_is_passed_over(
        self, serving: Starter, upgrade: str, framing: str
    ) -> None:
        asked = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AAEAAEAA")
        request = {
            "length": post("/", *asked, body=b"abc"),
            "chunks": chunked("/", *asked) + b"3\r\nabc\r\n0\r\n\r\n",
            "none": get("/", *asked),
        }[framing]
        async with serving() as front:
            client = await front.client()
            for _ in range(2):
                await client.send(request)
                assert (await client.answer()).status == 200
            await client.send(*(bytes([byte]) for byte in request))
            assert (await client.answer()).status == 200
            assert front.bodies == [b"" if framing == "none" else b"abc"] * 3


class TestBody:
    async def test_a_body_in_pieces_is_put_together(self, serving: Starter) -> None:
        async with serving() as front:
            client = await front.client(post("/", length=200_000), *[b"a" * 1_000] * 200)
            assert (await client.answer()).body == b"200000"
            await client.send(chunked(), *[b"3E8\r\n" + b"a" * 1_000 + b"\r\n"] * 200, b"0\r\nX-Trailer: a\r\n\r\n")
            assert (await client.answer()).body == b"200000"
            assert not any(name == b"x-trailer" for name, _ in front.calls[1]["headers"])

    async def test_a_large_body_is_refused_by_its_length(self, serving: Starter) -> None:
        async with serving(body_bytes=1_000, bodies={b"/large": 5_000, b"/small": 10}) as front:
            assert (await front.ask(post("/large", length=5_001))).status == 413
            assert (await front.ask(post("/small", length=11))).status == 413
            assert (await front.ask(post("/ignore", length=1_001))).status == 413
            assert front.calls == []

    async def test_nothing_is_read_for_whom_the_application_refuses(self, serving: Starter) -> None:
        async with serving(body_bytes=1 << 30) as front:
            client = await front.client(post("/secret", length=1 << 30))
            answer = await client.answer()

            assert (answer.status, answer.closes) == (401, True)
            assert front.gate.memory.taken == 0

    async def test_a_small_rest_of_a_body_does_not_cost_the_connection(self, serving: Starter) -> None:
        async with serving() as front:
            client = await front.client(post("/ignore", length=10))
            answer = await client.answer()
            await client.send(b"0123456789", get("/x"))

            assert not answer.closes
            assert (await client.answer()).status == 200
            assert front.calls[1]["path"] == "/x"

    async def test_a_client_is_told_to_go_on_only_when_its_body_is_wanted(self, serving: Starter) -> None:
        async with serving() as front:
            client = await front.client(post("/", "Expect: 100-continue", length=3))
            assert await client.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(b"abc")
            assert (await client.answer()).body == b"3"

            refused = await (await front.client(post("/secret", "Expect: 100-continue", length=3))).answer()
            assert (refused.status, refused.closes) == (401, True)

    async def test_small_chunks_are_served(self, serving: Starter) -> None:
        async with serving(head_bytes=1_024) as front:
            assert (await front.ask(chunked() + b"1\r\na\r\n" * 5_000 + b"0\r\n\r\n")).body == b"5000"

    @pytest.mark.parametrize(
        "body",
        [(b"1;" + b"x" * 200 + b"\r\na\r\n") * 50, b"1;" + b"x" * 10_000, b"1\r\na\r\n0\r\nX: " + b"x" * 10_000],
        ids=["extensions", "an endless extension", "an endless trailer"],
    )
    async def test_what_is_around_chunks_is_bounded(self, serving: Starter, body: bytes) -> None:
        async with serving(head_bytes=1_024) as front:
            answer = await front.ask(chunked() + body)

            assert (answer.status, answer.closes) == (400, True)
            assert front.bodies == []


class TestPipeline:
    async def test_requests_are_answered_one_after_another(self, serving: Starter) -> None:
        async with serving() as front:
            client = await front.client(b"".join(post(f"/{n}", body=b"a" * n) for n in range(10)))
            assert [(await client.answer()).body for _ in range(10)] == [b"%d" % n for n in range(10)]

    async def test_no_more_wait_than_may(self, serving: Starter) -> None:
        async with serving(pipelined=3) as front:
            client = await front.client(get("/hold") + get("/x") * 10_000)
            await front.until(lambda: front.calls)
            front.go.set()

            assert [(await client.answer()).status for _ in range(5)] == [200, 200, 200, 200, 503]
            assert await client.rest() == b""
            assert len(front.calls) == 4

    async def test_a_client_that_leaves_is_missed_by_all_its_requests(self, serving: Starter) -> None:
        async with serving() as front:
            client = await front.client(post("/", length=3) + b"a")
            await front.until(lambda: front.calls)
            await client.close()
            await front.until(lambda: front.gone == 1)
