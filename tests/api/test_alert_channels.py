"""Alert channels over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import standardwebhooks
from msgspec import structs

from tests.alerts.kit import local_tools
from tests.flow.samples import Pigeon
from tests.net.receivers import Exchange, Receiver, receiver
from tests.store.builders import NOW
from waypost.api.app import create_app
from waypost.connect.registry import Registry
from waypost.connect.relay import channel_types
from waypost.core import times
from waypost.core.model import DAY, SECOND
from waypost.core.signing import make_secret
from waypost.destinations.webhook import WebhookType
from waypost.flow.alerting import Alerting
from waypost.flow.errands import Errands
from waypost.flow.notify import Senders

from .kit import ADMIN_KEY, Caller, World, error

CHANNELS = "/alert-channels"
PIN = "1234567890"
ANOTHER = make_secret(bytes(range(32)))


def letters(**body: Any) -> dict[str, Any]:
    return {"type": "letterbox", "name": "post", "config": {"address": "Elm Street 1"}} | body


async def made(caller: Caller, **body: Any) -> dict[str, Any]:
    answer = await caller.post(CHANNELS, json=letters(**body))
    assert answer.status_code == 201, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


async def names(caller: Caller) -> list[str]:
    return [channel["name"] for channel in (await caller.get(CHANNELS)).json()]


async def test_every_destination_type_is_a_kind_of_channel(world: World) -> None:
    for caller in (world.admin, world.acme):
        types = (await caller.get("/alert-channel-types")).json()
        assert types == (await caller.get("/destination-types")).json()


async def test_a_channel_is_made_changed_and_deleted(world: World) -> None:
    channel = await made(world.admin, credentials={"pin": PIN}, topics=["alert.*", "attempt.failed"])
    assert channel == {
        "id": channel["id"],
        "tenant_id": None,
        "type": "letterbox",
        "name": "post",
        "target": "Elm Street 1",
        "config": {"address": "Elm Street 1"},
        "credentials": {"pin": "1234********", "seal": f"seal-{NOW}"},
        "topics": ["alert.*", "attempt.failed"],
        "min_severity": "info",
        "enabled": True,
        "muted_until": None,
        "unconfirmed": [],
        "state": {"waiting": 0, "sent_at": None, "failed_at": None, "error": None},
        "created_at": "2027-01-15T08:00:00Z",
        "updated_at": "2027-01-15T08:00:00Z",
    }
    path = f"{CHANNELS}/{channel['id']}"
    world.now += SECOND
    changed = (await world.admin.patch(path, json={"min_severity": "critical", "config": {"floor": 2}})).json()
    assert changed == channel | {
        "min_severity": "critical",
        "config": {"address": "Elm Street 1", "floor": "2"},
        "updated_at": "2027-01-15T08:00:01Z",
    }
    assert (await world.admin.get(path)).json() == changed
    assert (await world.admin.delete(path)).json() == {"success": True}
    for answer in (await world.admin.get(path), await world.admin.delete(path)):
        assert error(answer) == (404, "alert channel not found", None)


async def test_secrets_are_masked_and_stay_when_sent_back(world: World) -> None:
    channel = await made(world.acme, credentials={"pin": PIN})
    path = f"{CHANNELS}/{channel['id']}"
    whole = {name: channel[name] for name in ("name", "config", "credentials", "topics", "min_severity", "muted_until")}
    for _ in range(2):
        answer = await world.acme.patch(path, json=whole)
        assert answer.json() == channel
    assert PIN not in (await world.acme.get(CHANNELS)).text
    (stored,) = await world.store.alerting.channels()
    assert stored.credentials["pin"] == PIN
    assert (await world.acme.patch(path, json={"credentials": {"pin": None}})).json()["credentials"] == {
        "seal": f"seal-{NOW}"
    }


async def test_of_a_type_that_is_no_longer_installed_everything_is_masked(world: World) -> None:
    channel = await made(world.admin, credentials={"pin": PIN})
    bare = World(world.store, types=Registry(iter([Pigeon])))
    shown = (await bare.admin.get(f"{CHANNELS}/{channel['id']}")).json()
    assert shown["target"] == ""
    assert shown["config"] == {"address": "Elm ********"}
    assert PIN not in json.dumps(shown)
    verdict = (await bare.admin.post(f"{CHANNELS}/{channel['id']}/test")).json()
    assert (verdict["ok"], verdict["code"]) == (False, "unknown_type")


async def test_a_tenant_has_channels_of_its_own_and_sees_no_others(world: World) -> None:
    ops = await made(world.admin, name="ops")
    given = await made(world.admin, name="given", tenant_id="acme")
    mine = await made(world.acme, name="mine")
    theirs = await made(world.zeta, name="theirs", tenant_id="acme")
    assert [one["tenant_id"] for one in (ops, given, mine, theirs)] == [None, "acme", "acme", "zeta"]
    assert await names(world.admin) == ["ops", "given", "mine", "theirs"]
    assert await names(world.acme) == ["given", "mine"]
    assert await names(world.zeta) == ["theirs"]
    for method, end in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/test")):
        for hidden in (ops, theirs):
            options = {"json": {"enabled": False}} if method == "PATCH" else {}
            answer = await world.acme(method, f"{CHANNELS}/{hidden['id']}{end}", **options)
            assert error(answer) == (404, "alert channel not found", None)
    rule = {"kind": "recovered", "channel_ids": [ops["id"]]}
    refused = error(await world.acme.post("/alert-rules", json=rule))
    unknown = error(await world.acme.post("/alert-rules", json=rule | {"channel_ids": ["chn_nobody"]}))
    assert refused == (422, "validation error", [f"channel_ids: {ops['id']} is not known"])
    assert unknown == (422, "validation error", ["channel_ids: chn_nobody is not known"])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"type": "carrier"}, (422, "validation error", ["type must be one of: letterbox, pigeon"])),
        ({"tenant_id": 5}, (422, "validation error", ["tenant_id must be text"])),
        ({"tenant_id": "nobody"}, (404, "tenant not found", None)),
        ({"name": "taken"}, (400, "an alert channel of this name already exists", None)),
        (
            {"config": {"address": "x", "zip": "1"}, "enabled": None},
            (
                422,
                "validation error",
                [
                    "enabled must be true or false",
                    "config.address must be at least 3 characters",
                    "config.zip failed pattern validation: five digits",
                ],
            ),
        ),
    ],
)
async def test_a_wrong_channel_is_refused(world: World, body: dict[str, Any], expected: tuple[int, str, Any]) -> None:
    await made(world.admin, name="taken")
    assert error(await world.admin.post(CHANNELS, json=letters(**body))) == expected
    assert await names(world.admin) == ["taken"]


async def test_there_is_a_limit(world: World) -> None:
    tight = World(world.store, alert_max_channels=1)
    await made(tight.acme)
    refused = error(await tight.acme.post(CHANNELS, json=letters(name="more")))
    assert refused == (400, "maximum number of alert channels reached", None)
    await made(tight.zeta)


async def test_a_wrong_change_is_refused(world: World) -> None:
    path = f"{CHANNELS}/{(await made(world.admin))['id']}"
    await made(world.admin, name="taken")
    assert error(await world.admin.patch(path, json={"name": "taken"}))[0] == 400
    faults = ["type cannot be updated", "tenant_id cannot be updated"]
    assert error(await world.admin.patch(path, json={"type": "pigeon", "tenant_id": None}))[2] == faults
    assert error(await world.admin.patch(path, json={"state": {}}))[2] == ["state is not a field of an alert channel"]
    assert error(await world.admin.patch(f"{CHANNELS}/chn_nobody", json={}))[0] == 404


# webhooks as channels, to a receiver that is really there


class Wired:
    """The API with webhooks as channels, and tools that reach this machine."""

    def __init__(self, world: World, server: Receiver, tools: Any) -> None:
        self.world = world
        self.server = server
        types = channel_types({}, Registry(iter([WebhookType])))
        senders = Senders(types, tools, timeout=5.0)
        alerting = Alerting(
            world.store,
            types,
            tools,
            defaults=(),
            max_channels=5,
            changed=lambda: None,
            now=lambda: world.now,
        )

        errands = Errands(world.store, senders, world.writer, next_seq=world.next_seq, now=lambda: world.now)
        app = create_app(structs.replace(world.backend, alerting=alerting, errands=errands))
        self.admin = Caller(app, ADMIN_KEY)
        self.acme = Caller(app, world.access.mint("acme"))

    async def channel(self, caller: Caller, **body: Any) -> dict[str, Any]:
        plain = {"type": "webhook", "config": {"url": f"http://127.0.0.1:{self.server.port}/alerts"}}
        answer = await caller.post(CHANNELS, json=plain | body)
        assert answer.status_code == 201, answer.text
        shown: dict[str, Any] = answer.json()
        return shown

    async def change(self, caller: Caller, channel: dict[str, Any], **credentials: Any) -> Any:
        return await caller.patch(f"{CHANNELS}/{channel['id']}", json={"credentials": credentials})


@pytest.fixture
async def wired(world: World) -> AsyncIterator[Wired]:
    async with receiver() as server, local_tools() as tools:
        yield Wired(world, server, tools)


async def test_a_test_alert_arrives_signed_whatever_is_muted(wired: Wired) -> None:
    channel = await wired.channel(wired.acme, enabled=False, muted_until="2999-01-01T00:00:00Z")
    for caller in (wired.acme, wired.admin):
        answer = await caller.post(f"{CHANNELS}/{channel['id']}/test")
        assert (answer.status_code, answer.json()) == (200, {"ok": True})
    first, second = wired.server.seen
    read = standardwebhooks.Webhook(channel["credentials"]["secret"]).verify(first.body.decode(), first.headers)
    assert (read["topic"], read["id"]) == ("alert.test", first.headers["webhook-id"])
    assert first.headers["webhook-id"] != second.headers["webhook-id"]
    assert (await wired.admin.get("/alerts")).json()["models"] == []
    (entry, _) = (await wired.acme.get("/audit-log?action=alert_channel.test")).json()["models"][::-1]
    assert (entry["actor"]["type"], entry["actor"]["name"]) == ("tenant", "acme")
    assert (entry["tenant_id"], entry["subject"]) == ("acme", channel["id"])


async def test_a_test_that_fails_says_why(wired: Wired) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.answer(503)

    wired.server.answer = refuse
    channel = await wired.channel(wired.admin)
    answer = await wired.admin.post(f"{CHANNELS}/{channel['id']}/test")
    assert answer.json() == {
        "ok": False,
        "code": "503",
        "message": "127.0.0.1 answered with status 503 (Service Unavailable)",
    }
    assert len(wired.server.seen) == 1


async def test_a_tenant_keeps_or_turns_the_secret_of_its_webhook_and_cannot_set_it(wired: Wired) -> None:
    channel = await wired.channel(wired.acme)
    secret = channel["credentials"]["secret"]
    assert secret.startswith("whsec_")
    kept = await wired.change(wired.acme, channel, secret=secret)
    assert kept.json()["credentials"] == {"secret": secret}
    sentence = "credentials.secret may only be set with an API key; rotate_secret is allowed"
    assert error(await wired.change(wired.acme, channel, secret=ANOTHER))[2] == [sentence]
    turned = (await wired.change(wired.acme, channel, rotate_secret=True)).json()["credentials"]
    assert turned["previous_secret"] == secret
    assert turned["previous_secret_invalid_at"] == times.render(NOW + DAY)
    await wired.acme.post(f"{CHANNELS}/{channel['id']}/test")
    (seen,) = wired.server.seen
    for each in (turned["secret"], secret):
        standardwebhooks.Webhook(each).verify(seen.body.decode(), seen.headers)
    given = await wired.change(wired.admin, channel, secret=ANOTHER)
    assert given.json()["credentials"]["secret"] == ANOTHER


async def test_a_channel_may_not_lead_to_where_a_destination_may_not(wired: Wired) -> None:
    for caller in (wired.acme, wired.admin):
        body = {"type": "webhook", "config": {"url": "http://169.254.169.254/latest/meta-data"}}
        (fault,) = error(await caller.post(CHANNELS, json=body))[2]
        assert fault.startswith("config.url is not allowed")
