"""Alerts on record, and the audit log."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import pages
from waypost.api import render_alerts as render
from waypost.api.answers import answer
from waypost.api.auth import ActorOf, BackendOf, Caller, CallerToManage
from waypost.api.backend import Backend
from waypost.api.paths import DECODED
from waypost.api.query import QueryOf
from waypost.api.view import tenants_in_view, view_of
from waypost.core import ids
from waypost.core.alerts import SEVERITIES, Kind
from waypost.core.errors import NotFound
from waypost.flow.access import Identity
from waypost.flow.notices import ALERT_PREFIX
from waypost.store.alerting import Alert, AlertQuery, EntryQuery
from waypost.store.base import Page

AlertId = Annotated[str, DECODED, Path(description="The alert's id.", examples=["alr_01h2xcejqtf2n"])]

router = APIRouter()

_TENANTS = doc.array("tenant_id", "Only of these tenants. Ignored with a token.")
_YES_OR_NO = ("true", "false")


@router.get(
    "/alerts",
    tags=["Alerts"],
    operation_id="listAlerts",
    summary="List alerts",
    responses={200: doc.returns("AlertPage"), **doc.errors(400, 422)},
    openapi_extra=doc.operation(
        doc.ANYONE,
        _TENANTS,
        doc.array("destination_id", "Only about these destinations."),
        doc.array("kind", "Only of these kinds.", [kind.value for kind in Kind]),
        doc.array("severity", "Only of these severities.", SEVERITIES),
        doc.text("acknowledged", "Only those that somebody has acknowledged, or nobody.", enum=list(_YES_OR_NO)),
        doc.TIME,
        *doc.paging("time", pages.ALERTS.default_limit, pages.ALERTS.largest_limit),
    ),
)
async def list_alerts(caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """Alerts, newest first. A tenant's token sees those that the tenant's channels are told of."""
    page, acknowledged = pages.ALERTS.page(query), query.choice("acknowledged", _YES_OR_NO)
    conditions = AlertQuery(
        tenant_ids=tenants_in_view(caller, query, backend),
        destination_ids=query.many("destination_id"),
        kinds=tuple(query.choices("kind", [kind.value for kind in Kind])),
        severities=tuple(query.choices("severity", SEVERITIES)),
        acknowledged=None if acknowledged is None else acknowledged == "true",
        by_tenant=view_of(caller) is not None,
        time=query.time("time"),
    )
    part = await backend.alerting.alerts(conditions, page)
    return answer(pages.ALERTS.render(page, part, [render.alert(item, backend.writer) for item in part.items]))


@router.get(
    "/alerts/{alert_id}",
    tags=["Alerts"],
    operation_id="getAlert",
    summary="Get an alert",
    responses={200: doc.returns("Alert"), **doc.errors(404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def get_alert(alert_id: AlertId, caller: Caller, backend: BackendOf) -> Response:
    """One alert."""
    return answer(render.alert(await _one(alert_id, caller, backend), backend.writer))


@router.post(
    "/alerts/{alert_id}/acknowledge",
    tags=["Alerts"],
    operation_id="acknowledgeAlert",
    summary="Acknowledge an alert",
    responses={200: doc.returns("Alert"), **doc.errors(404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def acknowledge_alert(alert_id: AlertId, caller: CallerToManage, actor: ActorOf, backend: BackendOf) -> Response:
    """Somebody has seen it. Idempotent: the first acknowledgement stays on record."""
    seen = await backend.alerting.acknowledge(await _one(alert_id, caller, backend), by=actor)
    return answer(render.alert(seen, backend.writer))


async def _one(alert_id: str, caller: Identity, backend: Backend) -> Alert:
    seq, view = ids.decode(ALERT_PREFIX, alert_id), view_of(caller)
    if seq is None:
        raise NotFound("alert not found")
    conditions = AlertQuery(seqs=(seq,), tenant_ids=() if view is None else (view,), by_tenant=view is not None)
    found = await backend.alerting.alerts(conditions, Page(limit=1))
    if not found.items:
        raise NotFound("alert not found")
    return found.items[0]


@router.get(
    "/audit-log",
    tags=["Audit log"],
    operation_id="listAuditLog",
    summary="List the audit log",
    responses={200: doc.returns("AuditPage"), **doc.errors(400, 422)},
    openapi_extra=doc.operation(
        doc.ANYONE,
        _TENANTS,
        doc.array("action", "Only these actions, such as `destination.disable`."),
        doc.array("subject", "Only about the things of these ids."),
        doc.array("actor", "Only by these keys (by name) or tenants (by id)."),
        doc.TIME,
        *doc.paging("time", pages.AUDIT.default_limit, pages.AUDIT.largest_limit),
    ),
)
async def list_audit_log(caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """Who did what, newest first: every change through the API, and what Waypost did by itself.

    A tenant's token sees what concerns that tenant. A manual retry says what came of it once its attempt was made.
    """
    page = pages.AUDIT.page(query)
    conditions = EntryQuery(
        tenant_ids=tenants_in_view(caller, query, backend),
        actions=query.many("action"),
        subjects=query.many("subject"),
        actors=query.many("actor"),
        time=query.time("time"),
    )
    part = await backend.store.alerting.audit_log(conditions, page)
    models = [render.entry(item, view_of(caller)) for item in part.items]
    return answer(pages.AUDIT.render(page, part, models))
