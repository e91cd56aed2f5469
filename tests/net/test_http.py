from __future__ import annotations

import asyncio
import errno
import ssl
from ipaddress import ip_network
from pathlib import Path
from socket import create_server

import pytest

from tests.net.conftest import Clients, Names
from tests.net.receivers import HOST, Authority, Exchange, H2Receiver, Receiver, proxy, receiver, silent_port
from waypost.core.errors import DeliveryError, SettingsError, Unavailable
from waypost.net import curl, curl_handle, routes
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient, HttpRequest, HttpResponse, HttpSettings, header_line
from waypost.net.poller import SelectorPoller
from waypost.net.resolve import GuardedResolver


def post(server: Receiver | int, path: str = "/hook", *, host: str = HOST, **fields: object) -> HttpRequest:
    port = server if isinstance(server, int) else server.port
    scheme = str(fields.pop("scheme", "http"))
    values = {"method": "POST", "body": b'{"a":1}', **fields}
    return HttpRequest(url=f"{scheme}://{host}:{port}{path}", **values)  # type: ignore[arg-type] # a test's own fields


async def failure(client: HttpClient, request: HttpRequest) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await client.send(request)
    return caught.value


# an exchange as it should be


async def test_sends_what_it_was_given_and_nothing_that_receivers_stumble_over(client: Clients) -> None:
    async with receiver() as server, client(user_agent="waypost-test/1") as http:
        headers = [header_line("content-type", "application/json"), header_line("X-Empty", "")]
        await http.send(post(server, "/a/b?c=d%20e", headers=headers, body=b'{"z":1.0,"a":2}'))
    [seen] = server.seen
    assert (seen.method, seen.path, seen.body) == ("POST", "/a/b?c=d%20e", b'{"z":1.0,"a":2}')
    assert seen.headers == {
        "host": f"{HOST}:{server.port}",
        "user-agent": "waypost-test/1",
        "accept": "*/*",
        "content-type": "application/json",
        "x-empty": "",
        "content-length": "15",
    }


async def test_gives_the_answer_with_timings(client: Clients) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(404, b"nope", "X-One: 1\r\nx-two: 2\r\nX-Two:  3 \r\n")

    async with receiver(answer) as server, client() as http:
        response = await http.send(post(server))
    assert (response.status, response.body, response.http_version) == (404, b"nope", "1.1")
    assert response.headers == {"content-length": "4", "x-one": "1", "x-two": "2, 3"}
    assert not response.truncated
    timings = response.timings
    assert 0 < timings.connect <= timings.first_byte <= timings.total == response.latency
    assert timings.tls == 0


async def test_uses_a_connection_again(client: Clients) -> None:
    async with receiver() as server, client() as http:
        for _ in range(5):
            await http.send(post(server))
    assert server.connections == 1
    assert len(server.seen) == 5


async def test_a_connection_that_died_in_the_pool_is_replaced(client: Clients) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer()
        exchange.writer.close()

    async with receiver(answer) as server, client() as http:
        for _ in range(5):
            assert (await http.send(post(server))).status == 200
    assert server.connections == 5


async def test_many_at_once(client: Clients) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(body=exchange.seen.body)

    async with receiver(answer) as server, client() as http:
        bodies = [f"{{{number}}}".encode() for number in range(600)]
        responses = await asyncio.gather(*(http.send(post(server, body=body)) for body in bodies))
    assert [response.body for response in responses] == bodies


async def test_other_methods_leave_no_trace_on_later_posts(client: Clients) -> None:
    async with receiver() as server, client() as http:
        for method, body in [("GET", b""), ("HEAD", b""), ("PUT", b"put"), ("DELETE", b""), ("OPTIONS", b"")]:
            response = await http.send(post(server, method=method, body=body))
            assert response.status == 200
            await http.send(post(server))
    assert [(seen.method, seen.body) for seen in server.seen[::2]] == [
        ("GET", b""),
        ("HEAD", b""),
        ("PUT", b"put"),
        ("DELETE", b""),
        ("OPTIONS", b""),
    ]
    assert {(seen.method, seen.body) for seen in server.seen[1::2]} == {("POST", b'{"a":1}')}


async def test_an_empty_body_is_sent_as_one(client: Clients) -> None:
    async with receiver() as server, client() as http:
        await http.send(post(server))
        await http.send(post(server, body=b""))
    assert server.seen[1].headers["content-length"] == "0"


async def test_a_large_body_does_not_ask_for_permission(client: Clients) -> None:
    body = b"x" * 3_000_000
    async with receiver() as server, client() as http:
        assert (await http.send(post(server, body=body))).status == 200
    assert server.seen[0].body == body
    assert "expect" not in server.seen[0].headers


async def test_redirects_are_answers(client: Clients) -> None:
    async with receiver() as target:

        async def answer(exchange: Exchange) -> None:
            await exchange.answer(302, b"", f"location: http://127.0.0.1:{target.port}/\r\n")

        async with receiver(answer) as server, client() as http:
            response = await http.send(post(server))
    assert response.status == 302
    assert target.connections == 0


async def test_interim_answers_are_passed_over(client: Clients) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
        await exchange.answer(201, b"made")

    async with receiver(answer) as server, client() as http:
        response = await http.send(post(server))
    assert (response.status, response.body, response.headers) == (201, b"made", {"content-length": "4"})


async def test_answers_need_not_be_utf8(client: Clients) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(
            b"HTTP/1.1 200 \xff\r\nx-latin: caf\xe9\r\nx-utf: caf\xc3\xa9\r\ncontent-length: 2\r\n\r\n\xff\x00"
        )

    async with receiver(answer) as server, client() as http:
        response = await http.send(post(server))
    assert response.headers["x-latin"] == response.headers["x-utf"] == "café"
    assert response.body == b"\xff\x00"


# headers and URLs


@pytest.mark.parametrize("line", ["x: a\r\nevil: 1", "x: a\nevil: 1", "x: a\rb", "x: a\0b"])
async def test_a_header_cannot_become_two(client: Clients, line: str) -> None:
    async with receiver() as server, client() as http:
        error = await failure(http, post(server, headers=["a: b", line]))
    assert (error.code, error.retryable) == ("invalid_request", False)
    assert server.connections == 0


async def test_header_values_travel_as_utf8(client: Clients) -> None:
    async with receiver() as server, client() as http:
        await http.send(post(server, headers=["x-name: Zoë"]))
    assert server.seen[0].headers["x-name"] == "Zoë"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.test/",
        "file:///etc/passwd",
        "http://",
        "http://u:p@a.test/",
        "http://a.test\\@b.test/",
        "http://a b/",
        "",
    ],
)
async def test_only_plain_http_urls_are_requested(client: Clients, url: str) -> None:
    async with client() as http:
        error = await failure(http, HttpRequest(method="POST", url=url))
    assert (error.code, error.retryable) == ("invalid_request", False)
    assert error.sentence.startswith("The URL must ")


def test_header_lines() -> None:
    assert header_line("a", "b") == "a: b"
    assert header_line("a", "  ") == "a;"
    for name, value in [("a b", "c"), ("", "c"), ("a:", "c"), ("ä", "c"), ("a", "b\r\nc"), ("a", "\0"), ("a", "\x7f")]:
        with pytest.raises(ValueError, match="header"):
            header_line(name, value)


# what is kept of an answer


async def test_a_long_body_is_cut_and_its_connection_kept(client: Clients) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(body=b"0123456789" * 10_000)

    async with receiver(answer) as server, client(body_cap=15) as http:
        first = await http.send(post(server))
        second = await http.send(post(server))
    assert (first.body, first.truncated) == (b"012345678901234", True)
    assert second.body == first.body
    assert server.connections == 1


async def test_a_body_of_exactly_the_cap_is_whole(client: Clients) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(body=b"0123456789")

    async with receiver(answer) as server, client(body_cap=10) as http:
        response = await http.send(post(server))
    assert (response.body, response.truncated) == (b"0123456789", False)


async def test_an_endless_body_is_cut_off(client: Clients) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await exchange.say(b"x" * 10_000)

    async with receiver(answer) as server, client(body_cap=100, drain_cap=50_000) as http:
        response = await http.send(post(server))
        assert (response.status, response.body, response.truncated) == (200, b"x" * 100, True)
        await asyncio.wait_for(server.closed.wait(), 10)


async def test_headers_beyond_the_cap_are_left_out(client: Clients) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(headers="".join(f"x-{number}: {'y' * 100}\r\n" for number in range(50)))

    async with receiver(answer) as server, client(header_cap=1_000) as http:
        response = await http.send(post(server))
    assert response.truncated
    assert 0 < sum(len(name) + len(value) for name, value in response.headers.items()) <= 1_000
    assert response.body == b"ok"


# time


async def test_a_connection_that_does_not_come_about(client: Clients) -> None:
    async with silent_port() as port, client(connect_timeout=0.2) as http:
        error = await failure(http, post(port))
    assert error.code == "timeout"
    assert error.sentence.startswith(f"No connection to {HOST}:{port} within")


async def test_a_handshake_that_does_not_come_about(client: Clients) -> None:
    async with silent_port(accepts=True) as port, client(connect_timeout=0.2) as http:
        error = await failure(http, post(port, scheme="https"))
    assert error.code == "timeout"
    assert "secure connection" in error.sentence


async def test_an_answer_that_does_not_begin(client: Clients) -> None:
    async with receiver(Exchange.gone) as server, client(first_byte_timeout=0.2, total_timeout=60) as http:
        error = await failure(http, post(server))
    assert error.code == "timeout"
    assert "did not answer" in error.sentence


async def test_an_answer_that_does_not_end(client: Clients) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
        await exchange.gone()

    async with receiver(answer) as server, client(first_byte_timeout=30, total_timeout=1) as http:
        error = await failure(http, post(server))
    assert error.code == "timeout"
    assert "not complete" in error.sentence


async def test_a_request_may_have_a_time_of_its_own(client: Clients) -> None:
    async def answer(exchange: Exchange) -> None:
        if exchange.seen.path == "/slow":
            await asyncio.sleep(0.3)
        await exchange.answer()

    async with receiver(answer) as server, client(first_byte_timeout=0.1) as http:
        assert (await failure(http, post(server, "/slow", timeout=0.05))).code == "timeout"
        assert (await http.send(post(server, "/slow", timeout=30))).status == 200
        assert (await failure(http, post(server, "/slow"))).code == "timeout"


async def test_hanging_receivers_delay_nobody(client: Clients) -> None:
    async with receiver(Exchange.gone) as hanging, receiver() as healthy, client() as http:
        stuck = [asyncio.create_task(http.send(post(hanging))) for _ in range(300)]
        while len(hanging.seen) < 300:
            await asyncio.sleep(0.01)
        responses = await asyncio.gather(*(http.send(post(healthy)) for _ in range(50)))
        assert {response.status for response in responses} == {200}
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_cancelled_send_closes_its_connection(client: Clients) -> None:
    async with receiver(Exchange.gone) as server, client() as http:
        task = asyncio.create_task(http.send(post(server)))
        while not server.seen:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.closed.wait(), 10)
        server.answer = Exchange.answer
        assert (await http.send(post(server))).status == 200


async def test_a_send_cancelled_before_it_began_sends_nothing(client: Clients) -> None:
    async with receiver() as server, client() as http:
        task = asyncio.create_task(http.send(post(server)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await http.send(post(server, "/second"))
    assert [seen.path for seen in server.seen] == ["/second"]


async def test_closing_fails_what_runs_and_hangs_on_nothing(client: Clients) -> None:
    async with receiver(Exchange.gone) as server, client() as http:
        task = asyncio.create_task(http.send(post(server)))
        while not server.seen:
            await asyncio.sleep(0.01)
        await http.close()
        with pytest.raises(DeliveryError, match="shutting down") as caught:
            await task
        assert caught.value.code == "network_error"
        assert (await failure(http, post(server))).code == "network_error"
        await http.close()


async def test_starting_twice_and_again(names: Names) -> None:
    http = HttpClient(HttpSettings(), names, AddressGuard(enabled=False))
    await http.close()
    async with receiver() as server:
        for _ in range(2):
            await http.start()
            await http.start()
            assert (await http.send(post(server))).status == 200
            await http.close()


# failures have names


async def test_a_refused_connection(client: Clients) -> None:
    with create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    async with client() as http:
        error = await failure(http, post(port))
    assert (error.code, error.retryable) == ("connection_refused", True)
    assert error.sentence == f"{HOST}:{port} refused the connection"


async def test_no_socket_left(client: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async with receiver() as server, client() as http:
        with monkeypatch.context() as patched:
            patched.setattr(curl_handle, "_Socket", none_left)
            with pytest.raises(Unavailable, match="Too many open files"):
                await http.send(post(server))
        assert (await http.send(post(server))).status == 200


async def _reset(exchange: Exchange) -> None:
    exchange.reset()


async def _hang_up(exchange: Exchange) -> None:
    exchange.writer.close()


async def _half(exchange: Exchange) -> None:
    await exchange.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
    exchange.writer.close()


@pytest.mark.parametrize("answer", [_reset, _hang_up, _half])
async def test_a_connection_that_breaks(client: Clients, answer: object) -> None:
    async with receiver(answer) as server, client() as http:  # type: ignore[arg-type] # one of three functions
        error = await failure(http, post(server))
    assert (error.code, error.retryable) == ("connection_reset", True)
    assert "closed the connection" in error.sentence


async def test_an_answer_that_is_not_http(client: Clients) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(b"SSH-2.0-OpenSSH_9.6\r\n")
        exchange.writer.close()

    async with receiver(answer) as server, client() as http:
        assert (await failure(http, post(server))).code == "network_error"


async def test_an_unknown_name(client: Clients) -> None:
    async with client() as http:
        error = await failure(http, post(80, host="nobody.test"))
    assert error.code == "dns_error"


async def test_a_network_without_a_route(client: Clients, names: Names) -> None:
    names.known["far.test"] = ("2606:4700::1111",)
    async with client(connect_timeout=0.5) as http:
        error = await failure(http, post(80, host="far.test"))
    assert error.code in {"network_unreachable", "timeout", "connection_refused"}


# TLS


async def test_tls_with_a_further_authority(client: Clients, authority: Authority) -> None:
    async with receiver(tls=authority.context()) as server, client(ca_bundle=str(authority.path)) as http:
        response = await http.send(post(server, scheme="https"))
        again = await http.send(post(server, scheme="https"))
    assert response.status == 200
    assert response.timings.tls > 0
    assert again.timings.tls == 0
    assert server.connections == 1


async def test_the_joined_bundle_is_removed(client: Clients, authority: Authority) -> None:
    async with client(ca_bundle=str(authority.path)) as http:
        assert http._authorities is not None
        path = Path(http._authorities.path or "")
        assert authority.path.read_bytes() in path.read_bytes()
    assert not path.exists()


async def test_an_unknown_authority_is_refused(client: Clients, authority: Authority) -> None:
    async with receiver(tls=authority.context()) as server, client() as http:
        error = await failure(http, post(server, scheme="https"))
    assert (error.code, error.retryable) == ("tls_error", True)
    assert "certificate" in error.sentence
    assert server.seen == []


async def test_a_certificate_for_another_host_is_refused(client: Clients, authority: Authority) -> None:
    other = authority.context("other.test")
    async with receiver(tls=other) as server, client(ca_bundle=str(authority.path)) as http:
        assert (await failure(http, post(server, scheme="https"))).code == "tls_error"
    assert server.seen == []


async def test_a_receiver_without_tls(client: Clients) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with client() as http:
        error = await failure(http, post(server.sockets[0].getsockname()[1], scheme="https"))
    server.close()
    assert error.code == "tls_error"


@pytest.mark.parametrize("content", [None, b"no certificate", b"\xff"])
async def test_a_bundle_that_cannot_be_used(tmp_path: Path, names: Names, content: bytes | None) -> None:
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_bytes(content)
    http = HttpClient(HttpSettings(ca_bundle=str(path)), names, AddressGuard())
    with pytest.raises(SettingsError, match="bundle"):
        await http.start()


async def _h2(authority: Authority, log: list[H2Receiver], bodies: list[bytes]) -> asyncio.Server:
    tls: ssl.SSLContext = authority.context(protocols=["h2", "http/1.1"])
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: H2Receiver(log, bodies), "127.0.0.1", 0, ssl=tls)


async def test_http2_shares_a_connection(client: Clients, authority: Authority) -> None:
    log: list[H2Receiver] = []
    bodies: list[bytes] = []
    server = await _h2(authority, log, bodies)
    port = server.sockets[0].getsockname()[1]
    sent = [b"x" * number for number in range(40)]
    async with client(ca_bundle=str(authority.path)) as http:
        first = await http.send(post(port, scheme="https", method="GET", body=b""))
        bodies.clear()
        log[0].transport.abort()
        await log[0].lost.wait()
        responses = await asyncio.gather(*(http.send(post(port, scheme="https", body=body)) for body in sent))
    server.close()
    assert {response.http_version for response in [first, *responses]} == {"2"}
    assert [response.headers["x-length"] for response in responses] == [str(len(body)) for body in sent]
    assert sorted(bodies) == sent
    assert len(log) == 2


async def test_http2_can_be_switched_off(client: Clients, authority: Authority) -> None:
    tls = authority.context(protocols=["h2", "http/1.1"])
    async with receiver(tls=tls) as server, client(ca_bundle=str(authority.path), http2=False) as http:
        assert (await http.send(post(server, scheme="https"))).http_version == "1.1"


# addresses


async def test_every_address_is_tried(client: Clients, names: Names) -> None:
    names.known[HOST] = ("127.0.0.99", "127.0.0.1")
    async with receiver() as server, client() as http:
        assert (await http.send(post(server))).status == 200


async def test_a_name_with_one_bad_address_is_refused_whole(client: Clients, names: Names) -> None:
    names.known["mixed.test"] = ("127.0.0.1", "10.0.0.1")
    async with receiver() as server, client() as http:
        error = await failure(http, post(server, host="mixed.test"))
    assert error.code == "blocked_address"
    assert server.connections == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0177.0.0.1", "0x7f.1", "127.1", "0", "[::1]", "127.0.0.1."]
)
async def test_addresses_in_any_spelling_are_refused(client: Clients, host: str) -> None:
    async with receiver() as server, client(guard=AddressGuard()) as http:
        assert (await failure(http, post(server, host=host))).code == "blocked_address"
    assert server.connections == 0


async def test_the_socket_is_guarded_whatever_the_resolver_says(client: Clients, names: Names) -> None:
    async with receiver() as server, client(guard=AddressGuard(), resolver=names) as http:
        error = await failure(http, post(server))
        assert error.code == "blocked_address"
        assert "127.0.0.1" not in error.sentence
        literal = await failure(http, post(server, host="127.0.0.1"))
        assert literal.code in {"blocked_address", "dns_error"}
    assert server.connections == 0


async def test_a_name_that_moves_is_followed_by_new_connections_only_where_allowed(
    client: Clients, names: Names
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer()
        exchange.writer.close()

    async with receiver(answer) as server, client(guard=AddressGuard([ip_network("127.0.0.1/32")])) as http:
        assert (await http.send(post(server))).status == 200
        names.known[HOST] = ("127.0.0.2",)
        assert (await failure(http, post(server))).code == "blocked_address"
        names.known[HOST] = ("127.0.0.1",)
        assert (await http.send(post(server))).status == 200
    assert server.connections == 2


async def test_libcurl_looks_nothing_up_by_itself(client: Clients, names: Names) -> None:
    """`localhost` would resolve to 127.0.0.1; the pin says otherwise, and a changed pin replaces the first."""
    names.known["localhost"] = ("127.0.0.77",)
    async with receiver() as server, client() as http:
        assert (await failure(http, post(server, host="localhost"))).code == "connection_refused"
        names.known["localhost"] = ("127.0.0.1",)
        assert (await http.send(post(server, host="localhost"))).status == 200


async def test_pins_can_be_forgotten(client: Clients, names: Names, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_HOSTS", 2)
    names.known.update({f"h{number}.test": ("127.0.0.1",) for number in range(8)})
    async with receiver() as server, client() as http:
        for number in [*range(8), *range(8)]:
            assert (await http.send(post(server, host=f"h{number}.test"))).status == 200


async def test_international_names(client: Clients, names: Names) -> None:
    names.known["xn--bcher-kva.test"] = ("127.0.0.1",)
    async with receiver() as server, client() as http:
        await http.send(post(server, "/ü?ö=1", host="Bücher.test"))
    assert server.seen[0].headers["host"] == f"xn--bcher-kva.test:{server.port}"
    assert server.seen[0].path == "/%C3%BC?%C3%B6=1"


# proxies


@pytest.fixture
def dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.mark.usefixtures("dead_proxy")
async def test_the_environment_has_no_say(client: Clients) -> None:
    async with receiver() as server, client() as http:
        assert (await http.send(post(server))).status == 200


async def test_a_proxy_is_told_the_checked_address(client: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    guard = AddressGuard([ip_network("192.0.2.0/24"), ip_network("2001:db8::/32")])
    async with receiver() as server, proxy() as forward:
        names = Names(receiver_test=("192.0.2.7",), six_test=("2001:db8::7",))
        resolver = GuardedResolver(names, guard)
        async with client(guard=guard, resolver=resolver, proxy=forward.url) as http:
            assert (await http.send(post(server))).status == 200
            assert (await http.send(post(server, host="six.test"))).status == 200
            assert (await http.send(post(server, host="192.0.2.9"))).status == 200
    addresses = ("CONNECT 192.0.2.7", "CONNECT [2001:db8::7]", "POST http://192.0.2.9")
    assert [asked.rpartition(":")[0] for asked in forward.asked] == list(addresses)
    assert [seen.headers["host"] for seen in server.seen] == [
        f"{host}:{server.port}" for host in (HOST, "six.test", "192.0.2.9")
    ]


async def test_a_proxy_for_https_sees_no_headers_and_no_name(client: Clients, authority: Authority) -> None:
    async with receiver(tls=authority.context()) as server, proxy() as forward:
        url = f"http://user:word@127.0.0.1:{forward.port}"
        async with client(proxy=url, ca_bundle=str(authority.path)) as http:
            response = await http.send(post(server, scheme="https", headers=["webhook-signature: v1,abc"]))
    assert response.headers == {"content-length": "2"}
    assert forward.asked == [f"CONNECT 127.0.0.1:{server.port}"]
    assert server.seen[0].headers["host"] == f"{HOST}:{server.port}"
    assert HOST.encode() not in forward.heads[0]
    assert b"webhook-signature" not in forward.heads[0]
    assert b"Proxy-Authorization: Basic" in forward.heads[0]
    assert "proxy-authorization" not in server.seen[0].headers


async def test_behind_a_proxy_what_is_not_known_to_be_allowed_is_refused(client: Clients, names: Names) -> None:
    names.known |= {"inside.test": ("10.1.2.3",), "both.test": ("1.1.1.1", "10.1.2.3")}
    async with receiver() as server, proxy() as forward, client(AddressGuard(), proxy=forward.url) as http:
        for host in ("127.0.0.1", "0x7f.1", "inside.test", "both.test"):
            assert (await failure(http, post(server, host=host))).code == "blocked_address"
        assert (await failure(http, post(server, host="only-the-proxy-knows.test"))).code == "dns_error"
    assert forward.asked == []


async def test_a_name_that_changes_its_answer_gains_nothing_behind_a_proxy(client: Clients, names: Names) -> None:
    """The proxy would find 127.0.0.1 for the name; it is never asked to look."""
    names.known["rebound.test"] = ("1.1.1.1",)
    async with receiver() as server, proxy() as forward, client(AddressGuard(), proxy=forward.url) as http:
        await http.send(post(server, host="rebound.test"))
        names.known["rebound.test"] = ("127.0.0.1",)
        assert (await failure(http, post(server, host="rebound.test"))).code == "blocked_address"
    assert forward.asked == [f"CONNECT 1.1.1.1:{server.port}"]


async def test_after_a_failure_a_proxy_is_asked_for_the_next_address(client: Clients, names: Names) -> None:
    names.known["two.test"] = ("1.1.1.1", "1.0.0.1")
    async with proxy() as forward, client(AddressGuard(), proxy=forward.url) as http:
        for _ in range(2):  # the proxy cannot connect
            await failure(http, HttpRequest(method="POST", url="http://two.test:9/", body=b"{}"))
    assert forward.asked == ["CONNECT 1.1.1.1:9", "CONNECT 1.0.0.1:9"]


async def test_a_proxy_that_guards_is_told_names(client: Clients, names: Names) -> None:
    names.known["inside.test"] = ("10.1.2.3",)
    async with (
        receiver() as server,
        proxy() as forward,
        client(AddressGuard(), proxy=forward.url, proxy_guards=True) as http,
    ):
        for host in ("127.0.0.1", "0x7f.1", "inside.test"):
            assert (await failure(http, post(server, host=host))).code == "blocked_address"
        assert forward.asked == []
        assert (await http.send(post(server, host="only-the-proxy-knows.test"))).status == 200
    assert forward.asked == [f"POST http://only-the-proxy-knows.test:{server.port}/hook"]


async def test_a_proxy_that_is_down(client: Clients) -> None:
    async with receiver() as server, client(proxy="http://127.0.0.1:9") as http:
        assert (await failure(http, post(server))).code == "connection_refused"


# without epoll


async def test_the_same_without_epoll(client: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curl, "new_poller", SelectorPoller)

    async def answer(exchange: Exchange) -> None:
        await exchange.answer()
        if exchange.seen.path == "/close":
            exchange.writer.close()

    async with receiver(answer) as server, client() as http:
        for round_ in range(3):
            paths = ["/keep", "/close"] * 20
            responses: list[HttpResponse] = await asyncio.gather(*(http.send(post(server, path)) for path in paths))
            assert {response.status for response in responses} == {200}, round_
