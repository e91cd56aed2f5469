"""The catalogue of topics, in memory: what may be published, and what the data has to look like."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal

import structlog
from msgspec import Struct

from waypost.core import topics
from waypost.core.bodies import json_object, strangers
from waypost.core.errors import BadRequest, Invalid, NotFound
from waypost.core.incarnations import id_of
from waypost.core.model import SYSTEM, Actor, Event, Micros, Topic
from waypost.core.schemas import Schema, SchemaError
from waypost.store.alerting import Entry
from waypost.store.base import Store

_log = structlog.get_logger("waypost")

Validation = Literal["off", "warn", "enforce"]

MOST_TOPICS = 10_000
DESCRIPTION_MAX_LENGTH = 10_000

_CHANGEABLE = ("description", "schema", "example", "deprecated")
_SHOWN_ONLY = frozenset({"name", "read_only", "created_at", "updated_at"})


class Listed(Struct, frozen=True):
    """A topic; those that the settings name cannot be changed here, and may have nothing but a name."""

    name: str
    topic: Topic | None
    read_only: bool


class _Stored(Struct, frozen=True):
    """A topic with its schema compiled, unless nobody asks for it."""

    topic: Topic
    schema: Schema | None


class Catalogue:
    """The topics of the settings (`fixed`) and those in the store. Where there is none, any topic will do.

    `flagged` hears `deprecated` and `invalid` for events that were accepted in spite of it.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], Micros],
        fixed: Sequence[str] = (),
        validation: Validation = "off",
        flagged: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._store = store
        self._now = now
        self._fixed = tuple(dict.fromkeys(fixed))
        self._validation = validation
        self._flagged = flagged
        self._changing = asyncio.Lock()
        self._stored: dict[str, _Stored] = {}
        self._remember(())

    async def refresh(self) -> None:
        """Read the stored topics. Raises Unavailable; then those known so far stay."""
        async with self._changing:
            self._remember(await self._store.topics())

    def _remember(self, stored: Sequence[Topic]) -> None:
        self._stored = {topic.name: _Stored(topic, self._compiled(topic)) for topic in stored}
        self.names = (*self._fixed, *(name for name in self._stored if name not in self._fixed))
        self.known = frozenset(self.names)

    def _compiled(self, topic: Topic) -> Schema | None:
        """The schema as it was compiled before, or anew; one that this version does not understand is left aside."""
        if topic.schema is None or self._validation == "off":
            return None
        known = self._stored.get(topic.name)
        if known is not None and known.topic.schema == topic.schema:
            return known.schema
        try:
            return Schema(topic.schema)
        except SchemaError as error:
            _log.error("schema_unusable", topic=topic.name, error=str(error))
            return None

    # for events

    def check(self, event: Event) -> None:
        """Raises Invalid for an event that must not be accepted; what is only worth a word is counted and logged."""
        stored = self._stored.get(event.topic)
        if stored is None:
            return
        if stored.topic.deprecated:
            self._flagged("deprecated")
        problems = [f"data: {fault}" for fault in stored.schema.faults(event.data)] if stored.schema else []
        if not problems:
            return
        if self._validation == "enforce":
            raise Invalid(problems)
        self._flagged("invalid")
        _log.warning(
            "event_invalid", tenant_id=id_of(event.tenant_id), event_id=event.id, topic=event.topic, problems=problems
        )

    # read

    def listed(self) -> list[Listed]:
        return [self._listed(name) for name in self.names]

    def topic(self, name: str) -> Listed:
        """Raises NotFound."""
        if name not in self.known:
            raise NotFound("topic not found")
        return self._listed(name)

    def _listed(self, name: str) -> Listed:
        stored = self._stored.get(name)
        return Listed(name, None if stored is None else stored.topic, name in self._fixed)

    # change

    async def put(self, name: str, body: object, *, by: Actor = SYSTEM) -> tuple[Listed, bool]:
        """Add a topic or replace it whole from its JSON object. The second value is True when it is new.

        Raises Invalid, BadRequest for a topic of the settings or one too many.
        """
        self._refuse_fixed(name)
        now = self._now()
        topic = _read(name, body, now)
        async with self._changing:
            old = self._stored.get(name)
            if old is None and len(self._stored) >= MOST_TOPICS:
                raise BadRequest(f"the catalogue holds at most {MOST_TOPICS} topics")
            detail = {"changed": _differences(None if old is None else old.topic, topic)}
            entry = Entry(actor=by, action="topic.put", tenant_id=None, subject=name, detail=detail)
            created = await self._store.put_topic(topic, entry)
            self._remember(await self._store.topics())
        return self._listed(name), created

    async def delete(self, name: str, *, by: Actor = SYSTEM) -> None:
        """Subscriptions to it stay; they may come to cover it again. Raises NotFound, BadRequest."""
        self._refuse_fixed(name)
        async with self._changing:
            entry = Entry(actor=by, action="topic.delete", tenant_id=None, subject=name)
            if not await self._store.delete_topic(name, entry):
                raise NotFound("topic not found")
            self._remember(await self._store.topics())

    def _refuse_fixed(self, name: str) -> None:
        if name in self._fixed:
            raise BadRequest(f"the topic {name} is set by the server's settings and cannot be changed here")


def _differences(old: Topic | None, new: Topic) -> list[str]:
    """The names of the fields that differ; of a new topic, those that it has."""
    old = old or Topic(name=new.name, created_at=new.created_at, updated_at=new.updated_at)
    return [field for field in _CHANGEABLE if getattr(old, field) != getattr(new, field)]


def _read(name: str, body: object, now: Micros) -> Topic:
    """The topic in a JSON object. Raises Invalid."""
    body = json_object(body)
    problems = strangers(body, _SHOWN_ONLY.union(_CHANGEABLE), "a topic")
    if not topics.is_topic(name):
        problems.append(f"name must be 1 to {topics.TOPIC_MAX_LENGTH} letters, digits or _ - . : /")
    if body.get("name", name) != name:
        problems.append("name cannot be updated")
    description, schema, example = body.get("description"), body.get("schema"), body.get("example")
    if not isinstance(description, str | None) or len(description or "") > DESCRIPTION_MAX_LENGTH:
        problems.append(f"description must be text of at most {DESCRIPTION_MAX_LENGTH} characters")
    if not isinstance(example, dict | None):
        problems.append("example must be an object")
    if not isinstance(body.get("deprecated", False), bool):
        problems.append("deprecated must be true or false")
    problems += _faults(schema, example)
    if problems:
        raise Invalid(problems)
    return Topic(
        name=name,
        description=description,
        schema=schema,
        example=example,
        deprecated=body.get("deprecated", False),
        created_at=now,
        updated_at=now,
    )


def _faults(schema: Any, example: Any) -> list[str]:
    """What is wrong with a schema, or with an example of it."""
    if schema is None:
        return []
    try:
        compiled = Schema(schema)
    except SchemaError as error:
        return [f"schema: {error}"]
    return [f"example: {fault}" for fault in compiled.faults_of(example)] if isinstance(example, dict) else []
