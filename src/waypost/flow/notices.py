"""What an alert says: to people by a template, to machines by an envelope with the whole event and attempt.

A template is a text file named after the alert's kind: its first line is the title, the rest the text, in Jinja's
language. The operator may put files of the same names into a folder of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from jinja2 import ChoiceLoader, FileSystemLoader, PackageLoader, StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from waypost.connect import fields
from waypost.connect.channel import Notice
from waypost.connect.connector import DestinationType
from waypost.core import ids, times
from waypost.core.alerts import SYSTEM_RECOVERED, TOPICS, Channel, Kind
from waypost.core.errors import SettingsError
from waypost.core.incarnations import id_of
from waypost.core.model import Attempt, Destination, Event, Micros
from waypost.store.alerting import Alert, News, Occurrence

ALERT_PREFIX = "alr"
NEWS_PREFIX = "opn"
TEST_TOPIC = "alert.test"
QUESTION_TOPIC = "alert.question"

_SHOWN_OF_A_RESPONSE = 500
_COUNTS_OF_FAILURES = ("current", "max", "threshold")
_RECOVERED = {topic: f"{TOPICS[kind].split('.')[1]}_recovered" for kind, topic in SYSTEM_RECOVERED.items()}
_NAMES = (*(kind.value for kind in Kind if kind in TOPICS), *_RECOVERED.values(), "test", "question")

Words = tuple[str, str]
"""A title and a text."""


class Writer:
    """Turns alerts and news into notices.

    `public_url` is where browsers reach the portal; without it there are no links. `deployment_id` names this Waypost
    in envelopes. Raises SettingsError when a template of `templates` cannot be read as one.
    """

    def __init__(
        self,
        types: Mapping[str, DestinationType],
        *,
        public_url: str | None = None,
        deployment_id: str | None = None,
        templates: Path | None = None,
    ) -> None:
        self._types = types
        self._public_url = None if public_url is None else public_url.rstrip("/")
        self._deployment_id = deployment_id
        if templates is not None and not templates.is_dir():
            raise SettingsError(f"alert_templates: {templates} is not a folder")
        loaders = [FileSystemLoader(templates)] if templates is not None else []
        self._templates = SandboxedEnvironment(
            auto_reload=False,
            loader=ChoiceLoader([*loaders, PackageLoader("waypost.flow", "templates")]),
            undefined=StrictUndefined,
            autoescape=False,  # the text is plain; a channel escapes what its service would take for markup
        )
        self._templates.filters["duration"] = _duration
        if templates is not None:
            self._read_all()

    def _read_all(self) -> None:
        try:
            for name in _NAMES:
                self._templates.get_template(f"{name}.txt")
        except (TemplateError, OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"alert_templates: {error}") from None

    # what people read

    def words(self, alert: Alert) -> Words:
        """The title and the text of an alert; plain ones when its template fails."""
        plain = f"{alert.kind} of {alert.destination_id or 'the server'}"
        if alert.destination_id is not None and alert.occurrence is None:
            return plain, "What happened there is no longer on record."
        return self._words(_RECOVERED.get(alert.topic, alert.kind.value), plain, self._scope(alert))

    def _words(self, name: str, plain: str, scope: Mapping[str, Any]) -> Words:
        try:
            title, _, text = self._templates.get_template(f"{name}.txt").render(scope).strip().partition("\n")
        except Exception as error:  # noqa: BLE001  the operator's template can fail in any way, and the alert is to be told
            return plain, f"The template {name}.txt of this alert failed: {error}"
        return title.strip(), text.strip()

    def _scope(self, alert: Alert) -> dict[str, Any]:
        occurrence = alert.occurrence
        scope: dict[str, Any] = {"kind": alert.kind.value, "severity": alert.severity, "data": shown(alert.data)}
        scope |= {"tenant_id": id_of(alert.tenant_id), "link": self.link(alert.tenant_id, alert.destination_id)}
        scope["destination"] = {"id": alert.destination_id, "type": "", "target": ""}
        if occurrence is not None:
            to, attempt, event = occurrence.destination, occurrence.attempt, occurrence.event
            scope["destination"] = {"id": to.id, "type": to.type, "target": self._target(to), "metadata": to.metadata}
            scope["event"] = {"id": event.id, "topic": event.topic, "time": times.render(event.time)}
            scope["attempt"] = {"code": attempt.code, "number": attempt.number, "time": times.render(attempt.time)}
            scope["error"] = _error(attempt)
        return scope

    def facts(self, alert: Alert) -> tuple[tuple[str, str], ...]:
        """What there is to know, in the order in which one asks."""
        occurrence = alert.occurrence
        if occurrence is None:
            return ()
        to, attempt, event = occurrence.destination, occurrence.attempt, occurrence.event
        since = alert.data.get("failing_since") or (to.disabled.failing_since if to.disabled else None)
        response = attempt.response or {}
        found = [
            ("Tenant", id_of(to.tenant_id)),
            ("Destination", f"{to.id} ({to.type}, {self._target(to)})"),
            ("Topic", event.topic),
            ("Event", event.id),
            ("Code", attempt.code),
            ("Error", attempt.detail),
            ("Response", str(response["body"])[:_SHOWN_OF_A_RESPONSE] if response.get("body") else None),
            ("Attempt", f"{attempt.number} at {times.render(attempt.time)}"),
            ("First failure", times.render_optional(since)),
            ("Failures in a row", alert.data.get("current") or alert.data.get("streak")),
            ("Next retry", times.render_optional(occurrence.next_due) if to.disabled_at is None else None),
        ]
        return tuple((label, str(value)) for label, value in found if value not in (None, ""))

    def link(self, tenant_id: str | None, destination_id: str | None) -> str | None:
        """Into the portal."""
        if self._public_url is None:
            return None
        if tenant_id is None:
            return self._public_url
        page = f"{self._public_url}/portal/{quote(id_of(tenant_id), safe='')}"
        return page if destination_id is None else f"{page}/destinations/{quote(destination_id, safe='')}"

    def _target(self, destination: Destination) -> str:
        kind = self._types.get(destination.type)
        return kind.target(destination)[0] if kind and not destination.damaged else destination.type

    # what goes out

    def notice(self, news: News) -> Notice:
        """A piece of news as its channel is to get it."""
        if news.alert is not None:
            return self.of_alert(news.alert)
        data = news.data if news.occurrence is None else self._of_occurrence(news.occurrence)
        id_ = ids.encode(NEWS_PREFIX, news.seq)
        return Notice(
            id=id_,
            topic=news.topic,
            severity="info",
            title=news.topic if news.tenant_id is None else f"{news.topic} of {id_of(news.tenant_id)}",
            text=_sentence(news),
            facts=(),
            link=self.link(news.tenant_id, None),
            time=ids.time_of(news.seq),
            dedup_key=_key(self._deployment_id, id_),
            resolves=False,
            envelope=self._envelope(id_, news.topic, ids.time_of(news.seq), news.tenant_id, data or {}),
        )

    def of_alert(self, alert: Alert) -> Notice:
        title, text = self.words(alert)
        id_, at = ids.encode(ALERT_PREFIX, alert.seq), ids.time_of(alert.seq)
        return Notice(
            id=id_,
            topic=alert.topic,
            severity=alert.severity,
            title=title,
            text=text,
            facts=self.facts(alert),
            link=self.link(alert.tenant_id, alert.destination_id),
            time=at,
            dedup_key=_incident(self._deployment_id, alert),
            resolves=alert.kind is Kind.RECOVERED,
            envelope=self._envelope(id_, alert.topic, at, alert.tenant_id, self._data(alert)),
        )

    def test(self, seq: int) -> Notice:
        """What the test button sends."""
        title, text = self._words("test", "A test alert", {})
        id_, at = ids.encode(ALERT_PREFIX, seq), ids.time_of(seq)
        return Notice(
            id=id_,
            topic=TEST_TOPIC,
            severity="info",
            title=title,
            text=text,
            facts=(("Sent", times.render(at)),),
            link=self._public_url,
            time=at,
            dedup_key=_key(self._deployment_id, "test", id_),
            resolves=False,
            envelope=self._envelope(id_, TEST_TOPIC, at, None, {"message": text}),
        )

    def question(self, seq: int, channel: Channel, code: str) -> Notice:
        """What asks the owner of an address whether alerts of a tenant may be sent there."""
        scope = {"tenant_id": id_of(channel.owner), "name": channel.name, "code": code}
        title, text = self._words("question", "Do you want these alerts?", scope)
        id_, at = ids.encode(ALERT_PREFIX, seq), ids.time_of(seq)
        return Notice(
            id=id_,
            topic=QUESTION_TOPIC,
            severity="info",
            title=title,
            text=text,
            facts=(),
            link=None,
            time=at,
            dedup_key=_key(self._deployment_id, "question", id_),
            resolves=False,
            envelope=self._envelope(id_, QUESTION_TOPIC, at, channel.owner, scope),
        )

    def _envelope(self, id_: str, topic: str, time: Micros, tenant_id: str | None, data: Mapping[str, Any]) -> bytes:
        """The operator event as Hookdeck Outpost wraps it."""
        envelope: dict[str, Any] = {"id": id_, "topic": topic, "time": times.render(time)}
        optional = {"deployment_id": self._deployment_id, "tenant_id": id_of(tenant_id)}
        envelope |= {name: value for name, value in optional.items() if value is not None}
        return msgspec.json.encode(envelope | {"data": data})

    def _data(self, alert: Alert) -> dict[str, Any]:
        data: dict[str, Any] = {"severity": alert.severity, "tenant_id": id_of(alert.tenant_id)}
        if alert.occurrence is not None:
            data |= self._of_occurrence(alert.occurrence)
        found = shown(alert.data)
        if alert.kind is Kind.CONSECUTIVE_FAILURES:
            data["consecutive_failures"] = {name: found.pop(name) for name in _COUNTS_OF_FAILURES}
        if alert.kind is Kind.DESTINATION_DISABLED and alert.occurrence is not None:
            data["disabled_at"] = times.render(alert.occurrence.destination.disabled_at or ids.time_of(alert.seq))
        return data | found

    def _of_occurrence(self, occurrence: Occurrence) -> dict[str, Any]:
        return {
            "tenant_id": id_of(occurrence.event.tenant_id),
            "event": _event(occurrence.event, occurrence.destination),
            "attempt": _attempt(occurrence),
            "destination": self._destination(occurrence.destination),
        }

    def _destination(self, value: Destination) -> dict[str, Any]:
        kind = self._types.get(value.type)
        shown_fields = [field for field in kind.config_fields if field.type != "key_value_map"] if kind else []
        return {
            "id": value.id,
            "tenant_id": id_of(value.tenant_id),
            "type": value.type,
            "topics": value.topics,
            "config": fields.redact(shown_fields, value.config),
            "metadata": value.metadata,
            "created_at": times.render(value.created_at),
            "disabled_at": times.render_optional(value.disabled_at),
        }


def _event(event: Event, to: Destination) -> dict[str, Any]:
    return {
        "id": event.id,
        "tenant_id": id_of(event.tenant_id),
        "destination_id": to.id,
        "topic": event.topic,
        "time": times.render(event.time),
        "eligible_for_retry": event.eligible_for_retry,
        "metadata": event.metadata,
        "data": msgspec.Raw(event.data),
    }


def _attempt(occurrence: Occurrence) -> dict[str, Any]:
    attempt = occurrence.attempt
    return {
        "id": ids.encode("atm", attempt.seq),
        "tenant_id": id_of(attempt.tenant_id),
        "event_id": occurrence.event.id,
        "destination_id": occurrence.destination.id,
        "status": "success" if attempt.ok else "failed",
        "time": times.render(attempt.time),
        "code": attempt.code,
        "detail": attempt.detail,
        "attempt_number": attempt.number,
        "manual": attempt.manual,
        "latency_ms": attempt.latency // 1_000,
        "response_data": attempt.response,
    }


def _sentence(news: News) -> str:
    if news.occurrence is None:
        about = f"tenant {id_of(news.tenant_id)}" if news.tenant_id is not None else (news.data or {}).get("name")
        return f"{news.topic} of {about}."
    attempt = news.occurrence.attempt
    came = "succeeded" if attempt.ok else f"failed: {_error(attempt)}"
    return f"Attempt {attempt.number} to deliver {news.occurrence.event.id} to {news.occurrence.destination.id} {came}."


def _error(attempt: Attempt) -> str:
    return f"{attempt.code}: {attempt.detail}" if attempt.detail else attempt.code


def _incident(deployment_id: str | None, alert: Alert) -> str:
    """One trouble of one destination, or of the server, from its first alert to its recovery."""
    if alert.tenant_id is None:
        return _key(deployment_id, alert.topic.split(".")[1])
    return _key(deployment_id, alert.tenant_id, alert.destination_id or "")


def _key(deployment_id: str | None, *parts: str) -> str:
    """A key that no other parts and no other deployment have."""
    named = ("waypost",) if deployment_id is None else ("waypost", deployment_id)
    return ":".join(quote(part, safe="") for part in (*named, *parts))


def shown(data: Mapping[str, Any]) -> dict[str, Any]:
    """What is special to an alert's kind, its instant as text."""
    since = {"failing_since": times.render_optional(data["failing_since"])} if "failing_since" in data else {}
    return {**data, **since}


def _duration(seconds: float) -> str:
    """Seconds as a person says them: `45 s`, `10 min`, `3 h 20 min`, `2 d 4 h`."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004
        return f"{seconds:g} s" if seconds < 10 else f"{whole} s"  # noqa: PLR2004
    units = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))
    parts = []
    for name, size in units:
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])
