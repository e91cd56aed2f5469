"""What tenants may do with the operator's mail server, over HTTP and with a real mail server."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from msgspec import structs

from tests.alerts.kit import local_tools
from tests.alerts.test_email import FROM, Mailbox, mail_server
from waypost.alerts.email import EmailType
from waypost.api.app import create_app
from waypost.connect.channel import ChannelType
from waypost.core.model import SECOND
from waypost.flow.alerting import Alerting
from waypost.flow.errands import Errands
from waypost.flow.notify import Senders
from waypost.flow.permits import Permits

from .kit import ADMIN_KEY, Caller, World, error

CHANNELS = "/alert-channels"
EMAIL = {"type": "email", "config": {"to": "ops@acme.example,boss@acme.example"}}
CODE = re.compile(r"\b[A-Z2-7]{4}(?:-[A-Z2-7]{4}){3}\b")


class Post:
    """The API with e-mail as its one channel type."""

    def __init__(self, world: World, tools: Any, mailbox: Mailbox) -> None:
        self.world, self.tools, self.mailbox = world, tools, mailbox

    def caller(self, *, admin: bool = False, allowed: bool = True, per_hour: int = 60) -> Caller:
        types: dict[str, ChannelType] = {"email": EmailType()}
        permits = Permits(
            types=types, allowed=frozenset({"email"} if allowed else ()), per_hour=per_hour, secret=b"secret"
        )
        world = self.world
        senders = Senders(types, self.tools, timeout=5.0, permits=permits)
        errands = Errands(world.store, senders, world.writer, next_seq=world.next_seq, now=lambda: world.now)
        alerting = Alerting(
            world.store,
            types,
            self.tools,
            defaults=(),
            max_channels=5,
            changed=lambda: None,
            now=lambda: world.now,
            permits=permits,
        )
        app = create_app(structs.replace(world.backend, alerting=alerting, errands=errands))
        return Caller(app, ADMIN_KEY if admin else world.access.mint("acme"))

    @property
    def messages(self) -> list[EmailMessage]:
        contents = [envelope.original_content for envelope in self.mailbox.received]
        return [message_from_bytes(content, policy=default) for content in contents if content is not None]

    def code_for(self, address: str) -> str:
        (asked,) = [message for message in self.messages if message["to"] == address]
        body = asked.get_body(("plain",))
        assert body is not None
        found = CODE.search(body.get_content())
        assert found is not None
        return found[0]


@pytest.fixture
async def post(world: World) -> AsyncIterator[Post]:
    mailbox = Mailbox()
    async with (
        mail_server(mailbox) as port,
        local_tools(email_server=f"smtp+plain://127.0.0.1:{port}", email_from=FROM) as tools,
    ):
        yield Post(world, tools, mailbox)


async def made(caller: Caller, **body: Any) -> dict[str, Any]:
    answer = await caller.post(CHANNELS, json=EMAIL | body)
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def test_tenants_mail_nobody_without_the_operators_leave(post: Post) -> None:
    acme = post.caller(allowed=False)
    assert (await acme.get("/alert-channel-types")).json() == []
    assert error(await acme.post(CHANNELS, json=EMAIL))[0] == 403
    earlier = await made(post.caller())
    tested = (await acme.post(f"{CHANNELS}/{earlier['id']}/test")).json()
    assert (tested["ok"], tested["code"]) == (False, "not_allowed")
    assert error(await acme.post(f"{CHANNELS}/{earlier['id']}/confirm", json={}))[0] == 403
    assert error(await acme.patch(f"{CHANNELS}/{earlier['id']}", json={"config": {"to": "a@b.example"}}))[0] == 403
    assert (await acme.patch(f"{CHANNELS}/{earlier['id']}", json={"enabled": False})).status_code == 200
    assert post.messages == []


async def test_nothing_is_sent_before_everybody_has_agreed(post: Post) -> None:
    acme = post.caller()
    channel = await made(acme)
    path = f"{CHANNELS}/{channel['id']}"
    assert channel["unconfirmed"] == ["ops@acme.example", "boss@acme.example"]
    assert (await acme.post(f"{path}/test")).json()["code"] == "not_confirmed"
    asked = await acme.post(f"{path}/confirm", json={})
    assert asked.json()["unconfirmed"] == channel["unconfirmed"]
    assert [message["to"] for message in post.messages] == ["ops@acme.example", "boss@acme.example"]

    wrong = await acme.post(f"{path}/confirm", json={"code": "AAAA-BBBB-CCCC-DDDD"})
    assert error(wrong)[0] == 422
    ops = post.code_for("ops@acme.example")
    assert ops != post.code_for("boss@acme.example")
    one = await acme.post(f"{path}/confirm", json={"code": ops.lower()})
    assert one.json()["unconfirmed"] == ["boss@acme.example"]
    assert (await acme.post(f"{path}/test")).json()["ok"] is False
    both = await acme.post(f"{path}/confirm", json={"code": post.code_for("boss@acme.example")})
    assert both.json()["unconfirmed"] == []
    assert (await acme.post(f"{path}/test")).json() == {"ok": True}

    changed = await acme.patch(path, json={"config": {"to": "ops@acme.example,victim@else.example"}})
    assert changed.json()["unconfirmed"] == ["victim@else.example"]
    assert (await acme.post(f"{path}/test")).json()["code"] == "not_confirmed"


async def test_a_code_is_for_one_channel_and_address(post: Post) -> None:
    acme = post.caller()
    first, second = await made(acme, name="one"), await made(acme, name="two")
    await acme.post(f"{CHANNELS}/{first['id']}/confirm", json={})
    stolen = {"code": post.code_for("ops@acme.example")}
    assert error(await acme.post(f"{CHANNELS}/{second['id']}/confirm", json=stolen))[0] == 422


async def test_the_operator_answers_for_what_it_sets_up(post: Post) -> None:
    admin, acme = post.caller(admin=True, allowed=False), post.caller(allowed=False)
    channel = await made(admin, tenant_id="acme")
    path = f"{CHANNELS}/{channel['id']}"
    assert channel["unconfirmed"] == []
    assert (await acme.post(f"{path}/test")).json() == {"ok": True}
    elsewhere = {"config": {"to": "victim@else.example"}}
    assert error(await acme.patch(path, json=elsewhere))[0] == 403
    changed = await post.caller().patch(path, json=elsewhere)
    assert changed.json()["unconfirmed"] == ["victim@else.example"]
    assert (await made(admin, name="own"))["unconfirmed"] == []


async def test_a_tenant_has_so_many_messages_within_an_hour(post: Post) -> None:
    acme = post.caller(per_hour=3)
    channel = await made(acme, config={"to": "ops@acme.example"})
    path = f"{CHANNELS}/{channel['id']}"
    await acme.post(f"{path}/confirm", json={})
    await acme.post(f"{path}/confirm", json={"code": post.code_for("ops@acme.example")})
    assert [(await acme.post(f"{path}/test")).json() for _ in range(2)] == [{"ok": True}] * 2
    refused = await acme.post(f"{path}/test")
    assert error(refused)[0] == 429
    assert 0 < int(refused.headers["retry-after"]) <= 3_600
    assert len(post.messages) == 3
    post.world.now += 3_600 * SECOND
    assert (await acme.post(f"{path}/test")).json() == {"ok": True}
