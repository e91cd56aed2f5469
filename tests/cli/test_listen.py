"""The receiver, what it makes of a webhook, and `waypost listen`, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from waypost.cli import receiver as receiver_module
from waypost.cli.arrival import Arrival, read, signature_problem
from waypost.cli.client import Client, ServerUnreachable
from waypost.cli.listen import AddressTaken, Behaviour, Listener, as_json_line, as_text, listen, registered
from waypost.cli.receiver import Answer, Receiver, Request
from waypost.core import signing
from waypost.core.errors import BadRequest

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
SENT = 1_614_265_330
NOW = SENT * 1_000_000
WAIT = 10.0


def standard(changes: Mapping[str, str] = MappingProxyType({}), *, at: int = SENT, secret: str = SECRET) -> Request:
    """A webhook signed by the reference implementation of Standard Webhooks; `changes` are made to its headers."""
    signature = Webhook(secret).sign("msg_1", datetime.fromtimestamp(at, UTC), BODY.decode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": signature}
    return Request(method="POST", target="/", headers=headers | dict(changes), body=BODY)


def prefixed(body: bytes = BODY, *, signature: str | None = None, prefix: str = "x-waypost-") -> Request:
    own = "v0=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
    headers = {
        f"{prefix}event-id": "evt_1",
        f"{prefix}topic": "order.created",
        f"{prefix}timestamp": "2026-01-01T00:00:00Z",
        f"{prefix}signature": own if signature is None else signature,
    }
    return Request(method="POST", target="/", headers=headers, body=body)


class TestStandardSignatures:
    def test_the_published_vector(self) -> None:
        headers = {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        }
        request = Request(method="POST", target="/", headers=headers, body=BODY)

        assert signature_problem(request, SECRET, now=NOW) is None

    def test_what_the_reference_implementation_signs(self) -> None:
        assert signature_problem(standard(), SECRET, now=NOW) is None

    def test_what_waypost_signs(self) -> None:
        keys = (signing.HmacSigner(b"n" * 24), signing.HmacSigner(signing.parse_secret(SECRET)))
        signature = signing.standard_signature(keys, signing.standard_content("msg_1", SENT, BODY))

        assert signature_problem(standard({"webhook-signature": signature}), SECRET, now=NOW) is None

    def test_a_secret_without_its_prefix(self) -> None:
        assert signature_problem(standard(), SECRET.removeprefix("whsec_"), now=NOW) is None

    def test_one_good_signature_among_others(self) -> None:
        good = standard().headers["webhook-signature"]
        request = standard({"webhook-signature": f"v1a,b3RoZXI= v1,b3RoZXI= {good}"})

        assert signature_problem(request, SECRET, now=NOW) is None

    def test_the_version_is_part_of_the_signature(self) -> None:
        other = standard().headers["webhook-signature"].replace("v1,", "v2,")

        assert (
            signature_problem(standard({"webhook-signature": other}), SECRET, now=NOW) == "no signature fits the secret"
        )

    @pytest.mark.parametrize(
        "change", [{"webhook-id": "msg_2"}, {"webhook-timestamp": "1614265331"}, {"webhook-signature": "v1,AAAA"}]
    )
    def test_any_change_of_the_headers_breaks_it(self, change: dict[str, str]) -> None:
        assert signature_problem(standard(change), SECRET, now=NOW) == "no signature fits the secret"

    def test_a_change_of_the_body_breaks_it(self) -> None:
        forged = Request(method="POST", target="/", headers=standard().headers, body=BODY + b" ")

        assert signature_problem(forged, SECRET, now=NOW) == "no signature fits the secret"

    def test_another_secret_breaks_it(self) -> None:
        other = "whsec_" + base64.b64encode(b"x" * 24).decode()

        assert signature_problem(standard(secret=other), SECRET, now=NOW) == "no signature fits the secret"

    @pytest.mark.parametrize(("away", "fine"), [(-301, False), (-300, True), (300, True), (301, False)])
    def test_five_minutes_of_tolerance(self, away: int, fine: bool) -> None:
        problem = signature_problem(standard(at=SENT + away), SECRET, now=NOW)

        assert (problem is None) is fine
        if problem is not None:
            assert problem == "webhook-timestamp is 301 seconds from this machine's clock"

    @pytest.mark.parametrize("timestamp", ["", "soon", "-5", "1.5", "9" * 5000, "\u00b2"])
    def test_a_timestamp_that_is_no_number(self, timestamp: str) -> None:
        problem = signature_problem(standard({"webhook-timestamp": timestamp}), SECRET, now=NOW)

        assert problem == "webhook-timestamp is missing or not a number"

    @pytest.mark.parametrize(
        ("secret", "sentence"),
        [
            ("whsec_%%%", "the secret must be base64"),
            ("whsec_c2hvcnQ=", "the secret must hold 24 to 64 bytes"),
            ("whpk_%", "the secret must be base64"),
        ],
    )
    def test_a_secret_of_the_wrong_form(self, secret: str, sentence: str) -> None:
        assert signature_problem(standard(), secret, now=NOW) == sentence

    def test_an_asymmetric_signature_and_its_public_key(self) -> None:
        signer = signing.Ed25519Signer.parse(base64.b64encode(b"s" * 32).decode())
        content = signing.standard_content("msg_1", SENT, BODY)
        good = standard({"webhook-signature": f"v1,AAAA {signer.sign(content)}"})

        assert signature_problem(good, signer.public_key, now=NOW) is None
        assert signature_problem(standard(), signer.public_key, now=NOW) == "no signature fits the secret"


class TestPrefixedSignatures:
    @pytest.mark.parametrize("prefix", ["x-waypost-", "x-outpost-", "x-acme-events-", ""])
    def test_whatever_the_prefix(self, prefix: str) -> None:
        request = prefixed(prefix=prefix)
        arrival = read(request, "s3cret", at=NOW)

        assert (arrival.verified, arrival.event_id, arrival.topic) == (True, "evt_1", "order.created")

    def test_what_waypost_signs(self) -> None:
        signer = signing.RecipeSigner(signing.Recipe(), ("new", "s3cret"))

        assert signature_problem(prefixed(signature=signer.sign("evt_1", SENT, BODY)), "s3cret", now=NOW) is None
        assert signature_problem(prefixed(signature=signer.sign("evt_1", SENT, BODY)), "new", now=NOW) is None

    def test_two_signatures_while_a_secret_is_being_rotated(self) -> None:
        good = prefixed().headers["x-waypost-signature"]

        assert signature_problem(prefixed(signature=f"v0={'0' * 64},{good}"), "s3cret", now=NOW) is None
        assert signature_problem(prefixed(signature=f"{good},{'0' * 64}"), "s3cret", now=NOW) is None

    @pytest.mark.parametrize("signature", ["v0=", "v0=" + "0" * 64, "rubbish", "\u00e9"])
    def test_a_wrong_one(self, signature: str) -> None:
        problem = signature_problem(prefixed(signature=signature), "s3cret", now=NOW)

        assert problem == "no signature fits the secret"

    def test_a_change_of_the_body_breaks_it(self) -> None:
        forged = Request(method="POST", target="/", headers=prefixed().headers, body=b"{}")

        assert signature_problem(forged, "s3cret", now=NOW) == "no signature fits the secret"

    def test_none_at_all(self) -> None:
        request = Request(method="POST", target="/", headers={"webhook-id": "m"}, body=b"")

        assert signature_problem(request, "s3cret", now=NOW) == "there is no signature header"


class TestArrival:
    def test_says_what_came(self) -> None:
        arrival = read(standard({"x-waypost-topic": "order.created"}), SECRET, at=NOW)

        assert arrival.event_id == "msg_1"
        assert arrival.topic == "order.created"
        assert arrival.body == BODY
        assert (arrival.verified, arrival.problem) == (True, None)

    def test_without_a_secret_nothing_is_claimed(self) -> None:
        arrival = read(standard(), None, at=NOW)

        assert (arrival.verified, arrival.problem) == (None, None)

    def test_a_stranger_s_request_has_neither_id_nor_topic(self) -> None:
        arrival = read(Request(method="POST", target="/", headers={}, body=b""), SECRET, at=NOW)

        assert (arrival.event_id, arrival.topic, arrival.verified) == ("", "", False)


def arrived(**changes: Any) -> Arrival:
    known: dict[str, Any] = {
        "at": NOW,
        "event_id": "evt_1",
        "topic": "order.created",
        "verified": True,
        "problem": None,
        "headers": {},
        "body": BODY,
    }
    return Arrival(**(known | changes))


class TestShowing:
    def test_one_line_and_the_body(self) -> None:
        line, *body = as_text(arrived(attempt=3)).splitlines()

        assert line.split("  ")[1:] == ["order.created", "evt_1", "attempt 3", "verified", "20 bytes"]
        assert body == ["    {", '      "test": 2432232314', "    }"]

    def test_numbers_and_key_order_are_shown_as_they_came(self) -> None:
        text = as_text(arrived(body=b'{"z":1.10,"a":12345678901234567890123}'))

        assert text.index('"z": 1.10') < text.index('"a": 12345678901234567890123')

    @pytest.mark.parametrize(
        ("verified", "problem", "shown"),
        [
            (False, "no signature fits the secret", "NOT VERIFIED: no signature fits the secret"),
            (None, None, "not verified: no secret known"),
        ],
    )
    def test_what_is_not_verified_says_so(self, verified: bool | None, problem: str | None, shown: str) -> None:
        assert shown in as_text(arrived(verified=verified, problem=problem))

    def test_missing_facts_are_named(self) -> None:
        assert "(no topic)  (no id)" in as_text(arrived(topic="", event_id=""))

    @pytest.mark.parametrize("body", [b"plain text", b"\xff\xfe", b"", b"{broken"])
    def test_any_body_can_be_shown(self, body: bytes) -> None:
        assert as_text(arrived(body=body))
        assert json.loads(as_json_line(arrived(body=body)))["body"] == body.decode(errors="replace")

    def test_nothing_that_arrives_steers_the_terminal(self) -> None:
        text = as_text(arrived(topic="a\x1b[2J", event_id="b\r\x9b", body=b"\x1b]0;title\x07 \x08"))

        assert all(letter == "\n" or letter.isprintable() for letter in text)

    @pytest.mark.parametrize(
        "body",
        [
            b'{"a":\n\n{"forged": 1}\r\n}',
            b'{"a": "\x7f\xc2\x9b31m\xe2\x80\xa8\xe2\x80\xae\xf3\xa0\x80\x81"}',
            b"[\n1,\n2\n]",
            b"\x1b[2Jnot JSON\n\xc2\x9b",
        ],
    )
    def test_whatever_arrives_is_one_line_that_steers_no_terminal(self, body: bytes) -> None:
        line = as_json_line(arrived(body=body, headers={"x-\x9b": "\x9b31m\x85"}))

        assert line.isprintable()
        shown = json.loads(line)
        assert shown["headers"] == {"x-\x9b": "\x9b31m\x85"}
        try:
            assert shown["body"] == json.loads(body)
        except ValueError:
            assert shown["body"] == body.decode()

    def test_a_line_of_json(self) -> None:
        line = as_json_line(arrived(headers={"webhook-id": "evt_1"}, attempt=2))

        assert "\n" not in line
        assert json.loads(line) == {
            "time": "2021-02-25T15:02:10Z",
            "event_id": "evt_1",
            "topic": "order.created",
            "attempt": 2,
            "verified": True,
            "problem": None,
            "headers": {"webhook-id": "evt_1"},
            "body": {"test": 2432232314},
        }


class Desk:
    """A receiver in the test's own loop, and what it heard."""

    def __init__(self, decide: Callable[[Request], Answer] = lambda _: Answer(status=200, body=b"thanks")) -> None:
        self.requests: list[Request] = []
        self.receiver = Receiver(decide, self.requests.append)

    async def talk(self, *sent: bytes, pause: float = 0.0) -> bytes:
        """Send pieces over one connection, say that nothing more comes, return all that is answered."""
        port = await self.receiver.start("127.0.0.1", 0)
        async with self.receiver, asyncio.timeout(WAIT):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(OSError):  # the receiver may close first
                for piece in sent:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(pause)
                writer.write_eof()
            answer = await reader.read()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        return answer


def post(body: bytes, *headers: str) -> bytes:
    lines = ["POST /hook?x=1 HTTP/1.1", "Host: here", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class TestReceiver:
    async def test_hands_on_what_came_and_answers(self) -> None:
        desk = Desk()

        answer = await desk.talk(post(b'{"a": 1}', "Webhook-ID: m1"))

        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-length: 6" in head
        assert body == b"thanks"
        (request,) = desk.requests
        assert (request.method, request.target, request.body) == ("POST", "/hook?x=1", b'{"a": 1}')
        assert request.headers["webhook-id"] == "m1"

    async def test_puts_pieces_together(self) -> None:
        desk = Desk()
        whole = post(b'{"a": "' + b"x" * 200_000 + b'"}')

        await desk.talk(whole[:10], whole[10:70], whole[70:100_000], whole[100_000:], pause=0.01)

        assert desk.requests[0].body == whole.partition(b"\r\n\r\n")[2]
        assert desk.requests[0].headers["host"] == "here"

    async def test_reads_chunked_bodies(self) -> None:
        desk = Desk()
        head = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"

        await desk.talk(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

        assert desk.requests[0].body == b"abcde"

    async def test_keeps_connections_and_answers_in_order(self) -> None:
        def echo(request: Request) -> Answer:
            return Answer(status=202, body=request.body)

        answer = await Desk(echo).talk(post(b"one") + post(b"two"), post(b"three"), pause=0.01)

        assert [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 202 Accepted")[1:]] == [
            b"one",
            b"two",
            b"three",
        ]

    async def test_closes_when_the_sender_asks_for_it(self) -> None:
        desk = Desk()

        answer = await desk.talk(post(b"one", "Connection: close"), post(b"two"), pause=0.05)

        assert b"connection: close" in answer
        assert [request.body for request in desk.requests] == [b"one"]

    async def test_refuses_what_is_not_http(self) -> None:
        desk = Desk()

        answer = await desk.talk(b"hello there\r\n\r\n")

        assert answer.startswith(b"HTTP/1.1 400 ")
        assert desk.requests == []

    async def test_refuses_what_is_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(receiver_module, "LARGEST_REQUEST", 1000)
        desk = Desk()

        answer = await desk.talk(post(b"x" * 2000)[:1500])

        assert answer.startswith(b"HTTP/1.1 413 ")
        assert desk.requests == []

    async def test_a_status_without_a_name_can_be_answered(self) -> None:
        answer = await Desk(lambda _: Answer(status=299)).talk(post(b""))

        assert answer.startswith(b"HTTP/1.1 299 ")

    async def test_says_that_it_answered_also_when_the_sender_left(self) -> None:
        desk = Desk(lambda _: Answer(status=200, delay=60))
        port = await desk.receiver.start("127.0.0.1", 0)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(b"impatient"))
        await writer.drain()
        await asyncio.sleep(0.05)

        await desk.receiver.close()

        assert [request.body for request in desk.requests] == [b"impatient"]
        writer.close()

    async def test_a_taken_address_is_an_error(self) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            with pytest.raises(OSError, match="address already in use"):
                await Desk().receiver.start("127.0.0.1", other.getsockname()[1])


async def send(port: int, request: Request, *, method: str = "POST") -> int:
    def exchange() -> int:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
        connection.request(method, request.target, request.body, request.headers)
        status = connection.getresponse().status
        connection.close()
        return status

    return await asyncio.to_thread(exchange)


class TestListener:
    async def test_counts_the_attempts_of_each_event(self) -> None:
        seen: list[Arrival] = []
        listener = Listener(seen.append, Behaviour(), secret="s3cret")
        async with listener.receiver, asyncio.timeout(WAIT):
            port = await listener.receiver.start("127.0.0.1", 0)
            for request in (prefixed(), standard(), prefixed()):
                assert await send(port, request) == 200
            await listener.until(3)

        assert [(arrival.event_id, arrival.attempt) for arrival in seen] == [("evt_1", 1), ("msg_1", 1), ("evt_1", 2)]

    async def test_the_secret_may_come_later(self) -> None:
        seen: list[Arrival] = []
        listener = Listener(seen.append, Behaviour())
        async with listener.receiver:
            port = await listener.receiver.start("127.0.0.1", 0)
            await send(port, prefixed())
            listener.secret = "s3cret"
            await send(port, prefixed())

        assert [arrival.verified for arrival in seen] == [None, True]

    async def test_answers_as_it_is_told(self) -> None:
        listener = Listener(lambda _: None, Behaviour(status=410))
        async with listener.receiver:
            port = await listener.receiver.start("127.0.0.1", 0)

            assert await send(port, prefixed()) == 410

    async def test_only_posts_are_webhooks(self) -> None:
        seen: list[Arrival] = []
        listener = Listener(seen.append, Behaviour())
        async with listener.receiver:
            port = await listener.receiver.start("127.0.0.1", 0)

            assert await send(port, prefixed(), method="GET") == 405
        assert seen == []

    @pytest.mark.parametrize(("dice", "status"), [(0.0, 500), (0.24, 500), (0.25, 201), (0.99, 201)])
    def test_a_share_of_the_answers_fails(self, dice: float, status: int) -> None:
        assert Behaviour(status=201, fail_rate=0.25).answer(dice).status == status

    def test_the_bounds_of_failing(self) -> None:
        assert Behaviour(fail_rate=0.0).answer(0.0).status == 200
        assert Behaviour(fail_rate=1.0).answer(0.999_999).status == 500

    def test_the_delay_is_for_every_answer(self) -> None:
        assert Behaviour(delay=1.5, fail_rate=1.0).answer(0.5).delay == 1.5


class Backend:
    """The part of Waypost's API that `listen` uses, on a real socket."""

    def __init__(self) -> None:
        self.destinations: dict[str, dict[str, Any]] = {}
        self.tenants: set[str] = set()
        self.refusals: dict[str, int] = {}
        self.registered = threading.Event()
        self.url = ""

    def handle(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if method in self.refusals:
            return self.refusals[method], {"status": self.refusals[method], "message": "not today"}
        _, _, _, kind, tenant, *rest = path.split("/")
        assert kind == "tenants"
        if method == "PUT":
            self.tenants.add(tenant)
            return 201, {"id": tenant}
        if method == "POST":
            created = {"id": "des_1", **body, "credentials": {"secret": SECRET}}
            self.destinations["des_1"] = created
            self.registered.set()
            return 201, created
        if method == "DELETE":
            return (200, {"success": True}) if self.destinations.pop(rest[1], None) else (404, {"message": "not found"})
        return (200, {"id": tenant}) if tenant in self.tenants else (404, {"message": "tenant not found"})


@pytest.fixture
def backend() -> Iterator[Backend]:
    state = Backend()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, answer = state.handle(self.command, self.path, json.loads(body) if body else None)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815  the names that http.server looks for

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        state.url = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        running.shutdown()
        thread.join()


class TestRegistering:
    def test_a_destination_for_the_time_being(self, backend: Backend) -> None:
        with registered(Client(backend.url, "k"), "acme", "http://127.0.0.1:4000/", ["a.*"], print) as destination:
            assert destination["credentials"]["secret"] == SECRET
            assert backend.tenants == {"acme"}
            assert backend.destinations["des_1"]["topics"] == ["a.*"]
            assert backend.destinations["des_1"]["config"] == {"url": "http://127.0.0.1:4000/"}
        assert backend.destinations == {}
        assert backend.tenants == {"acme"}

    def test_it_goes_also_after_an_error(self, backend: Backend) -> None:
        with pytest.raises(KeyboardInterrupt), registered(Client(backend.url, "k"), "acme", "u", ["*"], print):
            raise KeyboardInterrupt
        assert backend.destinations == {}

    def test_somebody_else_may_have_removed_it(self, backend: Backend) -> None:
        told: list[str] = []
        with registered(Client(backend.url, "k"), "acme", "u", ["*"], told.append):
            backend.destinations.clear()
        assert told == []

    def test_what_could_not_be_removed_is_told(self, backend: Backend) -> None:
        told: list[str] = []
        with registered(Client(backend.url, "k"), "acme", "u", ["*"], told.append):
            backend.refusals["DELETE"] = 503
        assert len(told) == 1
        assert "des_1 of tenant acme could not be removed" in told[0]
        assert "not today" in told[0]


class Listening:
    """`listen` running in a thread, with what it says line by line."""

    def __init__(self, **options: Any) -> None:
        self.said: queue.Queue[str] = queue.Queue()
        self.error: BaseException | None = None
        self.options = {"port": 0, **options}
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            listen(**self.options, echo=self.said.put)
        except BaseException as error:  # noqa: BLE001  raised again in the test's own thread
            self.error = error

    def port(self) -> int:
        """The port, once it says that it listens."""
        while True:
            text = self.said.get(timeout=WAIT)
            if text.startswith("listening on "):
                return int(text.split(":")[2].split("/")[0])

    def end(self) -> None:
        self.thread.join(WAIT)
        assert not self.thread.is_alive()
        if self.error is not None:
            raise self.error


class TestListenCommand:
    async def test_registers_shows_verifies_and_cleans_up(self, backend: Backend) -> None:
        running = Listening(tenant="acme", server=backend.url, api_key="k", topics=["order.*"], count=2)
        announced = running.said.get(timeout=WAIT)
        port = running.port()
        assert "destination des_1 of tenant acme" in announced
        assert backend.destinations["des_1"]["config"]["url"] == f"http://127.0.0.1:{port}/"

        await send(port, standard({"x-waypost-topic": "order.created"}, at=int(time.time())))
        await send(port, standard({"webhook-signature": "v1,AAAA"}, at=int(time.time())))
        running.end()

        assert "order.created  msg_1  attempt 1  verified  20 bytes" in running.said.get_nowait()
        assert "msg_1  attempt 2  NOT VERIFIED: no signature fits the secret" in running.said.get_nowait()
        assert backend.destinations == {}

    async def test_without_a_tenant_it_needs_no_server(self) -> None:
        running = Listening(secret="s3cret", respond=503, count=1)

        assert await send(running.port(), prefixed()) == 503
        running.end()

        assert "order.created  evt_1  attempt 1  verified" in running.said.get_nowait()

    async def test_json_and_nothing_else(self, backend: Backend) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        running = Listening(port=port, tenant="acme", server=backend.url, api_key="k", as_json=True, count=1)
        await asyncio.to_thread(backend.registered.wait, WAIT)

        await send(port, standard(at=int(time.time())))
        running.end()

        shown = json.loads(running.said.get_nowait())
        assert (shown["event_id"], shown["verified"], shown["body"]) == ("msg_1", True, {"test": 2432232314})
        assert running.said.empty()

    def test_another_address_may_be_registered(self, backend: Backend) -> None:
        running = Listening(
            tenant="acme", server=backend.url, api_key="k", url="https://tunnel.example.com/hook", count=0
        )
        assert "https://tunnel.example.com/hook is now destination" in running.said.get(timeout=WAIT)
        running.end()

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"respond": 99}, "respond must be a status from 200 to 599"),
            ({"respond": 600}, "respond must be a status"),
            ({"delay": -1.0}, "delay must be at least 0"),
            ({"fail_rate": 1.1}, "fail-rate must be from 0 to 1"),
            ({"fail_rate": -0.1}, "fail-rate must be from 0 to 1"),
        ],
    )
    def test_wrong_options_are_named(self, options: dict[str, Any], sentence: str) -> None:
        with pytest.raises(BadRequest, match=sentence):
            listen(**options)

    def test_a_taken_port_is_one_sentence(self) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(AddressTaken, match=f"cannot listen on 127.0.0.1 port {port}: .*choose another --port"):
                listen(port=port)

    def test_no_server_is_one_sentence(self) -> None:
        with pytest.raises(ServerUnreachable, match="waypost serve"):
            listen(port=0, tenant="acme", server="http://127.0.0.1:1", api_key="k")

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupt_removes_the_destination(
        self, backend: Backend, tmp_path: Path, number: signal.Signals
    ) -> None:
        code = (
            f"from waypost.cli.listen import listen; listen(port=0, tenant='acme', server={backend.url!r}, api_key='k')"
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WAYPOST_")}
        command = [sys.executable, "-u", "-c", code]
        with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while not process.stdout.readline().startswith(b"listening on"):
                pass
            assert backend.destinations

            process.send_signal(number)

            assert process.wait(WAIT) == 0
        assert backend.destinations == {}
