"""The composition root: settings in, a running Waypost out."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from ipaddress import ip_network
from typing import Any

import uvicorn
from pydantic import SecretStr

from waypost.api.app import create_app
from waypost.api.backend import Backend
from waypost.api.publish import Limits, PublishEndpoint, Receive, Scope, Send
from waypost.connect.connector import Tools
from waypost.connect.registry import Channels, Registry
from waypost.connect.relay import channel_types
from waypost.core.alerts import DEFAULT_SEVERITY, Kind, Rule, Thresholds
from waypost.core.errors import Forbidden, SettingsError
from waypost.core.filters import FilterLimits
from waypost.core.retry import RetryPolicy
from waypost.flow import clock, textmaps
from waypost.flow.access import Access, Admin
from waypost.flow.aftermath import Aftermath
from waypost.flow.alerting import Alerting
from waypost.flow.attempt import Attempts
from waypost.flow.catalogue import Catalogue
from waypost.flow.deliver import Bounds, Dispatcher
from waypost.flow.directory import Directory
from waypost.flow.manage import Manager
from waypost.flow.notices import Writer
from waypost.flow.notify import Effort, Notifier, Senders
from waypost.flow.probe import Prober
from waypost.flow.publish import Publisher
from waypost.flow.replay import Replayer
from waypost.flow.trouble import Trouble
from waypost.net.exchange import HttpSettings
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient
from waypost.net.resolve import GuardedResolver, SystemResolver
from waypost.observe.logs import Journal
from waypost.observe.metrics import Metrics, NullMetrics, PrometheusMetrics
from waypost.settings import Settings
from waypost.store.sqlite import SqliteStore
from waypost.store.vault import Vault, key_beside, parse_key

_SWITCH_INTERVAL = 0.001


class Service:
    """Everything that runs in one process, wired together. `running()` starts and ends it."""

    def __init__(self, settings: Settings, journal: Journal) -> None:
        self.settings = settings
        self.registry = Registry.discover()
        channels = channel_types(Channels.discover(), self.registry)
        self.metrics: Metrics = PrometheusMetrics(channel_types=channels) if settings.metrics else NullMetrics()
        self.trouble = Trouble(self.metrics)
        vault, rules = vault_of(settings), alert_rules_of(settings)
        sequence = clock.Sequence()
        self.store = SqliteStore(
            settings.sqlite_path,
            vault,
            clock=clock.now,
            next_seq=clock.Sequence().next,
            busy_timeout=settings.database_busy_timeout,
            rules=rules,
            observer=self.trouble,
        )
        self.tools = tools_of(settings)
        for kind in channels.values():
            kind.check_options(self.tools.options)
        writer = Writer(
            self.registry,
            public_url=settings.public_url,
            deployment_id=settings.deployment_id,
            templates=settings.alert_templates,
        )
        senders = Senders(channels, self.tools, timeout=settings.alert_timeout)
        self.notifier = Notifier(self.store, senders, writer, self.metrics, effort=effort_of(settings))
        self.trouble.attach(self.store, senders, writer, rules)
        attempts = Attempts(
            registry=self.registry,
            tools=self.tools,
            policy=retry_policy_of(settings),
            sequence=sequence,
            timeout=settings.delivery_timeout,
        )
        aftermath = Aftermath(self.store, self.notifier, self.metrics, self._changed)
        self.dispatcher = Dispatcher(
            self.store, attempts, self.metrics, journal, bounds=bounds_of(settings), listener=aftermath
        )
        self.directory = Directory(self.store, filter_limits_of(settings))
        publisher = Publisher(self.store, self.directory, self.dispatcher, self.metrics, journal)
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
            now=clock.now,
            limits=metadata_limits_of(settings),
            filter_limits=filter_limits_of(settings),
        )
        jwt_secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else vault.derive("tenant tokens")
        self.access = Access(
            self.store,
            jwt_secret=jwt_secret.encode(),
            jwt_lifetime=settings.jwt_lifetime,
            now=clock.now,
            fixed_key=settings.api_key.get_secret_value() if settings.api_key else None,
        )
        self.replayer = Replayer(self.store, self.dispatcher.ask, self.dispatcher.ring)
        alerting = Alerting(
            self.store,
            channels,
            self.tools,
            defaults=rules,
            max_channels=settings.alert_max_channels,
            changed=self._alerting_changed,
            now=clock.now,
        )
        self.prober = Prober(
            self.store, self.registry, self.tools, self.dispatcher, sequence.next, timeout=settings.delivery_timeout
        )
        self._publish = PublishEndpoint(
            publisher,
            authorise=self._authorise_admin,
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
        )
        self._publish_paths = self._publish.paths
        self._management = create_app(
            Backend(
                settings=settings,
                store=self.store,
                manager=self.manager,
                catalogue=self.catalogue,
                access=self.access,
                registry=self.registry,
                retry=self.replayer.retry,
                probe=self.prober,
                recover=self.replayer.recover,
                alerting=alerting,
                writer=writer,
                try_channel=lambda channel: senders.try_out(channel, writer.test(sequence.next())),
                health=self.health,
                metrics=self.metrics.exposition,
            )
        )

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application: publishing beside the management API, without its framework."""
        if scope["type"] == "http" and scope["path"] in self._publish_paths:
            await self._publish(scope, receive, send)
        else:
            await self._management(scope, receive, send)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Service]:
        """Started, and at the end closed in the order in which nothing is lost."""
        async with contextlib.AsyncExitStack() as stack:
            await self.store.open()
            stack.push_async_callback(self.store.close)
            await self.tools.http.start()
            stack.push_async_callback(self.tools.http.close)
            await self.access.refresh()
            await self.catalogue.refresh()
            keeping_fresh = asyncio.create_task(self.access.keep_fresh())
            stack.callback(keeping_fresh.cancel)
            await self.trouble.start()
            stack.push_async_callback(self.trouble.close)
            await self.notifier.start()
            stack.push_async_callback(self.notifier.close)
            await self.dispatcher.start()
            stack.push_async_callback(self.dispatcher.close)
            yield self

    def health(self) -> dict[str, bool]:
        """Which of the process's workers are well."""
        return {"http-server": True, "store-writer": self.store.writing, "dispatcher": self.dispatcher.delivering}

    def _changed(self, tenant_id: str) -> None:
        self.directory.forget(tenant_id)
        self.dispatcher.changed(tenant_id)
        self.notifier.ring()  # a change of subscriptions may be news

    def _alerting_changed(self) -> None:
        self.trouble.relearn()
        self.notifier.ring()

    def _authorise_admin(self, authorization: bytes | None) -> None:
        if not isinstance(self.access.identify(authorization), Admin):
            raise Forbidden("publishing needs an admin key")


def filter_limits_of(settings: Settings) -> FilterLimits:
    return FilterLimits(**{name: getattr(settings, f"filter_{name}") for name in FilterLimits.__struct_fields__})


def metadata_limits_of(settings: Settings) -> textmaps.Limits:
    return textmaps.Limits(
        entries=settings.metadata_max_entries,
        key_length=settings.metadata_max_key_length,
        value_length=settings.metadata_max_value_length,
    )


def vault_of(settings: Settings) -> Vault:
    """The vault with the settings' keys, or with the key file beside the database. Raises SettingsError."""
    first = settings.encryption_key
    current = parse_key(first.get_secret_value()) if first else key_beside(settings.sqlite_path)
    return Vault([current, *(parse_key(key.get_secret_value()) for key in settings.encryption_old_keys)])


def retry_policy_of(settings: Settings) -> RetryPolicy:
    return RetryPolicy(
        limit=settings.retry_limit,
        base_seconds=settings.retry_base,
        factor=settings.retry_factor,
        max_wait_seconds=settings.retry_max_wait,
        jitter=settings.retry_jitter,
        schedule=settings.retry_schedule,
        retry_on=settings.retry_on,
        retry_codes=settings.retry_codes,
        no_retry_codes=settings.no_retry_codes,
    )


def alert_rules_of(settings: Settings) -> tuple[Rule, ...]:
    """The rules that hold where none is stored; a number of 0 leaves a rule out."""
    limits = {
        Kind.CONSECUTIVE_FAILURES: Thresholds(
            count=settings.alert_consecutive_failures, steps=settings.alert_failure_steps
        ),
        Kind.FAILURE_RATE: Thresholds(
            percent=settings.alert_failure_rate,
            min_count=settings.alert_failure_rate_min_count,
            window_seconds=settings.alert_failure_rate_window,
        ),
        Kind.EXHAUSTED_RETRIES: Thresholds(window_seconds=settings.alert_exhausted_window),
        Kind.DESTINATION_DISABLED: Thresholds(),
        Kind.RECOVERED: Thresholds(),
        Kind.BACKLOG_AGE: Thresholds(age_seconds=settings.alert_backlog_age),
        Kind.STORE_TROUBLE: Thresholds(age_seconds=settings.alert_store_trouble_after),
        Kind.AUTO_DISABLE: Thresholds(
            count=settings.auto_disable_failures,
            failing_seconds=settings.auto_disable_after,
            all_of=not settings.auto_disable_any,
            codes=settings.auto_disable_codes,
            probe_after_seconds=settings.auto_disable_probe_after,
        ),
    }
    off = {
        Kind.CONSECUTIVE_FAILURES: not settings.alert_consecutive_failures,
        Kind.FAILURE_RATE: not settings.alert_failure_rate,
        Kind.EXHAUSTED_RETRIES: not settings.alert_exhausted_window,
        Kind.BACKLOG_AGE: not settings.alert_backlog_age,
        Kind.AUTO_DISABLE: not settings.auto_disable,
    }
    return tuple(
        Rule(no=0, id=kind.value, kind=kind, thresholds=thresholds, severity=DEFAULT_SEVERITY[kind])
        for kind, thresholds in limits.items()
        if not off.get(kind)
    )


def effort_of(settings: Settings) -> Effort:
    policy = RetryPolicy(
        limit=settings.alert_retry_limit,
        base_seconds=settings.alert_retry_base,
        factor=2.0,
        max_wait_seconds=settings.alert_retry_max_wait,
    )
    return Effort(policy=policy, timeout=settings.alert_timeout)


def bounds_of(settings: Settings) -> Bounds:
    return Bounds(
        concurrency=settings.delivery_concurrency,
        concurrency_per_destination=settings.delivery_concurrency_per_destination,
        concurrency_per_tenant=settings.delivery_concurrency_per_tenant,
        queue=settings.delivery_queue,
        queue_per_destination=settings.delivery_queue_per_destination,
        lease=settings.delivery_lease,
        sweep_interval=settings.sweep_interval,
        shutdown=settings.shutdown_timeout,
    )


def tools_of(settings: Settings) -> Tools:
    networks = [ip_network(network) for network in settings.webhook_allowed_networks]
    guard = AddressGuard(networks, enabled=settings.webhook_address_guard)
    resolver = GuardedResolver(SystemResolver(timeout=settings.dns_timeout), guard, ttl=settings.dns_ttl)
    http = HttpSettings(
        connect_timeout=settings.webhook_connect_timeout,
        first_byte_timeout=settings.webhook_timeout,
        total_timeout=settings.webhook_timeout,
        body_cap=settings.webhook_response_max_bytes,
        user_agent=settings.webhook_user_agent,
        http2=settings.webhook_http2,
        proxy=settings.webhook_proxy.get_secret_value() if settings.webhook_proxy else None,
        pool_size=settings.webhook_keep_alive,
        ca_bundle=str(settings.webhook_ca_file) if settings.webhook_ca_file else None,
    )
    return Tools(
        http=HttpClient(http, resolver, guard), guard=guard, resolver=resolver, options=destination_options(settings)
    )


_WEBHOOK_OPTIONS = (
    "webhook_mode",
    "webhook_header_prefix",
    "webhook_headers_omit",
    "webhook_headers_rename",
    "webhook_signature_content",
    "webhook_signature_header",
    "webhook_signature_algorithm",
    "webhook_signature_encoding",
    "webhook_private_key",
    "webhook_secret_overlap",
    "webhook_allow_http",
)


def destination_options(settings: Settings) -> dict[str, Any]:
    """What destination types may know of the settings, by `<type>_<name>`; what is not set is left to the type."""
    chosen = {name: getattr(settings, name) for name in _WEBHOOK_OPTIONS}
    plain = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in chosen.items()
    }
    plain["email_server"] = settings.smtp_url.get_secret_value() if settings.smtp_url else None
    plain["email_from"] = settings.smtp_from
    return (
        settings.destination_options
        | settings.alert_options
        | {name: value for name, value in plain.items() if value is not None}
    )


class _Server(uvicorn.Server):
    """Uvicorn without its signal handling: a second handler of ours would have to undo it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(settings: Settings, journal: Journal, ready: Callable[[Service, str, str | None], None]) -> None:
    """Run until SIGINT or SIGTERM. `ready` hears the service, its URL and the first admin key, if one was made now.

    Raises SettingsError when it cannot start.
    """
    service = Service(settings, journal)
    listening = _listen(settings)
    with contextlib.closing(listening):
        async with service.running():
            first_key = await service.access.ensure_key()
            server = _Server(http_server(service.app))
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, _stop, server)
            settle_down()
            ready(service, _url_of(listening), first_key.secret if first_key else None)
            await server.serve(sockets=[listening])


def http_server(app: Any) -> uvicorn.Config:
    """How HTTP is served: nothing on the way to the application that Waypost does not need.

    Idle connections are kept longer than usual clients and proxies keep them, so that the client closes first and no
    request meets a connection that is just going away.
    """
    return uvicorn.Config(
        app,
        interface="asgi3",
        http="httptools",
        ws="none",
        loop="none",
        lifespan="off",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
        backlog=4096,
    )


def _stop(server: uvicorn.Server) -> None:
    server.should_exit = True


def settle_down() -> None:
    """Let the threads take turns quickly, and keep the garbage collector off what lives as long as the process."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=4096)
    except OSError as error:
        raise SettingsError(f"cannot listen on {settings.host} port {settings.port}: {error.strerror}") from None


def _url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
