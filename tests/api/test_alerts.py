"""Alerts on record and the audit log over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from tests.store.builders import OPERATOR
from waypost.core import ids
from waypost.core.model import SECOND, Destination, Event
from waypost.store.alerting import Entry

from .kit import Caller, World, error
from .test_attempts import DATA


class Record:
    """Acme's `one` failed often enough for the operator's rule, zeta's for one of its own."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def write(self) -> None:
        world = self.world
        self.one = await world.destination(id="one", credentials={"pin": "1234567890"})
        self.theirs = await world.destination("zeta", id="theirs")
        once = {"kind": "consecutive_failures", "parameters": {"count": 1, "steps": [100]}}
        for caller in (world.admin, world.zeta):
            assert (await caller.post("/alert-rules", json=once)).status_code == 201
        self.event = await self.fail(self.one)
        await self.fail(self.theirs)

    async def fail(self, to: Destination) -> Event:
        event = await self.world.event(to, tenant_id=to.tenant_id, data=DATA, topic="order.paid")
        detail = "The receiver answered 503."
        await self.world.attempt(event, to, ok=False, code="503", detail=detail, response={"body": "no"})
        return event

    async def alerts(self, caller: Caller, query: str = "") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await caller.get(f"/alerts{query}")).json()["models"]
        return found


@pytest.fixture
async def record(world: World) -> Record:
    made = Record(world)
    await made.write()
    return made


async def test_an_alert_says_everything(world: World, record: Record) -> None:
    *_, alert = await record.alerts(world.acme)
    assert alert == {
        "id": alert["id"],
        "time": alert["time"],
        "kind": "consecutive_failures",
        "topic": "alert.destination.consecutive_failure",
        "severity": "warning",
        "audience": "both",
        "rule_id": alert["rule_id"],
        "tenant_id": "acme",
        "destination_id": "one",
        "event_id": record.event.id,
        "attempt_id": alert["attempt_id"],
        "title": "one of acme has failed 1 times in a row",
        "text": alert["text"],
        "facts": {
            "Tenant": "acme",
            "Destination": "one (letterbox, Elm Street 1)",
            "Topic": "order.paid",
            "Event": record.event.id,
            "Code": "503",
            "Error": "The receiver answered 503.",
            "Response": "no",
            "Attempt": "1 at 2027-01-15T08:00:02Z",
            "First failure": "2027-01-15T08:00:02.001500Z",
            "Failures in a row": "1",
            "Next retry": alert["facts"]["Next retry"],
        },
        "data": {"current": 1, "max": 1, "threshold": 100, "failing_since": "2027-01-15T08:00:02.001500Z"},
        "acknowledged_at": None,
        "acknowledged_by": None,
    }
    assert alert["text"].endswith("The last error: 503: The receiver answered 503.")
    assert (await world.acme.get(f"/alerts/{alert['id']}")).json() == alert
    assert (await world.acme.get(f"/attempts/{alert['attempt_id']}")).status_code == 200


async def test_everybody_sees_what_concerns_them(world: World, record: Record) -> None:
    def shown(alerts: list[dict[str, Any]]) -> list[tuple[str, str]]:
        return [(alert["destination_id"], alert["audience"]) for alert in alerts]

    everything = shown(await record.alerts(world.admin))
    assert everything == [("theirs", "tenant"), ("theirs", "operator"), ("one", "both")]
    assert shown(await record.alerts(world.acme)) == [("one", "both")]
    assert shown(await record.alerts(world.zeta)) == [("theirs", "tenant")]
    for caller in (world.acme, world.zeta):
        for query in ("?tenant_id=acme&tenant_id=zeta", "?destination_id=one&destination_id=theirs"):
            assert await record.alerts(caller, query) == await record.alerts(caller)
    _, operators, acmes = await record.alerts(world.admin)
    for hidden, caller in ((operators, world.zeta), (operators, world.acme), (acmes, world.zeta)):
        for answer in (
            await caller.get(f"/alerts/{hidden['id']}"),
            await caller.post(f"/alerts/{hidden['id']}/acknowledge"),
        ):
            assert error(answer) == (404, "alert not found", None)


@pytest.mark.parametrize("name", ["x", "alr_", "alr_" + "z" * 13, "atm_0000000000000", "alr_0000000000000"])
async def test_an_unknown_alert_is_not_found(world: World, name: str) -> None:
    assert error(await world.admin.get(f"/alerts/{name}")) == (404, "alert not found", None)
    assert error(await world.admin.post(f"/alerts/{name}/acknowledge")) == (404, "alert not found", None)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 3),
        ("?tenant_id=acme", 1),
        ("?tenant_id=acme&tenant_id=zeta", 3),
        ("?destination_id[]=theirs", 2),
        ("?kind=recovered", 0),
        ("?kind=consecutive_failures&kind=recovered", 3),
        ("?severity=warning", 3),
        ("?severity=critical", 0),
        ("?acknowledged=true", 1),
        ("?acknowledged=false", 2),
        ("?time[gte]=2027-01-01", 3),
        ("?time[lt]=2027-01-01", 0),
    ],
)
async def test_alerts_are_found_by_every_condition(world: World, record: Record, query: str, expected: int) -> None:
    *_, last = await record.alerts(world.admin)
    await world.admin.post(f"/alerts/{last['id']}/acknowledge")
    assert len(await record.alerts(world.admin, query)) == expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("acknowledged=maybe", {"query.acknowledged": "must be 'true' or 'false'"}),
        ("severity=dire", {"query.severity": "must be 'info', 'warning' or 'critical'"}),
        ("order_by=id", {"query.order_by": "must be 'time'"}),
    ],
)
async def test_a_wrong_query_is_named(world: World, query: str, expected: dict[str, str]) -> None:
    assert error(await world.admin.get(f"/alerts?{query}")) == (422, "validation error", expected)


@pytest.mark.parametrize("path", ["/alerts", "/audit-log"])
@pytest.mark.parametrize("direction", ["asc", "desc"])
async def test_pages_hold_everything_once_in_both_ways(world: World, record: Record, path: str, direction: str) -> None:
    for _ in range(4):
        event = await world.event(record.one)
        await world.attempt(event, record.one)
        await record.fail(record.one)
        await world.store.alerting.audit(Entry(actor=OPERATOR, action="x.y", tenant_id="acme", subject="z"))
    whole = [item["id"] for item in (await world.admin.get(f"{path}?dir={direction}")).json()["models"]]
    assert whole == sorted(whole, reverse=direction == "desc")
    assert len(whole) >= 7
    forth, cursor = list[str](), ""
    while True:
        page = (await world.admin.get(f"{path}?dir={direction}&limit=3{cursor}")).json()
        forth += [item["id"] for item in page["models"]]
        if page["pagination"]["next"] is None:
            break
        cursor = f"&next={page['pagination']['next']}"
    assert forth == whole
    back = [item["id"] for item in page["models"]]
    while page["pagination"]["prev"] is not None:
        page = (await world.admin.get(f"{path}?dir={direction}&limit=3&prev={page['pagination']['prev']}")).json()
        back = [item["id"] for item in page["models"]] + back
    assert back == whole
    foreign = (await world.admin.get(f"/attempts?limit=1&dir={direction}")).json()["pagination"]["next"]
    assert error(await world.admin.get(f"{path}?dir={direction}&next={foreign}"))[0] == 400


async def test_the_first_acknowledgement_stays(world: World, record: Record) -> None:
    *_, alert = await record.alerts(world.acme)
    path = f"/alerts/{alert['id']}/acknowledge"
    first = (await world.acme.post(path)).json()
    assert (first["acknowledged_at"], first["acknowledged_by"]) == ("2027-01-15T08:00:04Z", "tenant:acme")
    world.now += SECOND
    assert (await world.admin.post(path)).json() == first
    assert (await world.admin.get(f"/alerts/{alert['id']}")).json() == first
    log = (await world.acme.get("/audit-log?action=alert.acknowledge")).json()["models"]
    assert [(entry["subject"], entry["actor"]["name"]) for entry in log] == [(alert["id"], "acme")]


async def test_an_alert_whose_destination_is_gone_still_says_everything(world: World, record: Record) -> None:
    *_, before = await record.alerts(world.acme)
    await world.acme.delete("/tenants/acme/destinations/one")
    *_, after = await record.alerts(world.acme)
    del before["facts"]["Next retry"], after["facts"]["Attempt"], before["facts"]["Attempt"]
    assert after == before


# the audit log


async def actions(caller: Caller, query: str = "") -> list[str]:
    """Oldest first."""
    return [entry["action"] for entry in (await caller.get(f"/audit-log{query}")).json()["models"]][::-1]


OPERATORS = ("topic.put", "topic.delete", "api_key.create", "api_key.revoke", "tenant.delete")


async def test_every_verb_of_management_is_written_down(world: World) -> None:
    home = "/tenants/new/destinations"
    await world.admin.put("/tenants/new")
    await world.admin.get("/tenants/new/token")
    await world.admin.get("/tenants/new/portal")
    new = Caller(world.app, world.access.mint("new"))
    body = {"type": "letterbox", "topics": "*", "config": {"address": "Elm"}, "id": "des_1"}
    await new.post(home, json=body)
    await new.patch(f"{home}/des_1", json={"topics": ["a"]})
    await new.put(f"{home}/des_1/disable")
    await new.put(f"{home}/des_1/enable")
    await new.post(f"{home}/des_1/verify")
    await new.post(f"{home}/des_1/test")
    to = await world.store.destination("new", "des_1")
    assert to is not None
    event = await world.event(tenant_id="new", topic="a")
    await new.post("/retry", json={"event_id": event.id, "destination_id": "des_1"})
    channel = (await new.post("/alert-channels", json={"type": "letterbox", "config": {"address": "Elm"}})).json()
    await new.patch(f"/alert-channels/{channel['id']}", json={"name": "other"})
    await new.post(f"/alert-channels/{channel['id']}/test")
    await new.delete(f"/alert-channels/{channel['id']}")
    rule = (await new.post("/alert-rules", json={"kind": "recovered"})).json()
    await new.patch(f"/alert-rules/{rule['id']}", json={"enabled": False})
    await new.delete(f"/alert-rules/{rule['id']}")
    await new.delete(f"{home}/des_1")
    await world.admin.put("/topics/a", json={})
    await world.admin.delete("/topics/a")
    key = (await world.admin.post("/api-keys", json={"name": "ci"})).json()
    await world.admin.delete(f"/api-keys/{key['id']}")
    await world.admin.delete("/tenants/new")
    expected = [
        *[("api_key", "settings", action) for action in ("tenant.put", "tenant.token", "tenant.token")],
        *[
            ("tenant", "new", action)
            for action in (
                "destination.create",
                "destination.update",
                "destination.disable",
                "destination.enable",
                "destination.verify",
                "destination.test",
                "event.retry",
                "alert_channel.create",
                "alert_channel.update",
                "alert_channel.test",
                "alert_channel.delete",
                "alert_rule.create",
                "alert_rule.update",
                "alert_rule.delete",
                "destination.delete",
            )
        ],
        *[("api_key", "settings", action) for action in OPERATORS],
    ]
    log = (await world.admin.get("/audit-log")).json()["models"][::-1]
    known = [entry for entry in log if entry["subject"] not in {"acme", "zeta"}]
    assert [(entry["actor"]["type"], entry["actor"]["name"], entry["action"]) for entry in known] == expected
    assert {entry["actor"]["ip"] for entry in known} == {"127.0.0.1"}
    assert [entry["tenant_id"] for entry in known] == ["new"] * 18 + [None] * 4 + ["new"]


async def test_what_was_refused_or_changed_nothing_is_not_written_down(world: World) -> None:
    home = "/tenants/acme/destinations"
    await world.destination(id="des_1")
    before = await actions(world.admin)
    for method, path, body in (
        ("POST", home, {"type": "letterbox"}),
        ("POST", home, {"type": "letterbox", "topics": "*", "config": {"address": "Elm"}, "id": "des_1"}),
        ("PATCH", f"{home}/des_1", {}),
        ("PATCH", f"{home}/des_1", {"topics": "*"}),
        ("PATCH", f"{home}/des_1", {"type": "pigeon"}),
        ("PUT", f"{home}/des_1/enable", None),
        ("PUT", f"{home}/des_2/disable", None),
        ("DELETE", f"{home}/des_2", None),
        ("POST", f"{home}/des_2/test", None),
        ("POST", f"{home}/des_1/recover", None),
        ("POST", "/retry", {"event_id": "evt_nobody", "destination_id": "des_1"}),
        ("POST", "/alert-rules", {"kind": "x"}),
        ("POST", "/alert-channels", {"type": "x"}),
        ("POST", "/alert-channels/chn_nobody/test", None),
        ("DELETE", "/alert-rules/recovered", None),
        ("GET", "/tenants/nobody/token", None),
        ("GET", "/tenants/acme/portal?theme=pink", None),
        ("DELETE", "/tenants/nobody", None),
        ("POST", "/api-keys", {"name": ""}),
        ("DELETE", "/api-keys/key_nobody", None),
    ):
        await world.admin(method, path, **({} if body is None else {"json": body}))
    await world.admin.put(f"{home}/des_1/disable")
    await world.admin.put(f"{home}/des_1/disable")
    await world.admin.post(f"{home}/des_1/test")
    assert await actions(world.admin) == [*before, "destination.disable"]


async def test_a_tenant_sees_what_concerns_it(world: World, record: Record) -> None:
    await world.admin.post("/alert-rules", json={"kind": "recovered", "tenant_id": "acme"})
    await world.admin.post("/alert-channels", json={"type": "letterbox", "config": {"address": "Ops Street"}})
    for alert in await record.alerts(world.admin, "?tenant_id=zeta"):
        await world.admin.post(f"/alerts/{alert['id']}/acknowledge")
    await world.admin.post("/api-keys", json={"name": "ci"})
    assert await actions(world.acme) == ["tenant.put", "destination.create"]
    zetas = ["tenant.put", "destination.create", "alert_rule.create", "alert.acknowledge"]
    assert await actions(world.zeta) == zetas
    assert await actions(world.zeta, "?tenant_id=acme") == zetas
    assert await actions(world.zeta, "?subject=one") == []
    for caller, name in ((world.acme, "zeta"), (world.zeta, "acme")):
        assert name not in (await caller.get("/audit-log")).text


async def test_a_tenant_does_not_learn_from_where_the_operator_works(world: World) -> None:
    await world.admin.get("/tenants/acme/token")
    await world.acme.post("/alert-rules", json={"kind": "recovered"})
    seen = (await world.acme.get("/audit-log")).json()["models"][:2]
    assert [(entry["actor"]["type"], entry["actor"]["ip"]) for entry in seen] == [
        ("tenant", "127.0.0.1"),
        ("api_key", None),
    ]
    assert (await world.admin.get("/audit-log")).json()["models"][1]["actor"]["ip"] == "127.0.0.1"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?tenant_id=acme", 2),
        ("?action=destination.create", 2),
        ("?action=destination.create&action=tenant.put", 4),
        ("?subject=one", 1),
        ("?actor=ops", 2),
        ("?actor=zeta&actor=settings", 2),
        ("?actor=nobody", 0),
        ("?time[gte]=2027-01-01&time[lt]=2028-01-01", 6),
    ],
)
async def test_the_log_is_found_by_every_condition(world: World, record: Record, query: str, expected: int) -> None:
    assert len(await actions(world.admin, query)) == expected


async def test_an_entry_says_who_did_what(world: World, record: Record) -> None:
    path = "/tenants/acme/destinations/one"
    await world.acme.patch(path, json={"credentials": {"pin": "very secret"}, "topics": ["a"]})
    (entry,) = (await world.acme.get("/audit-log?action=destination.update")).json()["models"]
    assert entry == {
        "id": entry["id"],
        "time": "2027-01-15T08:00:00Z",
        "actor": {"type": "tenant", "name": "acme", "ip": "127.0.0.1"},
        "action": "destination.update",
        "tenant_id": "acme",
        "subject": "one",
        "detail": {"changed": ["topics", "credentials"]},
    }
    assert ids.decode("aud", entry["id"]) is not None


async def test_what_waypost_does_by_itself_is_its_own(world: World, record: Record) -> None:
    gone = {"kind": "auto_disable", "parameters": {"codes": ["503"]}}
    await world.admin.post("/alert-rules", json=gone)
    await record.fail(record.one)
    (entry,) = (await world.acme.get("/audit-log?action=destination.disable")).json()["models"]
    assert entry["actor"] == {"type": "system", "name": "waypost", "ip": None}
    assert entry["detail"] == {"reason": "gone", "code": "503", "error": "The receiver answered 503."}
    shown = (await world.acme.get("/tenants/acme/destinations/one")).json()
    assert shown["disabled_at"] is not None
