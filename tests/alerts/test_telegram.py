"""Telegram against a stand-in for the Bot API, which judges messages by the rules of its documentation."""

from __future__ import annotations

import json
import logging
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given

from tests.alerts.kit import complaints, connected, local_tools, notice
from tests.alerts.openapi_sink import says
from tests.alerts.vendor import NOTICES
from tests.net.receivers import Answer, Exchange, receiver
from waypost.alerts.telegram import TelegramType, message
from waypost.connect.channel import Notice
from waypost.connect.connector import Receipt
from waypost.core.errors import DeliveryError, SettingsError

KIND = TelegramType()
TOKEN = "123456789:AAbb-cc_ddEEffGGhhIIjjKKllMMnnOOpp"
CONFIG = {"chat_id": "-1001234567890"}
SECRET = {"bot_token": TOKEN}


class Markup(HTMLParser):
    """Text as Telegram reads it in HTML mode (core.telegram.org/bots/api#html-style).

    Of its tags these are the ones without further rules. Everything else that looks like markup has to be an entity,
    and only `&lt;`, `&gt;`, `&amp;`, `&quot;` have names.
    """

    TAGS = frozenset({"b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "code", "pre", "a"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self.open: list[str] = []
        self.shown = ""
        self.links: list[str | None] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.TAGS
        assert [name for name, _ in attrs] == (["href"] if tag == "a" else [])
        self.links += [value for _, value in attrs]
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        assert not set(data) & {"<", ">", "&"}
        self.shown += data

    def handle_entityref(self, name: str) -> None:
        self.shown += {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}[name]

    def handle_charref(self, name: str) -> None:
        raise AssertionError(name)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


class BotApi:
    """The method sendMessage of one bot (core.telegram.org/bots/api#sendmessage). Keeps what it has accepted."""

    FIELDS = frozenset(
        {"chat_id", "message_thread_id", "text", "parse_mode", "link_preview_options", "disable_notification"}
    )

    def __init__(self) -> None:
        self.accepted: list[dict[str, Any]] = []

    async def __call__(self, exchange: Exchange) -> None:
        seen = exchange.seen
        if (seen.method, seen.path) != ("POST", f"/bot{TOKEN}/sendMessage"):
            await says(401, {"ok": False, "error_code": 401, "description": "Unauthorized"})(exchange)
            return
        posted = json.loads(seen.body)
        try:
            assert seen.headers["content-type"] == "application/json"
            self.judge(posted)
        except AssertionError as error:
            told = f"Bad Request: {error}"
            await says(400, {"ok": False, "error_code": 400, "description": told})(exchange)
            return
        self.accepted.append(posted)
        result = {"message_id": 7, "text": posted["text"], "chat": {"id": -1001234567890, "type": "supergroup"}}
        await says(200, {"ok": True, "result": result})(exchange)

    def judge(self, posted: dict[str, Any]) -> None:
        assert set(posted) <= self.FIELDS
        chat = posted["chat_id"]
        assert type(chat) is int or (type(chat) is str and chat.startswith("@"))
        assert type(posted.get("message_thread_id", 1)) is int
        assert posted["parse_mode"] == "HTML"
        assert posted["link_preview_options"] == {"is_disabled": True}
        assert type(posted["disable_notification"]) is bool
        assert 1 <= len(Markup(posted["text"]).shown) <= 4_096


async def sent(told: Notice, config: dict[str, str] = CONFIG) -> tuple[Receipt, dict[str, Any]]:
    api = BotApi()
    async with (
        receiver(api) as server,
        local_tools(telegram_base_url=f"http://127.0.0.1:{server.port}/") as tools,
        connected(KIND, config, SECRET, tools) as connection,
    ):
        receipt = await connection.send(told)
    (posted,) = api.accepted
    return receipt, posted


async def failure(answer: Answer, caplog: pytest.LogCaptureFixture, token: str = TOKEN) -> DeliveryError:
    caplog.set_level(logging.DEBUG)
    async with (
        receiver(answer) as server,
        local_tools(patience=0.3, telegram_base_url=f"http://127.0.0.1:{server.port}") as tools,
        connected(KIND, CONFIG, {"bot_token": token}, tools) as connection,
    ):
        with pytest.raises(DeliveryError) as caught:
            await connection.send(notice())
    assert len(server.seen) == 1
    error = caught.value
    assert token not in f"{error} {error.sentence} {error.response} {error.request} {caplog.text}"
    return error


async def test_a_message() -> None:
    receipt, posted = await sent(notice())
    read = Markup(posted["text"])
    assert posted["chat_id"] == -1001234567890
    assert "message_thread_id" not in posted
    assert posted["disable_notification"] is False
    assert posted["text"].startswith("<b>des_1 of acme has failed 50 times in a row</b>\n\nThe destination des_1")
    assert "\nError: 503: the receiver answered 503 <Service Unavailable> & closed\n" in read.shown
    assert read.links == [notice().link]
    assert receipt.code == "200"
    assert receipt.response is not None
    assert receipt.response["body"].startswith('{"ok": true')
    assert TOKEN not in str(receipt)


async def test_a_topic_of_a_public_group_without_a_sound() -> None:
    place = {"chat_id": "@waypost_alerts", "message_thread_id": "42"}
    _, posted = await sent(notice(severity="info", link=None, facts=()), place)
    assert (posted["chat_id"], posted["message_thread_id"]) == ("@waypost_alerts", 42)
    assert posted["disable_notification"] is True
    assert Markup(posted["text"]).shown == f"{notice().title}\n\n{notice().text}"


async def test_markup_in_texts_is_text() -> None:
    odd = "<b>bold</b> & <a href='x'>\"x\"</a> &lt; <!-- ' -->"
    _, posted = await sent(notice(title=odd, text=odd, facts=((odd[:20], odd),), link='https://w.example/?a="b"&c=<d>'))
    read = Markup(posted["text"])
    assert read.shown == f"{odd}\n\n{odd}\n\n{odd[:20]}: {odd}\n\nOpen in Waypost"
    assert read.links == ['https://w.example/?a="b"&c=<d>']


async def test_a_long_notice_is_cut_between_entities() -> None:
    _, posted = await sent(notice(title="<" * 5_000, text="&" * 5_000, facts=(("<" * 500, "&" * 5_000),) * 30))
    read = Markup(posted["text"])
    assert read.shown.startswith("<" * 255 + "…\n\n&")
    assert read.links == [notice().link]


@given(NOTICES)
def test_every_notice_is_a_message_that_telegram_takes(told: Notice) -> None:
    BotApi().judge(json.loads(message({"chat_id": 1}, told)))


async def test_telegram_asks_to_wait_in_the_body(caplog: pytest.LogCaptureFixture) -> None:
    told = {"ok": False, "error_code": 429, "description": "Too Many Requests", "parameters": {"retry_after": 23}}
    error = await failure(says(429, told), caplog)
    assert (error.code, error.retryable, error.retry_after) == ("429", True, 23.0)
    assert error.sentence == "Telegram refused the message: Too Many Requests"


async def test_somebody_before_telegram_asks_to_wait(caplog: pytest.LogCaptureFixture) -> None:
    error = await failure(says(429, "busy", retry_after="4"), caplog)
    assert (error.code, error.retryable, error.retry_after) == ("429", True, 4.0)
    assert error.sentence == "Telegram answered with status 429"


async def test_a_token_that_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    error = await failure(BotApi(), caplog, TOKEN[:-1] + "q")
    assert (error.code, error.retryable) == ("401", False)
    assert error.sentence == "Telegram does not accept the bot token"


async def test_a_group_that_has_moved(caplog: pytest.LogCaptureFixture) -> None:
    told = "Bad Request: group chat was upgraded to a supergroup chat"
    moved = {"migrate_to_chat_id": -1009876543210}
    error = await failure(says(400, {"ok": False, "error_code": 400, "description": told, "parameters": moved}), caplog)
    assert (error.code, error.retryable, error.retry_after) == ("400", False, None)
    assert error.sentence == f"Telegram refused the message: {told}; the chat's id is -1009876543210 now"


@pytest.mark.parametrize("body", [{"ok": False}, {"result": {"text": '"ok":true'}}, "<html>", '{"ok": true}'])
async def test_a_status_alone_is_no_success(body: object, caplog: pytest.LogCaptureFixture) -> None:
    error = await failure(says(200, body), caplog)
    assert (error.code, error.retryable) == ("200", False)


async def test_an_answer_that_is_cut_off_is_a_success() -> None:
    async def long(exchange: Exchange) -> None:
        await says(200, {"ok": True, "result": {"text": "x" * 100_000}})(exchange)

    async with (
        receiver(long) as server,
        local_tools(telegram_base_url=f"http://127.0.0.1:{server.port}") as tools,
        connected(KIND, CONFIG, SECRET, tools) as connection,
    ):
        receipt = await connection.send(notice())
    assert receipt.code == "200"


async def test_a_server_in_trouble(caplog: pytest.LogCaptureFixture) -> None:
    error = await failure(says(503, f"no backend for /bot{TOKEN}/sendMessage"), caplog)
    assert (error.code, error.retryable) == ("503", True)
    assert error.response == {"status_code": 503, "body": '"no backend for /bot****/sendMessage"'}


async def test_an_answer_that_does_not_come(caplog: pytest.LogCaptureFixture) -> None:
    error = await failure(Exchange.gone, caplog)
    assert (error.code, error.retryable) == ("timeout", True)


async def test_the_address_guard_holds() -> None:
    async with (
        receiver(BotApi()) as server,
        local_tools(local=False, telegram_base_url=f"http://127.0.0.1:{server.port}") as tools,
        connected(KIND, CONFIG, SECRET, tools) as connection,
    ):
        with pytest.raises(DeliveryError) as caught:
            await connection.send(notice())
    assert caught.value.code == "blocked_address"
    assert server.seen == []
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "credentials", "problem"),
    [
        ({"chat_id": ""}, {}, "config.chat_id is required"),
        ({"chat_id": "waypost"}, {}, "config.chat_id failed pattern validation"),
        ({"chat_id": "@ab"}, {}, "config.chat_id failed pattern validation"),
        ({"chat_id": "-0100"}, {}, "config.chat_id failed pattern validation"),
        ({"chat_id": "9" * 20}, {}, "config.chat_id failed pattern validation"),
        ({"message_thread_id": "-4"}, {}, "config.message_thread_id failed pattern validation"),
        ({}, {"bot_token": ""}, "credentials.bot_token is required"),
        ({}, {"bot_token": "123456789:../getMe"}, "credentials.bot_token failed pattern validation"),
        ({}, {"bot_token": f"{TOKEN}/../x"}, "credentials.bot_token failed pattern validation"),
    ],
)
async def test_what_cannot_be_saved(config: dict[str, str], credentials: dict[str, str], problem: str) -> None:
    async with local_tools() as tools:
        (found,) = complaints(KIND, {**CONFIG, **config}, {**SECRET, **credentials}, tools)
    assert found.startswith(problem)


def test_the_target_is_the_chat() -> None:
    assert KIND.target(CONFIG, SECRET) == "-1001234567890"


def test_the_token_is_a_secret() -> None:
    assert [field.key for field in KIND.credential_fields if field.sensitive] == ["bot_token"]


@pytest.mark.parametrize("wrong", [{"base_url": "api.telegram.org"}, {"surprise": 1}])
def test_options_that_are_wrong(wrong: dict[str, Any]) -> None:
    KIND.check_options({"telegram_base_url": "http://127.0.0.1:8081"})
    with pytest.raises(SettingsError, match="telegram_"):
        KIND.check_options({f"telegram_{name}": value for name, value in wrong.items()})
