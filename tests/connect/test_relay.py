"""Destination types as alert channels."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import standardwebhooks
from msgspec import structs

from tests.alerts.kit import NOON, complaints, connected, local_tools, notice
from tests.flow import samples
from tests.net.receivers import Exchange, receiver
from waypost.connect.channel import Channel
from waypost.connect.connector import Change, Message, Receipt, Tools
from waypost.connect.once import delivery_id
from waypost.connect.registry import Channels, Registry
from waypost.connect.relay import as_destination, channel_types, relay
from waypost.core import times
from waypost.core.errors import DeliveryError, Invalid, SettingsError
from waypost.core.model import DAY, Destination
from waypost.core.signing import make_secret
from waypost.destinations.webhook import WebhookType

NEW, OLD = make_secret(bytes(range(32))), make_secret(bytes(range(1, 33)))
WEBHOOK = relay(WebhookType())


def channel(**changes: Any) -> Channel:
    plain = Channel(
        no=7,
        id="chn_1",
        owner="acme",
        type="webhook",
        name="on call",
        config={"url": "https://example.com/alerts"},
        credentials={"secret": OLD},
        topics=("alert.*",),
        created_at=NOON,
        updated_at=NOON,
        version=3,
    )
    return structs.replace(plain, **changes)


def test_every_destination_type_is_a_channel() -> None:
    own, destinations = Channels.discover(), Registry.discover()
    types = channel_types(own, destinations)
    assert list(types) == [*own, *(name for name in destinations if name not in own)]
    for name, kind in destinations.items():
        shown = types[name].describe()
        assert shown == kind.describe()
        assert (types[name].what, types[name].extra) == ("alert channel", kind.extra)


def test_a_channel_of_its_own_goes_before_a_destination_type() -> None:
    own = {"webhook": relay(samples.Pigeon())}
    assert channel_types(own, {"webhook": WebhookType()}) == own


def test_a_channel_is_a_destination_to_its_type() -> None:
    seen = as_destination(channel())
    assert (seen.no, seen.id, seen.tenant_id, seen.version) == (7, "chn_1", "acme", 3)
    assert (seen.type, seen.topics, seen.disabled_at) == ("webhook", ("alert.*",), None)
    assert (seen.config, seen.credentials) == (channel().config, channel().credentials)
    assert as_destination(channel(owner=None)).tenant_id == ""


async def test_the_rules_of_the_type_are_asked() -> None:
    kind, tools = relay(samples.Letterbox()), samples.tools()
    assert complaints(kind, {"address": "Nowhere"}, {}, tools) == ["config.address is nowhere"]
    assert complaints(WEBHOOK, {"url": "http://127.0.0.1/"}, {"secret": NEW}, tools)[0].startswith(
        "config.url is not allowed"
    )
    assert kind.target({"address": "Elm"}, {"pin": "1"}) == "Elm"
    with pytest.raises(SettingsError, match="webhook options"):
        WEBHOOK.check_options({"webhook_mode": "none"})


@pytest.mark.parametrize("by_tenant", [True, False])
def test_a_secret_is_made_kept_and_turned_as_for_a_destination(by_tenant: bool) -> None:
    def prepared(old: Channel | None, **credentials: str) -> dict[str, str]:
        before = None if old is None else as_destination(old)
        change = Change(old=before, config={}, credentials=credentials, by_tenant=by_tenant, now=NOON)
        return WEBHOOK.prepare(change)[1]

    assert prepared(None)["secret"].startswith("whsec_")
    assert prepared(channel(), secret=OLD) == {"secret": OLD}
    turned = prepared(channel(), secret=OLD, rotate_secret="true")
    assert turned.pop("secret") not in {OLD, NEW}
    assert turned == {"previous_secret": OLD, "previous_secret_invalid_at": times.render(NOON + DAY)}
    if by_tenant:
        with pytest.raises(Invalid):
            prepared(channel(), secret=NEW)
    else:
        assert prepared(channel(), secret=NEW) == {"secret": NEW}


# over a real connection


async def test_a_notice_is_a_signed_webhook_with_the_envelope_as_its_body() -> None:
    async with receiver() as server, local_tools() as tools:
        config = {"url": f"http://127.0.0.1:{server.port}/alerts", "custom_headers": '{"x-team":"ops"}'}
        async with connected(WEBHOOK, config, {"secret": NEW}, tools) as way:
            receipts = [await way.send(notice()), await way.send(notice())]
    assert [receipt.code for receipt in receipts] == ["200", "200"]
    for seen in server.seen:
        assert (seen.method, seen.path, seen.headers["content-type"]) == ("POST", "/alerts", "application/json")
        assert seen.body == notice().envelope
        assert standardwebhooks.Webhook(NEW).verify(seen.body.decode(), seen.headers) == json.loads(seen.body)
        assert seen.headers["webhook-id"] == "alr_01h2xcejqtf2n"
        assert seen.headers["x-waypost-topic"] == "alert.destination.consecutive_failure"
        assert seen.headers["x-team"] == "ops"
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(OLD).verify(seen.body.decode(), seen.headers)


async def test_a_turned_secret_signs_beside_the_old_one_for_a_while() -> None:
    credentials = {"secret": NEW, "previous_secret": OLD, "previous_secret_invalid_at": "2999-01-01T00:00:00Z"}
    async with receiver() as server, local_tools() as tools:
        config = {"url": f"http://127.0.0.1:{server.port}/"}
        async with connected(WEBHOOK, config, credentials, tools) as way:
            await way.send(notice())
    (seen,) = server.seen
    for secret in (NEW, OLD):
        standardwebhooks.Webhook(secret).verify(seen.body.decode(), seen.headers)


@pytest.mark.parametrize(
    ("status", "headers", "retryable", "retry_after"),
    [(429, "retry-after: 7\r\n", True, 7.0), (503, "", True, None), (404, "", False, None), (302, "", False, None)],
)
async def test_a_refusal_says_whether_to_try_again(
    status: int, headers: str, retryable: bool, retry_after: float | None
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.answer(status, headers=headers)

    async with receiver(refuse) as server, local_tools() as tools:
        config = {"url": f"http://127.0.0.1:{server.port}/"}
        async with connected(WEBHOOK, config, {"secret": NEW}, tools) as way:
            with pytest.raises(DeliveryError) as refused:
                await way.send(notice())
    assert (refused.value.code, refused.value.retryable, refused.value.retry_after) == (
        str(status),
        retryable,
        retry_after,
    )
    assert refused.value.sentence.startswith(f"127.0.0.1 answered with status {status}")


async def test_a_receiver_that_hangs_is_given_up() -> None:
    async def hang(exchange: Exchange) -> None:
        await exchange.gone()

    async with receiver(hang) as server, local_tools(patience=0.2) as tools:
        config = {"url": f"http://127.0.0.1:{server.port}/"}
        async with connected(WEBHOOK, config, {"secret": NEW}, tools) as way:
            with pytest.raises(DeliveryError) as late:
                await way.send(notice())
    assert (late.value.code, late.value.retryable) == ("timeout", True)


async def test_notices_can_go_out_at_once() -> None:
    async with receiver() as server, local_tools() as tools:
        config = {"url": f"http://127.0.0.1:{server.port}/"}
        async with connected(WEBHOOK, config, {"secret": NEW}, tools) as way:
            await asyncio.gather(*(way.send(notice(id=f"alr_{number}")) for number in range(20)))
    assert {seen.headers["webhook-id"] for seen in server.seen} == {f"alr_{number}" for number in range(20)}


async def test_each_notice_is_another_event_and_a_repeated_one_the_same() -> None:
    """So that a queue that drops repetitions gets every alert, and templates are made for each."""
    sent: list[Message] = []

    class Taking(samples.Letterbox):
        async def connect(self, destination: Destination, tools: Tools) -> Any:
            return self

        async def send(self, message: Message) -> Receipt:
            sent.append(message)
            return Receipt(code="ok")

    connection = await relay(Taking()).connect(channel(), samples.tools())
    for id_ in ("alr_1", "alr_2", "alr_1"):
        await connection.send(notice(id=id_))
    first, second, again = (delivery_id(7, message) for message in sent)
    assert first == again != second
