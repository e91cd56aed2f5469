"""The composition root: settings in, a running Waypost out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Protocol

from waypost.api.app import create_app
from waypost.api.backend import Backend
from waypost.api.publish import Limits, PublishEndpoint, Receive, Scope, Send
from waypost.connect.registry import Channels, Registry
from waypost.connect.relay import channel_types
from waypost.core.errors import SettingsError, Unavailable
from waypost.flow import clock
from waypost.flow.access import PUBLISH, Access, require
from waypost.flow.aftermath import Aftermath
from waypost.flow.alerting import Alerting
from waypost.flow.attempt import Attempts
from waypost.flow.background import Background
from waypost.flow.catalogue import Catalogue
from waypost.flow.deliver import Dispatcher
from waypost.flow.deliveries import Canceller
from waypost.flow.directory import Directory
from waypost.flow.errands import Errands
from waypost.flow.expunge import Expunger
from waypost.flow.indexing import Indexer
from waypost.flow.live import Live
from waypost.flow.manage import Manager
from waypost.flow.metering import Metering
from waypost.flow.notices import Writer
from waypost.flow.notify import Notifier, Senders
from waypost.flow.probe import Prober
from waypost.flow.publish import Publisher
from waypost.flow.quotas import Quotas
from waypost.flow.readiness import Readiness
from waypost.flow.replay import Replayer
from waypost.flow.replay_runner import ReplayRunner
from waypost.flow.replays import Planner, Replays
from waypost.flow.retention import Janitor
from waypost.flow.skips import SkipCounts
from waypost.flow.trouble import Trouble
from waypost.front.server import Server, http_server
from waypost.machine import give_memory_back, raise_descriptor_limit, say_if_scarce, settle_down
from waypost.net.resolve import GuardedResolver
from waypost.observe import ending
from waypost.observe.logs import Journal
from waypost.observe.metrics import Metrics, NullMetrics, PrometheusMetrics
from waypost.observe.telemetry import telemetry_of
from waypost.parts import (
    alert_rules_of,
    api_key_of,
    bounds_of,
    effort_of,
    filter_limits_of,
    front_limits_of,
    jwt_secret_of,
    keeping_of,
    lifetimes_of,
    log_lifetimes_of,
    metadata_limits_of,
    metering_bounds_of,
    overrides_of,
    pace_of,
    permits_of,
    quotas_of,
    replay_limits_of,
    retry_policy_of,
    stream_bounds_of,
    telemetry_options_of,
    time_of,
    tools_of,
    trouble_bounds_of,
    vault_of,
)
from waypost.settings import Settings
from waypost.stopping import Stopping
from waypost.store.sqlite import SqliteStore

_LOOK_EVERY = 1.0
_ENDS_WITHIN = 5.0
"""Seconds that a part may take to end, beside the time that attempts under way get."""


class _Part(Protocol):
    async def start(self) -> None: ...

    async def close(self) -> None: ...


class Service:
    """Everything that runs in one process, wired together. `running()` starts and ends it."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self.settings = settings
        self.registry = Registry.discover()
        channels = channel_types(Channels.discover(), self.registry)
        counted = settings.metrics or settings.otel_endpoint is not None
        self.metrics: Metrics = PrometheusMetrics(channel_types=channels) if counted else NullMetrics()
        self.telemetry = telemetry_of(telemetry_options_of(settings), journal, self.metrics)
        tracer, journal = self.telemetry.tracer, self.telemetry.journal
        self.trouble = Trouble(self.metrics, trouble_bounds_of(settings))
        self.time = time_of(settings)
        self.metrics.watch_clock(lambda: self.time.ahead)
        vault, rules = vault_of(settings, channels), alert_rules_of(settings)
        sequence = clock.Sequence()
        self.store = SqliteStore(
            settings.sqlite_path,
            vault,
            clock=clock.now,
            next_seq=clock.Sequence().next,
            busy_timeout=settings.database_busy_timeout,
            rules=rules,
            observer=self.trouble,
            search=settings.search,
            keeping=keeping_of(settings),
        )
        self.metrics.watch_disk(self.store.free)
        self.tools = tools_of(settings)
        for kind in channels.values():
            kind.check_options(self.tools.options)
        writer = Writer(
            self.registry,
            public_url=settings.public_url,
            deployment_id=settings.deployment_id,
            templates=settings.alert_templates,
        )
        permits = permits_of(settings, channels, vault)
        senders = Senders(channels, self.tools, timeout=settings.alert_timeout, permits=permits)
        self.notifier = Notifier(self.store, senders, writer, self.metrics, effort=effort_of(settings))
        self.trouble.attach(self.store, senders, writer, rules)
        attempts = Attempts(
            registry=self.registry,
            tools=self.tools,
            policy=retry_policy_of(settings),
            sequence=sequence,
            timeout=settings.delivery_timeout,
            tracer=tracer,
            keeping=keeping_of(settings),
            template_steps=settings.template_max_steps,
        )
        self.live = Live(stream_bounds_of(settings), self.metrics)
        aftermath = Aftermath(self.store, self.notifier, self.metrics, self._changed)
        self.dispatcher = Dispatcher(
            self.store, attempts, self.metrics, journal, bounds=bounds_of(settings), listener=aftermath, live=self.live
        )
        self.directory = Directory(self.store, filter_limits_of(settings))
        self.skips = SkipCounts(self.store)
        self.metering = Metering(self.store, metering_bounds_of(settings), self.time.now)
        publisher = Publisher(
            self.store,
            self.directory,
            self.dispatcher,
            self.metrics,
            journal,
            tracer,
            skipped=self.skips.note,
            live=self.live,
        )
        self.catalogue = Catalogue(
            self.store,
            now=clock.now,
            fixed=settings.topics,
            validation=settings.topic_validation,
            flagged=self.metrics.flagged,
        )
        self.manager = Manager(
            self.store,
            self.registry,
            self.tools,
            topics=lambda: self.catalogue.names,
            max_destinations=settings.max_destinations_per_tenant,
            changed=self._changed,
            deleted=self._deleted,
            now=clock.now,
            limits=metadata_limits_of(settings),
            filter_limits=filter_limits_of(settings),
            override_bounds=overrides_of(settings),
            largest=settings.tenant_config_max_bytes,
        )
        self.access = Access(
            self.store,
            jwt_secret=(jwt_secret_of(settings) or vault.derive("tenant tokens")).encode(),
            jwt_lifetime=settings.jwt_lifetime,
            jwt_max_lifetime=settings.jwt_max_lifetime,
            now=clock.now,
            forgetting=self.time.now,
            fixed_key=api_key_of(settings),
        )
        replay_limits = replay_limits_of(settings)
        self.replayer = Replayer(self.store, self.dispatcher.ask, self.dispatcher.ring, limits=replay_limits)
        planner = Planner(self.store, self.directory, replay_limits)
        self.replay_runner = ReplayRunner(self.store, planner, self.dispatcher, pace_of(settings), self.metrics)
        self.janitor = Janitor(
            self.store,
            self.metrics,
            default=lifetimes_of(settings),
            logs=log_lifetimes_of(settings),
            share=settings.retention_share,
            interval=settings.retention_interval,
            now=self.time.now,
        )
        self.indexer = Indexer(self.store, self.metrics, share=settings.search_share)
        self.expunger = Expunger(self.store, self.dispatcher.drop, share=settings.retention_share)
        alerting = Alerting(
            self.store,
            channels,
            self.tools,
            defaults=rules,
            max_channels=settings.alert_max_channels,
            changed=self._alerting_changed,
            now=clock.now,
            permits=permits,
            largest=settings.tenant_config_max_bytes,
        )
        self.prober = Prober(
            self.store, self.registry, self.tools, self.dispatcher, sequence.next, timeout=settings.delivery_timeout
        )
        self._loops: tuple[Background, ...] = (
            self.access.background,
            self.skips.background,
            self.metering.background,
            self.notifier.background,
            self.dispatcher.sweeping,
            self.replay_runner.background,
            self.janitor.background,
            self.indexer.background,
            self.expunger.background,
        )
        readiness = Readiness(
            self.store,
            lambda: {**self.health(), "store": not self.trouble.ill},
            room=settings.publish_max_bytes,
            patience=settings.readiness_timeout,
        )
        self._publish = PublishEndpoint(
            publisher,
            authorise=self._authorise_publishing,
            key_of=self.store.key_of,
            next_seq=sequence.next,
            catalogue=lambda: self.catalogue.known,
            check=self.catalogue.check,
            limits=Limits(
                event_bytes=settings.publish_max_bytes,
                batch_events=settings.publish_batch_max_events,
                batch_bytes=settings.publish_batch_max_bytes,
                metadata=metadata_limits_of(settings),
            ),
            refused=self.metrics.refused,
            tracer=tracer,
        )
        self._publish_paths = self._publish.paths
        self._management = create_app(
            Backend(
                settings=settings,
                store=self.store,
                manager=self.manager,
                catalogue=self.catalogue,
                skips=self.skips,
                access=self.access,
                quotas=Quotas(quotas_of(settings)),
                registry=self.registry,
                retry=self.replayer.retry,
                probe=self.prober,
                recover=self.replayer.recover,
                cancel=Canceller(self.store, self.dispatcher.withdraw).cancel,
                replays=Replays(
                    self.store,
                    planner,
                    limits=replay_limits,
                    next_seq=sequence.next,
                    now=clock.now,
                    wake=self.replay_runner.wake,
                ),
                alerting=alerting,
                metering=self.metering,
                live=self.live,
                janitor=self.janitor,
                expunger=self.expunger,
                writer=writer,
                errands=Errands(self.store, senders, writer, next_seq=sequence.next, now=clock.now),
                health=self.health,
                liveness=self.liveness,
                readiness=readiness.ask,
                metrics=self.metrics.exposition,
            )
        )

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application: publishing beside the management API, without its framework."""
        if scope["type"] == "http" and scope["raw_path"] in self._publish_paths:
            await self._publish(scope, receive, send)
        else:
            await self._management(scope, receive, send)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        """Started, and at the end closed in the order in which nothing is lost."""
        async with contextlib.AsyncExitStack() as stack:

            def at_the_end(who: str, close: Callable[[], Awaitable[object]]) -> None:
                seconds = self.settings.shutdown_timeout + _ENDS_WITHIN
                stack.push_async_callback(lambda: ending.within(seconds, who, close()))

            at_the_end("telemetry", lambda: asyncio.to_thread(self.telemetry.close))
            await self.store.open()
            at_the_end("store", self.store.close)
            await self.tools.http.start()
            at_the_end("http", self.tools.http.close)
            if isinstance(self.tools.resolver, GuardedResolver):
                at_the_end("names", self.tools.resolver.close)
            await self.access.refresh()
            await self.catalogue.refresh()
            at_the_end("skips", self._flush_skips)
            self.time.learn(await self.store.retention.known())
            parts: dict[str, _Part] = {
                "keys": self.access.background,
                "skipped": self.skips.background,
                "rollups": self.metering.background,
                "trouble": self.trouble,
                "notifier": self.notifier,
                "dispatcher": self.dispatcher,
                "replays": self.replay_runner,
                "retention": self.janitor,
                "indexer": self.indexer,
                "expunger": self.expunger,
            }
            for who, part in parts.items():
                await part.start()
                at_the_end(who, part.close)
            stack.callback(self.live.close)
            yield self

    async def _flush_skips(self) -> None:
        with contextlib.suppress(Unavailable):
            await self.skips.flush()

    def liveness(self) -> dict[str, bool]:
        """Which of the process's workers are at work. A restart helps those that are not."""
        loops = {loop.name: loop.well for loop in self._loops}
        return {"http-server": True, "store-writer": self.store.alive, "dispatcher": self.dispatcher.delivering} | loops

    def health(self) -> dict[str, bool]:
        """Which of the process's workers are well: at work, and able to do it."""
        return self.liveness() | {"store-writer": self.store.writing, "store": not self.trouble.lasts}

    def _changed(self, tenant_id: str, destination_no: int | None) -> None:
        self.directory.forget(tenant_id)
        self.dispatcher.changed(tenant_id, destination_no)
        self.notifier.ring()  # a change of subscriptions may be news

    def _alerting_changed(self) -> None:
        self.trouble.relearn()
        self.notifier.ring()

    def _deleted(self, tenant_id: str) -> None:
        self.access.forget_tenant(tenant_id)
        self.live.end(tenant_id)

    def _authorise_publishing(self, authorization: bytes | None) -> str | None:
        identity = self.access.identify(authorization)
        require(identity, PUBLISH)
        return identity.tenant_id


async def serve(
    settings: Settings, journal: Journal, ready: Callable[[Service, str, str | None], None], stopping: Stopping
) -> None:
    """Run until it is to stop. `ready` hears the service, its URL and the first admin key, if one was made now.

    Raises SettingsError when it cannot start.
    """
    give_memory_back()
    say_if_scarce(raise_descriptor_limit(), settings)
    service = Service(settings, journal)
    listening = _listen(settings)
    with contextlib.closing(listening):
        async with service.running():
            first_key = await service.access.ensure_key()
            server = Server(http_server(service.app, settings.trusted_proxies, front_limits_of(settings)))
            loop = asyncio.get_running_loop()
            stopping.by(partial(loop.call_soon_threadsafe, _stop, server, service))
            watching = Background("watch", partial(_fail_without_a_writer, service, stopping), _LOOK_EVERY)
            await watching.start()
            settle_down()
            ready(service, _url_of(listening), first_key.secret if first_key else None)
            await server.serve(sockets=[listening])
            await watching.close()


def _stop(server: Server, service: Service) -> None:
    server.should_exit = True
    service.live.close()  # the server waits for its answers to end


async def _fail_without_a_writer(service: Service, stopping: Stopping) -> None:
    """Nothing can be accepted or put on record any more: somebody is to start another process."""
    if not service.store.alive:
        stopping.fail("the store's writer has died")


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=4096)
    except OSError as error:
        raise SettingsError(f"cannot listen on {settings.host} port {settings.port}: {error.strerror}") from None


def _url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
