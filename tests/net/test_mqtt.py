"""The publisher against a broker that is written out in bytes, for what a real one is not easily brought to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from waypost.core.errors import DeliveryError
from waypost.net.mqtt import Mqtt

WELCOME = b"\x20\x03\x00\x00\x00"


class Broker:
    """Answers CONNECT with `welcome`, and every PUBLISH with what `answer` makes of its packet id, after `patience`."""

    def __init__(self, welcome: bytes, answer: Callable[[bytes], bytes]) -> None:
        self._welcome = welcome
        self._answer = answer
        self.in_hand = 0
        self.most_in_hand = 0
        self.packets: list[int] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await self._one(reader, writer)
        except asyncio.IncompleteReadError:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = (await reader.readexactly(1))[0]
        content = await reader.readexactly(await _size(reader))
        self.packets.append(first >> 4)
        if first >> 4 == 1:
            writer.write(self._welcome)
        elif first >> 4 == 12:
            writer.write(b"\xd0\x00")
        elif first >> 4 == 3:
            self.in_hand += 1
            self.most_in_hand = max(self.most_in_hand, self.in_hand)
            topic_size = int.from_bytes(content[:2])
            asyncio.get_running_loop().call_later(
                0.01, self._acknowledge, writer, content[2 + topic_size : 4 + topic_size]
            )

    def _acknowledge(self, writer: asyncio.StreamWriter, number: bytes) -> None:
        self.in_hand -= 1
        writer.write(self._answer(number))


async def _size(reader: asyncio.StreamReader) -> int:
    size = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        size |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return size


def short_ack(number: bytes) -> bytes:
    return b"\x40\x02" + number


@asynccontextmanager
async def connected(
    welcome: bytes = WELCOME, answer: Callable[[bytes], bytes] = short_ack
) -> AsyncIterator[tuple[Mqtt, Broker]]:
    broker = Broker(welcome, answer)
    async with await asyncio.start_server(broker.serve, "127.0.0.1", 0) as server:
        client = Mqtt("there:1883", *await asyncio.open_connection(*server.sockets[0].getsockname()))
        try:
            await client.sign_in("me", None, None)
            yield client, broker
        finally:
            await client.close()


async def publish(client: Mqtt, payload: bytes = b"{}", *, retain: bool = False) -> bool:
    return await client.publish("a/b", payload, {"key": "value"}, content_type="application/json", retain=retain)


def welcome_with(properties: bytes) -> bytes:
    return bytes((0x20, 3 + len(properties), 0, 0, len(properties))) + properties


async def test_no_more_in_flight_than_the_broker_takes() -> None:
    welcome = welcome_with(b"\x12\x00\x03abc" + b"\x21\x00\x03" + b"\x26\x00\x01a\x00\x02bc" + b"\x28\x01")
    async with connected(welcome) as (client, broker):
        cancelled = [asyncio.create_task(publish(client)) for _ in range(2)]
        await asyncio.sleep(0)
        for task in cancelled:
            task.cancel()
        await asyncio.gather(*(publish(client) for _ in range(20)))
    assert 2 <= broker.most_in_hand <= 3


async def test_the_brokers_limits_are_kept() -> None:
    async with connected(welcome_with(b"\x27\x00\x00\x00\x64" + b"\x25\x00")) as (client, _):
        for work, code in (
            (publish(client, b"x" * 100), "message_too_large"),
            (publish(client, retain=True), "refused"),
        ):
            with pytest.raises(DeliveryError) as error:
                await work
            assert (error.value.code, error.value.retryable) == (code, False)
        assert await publish(client)


async def test_the_broker_hears_of_us_as_often_as_it_wants() -> None:
    async with connected(welcome_with(b"\x13\x00\x01")) as (client, broker):
        async with asyncio.timeout(20):
            while broker.packets.count(12) < 2:
                await asyncio.sleep(0.05)
        assert client.alive


@pytest.mark.parametrize(
    ("welcome", "code"),
    [
        (b"\x20\x03\x00\x86\x00", "bad_credentials"),
        (b"\x20\x03\x00\x87\x00", "bad_credentials"),
        (b"\x20\x02\x00\x01", "protocol_error"),
        (b"\x20\x03\x00\x89\x00", "unavailable"),
        (b"\x20\x03\x00\xc8\x00", "refused"),
        (welcome_with(b"\x24\x00"), "refused"),
    ],
)
async def test_a_broker_that_does_not_want_us(welcome: bytes, code: str) -> None:
    with pytest.raises(DeliveryError) as error:
        async with connected(welcome):
            pass
    assert error.value.code == code


@pytest.mark.parametrize("welcome", [b"\x30\x03\x00\x00\x00", b"\x20\x01\x00", welcome_with(b"\x7f\x00")])
async def test_a_broker_that_makes_no_sense(welcome: bytes) -> None:
    with pytest.raises(ValueError, match=r"MQTT|CONNECT"):
        async with connected(welcome):
            pass


@pytest.mark.parametrize(("reason", "heard"), [(b"", True), (b"\x00", True), (b"\x00\x00", True), (b"\x10", False)])
async def test_an_acknowledgement(reason: bytes, heard: bool) -> None:
    async with connected(answer=lambda number: bytes((0x40, 2 + len(reason))) + number + reason) as (client, _):
        assert await publish(client) is heard


@pytest.mark.parametrize(
    ("answer", "code", "retryable"),
    [
        (lambda number: b"\x40\x03" + number + b"\x87", "access_denied", False),
        (lambda number: b"\x40\x03" + number + b"\x97", "quota_exceeded", True),
        (lambda _: b"\xe0\x01\x95", "message_too_large", False),
        (lambda _: b"\xe0\x01\x8b", "connection_reset", True),
        (lambda _: b"\xe0\x00", "connection_reset", True),
        (lambda _: b"\x90\x01\x00", "protocol_error", True),
        (lambda _: b"\x40\xff\xff\xff\x7f", "protocol_error", True),
    ],
)
async def test_a_refusal(answer: Callable[[bytes], bytes], code: str, retryable: bool) -> None:
    async with connected(answer=answer) as (client, _):
        with pytest.raises(DeliveryError) as error:
            await publish(client)
    assert (error.value.code, error.value.retryable) == (code, retryable)


async def test_which_of_several_was_too_large_is_not_known() -> None:
    async with connected(answer=lambda _: b"\xe0\x01\x95") as (client, _):
        failures = await asyncio.gather(*(publish(client) for _ in range(3)), return_exceptions=True)
    assert [getattr(failure, "code", None) for failure in failures] == ["connection_reset"] * 3
