"""Replays: sending many events again (specification, section 4.2.5)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from waypost.api import describe as doc
from waypost.api import pages
from waypost.api import render_replays as render
from waypost.api.answers import answer
from waypost.api.auth import ActorOf, BackendOf, Caller, CallerToReplay
from waypost.api.backend import Backend
from waypost.api.body import Body
from waypost.api.events import SEARCHED
from waypost.api.paths import DECODED
from waypost.api.query import QueryOf
from waypost.api.replay_body import read
from waypost.api.view import tenants_in_view, view_of
from waypost.core import ids
from waypost.core.errors import Invalid, NotFound
from waypost.flow.access import Identity
from waypost.flow.replays import REPLAY_PREFIX
from waypost.store.replays import Replay, ReplayQuery, ReplayState

ReplayId = Annotated[str, DECODED, Path(description="The replay's id.", examples=["rpl_01h2xcejqtf2n"])]

router = APIRouter(prefix="/replays", tags=["Retry"])

_ONE = doc.returns("Replay", "The replay.")
_STATUSES = tuple(state.name.lower() for state in ReplayState)


@router.post(
    "",
    operation_id="createReplay",
    summary="Send many events again",
    status_code=202,
    responses={
        200: doc.returns("ReplayPreview", "With `dry_run`: what it would come to."),
        202: doc.returns("Replay", "It has begun."),
        **doc.errors(400, 404, 413, 422, 429),
    },
    openapi_extra=doc.operation(doc.ANYONE, body="ReplayCreate"),
)
async def create_replay(caller: CallerToReplay, actor: ActorOf, body: Body, backend: BackendOf) -> Response:
    """One more attempt for every delivery of the selected events, as `POST /retry` makes one.

    What is sent is what was accepted up to now. It goes out beside live traffic, which has precedence, and goes on
    after a restart. With `dry_run` nothing is sent: the answer says how many deliveries it would be, and how many would
    be left out and why.
    """
    wish, dry_run = read(body, view_of(caller), backend.store.key_of)
    if wish.query.search is not None and not backend.settings.search:
        asked = [word for word in SEARCHED if word in wish.asked]
        raise Invalid([f"events.{word} needs the search index, which this server has switched off" for word in asked])
    if dry_run:
        preview = await backend.replays.preview(wish, by=actor)
        return answer(render.preview(preview, await backend.replays.left(wish.tenant_id, by=actor)))
    return answer(render.replay(await backend.replays.create(wish, by=actor), view_of(caller)), 202)


@router.get(
    "",
    operation_id="listReplays",
    summary="List replays",
    responses={200: doc.returns("ReplayPage"), **doc.errors(400, 422)},
    openapi_extra=doc.operation(
        doc.ANYONE,
        doc.array("tenant_id", "Only replays of events of these tenants alone. Ignored with a token."),
        doc.array("status", "Only replays that stand so.", _STATUSES),
        *doc.paging("time", pages.REPLAYS.default_limit, pages.REPLAYS.largest_limit),
    ),
)
async def list_replays(caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """Replays, newest first. A tenant's token sees those of the tenant's events alone."""
    page = pages.REPLAYS.page(query)
    conditions = ReplayQuery(
        tenant_ids=tenants_in_view(caller, query, backend),
        states=tuple(ReplayState[status.upper()] for status in query.choices("status", _STATUSES)),
    )
    part = await backend.store.replays.replays(conditions, page)
    return answer(pages.REPLAYS.render(page, part, [render.replay(item, view_of(caller)) for item in part.items]))


@router.get(
    "/{replay_id}",
    operation_id="getReplay",
    summary="Get a replay",
    responses={200: _ONE, **doc.errors(404)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def get_replay(replay_id: ReplayId, caller: Caller, backend: BackendOf) -> Response:
    """One replay and how far it has come."""
    return answer(render.replay(await _one(replay_id, caller, backend), view_of(caller)))


@router.post(
    "/{replay_id}/cancel",
    operation_id="cancelReplay",
    summary="Cancel a replay",
    responses={200: _ONE, **doc.errors(404, 409)},
    openapi_extra=doc.operation(doc.ANYONE),
)
async def cancel_replay(replay_id: ReplayId, caller: CallerToReplay, actor: ActorOf, backend: BackendOf) -> Response:
    """Nothing more is sent. The few attempts that are due already are made."""
    cancelled = await backend.replays.cancel(await _one(replay_id, caller, backend), by=actor)
    return answer(render.replay(cancelled, view_of(caller)))


@router.get(
    "/{replay_id}/deliveries",
    operation_id="listReplayDeliveries",
    summary="List a replay's deliveries",
    responses={200: doc.returns("ReplayedDeliveryPage"), **doc.errors(400, 404, 422)},
    openapi_extra=doc.operation(
        doc.ANYONE,
        doc.array("result", "Only deliveries whose manual attempt came out so.", tuple(render.RESULTS)),
        *doc.paging("event", pages.REPLAYED.default_limit, pages.REPLAYED.largest_limit),
    ),
)
async def list_deliveries(replay_id: ReplayId, caller: Caller, query: QueryOf, backend: BackendOf) -> Response:
    """What it sends: what came of the manual attempt, and where the delivery stands now."""
    replay, page = await _one(replay_id, caller, backend), pages.REPLAYED.page(query)
    oks = [render.RESULTS[result] for result in query.choices("result", tuple(render.RESULTS))]
    part = await backend.store.replays.deliveries(replay.seq, page, oks=oks)
    return answer(pages.REPLAYED.render(page, part, [render.delivery(item) for item in part.items]))


async def _one(replay_id: str, caller: Identity, backend: Backend) -> Replay:
    seq = ids.decode(REPLAY_PREFIX, replay_id)
    if seq is None:
        raise NotFound("replay not found")
    return await backend.replays.replay(seq, view_of(caller))
