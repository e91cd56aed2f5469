from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest
import standardwebhooks
import svix

from tests.net.receivers import HOST, Answer, Exchange, Receiver, ok, receiver
from waypost.connect.connector import Change, Connection, Message, Receipt, Tools
from waypost.connect.registry import Registry
from waypost.core import times
from waypost.core.errors import DeliveryError, Invalid, SettingsError
from waypost.core.message import merged_metadata
from waypost.core.model import DAY, SECOND, Destination, Event, Micros
from waypost.core.signing import make_secret, parse_secret
from waypost.destinations.webhook import WebhookType, options_of
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient, HttpSettings
from waypost.net.resolve import GuardedResolver

NEW, OLD = make_secret(bytes(range(32))), make_secret(bytes(range(1, 33)))
BODY = b'{"total": 1.50, "a": "\xc3\xa9"}'
KIND = WebhookType()


class Loopback:
    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        return ("127.0.0.1",)


def tools_with(guard: AddressGuard | None = None, settings: HttpSettings | None = None, **options: Any) -> Tools:
    guard = guard or AddressGuard([ip_network("127.0.0.0/8")])
    resolver = GuardedResolver(Loopback(), guard)
    http = HttpClient(settings or HttpSettings(), resolver, guard)
    return Tools(http=http, guard=guard, resolver=resolver, options={f"webhook_{k}": v for k, v in options.items()})


@contextlib.asynccontextmanager
async def connected(
    server: Receiver | int, given: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Connection]:
    """A connection to a server; `given` are parts of the destination."""
    tools = tools_with(**options)
    await tools.http.start()
    port = server if isinstance(server, int) else server.port
    connection = await KIND.connect(destination(f"http://{HOST}:{port}/hook?x=1", **given or {}), tools)
    try:
        yield connection
    finally:
        await connection.close()
        await connection.close()
        await tools.http.close()


def destination(url: str, custom_headers: str | None = None, **credentials: str) -> Destination:
    return Destination(
        no=1,
        id="des_1",
        tenant_id="acme",
        type="webhook",
        topics=("*",),
        config={"url": url} | ({"custom_headers": custom_headers} if custom_headers else {}),
        credentials={"secret": NEW, **credentials},
        created_at=0,
        updated_at=0,
    )


def message(
    event_id: str = "evt_1", sent_at: Micros | None = None, metadata: dict[str, str] | None = None, body: bytes = BODY
) -> Message:
    sent_at = round(time.time()) * SECOND if sent_at is None else sent_at
    event = Event(seq=1, id=event_id, tenant_id="acme", topic="order.paid", time=sent_at, data=body, metadata=metadata)
    return Message(
        event=event, metadata=merged_metadata(event, None, sent_at=sent_at), attempt=1, manual=False, sent_at=sent_at
    )


async def failed(connection: Connection, sent: Message | None = None) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        await connection.send(sent or message())
    return caught.value


async def sent_headers(
    given: dict[str, Any] | None = None, sent: Message | None = None, **options: Any
) -> dict[str, str]:
    """The headers that a receiver sees, without those of the client."""
    async with receiver() as server, connected(server, given, **options) as connection:
        await connection.send(sent or message())
    own = {"host", "user-agent", "accept", "content-length"}
    return {name: value for name, value in server.seen[0].headers.items() if name not in own}


def answering(status: int, body: bytes = b"", headers: str = "") -> Answer:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(status, body, headers)

    return answer


# sending in mode standard


async def test_standard_webhooks_verify() -> None:
    until = times.render(round(time.time() + 3600) * SECOND)
    given = {"previous_secret": OLD, "previous_secret_invalid_at": until}
    async with receiver() as server, connected(server, given) as connection:
        await connection.send(message())
    seen = server.seen[0]
    assert (seen.method, seen.path, seen.body) == ("POST", "/hook?x=1", BODY)
    for secret in (NEW, OLD):
        standardwebhooks.Webhook(secret).verify(seen.body, seen.headers)
        svix.Webhook(secret).verify(seen.body, seen.headers)


async def test_standard_headers() -> None:
    headers = await sent_headers(sent=message(sent_at=1_700_000_000_500_000, metadata={"Region": "eu"}))
    signature = headers.pop("webhook-signature")
    assert headers == {
        "content-type": "application/json",
        "webhook-id": "evt_1",
        "webhook-timestamp": "1700000000",
        "x-waypost-topic": "order.paid",
        "x-waypost-region": "eu",
    }
    assert signature.startswith("v1,")
    assert " " not in signature


async def test_an_expired_secret_signs_no_more() -> None:
    given = {"previous_secret": OLD, "previous_secret_invalid_at": "2023-11-14T22:13:20Z"}
    before = await sent_headers(given, message(sent_at=1_699_999_999 * SECOND))
    after = await sent_headers(given, message(sent_at=1_700_000_000 * SECOND))
    assert len(before["webhook-signature"].split(" ")) == 2
    assert len(after["webhook-signature"].split(" ")) == 1


async def test_an_ed25519_signature_beside_the_first() -> None:
    key = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
    async with receiver() as server, connected(server, private_key=key) as connection:
        await connection.send(message())
    seen = server.seen[0]
    assert [signature.split(",")[0] for signature in seen.headers["webhook-signature"].split(" ")] == ["v1", "v1a"]
    standardwebhooks.Webhook(NEW).verify(seen.body, seen.headers)


async def test_an_id_with_dots_has_none_when_it_is_signed() -> None:
    async with receiver() as server, connected(server) as connection:
        await connection.send(message("a.b"))
    seen = server.seen[0]
    assert seen.headers["webhook-id"] == "a%2Eb"
    standardwebhooks.Webhook(NEW).verify(seen.body, seen.headers)


async def test_two_events_never_travel_under_one_id() -> None:
    ids = ["a.b", "a%2Eb", "a%252Eb", "a%25%2Eb", "a%.b", "%", "%25"]
    async with receiver() as server, connected(server) as connection:
        for each in ids:
            await connection.send(message(each))
    travelled = [seen.headers["webhook-id"] for seen in server.seen]
    assert len(set(travelled)) == len(ids)
    assert "." not in "".join(travelled)


# sending in mode default


async def test_default_headers() -> None:
    sent = message(sent_at=1_700_000_000_000_000, metadata={"Region": "eu"})
    headers = await sent_headers(sent=sent, mode="default", header_prefix="x-outpost-")
    assert headers == {
        "content-type": "application/json",
        "x-outpost-event-id": "evt_1",
        "x-outpost-timestamp": "2023-11-14T22:13:20Z",
        "x-outpost-topic": "order.paid",
        "x-outpost-region": "eu",
        "x-outpost-signature": f"v0={hmac.new(NEW.encode(), BODY, 'sha256').hexdigest()}",
    }


async def test_default_mode_with_a_previous_secret() -> None:
    given = {"secret": "plain", "previous_secret": "older", "previous_secret_invalid_at": "2999-01-01T00:00:00Z"}
    headers = await sent_headers(given, mode="default")
    new, old = (hmac.new(secret, BODY, "sha256").hexdigest() for secret in (b"plain", b"older"))
    assert headers["x-waypost-signature"] == f"v0={new},{old}"


async def test_default_mode_by_the_operators_recipe() -> None:
    headers = await sent_headers(
        sent=message(sent_at=1_700_000_000_000_000),
        mode="default",
        signature_content="{timestamp}.{body}",
        signature_header="t={timestamp},v1={signatures}",
        signature_algorithm="hmac-sha512",
    )
    expected = hmac.new(NEW.encode(), b"1700000000." + BODY, hashlib.sha512).hexdigest()
    assert headers["x-waypost-signature"] == f"t=1700000000,v1={expected}"


async def test_headers_renamed_and_left_out() -> None:
    options: dict[str, Any] = {
        "headers_omit": ("Timestamp", "secretive"),
        "headers_rename": {"signature": "X-Sig", "topic": "X-Kind"},
    }
    sent = message(metadata={"secretive": "1", "kept": "2"})
    headers = await sent_headers(sent=sent, mode="default", **options)
    assert set(headers) == {"content-type", "x-waypost-event-id", "x-kind", "x-sig", "x-waypost-kept"}


async def test_a_signature_can_be_left_out_in_default_mode_only() -> None:
    assert "x-waypost-signature" not in await sent_headers(mode="default", headers_omit=("signature",))
    assert "webhook-signature" in await sent_headers(headers_omit=("signature", "webhook-signature"))


# metadata and custom headers


async def test_metadata_is_made_fit_for_headers() -> None:
    metadata = {"my key": "a\r\nevil: 1", "näme": "Zoë", "empty": "", "tab": "a\tb", "x:y": "1"}
    headers = await sent_headers(sent=message(metadata=metadata))
    found = {name: value for name, value in headers.items() if name.startswith("x-waypost-")}
    assert found == {
        "x-waypost-topic": "order.paid",
        "x-waypost-my-key": "a  evil: 1",
        "x-waypost-n-me": "Zoë",
        "x-waypost-empty": "",
        "x-waypost-tab": "a\tb",
        "x-waypost-x-y": "1",
    }


@pytest.mark.parametrize("mode", ["standard", "default"])
async def test_metadata_overrides_nothing_of_ours(mode: str) -> None:
    metadata = {
        "topic": "no",
        "event-id": "no",
        "timestamp": "no",
        "signature": "no",
        "host": "no",
        "Content-Type": "no",
    }
    given = {"custom_headers": '{"X-Key": "yes"}'}
    headers = await sent_headers(given, message(metadata={**metadata, "x-key": "no"}), mode=mode, header_prefix="")
    assert headers["content-type"] == "application/json"
    assert headers["topic"] == "order.paid"
    assert headers["x-key"] == "yes"
    assert headers["signature"] == "no" if mode == "standard" else headers["signature"].startswith("v0=")


async def test_many_different_metadata_keys() -> None:
    async with receiver() as server, connected(server) as connection:
        for number in range(0, 3000, 50):
            await connection.send(message(metadata={f"k{number + index}": "v" for index in range(50)}))
    assert server.seen[-1].headers["x-waypost-k2999"] == "v"


async def test_custom_headers_are_sent_and_masked_in_the_record() -> None:
    given = {"custom_headers": '{"Authorization": "Bearer 0123456789", "X-Empty": "", "User-Agent": "mine"}'}
    async with receiver() as server, connected(server, given) as connection:
        receipt = await connection.send(message())
    seen = server.seen[0]
    assert (seen.headers["authorization"], seen.headers["x-empty"]) == ("Bearer 0123456789", "")
    assert seen.headers["user-agent"] == "mine"
    request = receipt.request or {}
    assert request["headers"]["Authorization"] == "Bear********"
    assert request["headers"]["webhook-id"] == "evt_1"
    assert (request["method"], request["size"]) == ("POST", len(BODY))
    assert request["url"] == f"http://{HOST}:{server.port}/hook?x=1"
    assert [value for name, value in request["headers"].items() if name.lower() == "user-agent"] == ["************"]
    assert "0123456789" not in str(request)


async def test_the_record_has_the_clients_own_name_and_how_long_each_phase_took() -> None:
    async with receiver() as server, connected(server) as connection:
        receipt = await connection.send(message())
    assert receipt.request is not None
    assert receipt.request["headers"]["user-agent"] == server.seen[0].headers["user-agent"]
    assert receipt.response is not None
    timings = receipt.response["timings"]
    assert list(timings) == ["dns", "connect", "tls", "first_byte", "total"]
    assert 0 < timings["connect"] <= timings["first_byte"] <= timings["total"]


# answers


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_2xx_is_success(status: int) -> None:
    async with (
        receiver(answering(status, b"" if status == 204 else b"fine")) as server,
        connected(server) as connection,
    ):
        receipt = await connection.send(message())
    assert receipt.code == str(status)


async def test_what_is_kept_of_an_answer() -> None:
    async with (
        receiver(answering(200, b'{"ok":true}\xff\x00', "X-Id: 7\r\n")) as server,
        connected(server) as connection,
    ):
        receipt: Receipt = await connection.send(message())
    response = receipt.response or {}
    timings = response.pop("timings")
    assert response == {
        "status_code": 200,
        "headers": {"content-length": "13", "x-id": "7"},
        "body": '{"ok":true}\ufffd\ufffd',
    }
    assert set(timings) == {"dns", "connect", "tls", "first_byte", "total"}
    assert 0 < timings["first_byte"] <= timings["total"]


async def test_a_long_answer_is_cut_and_says_so() -> None:
    settings = HttpSettings(body_cap=10)
    async with receiver(answering(500, b"x" * 100)) as server, connected(server, settings=settings) as connection:
        error = await failed(connection)
    assert error.response is not None
    assert (error.response["body"], error.response["truncated"]) == ("x" * 10, True)


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        *((status, False) for status in (400, 401, 404, 409, 410, 422)),
        *((status, True) for status in (408, 425, 429, 500, 501, 502, 503, 504, 599)),
    ],
)
async def test_other_answers_are_failures(status: int, retryable: bool) -> None:
    async with receiver(answering(status, b"no")) as server, connected(server) as connection:
        error = await failed(connection)
    assert (error.code, error.retryable, error.retry_after) == (str(status), retryable, None)
    assert error.sentence.startswith(f"{HOST} answered with status {status}")
    assert error.response is not None
    assert error.response["body"] == "no"
    assert error.request is not None
    assert error.request["headers"]["webhook-id"] == "evt_1"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 304])
async def test_redirects_are_failures_and_are_not_followed(status: int) -> None:
    async with receiver() as target:
        moved = answering(status, b"", f"location: http://127.0.0.1:{target.port}/\r\n")
        async with receiver(moved) as server, connected(server) as connection:
            error = await failed(connection)
    assert (error.code, error.retryable) == (str(status), False)
    assert "redirects are not followed" in error.sentence
    assert target.connections == 0


async def test_retry_after_is_passed_on() -> None:
    async with receiver(answering(429, b"", "Retry-After: 120\r\n")) as server, connected(server) as connection:
        assert (await failed(connection)).retry_after == 120
        server.answer = answering(503, b"", "retry-after: Fri, 31 Dec 2100 23:59:59 GMT\r\n")
        assert ((await failed(connection)).retry_after or 0) > 86_400


async def test_network_failures_keep_their_name_and_the_request() -> None:
    async with connected(9) as connection:
        error = await failed(connection)
    assert (error.code, error.retryable) == ("connection_refused", True)
    assert error.response is not None
    timings = error.response["timings"]
    assert (set(error.response), timings["connect"], timings["first_byte"]) == ({"timings"}, 0, 0)
    assert error.request is not None
    assert error.request["size"] == len(BODY)


async def test_a_private_address_is_blocked_when_sending() -> None:
    async with receiver() as server, connected(server, guard=AddressGuard()) as connection:
        error = await failed(connection)
        with pytest.raises(DeliveryError, match="loopback"):
            await connection.verify()
    assert error.code == "blocked_address"
    assert server.connections == 0


async def test_many_sends_at_once_over_one_connection_object() -> None:
    async with receiver() as server, connected(server) as connection:
        sent = [message(f"evt_{number}", body=f'{{"n": {number}}}'.encode()) for number in range(200)]
        await asyncio.gather(*(connection.send(each) for each in sent))
    for seen in server.seen:
        number = standardwebhooks.Webhook(NEW).verify(seen.body, seen.headers)["n"]
        assert seen.headers["webhook-id"] == f"evt_{number}"
    assert len({seen.body for seen in server.seen}) == 200


async def test_a_cancelled_send_leaves_the_connection_usable() -> None:
    async with receiver(Exchange.gone) as server, connected(server) as connection:
        task = asyncio.create_task(connection.send(message()))
        while not server.seen:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        server.answer = ok
        assert (await connection.send(message())).code == "200"


@pytest.mark.parametrize("status", [200, 401, 404, 405, 500])
async def test_whoever_answers_can_be_reached(status: int) -> None:
    async with receiver(answering(status)) as server, connected(server) as connection:
        await connection.verify()
    assert [(seen.method, seen.body) for seen in server.seen] == [("HEAD", b"")]


async def test_verify_says_what_is_wrong() -> None:
    async with connected(9) as connection:
        with pytest.raises(DeliveryError, match="refused the connection"):
            await connection.verify()


async def test_a_stored_secret_that_no_longer_fits_the_mode() -> None:
    with pytest.raises(DeliveryError) as caught:
        await KIND.connect(destination("http://a.test/", secret="plain"), tools_with())
    assert caught.value.code == "configuration_error"


# what may be saved


def problems(config: dict[str, str], credentials: dict[str, str] | None = None, **options: Any) -> list[str]:
    return KIND.check(config, credentials or {"secret": NEW}, tools_with(AddressGuard(), **options))


@pytest.mark.parametrize(
    "url", ["https://example.com", "http://example.com:8080/a?b=c", "https://8.8.8.8/", "https://bücher.de/"]
)
def test_urls_that_may_be_saved(url: str) -> None:
    assert problems({"url": url}) == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "http://127.0.0.1./",
        "http://2130706433/",
        "http://0177.0.0.1/",
        "http://0x7f000001/",
        "http://0/",
        "http://[::]/",
        "http://[::1%25lo]/",
        "http://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://\uff11\uff12\uff17.0.0.1/",
    ],
)
def test_private_addresses_are_refused_when_saving(url: str) -> None:
    [problem] = problems({"url": url})
    assert problem.startswith("config.url is not allowed: ")
    assert KIND.check({"url": url}, {"secret": NEW}, tools_with(AddressGuard(enabled=False))) == []


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ftp://example.com/", "config.url must start with http:// or https://"),
        ("https://user:pass@example.com/", "config.url must not contain a user name or password"),
        ("https://", "config.url must have a host"),
        ("https://exa mple.com/", "config.url must not contain spaces, backslashes or control characters"),
        ("http://1.2.3.4.5/", "config.url must have a valid host: it looks like an IP address but is not one"),
    ],
)
def test_urls_that_may_not_be_saved(url: str, problem: str) -> None:
    assert problems({"url": url}) == [problem]


def test_http_can_be_forbidden() -> None:
    assert problems({"url": "http://example.com/"}, allow_http=False) == ["config.url must start with https://"]
    assert problems({"url": "https://example.com/"}, allow_http=False) == []


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ("nonsense", " must be a JSON object of header names and text values"),
        ("[]", " must be a JSON object of header names and text values"),
        ('{"a": 1}', " must be a JSON object of header names and text values"),
        ('{"a b": "1"}', ".a b must be a header name: letters, digits and hyphens"),
        ('{"": "1"}', ". must be a header name: letters, digits and hyphens"),
        ('{"x:y": "1"}', ".x:y must be a header name: letters, digits and hyphens"),
        ('{"Content-Type": "text/plain"}', ".Content-Type is reserved and cannot be set"),
        ('{"HOST": "x"}', ".HOST is reserved and cannot be set"),
        ('{"content-length": "1"}', ".content-length is reserved and cannot be set"),
        ('{"Transfer-Encoding": "chunked"}', ".Transfer-Encoding is reserved and cannot be set"),
        ('{"Proxy-Authorization": "x"}', ".Proxy-Authorization is reserved and cannot be set"),
        ('{"Webhook-Id": "x"}', ".Webhook-Id is reserved and cannot be set"),
        ('{"X-Waypost-Anything": "x"}', ".X-Waypost-Anything is reserved and cannot be set"),
        ('{"a": "x\\r\\ny: z"}', ".a must not contain control characters"),
        ('{"a": "\\u0000"}', ".a must not contain control characters"),
        ('{"a": "1", "A": "2"}', " must not have the same header twice (case does not matter)"),
    ],
)
def test_custom_headers_that_may_not_be_saved(headers: str, problem: str) -> None:
    assert problems({"url": "https://a.test", "custom_headers": headers}) == [f"config.custom_headers{problem}"]


def test_bounds_of_custom_headers() -> None:
    many = "{" + ",".join(f'"h{number}": "x"' for number in range(51)) + "}"
    assert problems({"url": "https://a.test", "custom_headers": many}) == [
        "config.custom_headers must have at most 50 headers"
    ]
    large = "{" + ",".join(f'"h{number}": "{"x" * 4_000}"' for number in range(5)) + "}"
    assert problems({"url": "https://a.test", "custom_headers": large}) == [
        "config.custom_headers must have at most 16384 bytes together"
    ]
    long = '{"h": "' + "x" * 4097 + '"}'
    assert problems({"url": "https://a.test", "custom_headers": long}) == [
        "config.custom_headers.h must be at most 4096 characters"
    ]


def test_names_that_collide_depend_on_the_options() -> None:
    def saved(name: str, **options: Any) -> bool:
        return problems({"url": "https://a.test", "custom_headers": f'{{"{name}": "x"}}'}, **options) == []

    assert saved("x-acme-topic")
    assert not saved("x-acme-topic", header_prefix="X-Acme-")
    assert not saved("x-sig", headers_rename={"signature": "X-Sig"})
    assert not saved("Topic", header_prefix="")
    assert saved("Topic")


def test_secrets_have_the_form_of_their_mode() -> None:
    config = {"url": "https://a.test"}
    assert problems(config, {"secret": "plain"}) == ["credentials.secret must be base64 (whsec_ and base64)"]
    assert problems(config, {"secret": "whsec_AAAA"}) == [
        "credentials.secret must hold 24 to 64 bytes (whsec_ and base64)"
    ]
    assert problems(config, {"secret": "plain"}, mode="default") == []
    bad_time = {"secret": NEW, "previous_secret": OLD, "previous_secret_invalid_at": "tomorrow"}
    assert problems(config, bad_time) == ["credentials.previous_secret_invalid_at must be an RFC 3339 date-time"]
    alone = {"secret": NEW, "previous_secret_invalid_at": "2030-01-01T00:00:00Z"}
    assert problems(config, alone) == ["credentials.previous_secret is required with previous_secret_invalid_at"]


# secrets and their rotation

NOW = 1_700_000_000 * SECOND
TOMORROW = times.render(NOW + DAY)


def prepared(
    given: dict[str, str], old: dict[str, str] | None = None, *, by_tenant: bool = False, **options: Any
) -> dict[str, str]:
    """The credentials as they would be stored. `old` are those of an existing destination."""
    stored = None if old is None else destination("https://a.test", **old)
    credentials = given if stored is None else {**stored.credentials, **given}
    options = {f"webhook_{name}": value for name, value in options.items()}
    change = Change(
        old=stored, config={"url": "u"}, credentials=credentials, by_tenant=by_tenant, now=NOW, options=options
    )
    config, credentials = KIND.prepare(change)
    assert config == {"url": "u"}
    return credentials


@pytest.mark.parametrize("by_tenant", [False, True])
def test_a_missing_secret_is_made(by_tenant: bool) -> None:
    first, second = prepared({}, by_tenant=by_tenant), prepared({"rotate_secret": "false"}, by_tenant=by_tenant)
    assert set(first) == set(second) == {"secret"}
    assert first["secret"] != second["secret"]
    assert len(parse_secret(first["secret"])) == 32


def test_the_operator_sets_secrets() -> None:
    assert prepared({"secret": OLD}) == {"secret": OLD}
    assert prepared({"secret": OLD}, {}) == {"secret": OLD}
    given = {"secret": NEW, "previous_secret": OLD}
    assert prepared(given) == {**given, "previous_secret_invalid_at": TOMORROW}
    given["previous_secret_invalid_at"] = "2030-01-01T00:00:00Z"
    assert prepared(given) == given


@pytest.mark.parametrize("key", ["secret", "previous_secret", "previous_secret_invalid_at"])
@pytest.mark.parametrize("old", [None, {}])
def test_tenants_set_no_secrets(key: str, old: dict[str, str] | None) -> None:
    with pytest.raises(Invalid) as caught:
        prepared({key: OLD}, old, by_tenant=True)
    assert caught.value.data == [f"credentials.{key} may only be set with an API key; rotate_secret is allowed"]


def test_tenants_may_not_remove_a_secret() -> None:
    stored = destination("https://a.test")
    with pytest.raises(Invalid, match="validation"):
        KIND.prepare(Change(old=stored, config={}, credentials={}, by_tenant=True, now=NOW))


def test_tenants_may_send_back_what_they_were_shown() -> None:
    old = {"previous_secret": OLD, "previous_secret_invalid_at": TOMORROW}
    assert prepared({"secret": NEW, **old}, old, by_tenant=True) == {"secret": NEW, **old}


@pytest.mark.parametrize("by_tenant", [False, True])
def test_rotation_keeps_the_previous_secret_for_a_day(by_tenant: bool) -> None:
    rotated = prepared({"rotate_secret": "true"}, {}, by_tenant=by_tenant)
    assert rotated["previous_secret"] == NEW
    assert rotated["previous_secret_invalid_at"] == TOMORROW
    assert rotated["secret"] not in {NEW, OLD}
    assert "rotate_secret" not in rotated


def test_rotating_again_forgets_the_oldest() -> None:
    old = {"previous_secret": OLD, "previous_secret_invalid_at": "2023-11-14T23:00:00Z"}
    rotated = prepared({"rotate_secret": "true"}, old)
    assert (rotated["previous_secret"], rotated["previous_secret_invalid_at"]) == (NEW, TOMORROW)


def test_how_long_a_rotated_secret_signs() -> None:
    assert (
        prepared({"rotate_secret": "true"}, {}, secret_overlap=60.0)["previous_secret_invalid_at"]
        == "2023-11-14T22:14:20Z"
    )
    chosen = {"rotate_secret": "true", "previous_secret_invalid_at": "2030-01-01T00:00:00Z"}
    assert prepared(chosen, {})["previous_secret_invalid_at"] == "2030-01-01T00:00:00Z"


def test_rotating_to_a_secret_of_the_operators() -> None:
    rotated = prepared({"rotate_secret": "true", "secret": OLD}, {})
    assert (rotated["secret"], rotated["previous_secret"]) == (OLD, NEW)


@pytest.mark.parametrize(
    ("given", "old", "problem"),
    [
        ({"rotate_secret": "true"}, None, "credentials.rotate_secret needs a secret to rotate"),
        ({"rotate_secret": "yes"}, {}, "credentials.rotate_secret must be one of: true, false"),
    ],
)
def test_rotations_that_are_refused(given: dict[str, str], old: dict[str, str] | None, problem: str) -> None:
    with pytest.raises(Invalid) as caught:
        prepared(given, old)
    assert caught.value.data == [problem]


# the type itself


def test_the_type_is_found_and_described() -> None:
    described = Registry(iter([WebhookType]))["webhook"].describe()
    assert [field["key"] for field in described["config_fields"]] == ["url", "custom_headers"]
    assert not any(field["sensitive"] for field in described["credential_fields"])
    assert KIND.target(destination("https://a.test/x")) == ("https://a.test/x", "https://a.test/x")


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "other"},
        {"unknown": 1},
        {"header_prefix": "x y"},
        {"headers_rename": {"topic": "a b"}},
        {"signature_algorithm": "md5"},
    ],
)
def test_options_that_are_wrong(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="webhook options"):
        options_of({f"webhook_{name}": value for name, value in options.items()})


def test_options_of_other_types_are_left_alone() -> None:
    assert options_of({"kafka_mode": 1, "webhook_mode": "default"}).mode == "default"
