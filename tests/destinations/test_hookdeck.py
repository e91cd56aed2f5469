"""Hookdeck against a stand-in for its ingest and its API, which checks signatures as Hookdeck documents them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.destinations.aws_kit import connected, destination, gate_to, lent
from tests.destinations.messages import ODD_BODY, message
from tests.net.receivers import Answer, Exchange, Receiver, receiver
from waypost.connect import fields
from waypost.connect.connector import Connection
from waypost.core.errors import DeliveryError, SettingsError
from waypost.destinations.hookdeck import HookdeckType, options_of, source_of
from waypost.net.guard import AddressGuard

KIND = HookdeckType()
TOKEN = b64encode(b"src_1a2B:shop:s3cr3t").decode()
OTHER = b64encode(b"src_1a2B:shop:other").decode()


class Hookdeck:
    """The one source that exists. Keeps what it has accepted."""

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token
        self.accepted: list[tuple[dict[str, str], bytes]] = []

    async def __call__(self, exchange: Exchange) -> None:
        seen = exchange.seen
        if seen.method == "GET":
            await self._verify(exchange)
        elif seen.path != "/src_1a2B":
            await exchange.answer(404, b'{"message":"no such source"}')
        elif not hmac.compare_digest(seen.headers["x-hookdeck-signature"], self._signature(seen.body)):
            await exchange.answer(401, b'{"message":"bad signature"}')
        else:
            self.accepted.append((seen.headers, seen.body))
            await exchange.answer(200, b'{"status":"SUCCESS","request_id":"req_1"}')

    async def _verify(self, exchange: Exchange) -> None:
        known = exchange.seen.path == "/2025-01-01/sources/src_1a2B/managed/verify"
        same = exchange.seen.headers.get("x-hookdeck-source-token") == self.token
        status = 404 if not known else 200 if same else 401
        await exchange.answer(status, b'{"name":"shop"}' if status == 200 else b"{}")

    def _signature(self, body: bytes) -> str:
        return "v0=" + b64encode(hmac.new(self.token.encode(), body, hashlib.sha256).digest()).decode()


def url_of(server: Receiver) -> str:
    return f"http://127.0.0.1:{server.port}"


@contextlib.asynccontextmanager
async def connection_to(answer: Answer, token: str = TOKEN, **options: Any) -> AsyncIterator[Connection]:
    async with receiver(answer) as server:
        urls = {"hookdeck_base_url": url_of(server), "hookdeck_api_url": url_of(server)}
        async with connected(KIND, {}, {"token": token}, **urls, **options) as connection:
            yield connection


def says(status: int, body: bytes = b"{}", headers: str = "") -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(status, body, headers)

    return answer


async def failure(answer: Answer, token: str = TOKEN) -> DeliveryError:
    async with connection_to(answer, token) as connection:
        with pytest.raises(DeliveryError) as caught:
            await connection.send(message())
    return caught.value


async def test_a_signed_post_with_metadata_as_headers() -> None:
    source = Hookdeck()
    odd: dict[str, Any] = {"Shop Name": "Grüße"}
    sent = message(trace="abc", **odd)
    async with connection_to(source) as connection:
        receipt = await connection.send(sent)
    ((headers, body),) = source.accepted
    assert body == ODD_BODY
    assert headers["content-type"] == "application/json"
    assert headers["x-waypost-event-id"] == "evt_1"
    assert headers["x-waypost-topic"] == "order.created"
    assert headers["x-waypost-timestamp"] == sent.metadata["timestamp"]
    assert headers["x-waypost-trace"] == "abc"
    assert headers["x-waypost-shop-name"].encode() == "Grüße".encode()
    assert receipt.code == "200"
    assert receipt.response is not None
    assert receipt.response["status_code"] == 200
    assert receipt.response["body"] == '{"status":"SUCCESS","request_id":"req_1"}'
    assert receipt.response["timings"]["total"] > 0
    assert receipt.request is not None
    assert receipt.request["url"].endswith("/src_1a2B")
    assert receipt.request["headers"]["x-hookdeck-signature"] == headers["x-hookdeck-signature"]
    assert receipt.request["size"] == len(sent.body)


async def test_the_prefix_is_the_operators() -> None:
    source = Hookdeck()
    async with connection_to(source, hookdeck_header_prefix="x-outpost-") as connection:
        await connection.send(message())
    ((headers, _),) = source.accepted
    assert headers["x-outpost-event-id"] == "evt_1"


async def test_metadata_cannot_break_out_of_its_header() -> None:
    source = Hookdeck()
    async with connection_to(source) as connection:
        forged: dict[str, Any] = {"a\r\nb": "c\r\nx-hookdeck-signature: forged"}
        await connection.send(message(**forged))
    ((headers, _),) = source.accepted
    assert headers["x-waypost-a-b"] == "c  x-hookdeck-signature: forged"


async def test_sixty_at_once() -> None:
    source = Hookdeck()
    async with connection_to(source) as connection:
        await asyncio.gather(*(connection.send(message(event_id=f"evt_{n}")) for n in range(60)))
    assert {headers["x-waypost-event-id"] for headers, _ in source.accepted} == {f"evt_{n}" for n in range(60)}


async def test_a_token_with_another_secret() -> None:
    error = await failure(Hookdeck(), OTHER)
    assert (error.code, error.retryable) == ("bad_credentials", False)
    assert error.response is not None
    assert (error.response["status_code"], error.response["body"]) == (401, '{"message":"bad signature"}')
    assert error.request is not None
    assert error.request["method"] == "POST"


async def test_a_source_that_does_not_exist() -> None:
    error = await failure(Hookdeck(), b64encode(b"src_gone:secret").decode())
    assert (error.code, error.retryable) == ("no_such_source", False)


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (403, "bad_credentials", False),
        (410, "no_such_source", False),
        (413, "message_too_large", False),
        (429, "throttled", True),
        (500, "500", True),
        (503, "503", True),
        (408, "408", True),
        (400, "400", False),
        (302, "302", False),
    ],
)
async def test_what_a_status_means(status: int, code: str, retryable: bool) -> None:
    error = await failure(says(status, headers="retry-after: 9\r\n"))
    assert (error.code, error.retryable, error.retry_after) == (code, retryable, 9.0)


async def test_an_answer_that_repeats_the_token_is_cleaned_and_cut() -> None:
    error = await failure(says(400, f"you said {TOKEN}\x00".encode() + b"x" * 9_000))
    assert error.response is not None
    assert TOKEN not in error.response["body"]
    assert error.response["body"].startswith("you said ****")
    assert len(error.response["body"]) <= 4_096


async def test_nobody_is_there_for_a_while() -> None:
    source = Hookdeck()
    async with (
        receiver(source) as server,
        gate_to(server.port) as gate,
        connected(KIND, {}, {"token": TOKEN}, hookdeck_base_url=gate.url) as connection,
    ):
        await connection.send(message(event_id="evt_1"))
        await gate.shut()
        with pytest.raises(DeliveryError) as caught:
            await connection.send(message(event_id="evt_2"))
        assert caught.value.retryable
        await gate.open()
        await connection.send(message(event_id="evt_2"))
        await connection.close()
        await connection.close()
    assert [headers["x-waypost-event-id"] for headers, _ in source.accepted] == ["evt_1", "evt_2"]


async def test_a_cancelled_send_leaves_the_connection_usable() -> None:
    source = Hookdeck()
    held = asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        await held.wait()
        await source(exchange)

    async with connection_to(slow) as connection:
        sending = asyncio.create_task(connection.send(message(event_id="evt_1")))
        await asyncio.sleep(0.02)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        held.set()
        await connection.send(message(event_id="evt_2"))
    assert source.accepted[-1][0]["x-waypost-event-id"] == "evt_2"


async def test_verify() -> None:
    source = Hookdeck()
    async with connection_to(source) as connection:
        await connection.verify()
    assert source.accepted == []


@pytest.mark.parametrize(("token", "code"), [(OTHER, "bad_credentials"), ("c3JjX2dvbmU6cw==", "no_such_source")])
async def test_verify_finds_something_wrong(token: str, code: str) -> None:
    async with connection_to(Hookdeck(), token) as connection:
        with pytest.raises(DeliveryError) as caught:
            await connection.verify()
    assert caught.value.code == code


async def test_the_address_guard_holds() -> None:
    async with receiver(Hookdeck()) as server, lent(AddressGuard(), hookdeck_base_url=url_of(server)) as tools:
        connection = await KIND.connect(destination(KIND, {}, {"token": TOKEN}), tools)
        with pytest.raises(DeliveryError) as caught:
            await connection.send(message())
    assert caught.value.code == "blocked_address"
    assert server.seen == []


@pytest.mark.parametrize(
    "token",
    [
        "not base64!",
        b64encode(b"no colon").decode(),
        b64encode(b":secret").decode(),
        b64encode(b"src_1:").decode(),
        b64encode(b"src/../1:secret").decode(),
        b64encode(b"src_1?x:secret").decode(),
        b64encode(b"\xff\xfe:secret").decode(),
    ],
)
async def test_what_is_no_token(token: str) -> None:
    async with lent() as tools:
        (problem,) = KIND.check({}, {"token": token}, tools)
        assert problem.startswith("credentials.token must be a token as Hookdeck shows it")
        with pytest.raises(DeliveryError, match="The token cannot be used") as caught:
            await KIND.connect(destination(KIND, {}, {"token": token}), tools)
    assert token not in str(caught.value)


async def test_a_token_that_is_fine() -> None:
    assert source_of(TOKEN) == "src_1a2B"
    async with lent() as tools:
        assert KIND.check({}, {"token": TOKEN}, tools) == []
    assert fields.problems(KIND.credential_fields, {"token": TOKEN}, where="credentials") == []
    assert fields.problems(KIND.credential_fields, {}, where="credentials") == ["credentials.token is required"]


def test_the_target_is_the_source_and_nothing_secret() -> None:
    target, url = KIND.target(destination(KIND, {}, {"token": TOKEN}))
    assert (target, url) == ("source src_1a2B", "https://dashboard.hookdeck.com/sources/src_1a2B")


def test_options() -> None:
    assert options_of({"webhook_mode": "standard"}).base_url == "https://hkdk.events"
    for wrong in ({"base_url": "hkdk.events"}, {"base_url": 7}, {"surprise": 1}, {"header_prefix": "x y"}):
        with pytest.raises(SettingsError, match="hookdeck options"):
            options_of({f"hookdeck_{name}": value for name, value in wrong.items()})


def test_the_form() -> None:
    described = KIND.describe()
    assert json.loads(json.dumps(described))["credential_fields"][0]["sensitive"] is True
