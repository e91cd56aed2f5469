"""Trying filters out: on sample events or a tenant's last ones, and in another dialect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import msgspec
from fastapi import APIRouter
from msgspec import Raw, Struct
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api.answers import answer
from waypost.api.auth import BackendOf, Caller
from waypost.api.backend import Backend
from waypost.api.body import Body, RawBody, parse
from waypost.api.decode import decode
from waypost.core import times
from waypost.core.bodies import json_object
from waypost.core.errors import Invalid
from waypost.core.filters import Dialect
from waypost.core.model import Event, Micros
from waypost.flow import clock
from waypost.flow.access import Identity
from waypost.flow.filtering import converted, verdicts
from waypost.store.base import EventQuery, Page

router = APIRouter(prefix="/filters", tags=["Filters"])

DIALECTS: tuple[Dialect, ...] = get_args(Dialect)


class Sample(Struct, gc=False):
    """An event to try a filter on. `data` stays the bytes that came."""

    data: Raw = Raw(b"")
    id: str | None = None
    topic: str | None = None
    time: str | None = None
    metadata: dict[str, str] | None = None


class Trial(Struct):
    filter: Raw = Raw(b"null")
    events: list[Sample] | None = None
    tenant_id: str | None = None
    last: int | None = None


_trial = msgspec.json.Decoder(Trial)


@router.post(
    "/test",
    operation_id="testFilter",
    summary="Try a filter out",
    responses={
        200: doc.returns_list("FilterVerdict", "One verdict for each event, in their order."),
        **doc.errors(400, 404, 413, 422),
    },
    openapi_extra=doc.operation(doc.ANYONE, body="FilterTest"),
)
async def test_filter(caller: Caller, body: RawBody, backend: BackendOf) -> Response:
    """Which events a filter would let pass, and for each the clause that decides. Nothing is saved or delivered.

    The events are those of the request, or the `last` ones that a tenant has on record. Topics are not asked.
    """
    trial = decode(_trial, body)
    filter_ = parse(bytes(trial.filter))
    if filter_ is None:
        raise Invalid(["filter is required"])
    events = await _events(trial, caller, backend)
    found = await verdicts(filter_, events, backend.manager.filter_limits)
    return answer([{"id": each.event_id, "pass": each.passes, "reason": each.reason} for each in found])


async def _events(trial: Trial, caller: Identity, backend: Backend) -> Sequence[Event]:
    most = backend.settings.filter_test_max_events
    if (trial.events is None) == (trial.last is None):
        raise Invalid(["either events or last is required"])
    if trial.events is None:
        return await _last(trial, caller, backend, most)
    if len(trial.events) > most:
        raise Invalid([f"events must be at most {most}"])
    return _samples(trial.events)


def _samples(samples: Sequence[Sample]) -> list[Event]:
    problems: list[str] = []
    now = clock.now()
    events = [_event(number, sample, now, problems) for number, sample in enumerate(samples)]
    if problems:
        raise Invalid(problems)
    return events


def _event(number: int, sample: Sample, now: Micros, problems: list[str]) -> Event:
    data = bytes(sample.data)
    if not data.startswith(b"{"):
        problems.append(f"events[{number}].data must be an object")
    time = now if sample.time is None else times.parse(sample.time)
    if time is None:
        problems.append(f"events[{number}].time must be an RFC 3339 date-time")
    return Event(
        seq=number,
        id=sample.id or f"sample_{number + 1}",
        tenant_id="",
        topic=sample.topic or "",
        time=time or now,
        data=data,
        metadata=sample.metadata,
    )


async def _last(trial: Trial, caller: Identity, backend: Backend, most: int) -> list[Event]:
    named = None if trial.tenant_id is None else backend.store.key_of(trial.tenant_id)
    tenant_id = caller.tenant_id or named
    if tenant_id is None:
        raise Invalid(["tenant_id is required"])
    if trial.last is None or not 1 <= trial.last <= most:
        raise Invalid([f"last must be a whole number from 1 to {most}"])
    await backend.manager.tenant(tenant_id)
    part = await backend.store.events(EventQuery(tenant_ids=(tenant_id,)), Page(limit=trial.last))
    return [stored.event for stored in part.items]


@router.post(
    "/convert",
    operation_id="convertFilter",
    summary="Convert a filter",
    responses={200: doc.returns("Filter", "The filter in that dialect."), **doc.errors(400, 413, 422)},
    openapi_extra=doc.operation(doc.ANYONE, body="FilterConversion"),
)
async def convert_filter(_: Caller, body: Body, backend: BackendOf) -> Response:
    """The same filter in another dialect: it gives the same answer for every event.

    Where the other dialect has no words for a clause, the refusal says which.
    """
    body = json_object(body)
    if body.get("filter") is None:
        raise Invalid(["filter is required"])
    to = next((dialect for dialect in DIALECTS if dialect == body.get("to")), None)
    if to is None:
        raise Invalid([f"to must be one of: {', '.join(DIALECTS)}"])
    found = await converted(body["filter"], to, backend.manager.filter_limits)
    return answer(found)
