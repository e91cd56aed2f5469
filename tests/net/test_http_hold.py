"""What a receiver does to one exchange stays with that exchange, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator

import h2.connection
import h2.events
import pytest
from h2.errors import ErrorCodes
from hypothesis import given
from hypothesis import strategies as st

from tests.net.conftest import LOOPBACK, Clients, Names
from tests.net.receivers import HOST, Authority, Exchange, H2Receiver, Receiver, receiver
from waypost.core.errors import DeliveryError, Unavailable, WaypostError
from waypost.net import curl_handle
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient, HttpRequest, HttpResponse, HttpSettings
from waypost.net.record import answered
from waypost.net.unread import End, end_of, local_address


def request(port: int, body: bytes = b"{}", **fields: str) -> HttpRequest:
    return HttpRequest(method="POST", url=f"http://{HOST}:{port}/", body=body, **fields)  # type: ignore[arg-type]


async def outcome(http: HttpClient, asked: HttpRequest) -> HttpResponse | WaypostError:
    try:
        return await http.send(asked)
    except WaypostError as error:
        return error.with_traceback(None)


# one receiver's answer


_HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
_ANSWERS = [
    b"HTTP/1.1\t200 OK\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200\tOK\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 103 Hints\r\nHTTP/x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 103 Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\nHTTP/9 trap: b\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nHTTP/1.1 abc: d\r\n\r\n",
    b"HTTP/1.1 20\r\n\r\n",
    b"HTTP/2 200\r\n\r\n",
    b"HTTP/\xff 200\r\n\r\n",
    b"\r\n\r\n",
    b"\x00" * 100,
]
_WORDS = (
    b"HTTP/1.1|HTTP/2|HTTP/| |\t|100|103|200|101|999|\r\n|\n|\r|:|content-length: 3|content-length: -1|a|\x00|\xff"
    b"|connection: close|transfer-encoding: chunked|0\r\n\r\n|3\r\nabc\r\n|HTTP/1.1 200 OK\r\n|upgrade: h2c"
    b"|HTTP/1.1 100 Continue\n\n"
)
_PIECES = st.sampled_from(_WORDS.split(b"|"))
_RAW = st.lists(_PIECES | st.binary(max_size=6), max_size=20).map(b"".join)


async def _beside(raw: bytes) -> tuple[list[HttpResponse | WaypostError], HttpResponse | WaypostError]:
    """Healthy exchanges whose answers arrive in the same turn as the raw bytes, and what became of those."""
    waiting: list[tuple[bytes, asyncio.StreamWriter]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        waiting.append((raw if b"/hostile" in head else _HEALTHY, writer))
        if len(waiting) == len(paths):
            for answer, each in waiting:
                each.write(answer)
                each.close()

    paths = ["/healthy", "/healthy", "/hostile", "/healthy", "/healthy"]
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    http = HttpClient(HttpSettings(total_timeout=20, first_byte_timeout=20), Names(), AddressGuard([LOOPBACK]))
    await http.start()
    try:
        asked = [HttpRequest(method="POST", url=f"http://{HOST}:{port}{path}") for path in paths]
        found = await asyncio.gather(*(outcome(http, each) for each in asked))
    finally:
        await http.close()
        server.close()
    own = found.pop(2)
    return found, own


def _is_well(found: HttpResponse | WaypostError) -> bool:
    return isinstance(found, HttpResponse) and (found.status, found.body) == (200, b"ok")


@pytest.mark.parametrize("raw", _ANSWERS)
async def test_an_answer_that_makes_no_sense_fails_nobody_else(raw: bytes) -> None:
    others, own = await _beside(raw)
    assert all(map(_is_well, others))
    assert isinstance(own, HttpResponse) or (isinstance(own, DeliveryError) and own.code != "timeout")


@given(raw=_RAW)
def test_no_bytes_whatever_fail_anybody_else(raw: bytes) -> None:
    others, own = asyncio.run(_beside(raw))
    assert all(map(_is_well, others))
    assert isinstance(own, HttpResponse) or (isinstance(own, DeliveryError) and own.code != "timeout")


@pytest.mark.parametrize("end", ["\r\n", "\n"])
async def test_an_interim_answer_is_not_the_answer(client: Clients, end: str) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(f"HTTP/1.1 100 Continue{end}{end}HTTP/1.1 204 No{end}a: 1{end}{end}".encode())

    async with receiver(answer) as server, client() as http:
        response = await http.send(request(server.port))
    assert (response.status, response.headers) == (204, {"a": "1"})


async def test_a_fault_of_ours_fails_one_exchange(client: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_self: object, lines: list[bytes]) -> dict[str, str]:
        if any(line.startswith(b"x-trap") for line in lines):
            raise RuntimeError("a fault")
        return {}

    async def answer(exchange: Exchange) -> None:
        await exchange.answer(headers="x-trap: 1\r\n" if exchange.seen.body == b"trap" else "")

    monkeypatch.setattr("waypost.net.head.HeadReader.read", broken)
    async with receiver(answer) as server, client() as http:
        bodies = [b"", b"", b"trap", b"", b""]
        found = await asyncio.gather(*(outcome(http, request(server.port, body)) for body in bodies))
    trapped = found.pop(2)
    assert isinstance(trapped, DeliveryError)
    assert trapped.code == "internal_error"
    assert all(map(_is_well, found))


async def test_a_head_without_end_is_not_kept(client: Clients) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(
            b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 60_000 + b"\r\nlate: 1\r\ncontent-length: 0\r\n\r\n"
        )

    async with receiver(answer) as server, client() as http:
        response = await http.send(request(server.port))
        assert (response.status, response.headers, response.truncated) == (200, {}, True)
        assert http._engine is not None
        assert http._engine._idle == []


# what stays in memory


async def _reset(exchange: Exchange) -> None:
    exchange.reset()


async def _hang_up(exchange: Exchange) -> None:
    exchange.writer.close()


async def _half(exchange: Exchange) -> None:
    await exchange.say(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    exchange.writer.close()


async def _nonsense(exchange: Exchange) -> None:
    await exchange.say(b"nonsense\r\n\r\n")
    exchange.writer.close()


async def _refuse(exchange: Exchange) -> None:
    await exchange.answer(503)


async def _flood(exchange: Exchange) -> None:
    await exchange.answer(200, b"x" * 50_000)


async def _silence(exchange: Exchange) -> None:
    await exchange.gone()


@pytest.mark.parametrize("answer", [_reset, _hang_up, _half, _nonsense, _refuse, _flood, _silence])
async def test_an_exchange_leaves_nothing_behind(client: Clients, answer: object) -> None:
    body = b"x" * 10_000 + str(answer).encode()
    async with receiver(answer) as server, client(total_timeout=0.2, drain_cap=1000) as http:  # type: ignore[arg-type]
        await _many(http, request(server.port, body), 8)
        assert sys.getrefcount(body) == _HELD


async def test_a_closed_port_leaves_nothing_behind(client: Clients) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    body = b"x" * 10_000
    async with client() as http:
        await _many(http, request(port, body), 8)
        assert sys.getrefcount(body) == _HELD


async def test_failures_do_not_add_up(client: Clients) -> None:
    """Objects by type after N and after 2N failures, with the collector switched off."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    async with client() as http:
        gc.collect()
        gc.disable()
        try:
            await _one_by_one(http, request(port), 50)
            first = Counter(type(each).__name__ for each in gc.get_objects())
            await _one_by_one(http, request(port), 50)
            second = Counter(type(each).__name__ for each in gc.get_objects())
        finally:
            gc.enable()
    grown = {name: count - first[name] for name, count in second.items() if count - first[name] > 5}
    assert not grown.keys() - {"TimerHandle", "Context"}  # cancelled timers, which asyncio drops a hundred at a time


_HELD = 2
"""References to a body that nobody keeps: the test's own, and the argument of the question."""


async def _many(http: HttpClient, asked: HttpRequest, number: int) -> None:
    gc.disable()
    try:
        await asyncio.gather(*(outcome(http, asked) for _ in range(number)))
        await asyncio.sleep(0)
    finally:
        gc.enable()


async def _one_by_one(http: HttpClient, asked: HttpRequest, number: int) -> None:
    for _ in range(number):
        await outcome(http, asked)


# one attempt, one request


@pytest.mark.parametrize("end", [_reset, _hang_up])
async def test_a_request_that_was_read_is_not_sent_again(client: Clients, end: object) -> None:
    """libcurl would, up to five times, for as long as there are connections that were used before."""
    warm = True

    async def answer(exchange: Exchange) -> None:
        await (_refuse if warm else end)(exchange)  # type: ignore[operator]

    async with receiver(answer) as server, client() as http:
        await asyncio.gather(*(http.send(request(server.port)) for _ in range(8)))
        warm = False
        server.seen.clear()
        error = await outcome(http, request(server.port))
    assert isinstance(error, DeliveryError)
    assert error.code == "connection_reset"
    assert len(server.seen) == 1


async def test_a_request_that_cannot_have_been_read_is_sent_again_once(
    client: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    warm = True

    async def answer(exchange: Exchange) -> None:
        await (_refuse if warm else _hang_up)(exchange)

    async with receiver(answer) as server, client() as http:
        await asyncio.gather(*(http.send(request(server.port)) for _ in range(8)))
        warm = False
        server.seen.clear()
        monkeypatch.setattr("waypost.net.curl.end_of", lambda _: End(unread=True, errno=0))
        error = await outcome(http, request(server.port))
    assert isinstance(error, DeliveryError)
    assert error.response is not None
    assert error.response["resent"] is True
    assert len(server.seen) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_what_the_end_of_a_connection_proves() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ends = []
        for reads, sends in [(True, True), (False, True), (False, False)]:
            client = socket.create_connection(listener.getsockname())
            peer, _ = listener.accept()
            if reads:
                client.sendall(b"request")
                assert peer.recv(100) == b"request"
            peer.close()
            if sends and not reads:
                client.sendall(b"request")
            assert local_address(client.fileno()) == client.getsockname()
            ends.append(end_of(client.fileno()).unread)
            client.close()
    assert ends == [False, True, False]


# own trouble


def test_a_socket_that_was_never_opened_is_dropped_in_silence() -> None:
    with pytest.raises(OSError, match="Address family"):
        curl_handle._Socket(9999)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_what_this_machine_lacks_is_not_the_receivers_failure(
    client: Clients, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(number, "none left")

    async with receiver() as server, client() as http:
        with monkeypatch.context() as patched:
            patched.setattr(curl_handle, "_Socket", none_left)
            assert isinstance(await outcome(http, request(server.port)), Unavailable)
        assert _is_well(await outcome(http, request(server.port)))


# connections that are shared


class Strict(H2Receiver):
    """Closes the connection, and with it whatever is on it, when a request's headers are large: nginx does so."""

    def data_received(self, data: bytes) -> None:
        for event in self.connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.take(event.stream_id, dict(event.headers))
        if not self.transport.is_closing():
            self.transport.write(self.connection.data_to_send())

    def take(self, stream: int, headers: dict[bytes, bytes]) -> None:
        if b"x-large" in headers:
            self.transport.abort()
        elif headers[b":path"] == b"/slow":
            self.slow = stream
            self.waiting.set()
        else:
            self.reply(stream)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.waiting = asyncio.Event()
        super().connection_made(transport)


class Going(H2Receiver):
    """Says that it has processed nothing: refuses each stream, or the connection as a whole, `times` times."""

    times = 1
    way = "reset"
    streams = 0

    def data_received(self, data: bytes) -> None:
        for event in self.connection.receive_data(data):
            if isinstance(event, h2.events.StreamEnded):
                self.take(event.stream_id)
        self.transport.write(self.connection.data_to_send())
        if self.connection.state_machine.state is h2.connection.ConnectionState.CLOSED:
            self.transport.close()

    def take(self, stream: int) -> None:
        Going.streams += 1
        if Going.times == 0 or self.bodies == []:
            self.reply(stream)
        else:
            Going.times -= 1
            if Going.way == "reset":
                self.connection.reset_stream(stream, ErrorCodes.REFUSED_STREAM)
            else:
                self.connection.close_connection(last_stream_id=stream - 2)


@contextlib.asynccontextmanager
async def h2_server(kind: type[H2Receiver], authority: Authority) -> AsyncIterator[tuple[int, list[H2Receiver]]]:
    log: list[H2Receiver] = []
    bodies: list[bytes] = []
    tls = authority.context(protocols=["h2"])
    server = await asyncio.get_running_loop().create_server(lambda: kind(log, bodies), "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1], log
    finally:
        server.close()
        for connection in log:
            if hasattr(connection, "transport"):  # its handshake was completed
                connection.transport.abort()


def secure(port: int, path: str = "/", **fields: object) -> HttpRequest:
    return HttpRequest(method="POST", url=f"https://{HOST}:{port}{path}", body=b"{}", **fields)  # type: ignore[arg-type]


async def test_owners_share_no_http2_connection(client: Clients, authority: Authority) -> None:
    async with h2_server(Strict, authority) as (port, log), client(ca_bundle=str(authority.path)) as http:
        assert all([_is(await outcome(http, secure(port, owner=owner)), 200) for owner in "abab"])
        assert len(log) == 2
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(outcome(http, secure(port, "/slow", owner="a")))
            first = log[0]
            assert isinstance(first, Strict)
            await first.waiting.wait()
            large = await outcome(http, secure(port, owner="b", headers=["x-large: 1"]))
            assert isinstance(large, DeliveryError)
            assert not slow.done()
            first.reply(first.slow)
            first.transport.write(first.connection.data_to_send())
        assert _is(await slow, 200)


async def test_one_owners_requests_share_one(client: Clients, authority: Authority) -> None:
    async with h2_server(Strict, authority) as (port, log), client(ca_bundle=str(authority.path)) as http:
        await http.send(secure(port, owner="a"))
        await asyncio.gather(*(http.send(secure(port, owner="a")) for _ in range(20)))
    assert len(log) == 1


async def test_owners_do_share_what_takes_one_request_at_a_time(client: Clients, authority: Authority) -> None:
    tls = authority.context()
    async with receiver(tls=tls) as server, client(ca_bundle=str(authority.path)) as http:
        await http.send(secure(server.port, owner="a"))
        for owner in "bcd":
            await http.send(secure(server.port, owner=owner))
    assert server.connections == 2


@pytest.mark.parametrize("way", ["reset", "goaway"])
@pytest.mark.parametrize("times", [1, 9])
async def test_what_a_receiver_refused_is_sent_once_more(
    client: Clients, authority: Authority, monkeypatch: pytest.MonkeyPatch, way: str, times: int
) -> None:
    async with h2_server(Going, authority) as (port, _), client(ca_bundle=str(authority.path)) as http:
        await http.send(secure(port, owner="a"))
        monkeypatch.setattr(Going, "way", way)
        monkeypatch.setattr(Going, "times", times)
        monkeypatch.setattr(Going, "streams", 0)
        found = await outcome(http, secure(port, owner="a"))
        assert Going.streams == 2
    if times == 1:
        assert _is(found, 200)
        assert isinstance(found, HttpResponse)
        assert found.resent
        assert answered(found)["resent"] is True
    else:
        assert isinstance(found, DeliveryError)
        assert found.response is not None
        assert found.response["resent"] is True


def _is(found: HttpResponse | WaypostError, status: int) -> bool:
    return isinstance(found, HttpResponse) and found.status == status


@pytest.mark.parametrize("line", ["x: " + "y" * 100, "x: " + "é" * 50])
async def test_headers_that_are_too_large_are_not_sent(client: Clients, line: str) -> None:
    async with receiver() as server, client(request_header_cap=104) as http:
        assert _is_well(await outcome(http, HttpRequest(method="POST", url=url_of(server), headers=[line[:50]])))
        found = await outcome(http, HttpRequest(method="POST", url=url_of(server), headers=[line]))
    assert isinstance(found, DeliveryError)
    assert (found.code, found.retryable) == ("headers_too_large", False)
    assert len(server.seen) == 1


def url_of(server: Receiver) -> str:
    return f"http://{HOST}:{server.port}/"


def test_a_descriptor_that_was_closed_meanwhile_has_no_address() -> None:
    with socket.socket() as opened:
        descriptor = opened.fileno()
    assert local_address(descriptor) is None
