"""What every channel owes that posts to a vendor's HTTP API, written once; and notices of all sorts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import strategies as st

from tests.alerts.kit import NOON, complaints, connected, local_tools, notice
from tests.net.receivers import Answer, Exchange, Receiver, receiver
from waypost.connect.channel import Channel, ChannelConnection, ChannelType, Notice
from waypost.connect.registry import Channels
from waypost.core.errors import DeliveryError, SettingsError


@dataclass(frozen=True)
class Vendor:
    """A channel type and how it is set up for a vendor at a base URL. `secrets` must not be seen anywhere."""

    kind: ChannelType
    options: Callable[[str], dict[str, Any]]
    credentials: Callable[[str], dict[str, str]]
    secrets: tuple[str, ...]


def answers(status: int, body: bytes = b"{}", headers: str = "") -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(status, body, headers)

    return answer


@asynccontextmanager
async def connection_to(
    vendor: Vendor, answer: Answer, **how: Any
) -> AsyncIterator[tuple[ChannelConnection, Receiver]]:
    """A connection to a stand-in for the vendor; `how` goes to `local_tools`."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(receiver(answer))
        url = f"http://127.0.0.1:{server.port}"
        tools = await stack.enter_async_context(local_tools(**vendor.options(url), **how))
        yield await stack.enter_async_context(connected(vendor.kind, {}, vendor.credentials(url), tools)), server


async def failure(vendor: Vendor, answer: Answer, **how: Any) -> DeliveryError:
    """Why a notice could not be sent."""
    async with connection_to(vendor, answer, **how) as (connection, _):
        with pytest.raises(DeliveryError) as caught:
            await connection.send(notice())
    return caught.value


async def url_problem(kind: ChannelType, url: str, **options: Any) -> str:
    """Why a URL may not be saved. One that was saved under other options is not posted to either."""
    channel = Channel(
        no=1,
        id="chn_1",
        owner=None,
        type=kind.type,
        name="on call",
        config={},
        credentials={"url": url},
        created_at=NOON,
        updated_at=NOON,
    )
    async with local_tools(**options) as tools:
        (problem,) = complaints(kind, {}, channel.credentials, tools)
        with pytest.raises(DeliveryError) as caught:
            await kind.connect(channel, tools)
    assert (caught.value.code, caught.value.retryable) == ("configuration_error", False)
    return problem


def shown(error: DeliveryError) -> str:
    """Everything of an error that is kept or shown."""
    return f"{error.code} {error.sentence} {error.response} {error.request}"


class WhatAllOwe:
    """To be inherited by a class of tests that says whose."""

    vendor: ClassVar[Vendor]

    async def test_a_429_says_when_to_come_back(self) -> None:
        error = await failure(self.vendor, answers(429, b"slow down", "retry-after: 30\r\n"))
        assert (error.code, error.retryable, error.retry_after) == ("429", True, 30.0)

    @pytest.mark.parametrize("status", [408, 500, 502, 503])
    async def test_trouble_of_the_vendors_is_worth_a_retry(self, status: int) -> None:
        error = await failure(self.vendor, answers(status))
        assert (error.code, error.retryable, error.retry_after) == (str(status), True, None)
        assert error.response == {"status_code": status, "body": "{}"}

    @pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 410, 413, 422])
    async def test_a_refusal_is_final(self, status: int) -> None:
        error = await failure(self.vendor, answers(status))
        assert (error.code, error.retryable) == (str(status), False)
        assert self.vendor.kind.label.split()[-1] in error.sentence

    async def test_no_answer(self) -> None:
        async def silence(exchange: Exchange) -> None:
            await exchange.gone()

        error = await failure(self.vendor, silence, patience=0.2)
        assert (error.code, error.retryable) == ("timeout", True)
        assert not [secret for secret in self.vendor.secrets if secret in shown(error)]

    async def test_a_connection_that_breaks_off(self) -> None:
        async def reset(exchange: Exchange) -> None:
            exchange.reset()

        error = await failure(self.vendor, reset)
        assert error.retryable
        assert not [secret for secret in self.vendor.secrets if secret in shown(error)]

    @pytest.mark.parametrize("status", [200, 400, 503])
    @pytest.mark.parametrize("before", [0, 2_040])
    async def test_an_answer_that_repeats_the_secrets_is_cleaned_and_cut(self, status: int, before: int) -> None:
        async def echo(exchange: Exchange) -> None:
            seen = exchange.seen
            said = f"{'x' * before}{self.vendor.secrets[0]} {unquote(seen.path)} {seen.headers} {seen.body.decode()}"
            await exchange.answer(status, said.encode())

        async with connection_to(self.vendor, echo) as (connection, _):
            try:
                receipt = await connection.send(notice())
                text, response = f"{receipt}", receipt.response
            except DeliveryError as error:
                text, response = shown(error), error.response
        assert not [secret for secret in self.vendor.secrets if secret[:8] in text]
        assert response is not None
        assert len(response["body"]) <= 2_048

    async def test_the_address_guard_holds(self) -> None:
        async with connection_to(self.vendor, answers(200), local=False) as (connection, server):
            with pytest.raises(DeliveryError) as caught:
                await connection.send(notice())
        assert (caught.value.code, server.seen) == ("blocked_address", [])

    def test_the_target_holds_no_secret(self) -> None:
        target = self.vendor.kind.target({}, self.vendor.credentials("https://vendor.example"))
        assert not [secret for secret in self.vendor.secrets if secret in target]

    def test_options_that_are_wrong(self) -> None:
        kind = self.vendor.kind
        kind.check_options({"webhook_mode": "standard"} | self.vendor.options("https://vendor.example"))
        unknown = {f"{kind.type}_surprise": 1}
        for wrong in (self.vendor.options("vendor.example"), self.vendor.options(""), unknown):
            with pytest.raises(SettingsError, match=f"^{kind.type}"):
                kind.check_options(wrong)

    def test_it_is_found_and_its_secrets_are_masked(self) -> None:
        kind = self.vendor.kind
        assert isinstance(Channels.discover()[kind.type], type(kind))
        described = kind.describe()
        assert [field["sensitive"] for field in described["credential_fields"]] == [True]
        assert msgspec.json.decode(msgspec.json.encode(described)) == described


_NASTY = st.sampled_from(
    [
        "",
        " \n\t",
        "\u0000\u001b\u2028",
        "<!channel> <@U012AB3CD> <https://evil.example|click>",
        "@everyone @here <@123456789012345678> <@&1>",
        "[click](https://evil.example) **bold** __init__ `code` ~~gone~~ # big",
        "<at>everyone</at> <script>alert(1)</script> &lt;b&gt; &amp;",
        "\\[click\\](https://evil.example) \\\\",
    ]
)
_LONG = st.builds(
    lambda mark, times: mark * times,
    st.sampled_from(["&", "<", "\\", "*", "é", "😀", '"', "\u0001", "ab "]),
    st.integers(0, 20_000),
)
TEXTS = _NASTY | st.text(max_size=60) | _LONG
LINKS = st.none() | st.sampled_from(["https://waypost.example/portal", "https://waypost.example/" + "x" * 5_000])


def _envelope(tenant_id: str | None, data: dict[str, Any]) -> bytes:
    return msgspec.json.encode({"id": "alr_1", "topic": "alert.x", "time": "now", "tenant_id": tenant_id, "data": data})


NOTICES: st.SearchStrategy[Notice] = st.builds(
    notice,
    severity=st.sampled_from(["info", "warning", "critical"]),
    title=TEXTS,
    text=TEXTS,
    facts=st.lists(st.tuples(TEXTS, TEXTS), max_size=60).map(tuple),
    link=LINKS,
    dedup_key=st.text(min_size=1, max_size=20) | st.integers(200, 1_000).map(lambda length: "k" * length),
    resolves=st.booleans(),
    envelope=st.builds(_envelope, st.none() | st.text(), st.dictionaries(st.text(), TEXTS, max_size=3)),
)


def full(mark: str) -> Notice:
    """A notice that is too long everywhere."""
    return notice(
        topic=mark * 1_000,
        title=mark * 2_000,
        text=mark * 30_000,
        facts=tuple((f"{number}{mark * 1_000}", mark * 9_000) for number in range(200)),
        link="https://waypost.example/" + "x" * 30_000,
        dedup_key="k" * 1_000,
    )
