"""Alert channels: where alerts and operator events go (specification, section 4.1.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import render_alerts as render
from waypost.api.answers import answer
from waypost.api.auth import ActorOf, BackendOf, Caller, CallerToManage
from waypost.api.backend import Backend
from waypost.api.body import Body
from waypost.api.paths import DECODED
from waypost.api.view import view_of
from waypost.core.alerts import Channel
from waypost.core.bodies import json_object, strangers
from waypost.core.errors import DeliveryError, Invalid
from waypost.store.alerting import ChannelState

ChannelId = Annotated[str, DECODED, Path(description="The channel's id.", examples=["chn_x1"])]

router = APIRouter(tags=["Alerts"])

_LONGEST_CODE = 100
_ONE = doc.returns("AlertChannel", "The channel.")


@router.get(
    "/alert-channel-types",
    operation_id="listAlertChannelTypes",
    summary="List alert channel types",
    responses={200: doc.returns_list("DestinationTypeSchema"), **doc.errors()},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def list_types(caller: Caller, backend: BackendOf) -> Response:
    """The kinds of channel that the caller may make, with the forms to fill in. Every destination type is one."""
    alerting, by_tenant = backend.alerting, view_of(caller) is not None
    kinds = [kind for kind in alerting.types.values() if not (by_tenant and alerting.permits.forbids(kind.type))]
    return answer([kind.describe() for kind in kinds])


@router.get(
    "/alert-channels",
    operation_id="listAlertChannels",
    summary="List alert channels",
    responses={200: doc.returns_list("AlertChannel"), **doc.errors()},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def list_channels(caller: Caller, backend: BackendOf) -> Response:
    """An API key sees all channels, a tenant's token the tenant's own. Secrets are masked."""
    found = await backend.alerting.channels(view_of(caller))
    return answer(await _shown(found, backend))


@router.post(
    "/alert-channels",
    operation_id="createAlertChannel",
    summary="Create an alert channel",
    status_code=201,
    responses={201: _ONE, **doc.errors(400, 403, 404, 413, 422)},
    openapi_extra=doc.operation(doc.ANYONE, body="AlertChannelCreate"),
)
async def create_channel(caller: CallerToManage, actor: ActorOf, body: Body, backend: BackendOf) -> Response:
    """What `config` and `credentials` hold depends on the `type`. Nothing is called while saving."""
    created = await backend.alerting.add_channel(body, view=view_of(caller), by=actor)
    (shown,) = await _shown([created], backend)
    return answer(shown, 201)


@router.get(
    "/alert-channels/{channel_id}",
    operation_id="getAlertChannel",
    summary="Get an alert channel",
    responses={200: _ONE, **doc.errors(404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def get_channel(channel_id: ChannelId, caller: Caller, backend: BackendOf) -> Response:
    """One channel, with how it is doing."""
    (shown,) = await _shown([await backend.alerting.channel(channel_id, view_of(caller))], backend)
    return answer(shown)


@router.patch(
    "/alert-channels/{channel_id}",
    operation_id="updateAlertChannel",
    summary="Update an alert channel",
    responses={200: _ONE, **doc.errors(400, 403, 404, 409, 413, 422)},
    openapi_extra=doc.operation(doc.ANYONE, body="AlertChannelUpdate"),
)
async def update_channel(
    channel_id: ChannelId, caller: CallerToManage, actor: ActorOf, body: Body, backend: BackendOf
) -> Response:
    """A merge patch (RFC 7396). The type and the owner cannot change."""
    changed = await backend.alerting.update_channel(channel_id, body, view=view_of(caller), by=actor)
    (shown,) = await _shown([changed], backend)
    return answer(shown)


@router.delete(
    "/alert-channels/{channel_id}",
    operation_id="deleteAlertChannel",
    summary="Delete an alert channel",
    responses={200: doc.returns("Success"), **doc.errors(404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def delete_channel(channel_id: ChannelId, caller: CallerToManage, actor: ActorOf, backend: BackendOf) -> Response:
    """What was still to be told there is dropped."""
    await backend.alerting.delete_channel(channel_id, view=view_of(caller), by=actor)
    return answer({"success": True})


@router.post(
    "/alert-channels/{channel_id}/test",
    operation_id="testAlertChannel",
    summary="Send a test alert",
    responses={200: doc.returns("ChannelVerdict", "What came of it, good or bad."), **doc.errors(404, 429)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def test_channel(channel_id: ChannelId, caller: CallerToManage, actor: ActorOf, backend: BackendOf) -> Response:
    """One alert that says it is a test goes there now, whatever is muted. It is tried once and not put on record."""
    channel = await backend.alerting.channel_to_test(channel_id, view_of(caller), by=actor)
    try:
        await backend.errands.test(channel)
    except DeliveryError as error:
        return answer({"ok": False, "code": error.code, "message": error.sentence})
    return answer({"ok": True})


@router.post(
    "/alert-channels/{channel_id}/confirm",
    operation_id="confirmAlertChannel",
    summary="Confirm an address",
    responses={200: _ONE, **doc.errors(404, 409, 413, 422, 429)},
    openapi_extra=doc.operation(doc.ANYONE, body="ChannelConfirmation"),
)
async def confirm_channel(
    channel_id: ChannelId, caller: CallerToManage, actor: ActorOf, body: Body, backend: BackendOf
) -> Response:
    """Without a `code`, the addresses in `unconfirmed` are sent one each; with one, its address is confirmed.

    Until all are, nothing else is sent to a tenant's channel that has addresses. The operator's channels need no code.
    """
    channel = await backend.alerting.channel(channel_id, view_of(caller))
    code = _code_in(body)
    if code is not None:
        channel = await backend.alerting.confirm_channel(channel, code, by=actor)
    else:
        try:
            await backend.errands.ask(channel)
        except DeliveryError as error:
            raise Invalid([f"no code could be sent: {error.code}: {error.sentence}"]) from None
    (shown,) = await _shown([channel], backend)
    return answer(shown)


def _code_in(body: object) -> str | None:
    sent = json_object(body)
    problems = strangers(sent, frozenset({"code"}), "a confirmation")
    code = sent.get("code")
    if problems or not (code is None or (isinstance(code, str) and len(code) <= _LONGEST_CODE)):
        raise Invalid(problems or ["code must be the text that was sent to an address"])
    return code


async def _shown(channels: Sequence[Channel], backend: Backend) -> list[dict[str, Any]]:
    states, alerting = await backend.alerting.channel_states(channels), backend.alerting
    return [
        render.channel(channel, states.get(channel.no, ChannelState()), alerting.types)
        | {"unconfirmed": alerting.permits.unconfirmed(channel)}
        for channel in channels
    ]
