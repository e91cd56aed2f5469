"""The rules of alert rules and channels, over the real store."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.store import builders
from tests.store.builders import CUSTOMER, NOW, OPERATOR
from waypost.connect.relay import channel_types
from waypost.core import ids, times
from waypost.core.alerts import DEFAULT_SEVERITY, PARAMETERS, Audience, Channel, Kind, Rule, Thresholds
from waypost.core.errors import BadRequest, Conflict, Forbidden, Invalid, NotFound, Refused
from waypost.core.model import SECOND, Actor, DeliveryState, Destination
from waypost.core.retry import RetryPolicy
from waypost.flow import thresholds
from waypost.flow.alerting import Alerting
from waypost.flow.deliver import Bounds
from waypost.parts import alert_rules_of
from waypost.settings import Settings
from waypost.store.alerting import Alert, AlertQuery, EntryQuery
from waypost.store.base import Page
from waypost.store.sqlite import SqliteStore

from .house import House, Receivers
from .samples import registry, tools
from .test_deliver import fails, succeeds

ALL = Page(limit=1000)
ZETA = Actor(kind="tenant", name="zeta", ip="192.0.2.3")
FAILING = "consecutive_failures"
_NOTHING_SET: dict[str, Any] = {}
DEFAULTS = alert_rules_of(Settings(**_NOTHING_SET))


class Desk:
    """Alerting over a store with the tenants `acme` and `zeta`, each with a destination `des_1`, and a clock."""

    def __init__(self, store: SqliteStore, **changes: Any) -> None:
        self.store = store
        self.now = NOW
        self.told = 0
        options: dict[str, Any] = {"defaults": DEFAULTS, "max_channels": 20} | changes
        types = channel_types({}, registry())
        self.alerting = Alerting(store, types, tools(), changed=self._changed, now=lambda: self.now, **options)

    def _changed(self) -> None:
        self.told += 1

    async def furnish(self) -> None:
        for tenant_id in ("acme", "zeta"):
            await self.store.put_tenant(tenant_id, None, now=NOW)
            await self.store.add_destination(builders.destination(tenant_id), limit=9)

    async def rule(self, kind: str = FAILING, *, by: Actor = OPERATOR, **body: Any) -> Rule:
        return await self.alerting.add_rule({"kind": kind} | body, view=view(by), by=by)

    async def channel(self, *, by: Actor = OPERATOR, **body: Any) -> Channel:
        return await self.alerting.add_channel(letters(**body), view=view(by), by=by)

    async def change_rule(self, rule: Rule, *, by: Actor = OPERATOR, **body: Any) -> Rule:
        return await self.alerting.update_rule(rule.id, body, view=view(by), by=by)

    async def change_channel(self, channel: Channel, *, by: Actor = OPERATOR, **body: Any) -> Channel:
        return await self.alerting.update_channel(channel.id, body, view=view(by), by=by)

    async def log(self) -> list[tuple[str, Actor, str | None, str]]:
        """Oldest first."""
        found = (await self.store.alerting.audit_log(EntryQuery(), ALL)).items
        return [(one.action, one.actor, one.tenant_id, one.subject) for one in found][::-1]


def view(by: Actor) -> str | None:
    return by.name if by.kind == "tenant" else None


def letters(**body: Any) -> dict[str, Any]:
    return {"type": "letterbox", "name": "post", "config": {"address": "Elm Street 1"}} | body


@pytest.fixture
async def desk(store: SqliteStore) -> Desk:
    made = Desk(store)
    await made.furnish()
    return made


async def faults(doing: Any) -> list[str]:
    """The sentences that a request is refused with."""
    with pytest.raises(Invalid) as refused:
        await doing
    assert isinstance(refused.value.data, list)
    return refused.value.data


# rules


async def test_a_rule_begins_as_the_settings_have_it(desk: Desk) -> None:
    for default in DEFAULTS:
        made = await desk.rule(default.kind)
        expected = structs.replace(default, no=made.no, id=made.id, created_at=NOW, updated_at=NOW)
        assert made == expected
        assert made.id.startswith("rul_")
    assert desk.told == len(DEFAULTS)
    assert await desk.alerting.rules(None) == await desk.store.alerting.rules()


async def test_the_rules_of_the_settings_are_shown_until_one_takes_their_place(desk: Desk) -> None:
    assert await desk.alerting.rules(None) == DEFAULTS
    narrow = await desk.rule(tenant_id="acme")
    tenants = await desk.rule(by=CUSTOMER, destination_id="des_1")
    assert await desk.alerting.rules(None) == (*DEFAULTS, narrow, tenants)
    wide = await desk.rule()
    assert await desk.alerting.rules(None) == (*DEFAULTS[1:], narrow, tenants, wide)
    await desk.alerting.delete_rule(wide.id, view=None, by=OPERATOR)
    assert await desk.alerting.rules(None) == (*DEFAULTS, narrow, tenants)


async def test_a_rule_says_where_it_holds_and_whose_it_is(desk: Desk) -> None:
    found = {
        name: await desk.rule(by=by, **body)
        for name, by, body in (
            ("all", OPERATOR, {}),
            ("a tenant", OPERATOR, {"tenant_id": "acme"}),
            ("a destination", OPERATOR, {"tenant_id": "acme", "destination_id": "des_1"}),
            ("for a tenant", OPERATOR, {"tenant_id": "acme", "owner": "tenant"}),
            ("a tenant's", CUSTOMER, {"destination_id": "des_1"}),
            ("another's", ZETA, {"tenant_id": "acme", "owner": "tenant"}),
        )
    }
    acme = await desk.store.destination("acme", "des_1")
    assert acme is not None
    assert {name: (one.owner, one.tenant_id, one.destination_no) for name, one in found.items()} == {
        "all": (None, None, None),
        "a tenant": (None, "acme", None),
        "a destination": (None, "acme", acme.no),
        "for a tenant": ("acme", "acme", None),
        "a tenant's": ("acme", "acme", acme.no),
        "another's": ("zeta", "zeta", None),
    }
    with pytest.raises(BadRequest, match="there is a rule of this kind for the same place already"):
        await desk.rule(by=CUSTOMER, destination_id="des_1")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ([], ["the body must be a JSON object"]),
        ({}, ["kind is required"]),
        ({"kind": 5}, ["kind must be one of: " + ", ".join(Kind)]),
        ({"kind": {}}, ["kind must be one of: " + ", ".join(Kind)]),
        ({"kind": FAILING, "id": "x", "no": 1}, [f"{name} is not a field of an alert rule" for name in ("id", "no")]),
        ({"kind": FAILING, "tenant_id": 5}, ["tenant_id must be text"]),
        ({"kind": FAILING, "tenant_id": "acme", "destination_id": []}, ["destination_id must be text"]),
        ({"kind": FAILING, "destination_id": "des_1"}, ["tenant_id is required with destination_id"]),
        ({"kind": FAILING, "owner": "tenant"}, ["tenant_id is required for a tenant's rule"]),
        ({"kind": FAILING, "owner": "me"}, ["owner must be operator or tenant; a tenant's rules are its own"]),
        ({"kind": FAILING, "severity": "dire"}, ["severity must be one of: info, warning, critical"]),
        ({"kind": FAILING, "severity": None}, ["severity is required"]),
        ({"kind": FAILING, "enabled": "yes"}, ["enabled must be true or false"]),
        ({"kind": FAILING, "muted_until": "soon"}, ["muted_until must be an RFC 3339 date-time or null"]),
        ({"kind": FAILING, "muted_until": 0}, ["muted_until must be an RFC 3339 date-time or null"]),
        ({"kind": FAILING, "parameters": []}, ["parameters must be an object"]),
        ({"kind": FAILING, "parameters": None}, ["parameters must be an object"]),
        ({"kind": FAILING, "channel_ids": "chn_1"}, ["channel_ids must be a list of at most 50 ids, or null for all"]),
        ({"kind": FAILING, "channel_ids": [{}]}, ["channel_ids must be a list of at most 50 ids, or null for all"]),
        (
            {"kind": FAILING, "channel_ids": ["x"] * 51},
            ["channel_ids must be a list of at most 50 ids, or null for all"],
        ),
        ({"kind": FAILING, "channel_ids": ["x", "y"]}, ["channel_ids: x is not known", "channel_ids: y is not known"]),
        (
            {"kind": FAILING, "enabled": 1, "severity": "", "parameters": {"count": 0, "percent": 5}},
            [
                "parameters.count must be a whole number from 1 to 1000000",
                "parameters.percent is not a parameter of consecutive_failures; it has count, steps",
                "severity must be one of: info, warning, critical",
                "enabled must be true or false",
            ],
        ),
    ],
)
async def test_a_wrong_rule_is_refused_with_every_sentence(desk: Desk, body: Any, expected: list[str]) -> None:
    assert await faults(desk.alerting.add_rule(body, view=None, by=OPERATOR)) == expected
    assert (desk.told, await desk.store.alerting.rules(), await desk.log()) == (0, (), [])


async def test_what_a_rule_is_about_has_to_be_there(desk: Desk) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"tenant_id": "nobody"}, "tenant not found"),
        ({"tenant_id": "nobody", "owner": "tenant"}, "tenant not found"),
        ({"tenant_id": "acme", "destination_id": "des_2"}, "destination not found"),
    ]
    for body, missing in cases:
        with pytest.raises(NotFound, match=missing):
            await desk.rule(**body)
    await desk.store.add_destination(builders.destination("zeta", "theirs"), limit=9)
    with pytest.raises(NotFound, match="destination not found"):
        await desk.rule(by=CUSTOMER, destination_id="theirs")


@pytest.mark.parametrize("kind", [Kind.BACKLOG_AGE, Kind.STORE_TROUBLE])
async def test_a_rule_about_the_server_is_the_operators_alone(desk: Desk, kind: Kind) -> None:
    for by, body in (
        (CUSTOMER, {}),
        (OPERATOR, {"tenant_id": "acme"}),
        (OPERATOR, {"tenant_id": "acme", "owner": "tenant"}),
    ):
        with pytest.raises(Forbidden, match=f"{kind} is about the whole server: it is the operator's alone"):
            await desk.rule(kind, by=by, **body)
    assert await desk.log() == []


async def test_without_a_default_a_rule_has_to_be_said_in_full(store: SqliteStore) -> None:
    desk = Desk(store, defaults=())
    assert await faults(desk.rule()) == ["parameters.count is required", "parameters.steps is required"]
    assert await faults(desk.rule("failure_rate", parameters={"percent": 5})) == [
        "parameters.min_count is required",
        "parameters.window_seconds is required",
    ]
    assert await faults(desk.rule("auto_disable", parameters={"all_of": True})) == [
        "parameters must have count, failing_seconds or codes"
    ]
    made = await desk.rule("auto_disable", parameters={"codes": ["410"]})
    assert made.thresholds == Thresholds(codes=("410",))
    assert (await desk.rule(parameters={"count": 2, "steps": [100]})).severity == "warning"


async def test_a_tenant_sees_and_touches_its_own_rules_only(desk: Desk) -> None:
    await desk.channel(name="ops")
    operators, forced, mine = await desk.rule(), await desk.rule(tenant_id="acme"), await desk.rule(by=CUSTOMER)
    assert await desk.alerting.rules("acme") == (mine,)
    assert await desk.alerting.rules("zeta") == ()
    for one, by in ((operators, CUSTOMER), (forced, CUSTOMER), (mine, ZETA), (DEFAULTS[0], CUSTOMER)):
        for doing in (
            desk.alerting.rule(one.id, view(by)),
            desk.change_rule(one, by=by, enabled=False),
            desk.alerting.delete_rule(one.id, view=view(by), by=by),
        ):
            with pytest.raises(NotFound, match="alert rule not found"):
                await doing
    assert await faults(desk.rule("recovered", by=CUSTOMER, owner="operator")) == [
        "owner must be operator or tenant; a tenant's rules are its own"
    ]
    assert len(await desk.store.alerting.rules()) == 3


async def test_a_rule_names_channels_of_its_owner_only(desk: Desk) -> None:
    ops = await desk.channel(name="ops")
    mine, theirs = await desk.channel(by=CUSTOMER), await desk.channel(by=ZETA)
    rule = await desk.rule(channel_ids=[ops.id])
    assert rule.channel_ids == (ops.id,)
    for by, named in ((CUSTOMER, ops), (CUSTOMER, theirs), (OPERATOR, mine)):
        body: dict[str, Any] = {"destination_id": "des_1", "tenant_id": "acme", "channel_ids": [named.id]}
        assert await faults(desk.rule(by=by, **body)) == [f"channel_ids: {named.id} is not known"]
    own = await desk.rule(by=CUSTOMER, channel_ids=[mine.id])
    assert await faults(desk.change_rule(own, channel_ids=[ops.id])) == [f"channel_ids: {ops.id} is not known"]
    assert (await desk.change_rule(own, channel_ids=[])).channel_ids == ()
    assert (await desk.change_rule(own, channel_ids=None)).channel_ids is None


async def test_a_rule_whose_channel_is_gone_can_still_be_changed(desk: Desk) -> None:
    ops = await desk.channel(name="ops")
    rule = await desk.rule(channel_ids=[ops.id])
    await desk.alerting.delete_channel(ops.id, view=None, by=OPERATOR)
    assert (await desk.change_rule(rule, severity="critical")).channel_ids == (ops.id,)


async def test_a_change_leaves_what_was_left_out(desk: Desk) -> None:
    rule = await desk.rule(parameters={"count": 10}, severity="info", muted_until="2030-01-01T00:00:00Z")
    desk.now += SECOND
    changed = await desk.change_rule(rule, parameters={"steps": [100]}, enabled=False)
    assert changed == structs.replace(
        rule, thresholds=Thresholds(count=10, steps=(100,)), enabled=False, updated_at=NOW + SECOND
    )
    assert (await desk.change_rule(changed, muted_until=None)).muted_until is None
    assert (await desk.alerting.rule(rule.id, None)).muted_until is None


async def test_a_change_of_nothing_is_none(desk: Desk) -> None:
    rule, channel = await desk.rule(), await desk.channel()
    written, desk.now = await desk.log(), NOW + SECOND
    assert await desk.change_rule(rule) == rule
    assert await desk.change_rule(rule, enabled=True, severity=rule.severity, parameters={"count": 100}) == rule
    assert await desk.change_channel(channel) == channel
    assert await desk.change_channel(channel, name="post", config={"address": "Elm Street 1"}) == channel
    assert (await desk.log(), desk.told) == (written, 2)


async def test_what_makes_a_rule_that_rule_cannot_change(desk: Desk) -> None:
    rule = await desk.rule()
    body: dict[str, Any] = {"kind": "recovered", "owner": "operator", "tenant_id": None, "destination_id": None}
    assert await faults(desk.change_rule(rule, **body)) == [f"{name} cannot be updated" for name in body]
    assert await faults(desk.change_rule(rule, colour="red")) == ["colour is not a field of an alert rule"]
    assert await faults(desk.change_rule(rule, parameters={"steps": [], "count": None})) == [
        "parameters.steps must be a growing list of 1 to 20 whole percentages from 1 to 100",
        "parameters.count must be a whole number from 1 to 1000000",
    ]
    assert await desk.alerting.rule(rule.id, None) == rule


async def test_a_rule_of_the_settings_is_changed_there_or_replaced(desk: Desk) -> None:
    for doing in (
        desk.change_rule(DEFAULTS[0], enabled=False),
        desk.alerting.delete_rule(DEFAULTS[0].id, view=None, by=OPERATOR),
    ):
        with pytest.raises(Conflict, match="comes from the settings: create one of the same kind to take its place"):
            await doing
    assert (desk.told, await desk.log()) == (0, [])


# the numbers of rules


@pytest.mark.parametrize(
    ("kind", "name", "wrong", "sentence"),
    [
        ("consecutive_failures", "count", [0, 1_000_001, 1.0, True, "5", None], "a whole number from 1 to 1000000"),
        (
            "consecutive_failures",
            "steps",
            [[], [0], [101], [50, 50], [90, 50], [1.5], [True], "50", None, list(range(1, 22))],
            "a growing list of 1 to 20 whole percentages from 1 to 100",
        ),
        ("failure_rate", "percent", [0, 0.5, 100.1, "50", None, True], "a number from 1 to 100"),
        ("failure_rate", "min_count", [0, None], "a whole number from 1 to 1000000"),
        ("failure_rate", "window_seconds", [0, 86_401, None], "a number of seconds from 1 to 86400"),
        ("exhausted_retries", "window_seconds", [0, -1, "1"], "a number of seconds from 1 to 86400"),
        ("backlog_age", "age_seconds", [0, 7_776_001], "a number of seconds from 1 to 7776000"),
        ("auto_disable", "count", [0, 1.5], "a whole number from 1 to 1000000, or null"),
        ("auto_disable", "failing_seconds", [0.5], "a number of seconds from 1 to 7776000, or null"),
        ("auto_disable", "probe_after_seconds", [0], "a number of seconds from 1 to 7776000, or null"),
        ("auto_disable", "all_of", [None, 1, "true"], "true or false"),
        (
            "auto_disable",
            "codes",
            [None, "410", [410], [""], ["a b"], ["x" * 65], ["x"] * 51],
            "a list of at most 50 codes such as 404, 4xx, timeout",
        ),
    ],
)
async def test_a_wrong_number_is_named(desk: Desk, kind: str, name: str, wrong: list[Any], sentence: str) -> None:
    for value in wrong:
        assert await faults(desk.rule(kind, parameters={name: value})) == [f"parameters.{name} must be {sentence}"]


async def test_a_parameter_of_another_kind_is_refused(desk: Desk) -> None:
    assert await faults(desk.rule("recovered", parameters={"count": 5})) == [
        "parameters.count is not a parameter of recovered; it has none"
    ]


async def test_null_takes_a_limit_away(desk: Desk) -> None:
    rule = await desk.rule("auto_disable", parameters={"count": None, "probe_after_seconds": 60})
    assert (rule.thresholds.count, rule.thresholds.failing_seconds) == (None, 86_400.0)
    changed = await desk.change_rule(rule, parameters={"failing_seconds": None, "probe_after_seconds": None})
    assert (changed.thresholds.failing_seconds, changed.thresholds.probe_after_seconds) == (None, None)
    assert await faults(desk.change_rule(changed, parameters={"codes": []})) == [
        "parameters must have count, failing_seconds or codes"
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 200) | st.floats(-5, 200) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
NAMES = st.sampled_from([*Thresholds.__struct_fields__, "colour"])


@given(st.sampled_from(list(Kind)), st.dictionaries(NAMES, JSON, max_size=4))
def test_numbers_are_taken_whole_or_refused_with_a_sentence_each(kind: Kind, changes: dict[str, Any]) -> None:
    base = next(rule.thresholds for rule in DEFAULTS if rule.kind is kind)
    problems: list[str] = []
    read = thresholds.read(kind, base, changes, problems)
    if problems:
        assert read == base
        assert all(sentence.startswith("parameters.") for sentence in problems)
    else:
        assert set(changes) <= set(PARAMETERS[kind])
        assert (
            thresholds.shown(kind, read).items()
            >= {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}.items()
        )
    again: list[str] = []
    assert thresholds.read(kind, base, thresholds.shown(kind, read), again) == read
    assert again == []


# channels


async def test_a_channel_is_made_of_its_types_fields(desk: Desk) -> None:
    made = await desk.channel(
        config={"address": "Elm Street 1", "stamps": {"de": 1}, "express": True},
        credentials={"pin": 1234567890},
        topics=["alert.*", "attempt.failed"],
        min_severity="critical",
        enabled=False,
        muted_until="2030-01-01T00:00:00Z",
    )
    assert made.id.startswith("chn_")
    assert (made.owner, made.type, made.name, made.version) == (None, "letterbox", "post", 1)
    assert made.config == {"address": "Elm Street 1", "stamps": '{"de":1}', "express": "true"}
    assert made.credentials == {"pin": "1234567890", "seal": f"seal-{NOW}"}
    assert (made.topics, made.min_severity, made.enabled) == (("alert.*", "attempt.failed"), "critical", False)
    assert made.muted_until == times.parse("2030-01-01T00:00:00Z")
    assert await desk.alerting.channels(None) == (made,)


async def test_what_is_left_out_has_a_default(desk: Desk) -> None:
    made = await desk.alerting.add_channel(
        {"type": "letterbox", "config": {"address": "Elm"}}, view="acme", by=CUSTOMER
    )
    assert (made.name, made.owner) == ("letterbox", "acme")
    assert (made.topics, made.min_severity, made.enabled, made.muted_until) == (("alert.*",), "info", True, None)
    assert (await desk.channel(name="all", topics="*")).topics == ("*",)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"type": "carrier"}, ["type must be one of: letterbox, pigeon"]),
        ({"type": None}, ["type is required"]),
        ({"type": []}, ["type must be one of: letterbox, pigeon"]),
        ({"tenant_id": 5}, ["tenant_id must be text"]),
        ({"tenant_id": {"a": 1}}, ["tenant_id must be text"]),
        ({"colour": "red"}, ["colour is not a field of an alert channel"]),
        ({"name": ""}, ["name must be 1 to 100 printable characters"]),
        ({"name": " "}, ["name must be 1 to 100 printable characters"]),
        ({"name": "a\n"}, ["name must be 1 to 100 printable characters"]),
        ({"name": "x" * 101}, ["name must be 1 to 100 printable characters"]),
        ({"name": 5}, ["name must be 1 to 100 printable characters"]),
        ({"config": []}, ["config must be an object", "config.address is required"]),
        ({"credentials": "x"}, ["credentials must be an object"]),
        ({"config": {}}, ["config.address is required"]),
        ({"config": None}, ["config.address is required"]),
        ({"config": {"address": "Elm", "roof": "x"}}, ["config.roof is not a field of this alert channel"]),
        ({"config": {"address": {}}}, ["config.address must be text", "config.address is required"]),
        ({"config": {"address": "Elm", "zip": "1"}}, ["config.zip failed pattern validation: five digits"]),
        ({"config": {"address": "Nowhere"}}, ["config.address is nowhere"]),
        ({"credentials": {"lock": "x"}}, ["credentials.lock is not a field of this alert channel"]),
        ({"credentials": {"seal": "x"}}, ["credentials.seal is set by the server and cannot be changed"]),
        ({"topics": []}, ["topics must be * or a list of 1 to 50 topics"]),
        ({"topics": ["alert.*"] * 51}, ["topics must be * or a list of 1 to 50 topics"]),
        ({"topics": "alert.*"}, ["topics must be * or a list of 1 to 50 topics"]),
        ({"topics": [5, "a b"]}, ["topics must hold texts such as alert.* or attempt.failed"]),
        ({"min_severity": "dire"}, ["min_severity must be one of: info, warning, critical"]),
        ({"enabled": None}, ["enabled must be true or false"]),
        ({"muted_until": "soon"}, ["muted_until must be an RFC 3339 date-time or null"]),
    ],
)
async def test_a_wrong_channel_is_refused_with_every_sentence(
    desk: Desk, body: dict[str, Any], expected: list[str]
) -> None:
    assert await faults(desk.alerting.add_channel(letters(**body), view=None, by=OPERATOR)) == expected
    assert (desk.told, await desk.store.alerting.channels(), await desk.log()) == (0, (), [])


async def test_a_channel_asks_for_news_that_there_is(desk: Desk) -> None:
    (fault,) = await faults(desk.channel(topics=["order.created"]))
    assert fault.startswith(
        "topics: there is no news of order.created; known are alert.destination.consecutive_failure,"
    )


async def test_a_channel_of_a_tenant_needs_the_tenant(desk: Desk) -> None:
    made = await desk.channel(tenant_id="acme")
    assert made.owner == "acme"
    with pytest.raises(NotFound, match="tenant not found"):
        await desk.channel(tenant_id="nobody")
    assert (await desk.channel(by=ZETA, tenant_id="acme")).owner == "zeta"


async def test_each_owner_has_so_many_channels_of_different_names(store: SqliteStore) -> None:
    desk = Desk(store, max_channels=2)
    await desk.furnish()
    for by in (OPERATOR, CUSTOMER, ZETA):
        await desk.channel(by=by, name="a")
        with pytest.raises(BadRequest, match="an alert channel of this name already exists"):
            await desk.channel(by=by, name="a")
        second = await desk.channel(by=by, name="b")
        with pytest.raises(BadRequest, match="maximum number of alert channels reached"):
            await desk.channel(by=by, name="c")
        with pytest.raises(BadRequest, match="an alert channel of this name already exists"):
            await desk.change_channel(second, by=by, name="a")


async def test_a_tenant_sees_and_touches_its_own_channels_only(desk: Desk) -> None:
    ops, mine = await desk.channel(), await desk.channel(by=CUSTOMER)
    assert await desk.alerting.channels("acme") == (mine,)
    assert await desk.alerting.channels("zeta") == ()
    for one, by in ((ops, CUSTOMER), (mine, ZETA)):
        for doing in (
            desk.alerting.channel(one.id, view(by)),
            desk.change_channel(one, by=by, enabled=False),
            desk.alerting.delete_channel(one.id, view=view(by), by=by),
            desk.alerting.channel_to_test(one.id, view(by), by=by),
        ):
            with pytest.raises(NotFound, match="alert channel not found"):
                await doing
    assert await desk.alerting.channels(None) == (ops, mine)


async def test_a_secret_sent_back_masked_stays_and_null_takes_away(desk: Desk) -> None:
    made = await desk.channel(credentials={"pin": "1234567890"}, config={"address": "Elm", "floor": "2"})
    desk.now += SECOND
    same = await desk.change_channel(made, credentials={"pin": "1234********"}, config={"floor": "3"})
    assert same.credentials == made.credentials
    assert (same.config, same.version, same.updated_at) == ({"address": "Elm", "floor": "3"}, 2, NOW + SECOND)
    changed = await desk.change_channel(same, credentials={"pin": None}, config={"floor": None}, name="other")
    assert changed.credentials == {"seal": made.credentials["seal"]}
    assert changed.config == {"address": "Elm"}
    assert await faults(desk.change_channel(changed, config=None)) == ["config.address is required"]
    assert await desk.alerting.channel(made.id, None) == changed


async def test_a_tenants_secrets_do_not_follow_a_channel_to_another_address(desk: Desk) -> None:
    made = await desk.channel(by=CUSTOMER, credentials={"pin": "1234567890"})
    elsewhere = {"address": "Thief Street 1"}
    fault = "credentials.pin has to be given anew, because config.address leads to another server"
    assert await faults(desk.change_channel(made, by=CUSTOMER, config=elsewhere)) == [fault]
    masked = {"pin": "1234********"}
    assert await faults(desk.change_channel(made, by=CUSTOMER, config=elsewhere, credentials=masked)) == [fault]
    told = await desk.change_channel(made, by=CUSTOMER, config=elsewhere, credentials={"pin": "1234567890"})
    assert told.config == elsewhere
    assert (await desk.change_channel(told, config={"address": "Oak Street 1"})).credentials == told.credentials


async def test_the_rules_of_the_type_hold_for_changes_too(desk: Desk) -> None:
    made = await desk.channel(by=CUSTOMER)
    assert await faults(desk.change_channel(made, by=CUSTOMER, credentials={"pin": "root1"})) == [
        "credentials.pin is the operator's"
    ]
    assert (await desk.change_channel(made, credentials={"pin": "root1"})).credentials["pin"] == "root1"
    desk.now += SECOND
    turned = await desk.change_channel(made, by=CUSTOMER, credentials={"pin": "1", "turn_seal": True})
    assert turned.credentials == {"pin": "1", "seal": f"seal-{desk.now}"}
    assert await faults(desk.change_channel(made, type="pigeon", tenant_id="zeta")) == [
        "type cannot be updated",
        "tenant_id cannot be updated",
    ]


async def test_a_type_that_is_no_longer_installed_cannot_be_changed_but_deleted(desk: Desk) -> None:
    made = await desk.channel()
    bare = Alerting(desk.store, {}, tools(), defaults=(), max_channels=1, changed=lambda: None, now=lambda: NOW)
    assert await faults(bare.update_channel(made.id, {"enabled": False}, view=None, by=OPERATOR)) == [
        "alert channel type letterbox is not installed on this server"
    ]
    await bare.delete_channel(made.id, view=None, by=OPERATOR)
    assert await bare.channels(None) == ()


async def test_of_two_changes_at_once_one_is_told_to_try_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await desk.channel()

    async def as_both_saw_it(_channel_id: str, _view: str | None) -> Channel:
        return made

    with monkeypatch.context() as at_once:
        at_once.setattr(desk.alerting, "channel", as_both_saw_it)
        await desk.change_channel(made, name="a")
        with pytest.raises(Conflict, match="the alert channel is being changed by others at the same time; try again"):
            await desk.change_channel(made, name="b")
    kept = await desk.alerting.channel(made.id, None)
    assert (kept.name, kept.version) == ("a", 2)


FIELDS = st.sampled_from(
    [
        "kind",
        "owner",
        "tenant_id",
        "destination_id",
        "parameters",
        "channel_ids",
        "muted_until",
        "type",
        "name",
        "config",
        "credentials",
        "topics",
        "min_severity",
        "enabled",
        "severity",
    ]
)


@given(st.dictionaries(FIELDS, JSON, max_size=6) | JSON, st.sampled_from([OPERATOR, CUSTOMER]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_sent_is_taken_or_refused(desk: Desk, body: Any, by: Actor) -> None:
    alerting = desk.alerting
    for add, delete, plain in (
        (alerting.add_rule, alerting.delete_rule, {"kind": FAILING}),
        (alerting.add_channel, alerting.delete_channel, letters()),
    ):
        sent = plain | body if isinstance(body, dict) else body
        with contextlib.suppress(Refused):
            added = await add(sent, view=view(by), by=by)
            await delete(added.id, view=None, by=OPERATOR)


# the audit log


async def test_everything_is_written_down_with_who_did_it(desk: Desk) -> None:
    wide, narrow = await desk.rule(), await desk.rule(tenant_id="acme")
    mine = await desk.rule(by=CUSTOMER)
    await desk.change_rule(mine, by=CUSTOMER, enabled=False)
    await desk.change_rule(mine, by=OPERATOR, enabled=True)
    await desk.alerting.delete_rule(narrow.id, view=None, by=OPERATOR)
    post = await desk.channel(by=CUSTOMER)
    await desk.change_channel(post, by=CUSTOMER, name="other")
    await desk.alerting.channel_to_test(post.id, "acme", by=CUSTOMER)
    await desk.alerting.delete_channel(post.id, view=None, by=OPERATOR)
    assert await desk.log() == [
        ("alert_rule.create", OPERATOR, None, wide.id),
        ("alert_rule.create", OPERATOR, None, narrow.id),
        ("alert_rule.create", CUSTOMER, "acme", mine.id),
        ("alert_rule.update", CUSTOMER, "acme", mine.id),
        ("alert_rule.update", OPERATOR, "acme", mine.id),
        ("alert_rule.delete", OPERATOR, None, narrow.id),
        ("alert_channel.create", CUSTOMER, "acme", post.id),
        ("alert_channel.update", CUSTOMER, "acme", post.id),
        ("alert_channel.test", CUSTOMER, "acme", post.id),
        ("alert_channel.delete", OPERATOR, "acme", post.id),
    ]


async def test_no_secret_is_written_down(desk: Desk) -> None:
    made = await desk.channel(credentials={"pin": "open sesame"})
    await desk.change_channel(made, credentials={"pin": "sesame, open"})
    found = (await desk.store.alerting.audit_log(EntryQuery(), ALL)).items
    assert "sesame" not in str(found)
    assert [one.detail for one in found] == [{"changed": ["credentials"]}, {"type": "letterbox", "name": "post"}]


# alerts


async def an_alert(desk: Desk) -> Alert:
    to = await desk.store.destination("acme", "des_1")
    assert to is not None
    event = builders.event()
    await desk.store.accept(builders.publication(event, to))
    await desk.store.record(builders.result(builders.delivery(event, to), builders.outcome(ok=False)))
    return (await desk.alerting.alerts(AlertQuery(), ALL)).items[0]


async def test_an_acknowledgement_stays_and_is_written_down_once(desk: Desk) -> None:
    await desk.rule(parameters={"count": 1, "steps": [100]})
    found = await an_alert(desk)
    seen = await desk.alerting.acknowledge(found, by=CUSTOMER)
    assert (seen.acknowledged_at, seen.acknowledged_by) == (NOW, "tenant:acme")
    desk.now += SECOND
    assert await desk.alerting.acknowledge(found, by=OPERATOR) == seen
    assert (await desk.log())[1:] == [("alert.acknowledge", CUSTOMER, "acme", ids.encode("alr", found.seq))]


async def test_a_tenants_log_says_nothing_of_alerts_that_are_the_operators_alone(desk: Desk) -> None:
    await desk.rule(parameters={"count": 1, "steps": [100]})
    await desk.rule(by=CUSTOMER, enabled=False)
    found = await an_alert(desk)
    assert found.audience is Audience.OPERATOR
    await desk.alerting.acknowledge(found, by=OPERATOR)
    assert (await desk.log())[-1][:3] == ("alert.acknowledge", OPERATOR, None)


# trials of a disabled destination


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    limits = Thresholds(count=1, codes=("410",), probe_after_seconds=0.05)
    disabling = Rule(
        no=0, id="d", kind=Kind.AUTO_DISABLE, thresholds=limits, severity=DEFAULT_SEVERITY[Kind.AUTO_DISABLE]
    )
    bounds = Bounds(sweep_interval=0.02, shutdown=0.2)
    made = House(tmp_path, Receivers(), bounds, RetryPolicy(limit=0), rules=(disabling,))
    await made.start()
    yield made
    await made.close()


async def trials(house: House, to: Destination, count: int) -> None:
    """Until so many attempts have been made in all."""
    async with asyncio.timeout(10):
        while (await house.store.alerting.health(to.no)).probes < count:
            await asyncio.sleep(0.01)


async def test_a_failed_trial_costs_the_kept_event_nothing(house: House) -> None:
    to = await house.add()
    house.receivers.behaviour[to.id] = fails("410", retryable=False)
    await house.until(await house.publish(), to, DeliveryState.EXHAUSTED)
    async with asyncio.timeout(10):
        while (down := await house.store.destination_by_no(to.no)) is None or down.disabled_at is None:
            await asyncio.sleep(0.01)
    kept = [await house.publish() for _ in range(2)]
    await trials(house, to, 2)
    states = [await house.state(event, to) for event in kept]
    assert states == [DeliveryState.PENDING, DeliveryState.KEPT]
    house.receivers.behaviour[to.id] = succeeds
    await house.until(kept[0], to, DeliveryState.DELIVERED)
    made = await house.attempts(kept[0])
    assert [one.attempt.number for one in made] == list(range(1, len(made) + 1))
    assert [one.attempt.ok for one in made] == [False] * (len(made) - 1) + [True]
