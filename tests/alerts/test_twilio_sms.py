"""Text messages against a stand-in for Twilio that judges each request by the rules of its OpenAPI description."""

from __future__ import annotations

from base64 import b64encode
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given

from tests.alerts.kit import complaints, connected, local_tools, notice
from tests.alerts.openapi_sink import document, openapi_sink, says
from tests.alerts.vendor import NOTICES
from tests.net.receivers import Answer, Exchange
from waypost.alerts.twilio_sms import TwilioSmsType, body
from waypost.connect.channel import Notice
from waypost.connect.connector import Receipt
from waypost.core.errors import DeliveryError, SettingsError

KIND = TwilioSmsType()
TOKEN = "0123456789abcdef0123456789abcdef"
ACCOUNT = "AC" + "a" * 32
SERVICE = "MG" + "0aF" * 10 + "12"
KEY = "SK" + "c" * 32
CONFIG = {"to": "+14155550123", "from": "+14155550100", "account_sid": ACCOUNT}
SECRET = {"auth_token": TOKEN}
TAKEN = says(201, {"sid": "SM" + "b" * 32, "status": "queued"})


async def sent(
    config: dict[str, str] = CONFIG, credentials: dict[str, str] = SECRET, told: Notice | None = None
) -> tuple[Receipt, dict[str, str], dict[str, str]]:
    """The receipt, and the headers and fields of the one request."""
    async with (
        openapi_sink(document("twilio"), TAKEN) as sink,
        local_tools(twilio_sms_base_url=sink.url + "/") as tools,
        connected(KIND, config, credentials, tools) as connection,
    ):
        receipt = await connection.send(told or notice())
    (request,) = sink.accepted
    assert request.path == f"/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    fields = {name: value for name, (value,) in parse_qs(request.body.decode(), strict_parsing=True).items()}
    return receipt, request.headers, fields


async def failure(answer: Answer) -> DeliveryError:
    async with (
        openapi_sink(document("twilio"), answer) as sink,
        local_tools(patience=0.3, twilio_sms_base_url=sink.url) as tools,
        connected(KIND, CONFIG, SECRET, tools) as connection,
    ):
        with pytest.raises(DeliveryError) as caught:
            await connection.send(notice())
    assert (len(sink.accepted), sink.refused) == (1, [])
    error = caught.value
    shown = f"{error} {error.response} {error.request}"
    assert TOKEN not in shown
    assert basic(ACCOUNT) not in shown
    return error


def basic(user: str) -> str:
    return b64encode(f"{user}:{TOKEN}".encode()).decode()


async def test_a_message_from_a_number() -> None:
    receipt, headers, fields = await sent()
    assert headers["authorization"] == f"Basic {basic(ACCOUNT)}"
    assert (fields["To"], fields["From"]) == ("+14155550123", "+14155550100")
    assert fields["Body"] == "\n".join((notice().title, notice().text, notice().link or ""))
    assert receipt.code == "201"
    assert receipt.response is not None
    assert "queued" in receipt.response["body"]
    assert TOKEN not in str(receipt)


async def test_a_message_from_a_messaging_service() -> None:
    _, _, fields = await sent({**CONFIG, "from": SERVICE})
    assert fields["MessagingServiceSid"] == SERVICE
    assert "From" not in fields


async def test_an_api_key_signs_in_for_the_account() -> None:
    _, headers, _ = await sent(credentials={**SECRET, "api_key_sid": KEY})
    assert headers["authorization"] == f"Basic {basic(KEY)}"


async def test_a_long_text_is_cut_before_the_link() -> None:
    _, _, fields = await sent(told=notice(title="T" * 100, text="ü" * 2_000))
    assert len(fields["Body"]) == 320
    assert fields["Body"].startswith("T" * 100 + "\nü")
    assert fields["Body"].endswith("ü…\n" + (notice().link or ""))


@pytest.mark.parametrize("link", [None, "https://waypost.example/" + "x" * 2_000])
async def test_no_link_or_one_that_leaves_no_room(link: str | None) -> None:
    _, _, fields = await sent(told=notice(text="x" * 2_000, link=link))
    assert fields["Body"].endswith("x…")


async def test_nothing_in_a_text_becomes_a_field() -> None:
    odd = "50% & more\r\n&To=+15005550006 <b>+;\u202e💥\x00"
    _, _, fields = await sent(told=notice(title=odd))
    assert fields["To"] == "+14155550123"
    assert fields["Body"].startswith(odd)


@given(NOTICES)
def test_every_notice_is_a_text_of_a_few_segments(told: Notice) -> None:
    text = body(told)
    assert text.strip()
    assert len(text) <= 320


async def test_twilio_asks_to_wait() -> None:
    error = await failure(
        says(429, {"code": 20429, "message": "Too Many Requests", "more_info": "", "status": 429}, retry_after="17")
    )
    assert (error.code, error.retryable, error.retry_after) == ("429", True, 17.0)
    assert error.sentence == "Twilio refused the message: Too Many Requests (error 20429)"


async def test_a_number_that_does_not_exist() -> None:
    told = "The 'To' number +14155550123 is not a valid phone number."
    error = await failure(says(400, {"code": 21211, "message": told, "more_info": "https://...", "status": 400}))
    assert (error.code, error.retryable) == ("400", False)
    assert error.sentence == f"Twilio refused the message: {told} (error 21211)"
    assert error.response is not None
    assert "21211" in error.response["body"]


async def test_a_token_that_is_wrong() -> None:
    told = f"Authenticate {TOKEN} {basic(ACCOUNT)}"
    error = await failure(says(401, {"code": 20003, "message": told, "more_info": "", "status": 401}))
    assert (error.code, error.retryable) == ("401", False)
    assert error.sentence == "Twilio does not accept the auth token of this account or API key"
    assert error.response is not None
    assert "Authenticate **** ****" in error.response["body"]


@pytest.mark.parametrize("said", [{}, [], {"code": "x", "message": 7}])
async def test_an_error_that_twilio_does_not_explain(said: object) -> None:
    error = await failure(says(503, said))
    assert (error.code, error.retryable) == ("503", True)
    assert error.sentence == "Twilio answered with status 503"


async def test_an_answer_that_does_not_come() -> None:
    error = await failure(Exchange.gone)
    assert (error.code, error.retryable) == ("timeout", True)


async def test_the_address_guard_holds() -> None:
    async with (
        openapi_sink(document("twilio"), TAKEN) as sink,
        local_tools(local=False, twilio_sms_base_url=sink.url) as tools,
        connected(KIND, CONFIG, SECRET, tools) as connection,
    ):
        with pytest.raises(DeliveryError) as caught:
            await connection.send(notice())
    assert caught.value.code == "blocked_address"
    assert sink.accepted == []


@pytest.mark.parametrize(
    ("config", "credentials", "problem"),
    [
        ({"to": "0415 555 0123"}, {}, "config.to failed pattern validation"),
        ({"to": "+0123456789"}, {}, "config.to failed pattern validation"),
        ({"to": "+1415555012\n"}, {}, "config.to failed pattern validation"),
        ({"from": "Waypost"}, {}, "config.from failed pattern validation"),
        ({"from": SERVICE[:-1]}, {}, "config.from failed pattern validation"),
        ({"account_sid": f"{ACCOUNT}/../x"}, {}, "config.account_sid failed pattern validation"),
        ({"account_sid": ""}, {}, "config.account_sid is required"),
        ({}, {"auth_token": ""}, "credentials.auth_token is required"),
        ({}, {"api_key_sid": ACCOUNT}, "credentials.api_key_sid failed pattern validation"),
    ],
)
async def test_what_cannot_be_saved(config: dict[str, str], credentials: dict[str, str], problem: str) -> None:
    async with local_tools() as tools:
        (found,) = complaints(KIND, {**CONFIG, **config}, {**SECRET, **credentials}, tools)
    assert found.startswith(problem)


def test_the_target_is_the_phone_number() -> None:
    assert KIND.target(CONFIG, SECRET) == "+14155550123"


def test_secrets_are_marked() -> None:
    assert [field.key for field in KIND.credential_fields if field.sensitive] == ["auth_token"]


@pytest.mark.parametrize("wrong", [{"base_url": "api.twilio.com"}, {"base_url": 7}, {"surprise": 1}])
def test_options_that_are_wrong(wrong: dict[str, Any]) -> None:
    KIND.check_options({"twilio_sms_base_url": "http://127.0.0.1:1", "telegram_base_url": "https://x.example"})
    with pytest.raises(SettingsError, match="twilio_sms_"):
        KIND.check_options({f"twilio_sms_{name}": value for name, value in wrong.items()})
