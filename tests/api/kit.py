"""A whole API over the real store, with a caller for each kind of credential."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import httpx
import msgspec
from fastapi import FastAPI
from msgspec import structs
from starlette.datastructures import State

from tests.flow.samples import letterbox, registry, tools
from tests.store import builders
from waypost.api.app import create_app
from waypost.api.backend import Backend
from waypost.connect.registry import Registry
from waypost.connect.relay import channel_types
from waypost.core.errors import Unavailable
from waypost.core.model import SECOND, Destination, Event, Micros
from waypost.flow import clock
from waypost.flow.access import Access
from waypost.flow.alerting import Alerting
from waypost.flow.catalogue import Catalogue
from waypost.flow.deliveries import Canceller
from waypost.flow.directory import Directory
from waypost.flow.errands import Errands
from waypost.flow.expunge import Expunger
from waypost.flow.live import Live
from waypost.flow.manage import Manager
from waypost.flow.metering import Metering
from waypost.flow.notices import Writer
from waypost.flow.notify import Senders
from waypost.flow.probe import Prober
from waypost.flow.quotas import Quotas
from waypost.flow.readiness import Readiness
from waypost.flow.replay import Replayer
from waypost.flow.replays import Planner, Replays
from waypost.flow.retention import Janitor
from waypost.flow.skips import SkipCounts
from waypost.parts import (
    alert_rules_of,
    lifetimes_of,
    metering_bounds_of,
    quotas_of,
    replay_limits_of,
    stream_bounds_of,
)
from waypost.settings import Settings
from waypost.store.sqlite import SqliteStore

API = "/api/v1"
ADMIN_KEY = "the-operators-key"
JWT_SECRET = b"a secret of the tests, long enough for HS256"
NOW: Micros = builders.NOW


class Caller:
    """Calls the API with one credential and answers with what came back."""

    def __init__(self, app: FastAPI, credential: str | None) -> None:
        headers = {} if credential is None else {"authorization": f"Bearer {credential}"}
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://waypost.example", headers=headers)

    async def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        return await self.http.request(method, path if path.startswith("/api/") else API + path, **options)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self("GET", path, **options)

    async def put(self, path: str, **options: Any) -> httpx.Response:
        return await self("PUT", path, **options)

    async def post(self, path: str, **options: Any) -> httpx.Response:
        return await self("POST", path, **options)

    async def patch(self, path: str, **options: Any) -> httpx.Response:
        return await self("PATCH", path, **options)

    async def delete(self, path: str, **options: Any) -> httpx.Response:
        return await self("DELETE", path, **options)


@functools.cache
def _ready() -> FastAPI:
    """An app whose routes FastAPI has looked through, which takes longer than most of the tests."""
    return create_app(cast(Backend, None))


def app_of(backend: Backend) -> FastAPI:
    """What `create_app` makes of it, with routes that are ready."""
    app = copy.copy(_ready())
    app.state = State({name: _ready().state[name] for name in _ready().state} | {"backend": backend})
    return app


class World:
    """The tenants `acme` and `zeta`, the operator, and means to put events and attempts on record."""

    def __init__(self, store: SqliteStore, *, types: Registry | None = None, **settings: Any) -> None:
        self.store = store
        types = types or registry()
        self.now = NOW
        self.workers = {"deliver": True, "sweep": True}
        self.rung: list[int] = []
        self.withdrawn: list[tuple[int, int]] = []
        self.settings = Settings(**settings)
        self.access = Access(store, jwt_secret=JWT_SECRET, jwt_lifetime=60.0, now=clock.now, fixed_key=ADMIN_KEY)
        self.catalogue = Catalogue(
            store, now=lambda: self.now, fixed=self.settings.topics, validation=self.settings.topic_validation
        )
        self.manager = Manager(
            store,
            types,
            tools(),
            topics=lambda: self.catalogue.names,
            max_destinations=self.settings.max_destinations_per_tenant,
            changed=lambda _tenant_id, _no: None,
            now=lambda: self.now,
        )
        self.skips = SkipCounts(store)
        limits = replay_limits_of(self.settings)
        self.replayer = Replayer(
            store, lambda no, _due: self.rung.append(no), self.ring, limits=limits, now=lambda: self.now
        )
        self.planner = Planner(store, Directory(store), limits)
        self.live = Live(stream_bounds_of(self.settings))
        self.janitor = Janitor(store, default=lifetimes_of(self.settings), logs={}, share=0.5, interval=60.0)
        self.expunger = Expunger(store, lambda _tenant_id, _event_seqs: None, share=0.5)
        self.metering = Metering(store, metering_bounds_of(self.settings))
        self.writer = Writer(types)
        channels = channel_types({}, types)
        self.alerting = Alerting(
            store,
            channels,
            tools(),
            defaults=alert_rules_of(self.settings),
            max_channels=self.settings.alert_max_channels,
            changed=lambda: None,
            now=lambda: self.now,
        )
        self._senders = Senders(channels, tools(), timeout=5.0)
        self.backend = Backend(
            store=store,
            manager=self.manager,
            catalogue=self.catalogue,
            skips=self.skips,
            access=self.access,
            quotas=Quotas(quotas_of(self.settings)),
            registry=types,
            settings=self.settings,
            retry=self.replayer.retry,
            recover=self.replayer.recover,
            cancel=Canceller(store, lambda no, seq: self.withdrawn.append((no, seq))).cancel,
            replays=Replays(
                store,
                self.planner,
                limits=limits,
                next_seq=self.next_seq,
                now=lambda: self.now,
                wake=lambda: None,
            ),
            alerting=self.alerting,
            metering=self.metering,
            live=self.live,
            janitor=self.janitor,
            expunger=self.expunger,
            writer=self.writer,
            errands=Errands(store, self._senders, self.writer, next_seq=self.next_seq, now=lambda: self.now),
            probe=Prober(store, types, tools(), self, self.next_seq, timeout=0.05),
            health=lambda: self.workers,
            liveness=lambda: self.workers,
            readiness=Readiness(store, lambda: self.workers, room=0, patience=5.0, every=0.0).ask,
            metrics=lambda: b"waypost_up 1\n",
        )
        self.app = app_of(self.backend)
        self.admin = Caller(self.app, ADMIN_KEY)
        self.acme = Caller(self.app, self.access.mint("acme"))
        self.zeta = Caller(self.app, self.access.mint("zeta"))
        self.nobody = Caller(self.app, None)
        self._sequence = clock.Sequence(node=2, clock=lambda: self.now)

    # a deliverer that delivers nothing

    def admit(self, event: Event, matched: Sequence[Destination]) -> Micros | None:
        return None

    def decline(self, event: Event, matched: Sequence[Destination]) -> None:
        raise AssertionError("nothing was admitted")

    def take(self, event: Event, matched: Sequence[Destination], lease_until: Micros, *, stale: bool) -> None:
        raise AssertionError("nothing was admitted")

    def ring(self, destination_no: int, due: Micros) -> None:
        self.rung.append(destination_no)

    def watched(self, event_seq: int) -> AbstractContextManager[Sequence[Unavailable]]:
        return nullcontext(())

    def next_seq(self) -> int:
        return self._sequence.next()

    async def populate(self) -> None:
        for tenant_id in ("acme", "zeta"):
            await self.manager.put_tenant(tenant_id)

    async def destination(self, tenant_id: str = "acme", **changes: Any) -> Destination:
        return await self.manager.create(tenant_id, letterbox(**changes), by=builders.OPERATOR)

    async def event(self, *matched: Destination, tenant_id: str = "acme", **changes: Any) -> Event:
        """An accepted event; each one happens a second after the one before."""
        self.now += SECOND
        seq = self._sequence.next()
        made = structs.replace(
            Event(seq=seq, id=f"evt_{seq}", tenant_id=tenant_id, topic="order.created", time=self.now, data=b"{}"),
            **changes,
        )
        await self.store.accept(builders.publication(made, *matched))
        return made

    async def attempt(
        self, event: Event, to: Destination, *, number: int = 1, manual: bool = False, **outcome: Any
    ) -> int:
        """A recorded attempt; its number in time."""
        self.now += SECOND
        delivery = builders.delivery(event, to, attempt=number, manual=manual)
        came = builders.outcome(**{"started_at": self.now} | outcome)
        result = structs.replace(builders.result(delivery, came), seq=self._sequence.next(), destination_type=to.type)
        assert await self.store.record(result)
        return result.seq


def error(response: httpx.Response) -> tuple[int, str, Any]:
    """The parts of an error, whose shape is checked."""
    body = msgspec.json.decode(response.content)
    assert set(body) in ({"status", "message"}, {"status", "message", "data"}), body
    assert body["status"] == response.status_code
    assert response.headers["content-type"] == "application/json"
    return body["status"], body["message"], body.get("data")
