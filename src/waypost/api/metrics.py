"""Metrics: events and attempts counted over time. What Prometheus gets is in `health`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from fastapi import APIRouter
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api.answers import answer
from waypost.api.auth import BackendOf, Caller
from waypost.api.backend import Backend
from waypost.api.query import Query, QueryOf, instant
from waypost.api.view import view_of
from waypost.core import metering, times
from waypost.core.errors import BadRequest, Forbidden
from waypost.core.incarnations import id_of, incarnation_of
from waypost.core.metering import ATTEMPTS, EVENTS, Granularity, Subject
from waypost.core.model import Micros
from waypost.flow.access import Identity
from waypost.flow.metering import Answer

router = APIRouter(prefix="/metrics", tags=["Metrics"])

_VALUES = {"status": ("success", "failed"), "manual": ("true", "false")}
_NUMBER = re.compile("[0-9]{1,9}")
_GRANULARITIES = "1s to 60s, 1m to 60m, 1h to 24h, 1d to 31d, 1w to 4w, 1M to 12M"
_TIME: doc.Parameter = {
    "name": "time",
    "in": "query",
    "required": True,
    "style": "deepObject",
    "explode": True,
    "description": "The time range: `time[start]=2024-01-01T00:00:00Z&time[end]=2024-02-01T00:00:00Z`.",
    "schema": {
        "type": "object",
        "additionalProperties": False,
        "required": ["start", "end"],
        "properties": {
            "start": {"type": "string", "format": "date-time", "description": "Not before; from 1970 on."},
            "end": {"type": "string", "format": "date-time", "description": "Before."},
        },
    },
}


def _parameters(subject: Subject, about: dict[str, str]) -> list[doc.Parameter]:
    filters = [
        doc.array(f"filters[{name}]", f"Only {about[name]}.", _VALUES.get(name, ())) for name in subject.dimensions
    ]
    return [
        _TIME,
        doc.text(
            "granularity",
            f"The length of a bucket: {_GRANULARITIES}. Buckets are aligned to the beginning of 1970 (UTC), weeks to"
            " Sundays. Without it everything is one bucket.",
            pattern="^[0-9]+[smhdwM]$",
        ),
        {**doc.array("measures", "What to compute; rates are per second.", subject.measures), "required": True},
        doc.array("dimensions", "What to tell apart. `tenant_id` is refused with a token.", subject.dimensions),
        *filters,
    ]


_ABOUT_EVENTS = {
    "tenant_id": "events of these tenants; refused with a token",
    "topic": "events of these topics",
    "destination_id": "events that were routed to these destinations, once for each of them",
}
_ABOUT_ATTEMPTS = {
    "tenant_id": "attempts for these tenants; refused with a token",
    "destination_id": "attempts to reach these destinations",
    "destination_type": "attempts to reach destinations of these types",
    "topic": "attempts to deliver events of these topics",
    "status": "attempts that came out so",
    "code": "attempts with these codes",
    "manual": "attempts that somebody asked for, or that nobody did",
    "attempt_number": "attempts of these numbers",
}
_RESPONSES: doc.Responses = {200: doc.returns("Metrics"), **doc.errors(400, 403, 422)}


@router.get(
    "/events",
    operation_id="getEventMetrics",
    summary="Count events",
    responses=_RESPONSES,
    openapi_extra=doc.operation(doc.ANYONE, *_parameters(EVENTS, _ABOUT_EVENTS)),
)
async def event_metrics(caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """How many events happened, by their own time. A tenant's token sees its own; an API key sees all tenants'.

    With `destination_id` as a dimension or filter, an event counts once for each destination that it was routed to.
    """
    return await _answer(EVENTS, caller, query, backend)


@router.get(
    "/attempts",
    operation_id="getAttemptMetrics",
    summary="Count attempts",
    responses=_RESPONSES,
    openapi_extra=doc.operation(doc.ANYONE, *_parameters(ATTEMPTS, _ABOUT_ATTEMPTS)),
)
async def attempt_metrics(caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """How many attempts were made and what came of them, by the time when they began.

    A tenant's token sees its own; an API key sees all tenants'.
    """
    return await _answer(ATTEMPTS, caller, query, backend)


async def _answer(subject: Subject, caller: Identity, query: Query, backend: Backend) -> Response:
    dimensions, filters, tenant_id = query.many("dimensions"), _filters(subject, query), view_of(caller)
    if tenant_id is not None:
        if "tenant_id" in dimensions or "tenant_id" in filters:
            raise Forbidden("tenant_id is neither a dimension nor a filter for a tenant's token")
        filters["tenant_id"] = (tenant_id,)
    elif "tenant_id" in filters:
        filters["tenant_id"] = tuple(map(backend.store.key_of, filters["tenant_id"]))
    measures = query.many("measures")
    if not measures or not set(measures) <= set(subject.measures):
        raise BadRequest(f"measures must be at least one of: {', '.join(subject.measures)}")
    if not set(dimensions) <= set(subject.dimensions):
        raise BadRequest(f"dimensions must be among: {', '.join(subject.dimensions)}")
    start, end = _instant(query, "time[start]"), _instant(query, "time[end]")
    if not 0 <= start < end:
        raise BadRequest("time[start] must be before time[end] and not before 1970")
    found = await backend.metering.ask(
        subject,
        start=start,
        end=end,
        granularity=_granularity(query),
        measures=tuple(dict.fromkeys(measures)),
        dimensions=tuple(dict.fromkeys(dimensions)),
        filters=filters,
    )
    return await asyncio.to_thread(lambda: answer(_render(found, backend.store.key_of, query.most_bytes)))


def _instant(query: Query, name: str) -> Micros:
    values = query.many(name)
    if len(values) != 1:
        raise BadRequest(f"{name} is required, once")
    return instant(name, values[0])


def _granularity(query: Query) -> Granularity | None:
    values = query.many("granularity")
    if not values:
        return None
    found = metering.granularity(values[0])
    if found is None or len(values) > 1:
        raise BadRequest(f"granularity must be one of: {_GRANULARITIES}")
    return found


def _filters(subject: Subject, query: Query) -> dict[str, tuple[str, ...]]:
    if not query.keys("filters") <= set(subject.dimensions):
        raise BadRequest(f"filters must be among: {', '.join(f'filters[{name}]' for name in subject.dimensions)}")
    given = {name: query.many(f"filters[{name}]") for name in subject.dimensions}
    for name, options in _VALUES.items():
        if not set(given.get(name, ())) <= set(options):
            raise BadRequest(f"filters[{name}] must be {' or '.join(options)}")
    if not all(map(_NUMBER.fullmatch, given.get("attempt_number", ()))):
        raise BadRequest("filters[attempt_number] must be whole numbers")
    return {name: values for name, values in given.items() if values}


def _render(found: Answer, key_of: Callable[[str], str], most_bytes: int) -> dict[str, Any]:
    question = found.question
    bucketed = question.granularity is not None
    starts = [{"time_bucket": times.render(edge)} if bucketed else {} for edge in question.edges[:-1]]
    named = {values: dict(zip(question.dimensions, values, strict=True)) for _, values, _ in found.points}
    if "tenant_id" in question.dimensions:
        for values in named.values():
            values["tenant_id"] = _told_apart(values["tenant_id"], key_of)
    points = (
        {
            **starts[point.bucket],
            "dimensions": named[point.dimensions],
            "metrics": dict(zip(question.measures, point.measures, strict=True)),
        }
        for point in found.points
    )
    data = _fitting(points, most_bytes)
    metadata = {
        **({"granularity": str(question.granularity)} if bucketed else {}),
        "query_time_ms": round(found.took * 1_000),
        "row_count": len(data),
        "row_limit": found.row_limit,
        "truncated": found.truncated or len(data) < len(found.points),
    }
    return {"data": data, "metadata": metadata}


def _fitting(points: Iterable[dict[str, Any]], most_bytes: int) -> list[msgspec.Raw]:
    """As many points as fit into an answer, but one at least."""
    kept: list[msgspec.Raw] = []
    for point in points:
        text = msgspec.json.encode(point)
        most_bytes -= len(text) + 1
        if most_bytes < 0 and kept:
            break
        kept.append(msgspec.Raw(text))
    return kept


def _told_apart(key: str, key_of: Callable[[str], str]) -> str:
    """The tenant's id; of a former tenant of an id that was used again, also which one it was."""
    id_ = id_of(key)
    return id_ if key_of(id_) == key else f"{id_} {incarnation_of(key)}"
