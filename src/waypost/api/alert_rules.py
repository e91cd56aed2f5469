"""Alert rules: what is watched for, where, and how it is told (specification, section 4.1.4)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import render_alerts as render
from waypost.api.answers import answer
from waypost.api.auth import ActorOf, BackendOf, Caller, CallerToManage
from waypost.api.body import Body
from waypost.api.paths import DECODED
from waypost.api.view import view_of

RuleId = Annotated[str, DECODED, Path(description="The rule's id.", examples=["rul_x1"])]

router = APIRouter(prefix="/alert-rules", tags=["Alerts"])

_ONE = doc.returns("AlertRule", "The rule.")


@router.get(
    "",
    operation_id="listAlertRules",
    summary="List alert rules",
    responses={200: doc.returns_list("AlertRule"), **doc.errors()},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def list_rules(caller: Caller, backend: BackendOf) -> Response:
    """An API key sees all rules, those of the settings first; a tenant's token sees the tenant's own."""
    return answer([render.rule(rule) for rule in await backend.alerting.rules(view_of(caller))])


@router.post(
    "",
    operation_id="createAlertRule",
    summary="Create an alert rule",
    status_code=201,
    responses={201: _ONE, **doc.errors(400, 403, 404, 413, 422)},
    openapi_extra=doc.operation(doc.ANYONE, body="AlertRuleCreate"),
)
async def create_rule(caller: CallerToManage, actor: ActorOf, body: Body, backend: BackendOf) -> Response:
    """A rule for a destination goes before one of the same kind and owner for its tenant, and that before one for all.

    A tenant without a rule of its own hears what the operator's rule finds.
    """
    created = await backend.alerting.add_rule(body, view=view_of(caller), by=actor)
    return answer(render.rule(created), 201)


@router.get(
    "/{rule_id}",
    operation_id="getAlertRule",
    summary="Get an alert rule",
    responses={200: _ONE, **doc.errors(404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def get_rule(rule_id: RuleId, caller: Caller, backend: BackendOf) -> Response:
    """One rule."""
    return answer(render.rule(await backend.alerting.rule(rule_id, view_of(caller))))


@router.patch(
    "/{rule_id}",
    operation_id="updateAlertRule",
    summary="Update an alert rule",
    responses={200: _ONE, **doc.errors(404, 409, 413, 422)},
    openapi_extra=doc.operation(doc.ANYONE, body="AlertRuleUpdate"),
)
async def update_rule(
    rule_id: RuleId, caller: CallerToManage, actor: ActorOf, body: Body, backend: BackendOf
) -> Response:
    """What is left out stays. Kind, owner and place cannot change, and a rule of the settings not at all."""
    changed = await backend.alerting.update_rule(rule_id, body, view=view_of(caller), by=actor)
    return answer(render.rule(changed))


@router.delete(
    "/{rule_id}",
    operation_id="deleteAlertRule",
    summary="Delete an alert rule",
    responses={200: doc.returns("Success"), **doc.errors(404, 409)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def delete_rule(rule_id: RuleId, caller: CallerToManage, actor: ActorOf, backend: BackendOf) -> Response:
    """The next wider rule of its kind holds again."""
    await backend.alerting.delete_rule(rule_id, view=view_of(caller), by=actor)
    return answer({"success": True})
