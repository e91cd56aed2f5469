"""Which rules hold for a destination, and who hears of what they find."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.store.builders import NOW
from waypost.core.alerts import (
    DEFAULT_SEVERITY,
    NEWS_TOPICS,
    OF_THE_WHOLE,
    PARAMETERS,
    SEVERITIES,
    TOPICS,
    Audience,
    Book,
    Channel,
    Kind,
    Raised,
    Rule,
    Severity,
    Thresholds,
    worst,
)
from waypost.core.model import SECOND

FAILING = Kind.CONSECUTIVE_FAILURES
ABOUT_DESTINATIONS = [kind for kind in Kind if kind not in OF_THE_WHOLE]
HERE = ("acme", 1)


def rule(kind: Kind = FAILING, **changes: Any) -> Rule:
    name = "-".join(str(part) for part in (kind, *changes.values()))
    plain = Rule(no=1, id=name, kind=kind, thresholds=Thresholds(), severity=DEFAULT_SEVERITY[kind])
    return structs.replace(plain, **changes)


def channel(id_: str = "ops", **changes: Any) -> Channel:
    plain = Channel(
        no=1, id=id_, owner=None, type="x", name=id_, config={}, credentials={}, created_at=NOW, updated_at=NOW
    )
    return structs.replace(plain, **changes)


def raised(of: Rule, **changes: Any) -> Raised:
    plain = Raised(kind=of.kind, topic=TOPICS[of.kind], severity=of.severity, audience=Audience.BOTH, rule=of, data={})
    return structs.replace(plain, **changes)


def test_every_kind_is_said_in_full() -> None:
    assert set(PARAMETERS) == set(DEFAULT_SEVERITY) == set(Kind)
    assert set(TOPICS) == set(Kind) - {Kind.AUTO_DISABLE}
    assert set(TOPICS.values()) < set(NEWS_TOPICS)
    assert {name for names in PARAMETERS.values() for name in names} == set(Thresholds.__struct_fields__)


def test_the_names_that_outpost_has_are_the_same() -> None:
    """hookdeck/outpost, docs: "Operator events"."""
    assert {
        "alert.destination.consecutive_failure",
        "alert.destination.disabled",
        "alert.attempt.exhausted_retries",
        "attempt.success",
        "attempt.failed",
        "tenant.subscription.updated",
    } < set(NEWS_TOPICS)


@given(st.lists(st.sampled_from(SEVERITIES), min_size=1))
def test_the_worst_severity_is_the_highest(severities: list[Severity]) -> None:
    assert worst(*severities) == [one for one in SEVERITIES if one in severities][-1]


# which rules hold

owners = st.sampled_from([None, "acme", "zeta"])
rules = st.builds(
    lambda kind, owner, tenant, no, enabled: rule(
        kind, owner=owner, tenant_id=owner or tenant, destination_no=no if owner or tenant else None, enabled=enabled
    ),
    st.sampled_from([FAILING, Kind.AUTO_DISABLE]),
    owners,
    owners,
    st.sampled_from([None, 1, 2]),
    st.booleans(),
)


def nearest(among: Iterable[Rule], kind: Kind, owner: str | None) -> Rule | None:
    """The rule of an owner for destination 1 of acme, looked up the long way."""
    mine = [one for one in among if (one.kind, one.owner) == (kind, owner)]
    for place in (HERE, ("acme", None), (None, None)):
        found = [one for one in mine if (one.tenant_id, one.destination_no) == place]
        if found:
            return found[-1]
    return None


@given(st.lists(rules, max_size=12))
def test_of_each_owner_the_nearest_rule_of_a_kind_holds(among: list[Rule]) -> None:
    expected = set()
    for kind in ABOUT_DESTINATIONS:
        operators, tenants = nearest(among, kind, None), nearest(among, kind, "acme")
        if operators is not None and operators.enabled:
            expected.add((operators.id, Audience.BOTH if tenants is None else Audience.OPERATOR))
        if tenants is not None and tenants.enabled:
            expected.add((tenants.id, Audience.TENANT))
    book = Book(among, [])
    assert {(one.rule.id, one.audience) for one in book.watched(*HERE)} == expected
    assert book.watched(*HERE) is book.watched(*HERE)


def test_a_stored_rule_takes_the_place_of_the_settings() -> None:
    default, stored = rule(no=0), rule(no=7, thresholds=Thresholds(count=3))
    assert [one.rule for one in Book([default, stored], []).watched(*HERE)] == [stored]


def test_a_tenant_that_switches_its_rule_off_hears_nothing_and_hides_nothing() -> None:
    book = Book([rule(), rule(owner="acme", tenant_id="acme", enabled=False)], [])
    assert [one.audience for one in book.watched(*HERE)] == [Audience.OPERATOR]


def test_rules_about_the_server_hold_for_no_destination() -> None:
    backlog, trouble = rule(Kind.BACKLOG_AGE), rule(Kind.STORE_TROUBLE, enabled=False)
    book = Book([backlog, trouble], [])
    assert book.watched(*HERE) == ()
    assert book.of_the_whole(Kind.BACKLOG_AGE) == backlog
    assert book.of_the_whole(Kind.STORE_TROUBLE) is None


def test_what_was_looked_up_is_not_remembered_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waypost.core.alerts._MOST_REMEMBERED", 10)
    book = Book([rule()], [])
    for no in range(25):
        assert len(book.watched("acme", no)) == 1
    assert len(book._watched) <= 10


# who hears

OWNERS: dict[Audience, list[str | None]] = {
    Audience.OPERATOR: [None],
    Audience.TENANT: ["acme"],
    Audience.BOTH: [None, "acme"],
}
OPS, ACME, ZETA = channel("ops"), channel("acme", owner="acme"), channel("zeta", owner="zeta")


def heard(channels: Sequence[Channel], alert: Raised, tenant_id: str | None = "acme", now: int = NOW) -> list[str]:
    return [one.id for one in Book([], channels).listeners(alert, tenant_id, now=now)]


@pytest.mark.parametrize(
    ("audience", "expected"),
    [(Audience.OPERATOR, ["ops"]), (Audience.TENANT, ["acme"]), (Audience.BOTH, ["ops", "acme"])],
)
def test_an_audience_is_told_and_nobody_else(audience: Audience, expected: list[str]) -> None:
    assert heard([OPS, ACME, ZETA], raised(rule(), audience=audience)) == expected


def test_what_is_about_the_server_is_told_to_the_operator_alone() -> None:
    assert heard([OPS, ACME, ZETA], raised(rule(), audience=Audience.OPERATOR), tenant_id=None) == ["ops"]


@given(
    st.sampled_from(list(Audience)),
    st.sampled_from(SEVERITIES),
    st.none() | st.sampled_from(SEVERITIES),
    st.none() | st.lists(st.sampled_from(["0", "1", "2", "3"])),
    st.sampled_from([None, "acme"]),
    st.none() | st.sampled_from([-SECOND, 0, SECOND]),
    st.lists(
        st.tuples(
            owners,
            st.sampled_from(SEVERITIES),
            st.booleans(),
            st.none() | st.sampled_from([-SECOND, 0, SECOND]),
            st.sampled_from(["*", "alert.*", "alert.destination.consecutive_failure", "attempt.*"]),
        ),
        max_size=4,
    ),
)
def test_listeners_meet_every_condition(
    audience: Audience,
    severity: Severity,
    relieves: Severity | None,
    wanted: list[str] | None,
    owner: str | None,
    rule_muted: int | None,
    drawn: list[tuple[str | None, Severity, bool, int | None, str]],
) -> None:
    def until(offset: int | None) -> int | None:
        return None if offset is None else NOW + offset

    channels = [
        channel(
            str(index),
            owner=of,
            min_severity=least,
            enabled=enabled,
            muted_until=until(muted),
            topics=(pattern,),
        )
        for index, (of, least, enabled, muted, pattern) in enumerate(drawn)
    ]
    of = rule(owner=owner, muted_until=until(rule_muted), channel_ids=None if wanted is None else tuple(wanted))
    alert = raised(of, audience=audience, severity=severity, relieves=relieves)
    expected = [
        one.id
        for one in channels
        if not (rule_muted is not None and rule_muted > 0)
        and one.enabled
        and not (one.muted_until is not None and one.muted_until > NOW)
        and one.topics != ("attempt.*",)
        and one.owner in OWNERS[audience]
        and max(map(SEVERITIES.index, {severity, relieves or severity})) >= SEVERITIES.index(one.min_severity)
        and (wanted is None or one.owner != owner or one.id in wanted)
    ]
    assert heard(channels, alert) == expected


def test_who_heard_of_trouble_hears_of_its_end() -> None:
    """A pager that takes only what is critical would else never close its incident."""
    pager, chat = channel("pager", min_severity="critical"), channel("chat", min_severity="warning")
    end = raised(rule(Kind.RECOVERED), severity="info")
    assert heard([pager, chat], end) == []
    assert heard([pager, chat], structs.replace(end, relieves="warning")) == ["chat"]
    assert heard([pager, chat], structs.replace(end, relieves="critical")) == ["pager", "chat"]


def test_subscribers_ask_for_a_topic() -> None:
    book = Book([], [channel("all", topics=("*",)), channel("alerts"), channel("acme", owner="acme", topics=("*",))])
    assert book.tells_successes
    assert [one.id for one in book.subscribers("attempt.success", "acme", Audience.BOTH, now=NOW)] == ["all", "acme"]
    assert [one.id for one in book.subscribers("attempt.success", "zeta", Audience.BOTH, now=NOW)] == ["all"]


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        (("alert.*",), (False, False, False)),
        (("attempt.failed",), (False, True, False)),
        (("attempt.*",), (True, True, False)),
        (("tenant.subscription.updated",), (False, False, True)),
        (("*",), (True, True, True)),
    ],
)
def test_a_book_knows_what_nobody_asks_for(topics: tuple[str, ...], expected: tuple[bool, ...]) -> None:
    for enabled in (True, False):
        book = Book([], [channel(topics=topics, enabled=enabled)])
        found = (book.tells_successes, book.tells_failures, book.tells_subscriptions)
        assert found == (expected if enabled else (False, False, False))
