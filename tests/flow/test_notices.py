"""What alerts say, to people and to machines."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.store.builders import NOW
from tests.store.test_alerting import channel, rule
from waypost.connect.registry import Registry
from waypost.core import ids
from waypost.core.alerts import SYSTEM_RECOVERED, TOPICS, Audience, Kind
from waypost.core.errors import SettingsError
from waypost.core.model import SECOND, Attempt, DeliveryState, Destination, Disabling, Event
from waypost.core.retry import RetryPolicy
from waypost.flow.deliver import Bounds
from waypost.flow.notices import Writer, _duration
from waypost.store.alerting import Alert, News, Occurrence

from .house import House, Receivers
from .samples import Pigeon, registry
from .test_deliver import fails

SEQ = ids.compose(NOW // 1000, 1, 1)
THEN = "2027-01-15T08:00:00Z"
WRITER = Writer(registry())

TO = Destination(
    no=1,
    id="des_1",
    tenant_id="acme",
    type="letterbox",
    topics=("order.*",),
    config={"address": "Elm Street 1", "stamps": '{"x-api-key":"top-secret-stamp"}'},
    credentials={"pin": "top-secret-pin", "seal": "top-secret-seal"},
    metadata={"team": "sales"},
    created_at=NOW - 60 * SECOND,
    updated_at=NOW,
)
EVENT = Event(
    seq=SEQ - 1,
    id="evt_1",
    tenant_id="acme",
    topic="order.paid",
    time=NOW - SECOND,
    data=b'{"b": 1.10, "a":10000000000000000000001}',
    metadata={"source": "crm"},
)
ATTEMPT = Attempt(
    seq=SEQ,
    tenant_id="acme",
    event_seq=EVENT.seq,
    destination_no=1,
    destination_type="letterbox",
    number=3,
    manual=False,
    ok=False,
    code="503",
    time=NOW,
    latency=87_654,
    detail="elm answered with status 503 <b>&amp; {{ 7 * 7 }}",
    request={"headers": {"authorization": "top-secret-header"}},
    response={"status_code": 503, "body": "<html>" + "x" * 600},
)
OCCURRENCE = Occurrence(attempt=ATTEMPT, event=EVENT, destination=TO, next_due=NOW + 60 * SECOND)
STREAK = {"current": 50, "max": 100, "threshold": 50, "failing_since": NOW - 3_600 * SECOND}
DATA: dict[Kind, dict[str, Any]] = {
    Kind.CONSECUTIVE_FAILURES: STREAK,
    Kind.FAILURE_RATE: {
        "failed": 6,
        "attempts": 10,
        "percent": 60.0,
        "threshold": 50,
        "window_seconds": 600.0,
        "failing_since": NOW,
    },
    Kind.EXHAUSTED_RETRIES: {"failing_since": NOW},
    Kind.DESTINATION_DISABLED: {"reason": "gone", "streak": 7, "failing_since": NOW},
    Kind.RECOVERED: {"failing_since": None},
    Kind.BACKLOG_AGE: {"age_seconds": 301.5},
    Kind.STORE_TROUBLE: {"seconds": 12.0, "error": "disk <full>"},
}
ABOUT_THE_SERVER = (Kind.BACKLOG_AGE, Kind.STORE_TROUBLE)


def alert(kind: Kind = Kind.CONSECUTIVE_FAILURES, **changes: Any) -> Alert:
    of_the_whole = kind in ABOUT_THE_SERVER
    plain = Alert(
        seq=SEQ + 1,
        kind=kind,
        topic=TOPICS[kind],
        severity="warning",
        audience=Audience.OPERATOR if of_the_whole else Audience.BOTH,
        rule_id="r",
        tenant_id=None if of_the_whole else "acme",
        destination_id=None if of_the_whole else "des_1",
        data=DATA[kind],
        occurrence=None if of_the_whole else OCCURRENCE,
    )
    return structs.replace(plain, **changes)


def relief(kind: Kind) -> Alert:
    """That trouble of the server is over."""
    return structs.replace(alert(kind), kind=Kind.RECOVERED, topic=SYSTEM_RECOVERED[kind], severity="info")


EVERY_ALERT = [*map(alert, DATA), *map(relief, ABOUT_THE_SERVER)]


def news(**changes: Any) -> News:
    plain = News(seq=SEQ + 2, channel=channel(), topic="attempt.failed", tenant_id="acme", tries=0)
    return structs.replace(plain, **changes)


def envelope(of: Alert, writer: Writer = WRITER) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(writer.of_alert(of).envelope)
    return read


# what people read


@pytest.mark.parametrize("of", EVERY_ALERT, ids=lambda of: of.topic)
def test_every_alert_has_words_of_its_own(of: Alert) -> None:
    title, text = WRITER.words(of)
    assert title
    assert "\n" not in title
    assert text.endswith((".", str(ATTEMPT.detail), "disk <full>"))
    assert "template" not in text
    if of.destination_id is not None:
        assert "des_1 of acme" in title


def test_the_words_say_how_bad_it_is() -> None:
    title, text = WRITER.words(alert())
    assert title == "des_1 of acme has failed 50 times in a row"
    assert "That is 50 % of 100" in text
    assert "(letterbox, Elm Street 1)" in text


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("gone", "because it says that it is gone for good"),
        ("failing_too_long", "because it has been failing for too long"),
        ("consecutive_failures", "after 7 failures in a row"),
    ],
)
def test_why_a_destination_was_disabled_is_said(reason: str, said: str) -> None:
    of = alert(Kind.DESTINATION_DISABLED, data={"reason": reason, "streak": 7})
    assert said in WRITER.words(of)[1]


def test_markup_and_braces_are_left_as_they_are() -> None:
    notice = WRITER.of_alert(alert())
    assert str(ATTEMPT.detail) in notice.text
    assert dict(notice.facts)["Error"] == ATTEMPT.detail
    assert "disk <full>" in WRITER.words(alert(Kind.STORE_TROUBLE))[1]


def test_the_facts_are_complete_and_in_order() -> None:
    assert WRITER.facts(alert()) == (
        ("Tenant", "acme"),
        ("Destination", "des_1 (letterbox, Elm Street 1)"),
        ("Topic", "order.paid"),
        ("Event", "evt_1"),
        ("Code", "503"),
        ("Error", str(ATTEMPT.detail)),
        ("Response", "<html>" + "x" * 494),
        ("Attempt", f"3 at {THEN}"),
        ("First failure", "2027-01-15T07:00:00Z"),
        ("Failures in a row", "50"),
        ("Next retry", "2027-01-15T08:01:00Z"),
    )


def test_what_is_not_known_is_left_out_of_the_facts() -> None:
    bare = structs.replace(ATTEMPT, detail=None, response={"status_code": 503, "body": ""})
    occurrence = structs.replace(OCCURRENCE, attempt=bare, next_due=None, event=structs.replace(EVENT, topic=""))
    labels = [label for label, _ in WRITER.facts(alert(Kind.EXHAUSTED_RETRIES, occurrence=occurrence, data={}))]
    assert labels == ["Tenant", "Destination", "Event", "Code", "Attempt"]
    assert WRITER.facts(alert(Kind.BACKLOG_AGE)) == ()


def test_a_disabled_destination_has_no_next_retry_and_its_own_first_failure() -> None:
    why = Disabling(reason="gone", by="system", failing_since=NOW)
    down = structs.replace(TO, disabled_at=NOW, disabled=why)
    of = alert(Kind.DESTINATION_DISABLED, occurrence=structs.replace(OCCURRENCE, destination=down), data={"streak": 7})
    facts = dict(WRITER.facts(of))
    assert "Next retry" not in facts
    assert (facts["First failure"], facts["Failures in a row"]) == (THEN, "7")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.5, "0.5 s"),
        (9.75, "9.75 s"),
        (45.4, "45 s"),
        (59.6, "1 min"),
        (61, "1 min 1 s"),
        (600, "10 min"),
        (3_600, "1 h"),
        (12_000, "3 h 20 min"),
        (187_200 + 59, "2 d 4 h"),
    ],
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert _duration(seconds) == said


@pytest.mark.parametrize("of", EVERY_ALERT, ids=lambda of: of.topic)
def test_links_lead_into_the_portal(of: Alert) -> None:
    assert WRITER.of_alert(of).link is None
    writer = Writer(registry(), public_url="https://way.example/")
    expected = "https://way.example" + ("/portal/acme/destinations/des_1" if of.tenant_id else "")
    assert writer.of_alert(of).link == expected
    assert writer.link("a:b/c", "d?e") == "https://way.example/portal/a%3Ab%2Fc/destinations/d%3Fe"
    assert writer.link("acme", None) == writer.link("acme 2", None) == "https://way.example/portal/acme"


# templates of the operator's own


def writer_with(folder: Path, **templates: str) -> Writer:
    for name, text in templates.items():
        (folder / f"{name}.txt").write_text(text)
    return Writer(registry(), templates=folder)


def test_a_template_of_ones_own_goes_before_the_built_in(tmp_path: Path) -> None:
    writer = writer_with(
        tmp_path,
        consecutive_failures="\n  {{ kind }} {{ severity }} \n\n{{ destination.metadata.team }} {{ event.topic }}"
        " {{ attempt.number }} {{ data.failing_since }} {{ error }}\n<b>{{ link }}</b>\n",
        unheard_of="{% if %}",
    )
    assert writer.words(alert()) == (
        "consecutive_failures warning",
        f"sales order.paid 3 2027-01-15T07:00:00Z 503: {ATTEMPT.detail}\n<b>None</b>",
    )
    for of in EVERY_ALERT[1:]:
        assert writer.words(of) == WRITER.words(of)


def test_the_end_of_trouble_by_deletion_is_told_as_such() -> None:
    over = alert(kind=Kind.RECOVERED, topic="alert.destination.recovered", data={"deleted": True})
    assert WRITER.words(over) == (
        "des_1 of acme was deleted",
        "The destination des_1 (letterbox, Elm Street 1) of tenant acme was deleted while there was trouble with it.",
    )
    assert WRITER.of_alert(over).resolves


def test_a_broken_template_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="alert_templates: "):
        writer_with(tmp_path, recovered="{% if %}")
    (tmp_path / "recovered.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="alert_templates: "):
        writer_with(tmp_path)
    with pytest.raises(SettingsError, match=r"alert_templates: .*nowhere is not a folder"):
        Writer(registry(), templates=tmp_path / "nowhere")


@pytest.mark.parametrize(
    "template",
    [
        "{{ nobody }}",
        "{{ 1 / 0 }}",
        "{{ data.current + 'x' }}",
        "{{ data.nothing.at.all }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% include 'elsewhere.txt' %}",
        "{{ tenant_id.format.__globals__ }}",
    ],
)
def test_a_template_that_fails_leaves_plain_words(tmp_path: Path, template: str) -> None:
    writer = writer_with(tmp_path, consecutive_failures=template, backlog_age=template, test=template)
    title, text = writer.words(alert())
    assert title == "consecutive_failures of des_1"
    assert text.startswith("The template consecutive_failures.txt of this alert failed: ")
    assert writer.words(alert(Kind.BACKLOG_AGE))[0] == "backlog_age of the server"
    assert writer.test(SEQ).title == "A test alert"


def test_an_alert_of_which_the_record_is_gone_is_told_in_plain_words() -> None:
    notice = WRITER.of_alert(alert(occurrence=None))
    assert (notice.title, notice.text) == (
        "consecutive_failures of des_1",
        "What happened there is no longer on record.",
    )
    assert json.loads(notice.envelope)["data"]["consecutive_failures"]["current"] == 50


# what machines read


def test_the_envelope_is_outposts() -> None:
    """hookdeck/outpost, internal/opevents: OperatorEvent and ConsecutiveFailureData."""
    found = envelope(alert())
    assert list(found) == ["id", "topic", "time", "tenant_id", "data"]
    assert found["id"] == ids.encode("alr", SEQ + 1)
    assert (found["topic"], found["time"], found["tenant_id"]) == (TOPICS[Kind.CONSECUTIVE_FAILURES], THEN, "acme")
    assert found["data"] == {
        "severity": "warning",
        "tenant_id": "acme",
        "event": {
            "id": "evt_1",
            "tenant_id": "acme",
            "destination_id": "des_1",
            "topic": "order.paid",
            "time": "2027-01-15T07:59:59Z",
            "eligible_for_retry": True,
            "metadata": {"source": "crm"},
            "data": {"b": 1.1, "a": 10000000000000000000001},
        },
        "attempt": {
            "id": ids.encode("atm", SEQ),
            "tenant_id": "acme",
            "event_id": "evt_1",
            "destination_id": "des_1",
            "status": "failed",
            "time": THEN,
            "code": "503",
            "detail": ATTEMPT.detail,
            "attempt_number": 3,
            "manual": False,
            "latency_ms": 87,
            "response_data": ATTEMPT.response,
        },
        "destination": {
            "id": "des_1",
            "tenant_id": "acme",
            "type": "letterbox",
            "topics": ["order.*"],
            "config": {"address": "Elm Street 1", "stamps": '{"x-' + "*" * 8},
            "metadata": {"team": "sales"},
            "created_at": "2027-01-15T07:59:00Z",
            "disabled_at": None,
        },
        "consecutive_failures": {"current": 50, "max": 100, "threshold": 50},
        "failing_since": "2027-01-15T07:00:00Z",
    }


def test_a_deployment_names_itself() -> None:
    writer = Writer(registry(), deployment_id="eu-1")
    assert envelope(alert(), writer)["deployment_id"] == "eu-1"
    assert json.loads(writer.test(SEQ).envelope)["deployment_id"] == "eu-1"


@pytest.mark.parametrize("kind", [kind for kind in DATA if kind not in ABOUT_THE_SERVER])
def test_every_alert_of_a_destination_has_the_event_and_the_attempt(kind: Kind) -> None:
    data = envelope(alert(kind))["data"]
    assert {"tenant_id", "event", "attempt", "destination"} < set(data)
    assert "failing_since" in data
    if kind is Kind.DESTINATION_DISABLED:
        assert (data["reason"], data["disabled_at"]) == ("gone", THEN)
        down = structs.replace(OCCURRENCE, destination=structs.replace(TO, disabled_at=NOW + SECOND))
        assert envelope(alert(kind, occurrence=down))["data"]["disabled_at"] == "2027-01-15T08:00:01Z"


@pytest.mark.parametrize("of", EVERY_ALERT[-4:], ids=lambda of: of.topic)
def test_what_is_about_the_server_names_no_tenant(of: Alert) -> None:
    found = envelope(of)
    assert "tenant_id" not in found
    assert found["data"].items() >= of.data.items()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.sampled_from([None, 1, "\t"]), st.booleans())
def test_the_events_data_is_kept_byte_for_byte(data: dict[str, Any], indent: Any, ascii_only: bool) -> None:
    raw = json.dumps(data, indent=indent, ensure_ascii=ascii_only).encode()
    occurrence = structs.replace(OCCURRENCE, event=structs.replace(EVENT, data=raw))
    notice = WRITER.of_alert(alert(occurrence=occurrence))
    assert b'"data":' + raw + b"}" in notice.envelope


@pytest.mark.parametrize("of", EVERY_ALERT, ids=lambda of: of.topic)
def test_no_secret_is_in_a_notice(of: Alert) -> None:
    assert "top-secret" not in repr(WRITER.of_alert(of))
    if of.occurrence is not None:
        assert "top-secret" not in repr(WRITER.notice(news(occurrence=of.occurrence)))
        unknown = structs.replace(of.occurrence, destination=structs.replace(TO, type="carrier"))
        assert "Elm Street" not in repr(WRITER.of_alert(structs.replace(of, occurrence=unknown)))


def test_news_of_an_attempt_has_all_of_it() -> None:
    notice = WRITER.notice(news(occurrence=OCCURRENCE))
    found = json.loads(notice.envelope)
    assert (found["id"], found["topic"], found["tenant_id"]) == (notice.id, "attempt.failed", "acme")
    assert notice.id == ids.encode("opn", SEQ + 2)
    assert set(found["data"]) == {"tenant_id", "event", "attempt", "destination"}
    assert EVENT.data in notice.envelope
    assert notice.title == "attempt.failed of acme"
    assert notice.text == f"Attempt 3 to deliver evt_1 to des_1 failed: 503: {ATTEMPT.detail}."
    assert (notice.severity, notice.resolves, notice.facts) == ("info", False, ())
    passed = structs.replace(OCCURRENCE, attempt=structs.replace(ATTEMPT, ok=True, code="200", detail=None))
    assert WRITER.notice(news(topic="attempt.success", occurrence=passed)).text == (
        "Attempt 3 to deliver evt_1 to des_1 succeeded."
    )


def test_other_news_has_data_of_its_own() -> None:
    data = {"tenant_id": "acme", "topics": ["a"], "previous_topics": [], "destinations_count": 1}
    notice = WRITER.notice(news(topic="tenant.subscription.updated", data=data))
    assert json.loads(notice.envelope)["data"] == data
    assert notice.text == "tenant.subscription.updated of tenant acme."


def test_news_of_an_alert_is_the_alert_on_every_try() -> None:
    first = WRITER.notice(news(alert=alert()))
    assert first == WRITER.of_alert(alert())
    assert WRITER.notice(news(seq=SEQ + 9, tries=5, alert=alert())) == first


def test_a_test_says_that_it_is_one() -> None:
    notice = WRITER.test(SEQ)
    assert (notice.topic, notice.severity, notice.resolves) == ("alert.test", "info", False)
    assert "Nothing is wrong" in notice.text
    assert json.loads(notice.envelope) == {
        "id": notice.id,
        "topic": "alert.test",
        "time": THEN,
        "data": {"message": notice.text},
    }
    assert WRITER.test(SEQ + 1).dedup_key != notice.dedup_key


# incidents


def test_one_trouble_is_one_incident_from_its_first_alert_to_its_end() -> None:
    kinds = (
        *(Kind.EXHAUSTED_RETRIES, Kind.CONSECUTIVE_FAILURES, Kind.FAILURE_RATE),
        *(Kind.DESTINATION_DISABLED, Kind.RECOVERED),
    )
    notices = [WRITER.of_alert(alert(kind, seq=SEQ + n)) for n, kind in enumerate(kinds)]
    assert len({notice.dedup_key for notice in notices}) == 1
    assert [notice.resolves for notice in notices] == [False, False, False, False, True]
    other = WRITER.of_alert(alert(destination_id="des_2"))
    foreign = WRITER.of_alert(alert(tenant_id="zeta"))
    assert len({notice.dedup_key for notice in (notices[0], other, foreign)}) == 3


def test_no_two_troubles_share_an_incident() -> None:
    places = [("a:b", "c"), ("a", "b:c"), ("a", "b"), ("a:b:c", ""), ("a%3Ab", "c")]
    keys = [WRITER.of_alert(alert(tenant_id=tenant, destination_id=to)).dedup_key for tenant, to in places]
    assert len(set(keys)) == len(places)


@pytest.mark.parametrize("kind", [Kind.BACKLOG_AGE, Kind.CONSECUTIVE_FAILURES])
def test_two_deployments_share_no_incident(kind: Kind) -> None:
    named = (Writer({}, deployment_id=name).of_alert(alert(kind)).dedup_key for name in (None, "eu", "us"))
    assert len(set(named)) == 3


@pytest.mark.parametrize("kind", ABOUT_THE_SERVER)
def test_trouble_of_the_server_ends_the_incident_that_it_began(kind: Kind) -> None:
    began, ended = WRITER.of_alert(alert(kind)), WRITER.of_alert(relief(kind))
    assert (began.dedup_key, began.resolves) == (ended.dedup_key, False)
    assert ended.resolves
    assert began.dedup_key != WRITER.of_alert(alert(next(k for k in ABOUT_THE_SERVER if k is not kind))).dedup_key


async def test_a_notice_that_cannot_be_written_is_given_up_and_delays_no_other(tmp_path: Path) -> None:
    """Whatever a destination type does when it is asked for its target."""

    class Unspeakable(Pigeon):
        type = "webhook"

    house = House(tmp_path, Receivers(), Bounds(), RetryPolicy(limit=0), rules=(rule(Kind.EXHAUSTED_RETRIES),))
    house.notifier._writer = Writer(Registry(iter([Unspeakable])))
    await house.start()
    ops = await house.add_channel()
    to = await house.add()
    house.receivers.behaviour[to.id] = fails()
    await house.until(await house.publish(), to, DeliveryState.EXHAUSTED)
    async with asyncio.timeout(10):
        while (state := (await house.store.alerting.channel_states([ops.no]))[ops.no]).error is None:
            await asyncio.sleep(0.01)
    assert (state.waiting, state.error) == (0, "internal_error: the notice could not be written: KeyError")
    await house.close()
