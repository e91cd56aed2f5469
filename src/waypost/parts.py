"""The settings as the parts of Waypost take them. Nothing is started here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from ipaddress import ip_network
from typing import Any

from pydantic import SecretStr

from waypost.connect import fields
from waypost.connect.channel import ChannelType
from waypost.connect.connector import ConnectorType, Tools
from waypost.core.alerts import DEFAULT_SEVERITY, Kind, Rule, Thresholds
from waypost.core.errors import SettingsError
from waypost.core.filters import FilterLimits
from waypost.core.keeping import Keeping
from waypost.core.replaying import Limits
from waypost.core.retention import Kept, Lifetimes
from waypost.core.retry import RetryPolicy
from waypost.core.strength import weakness
from waypost.flow import live, textmaps
from waypost.flow.deliver import Bounds
from waypost.flow.metering import Bounds as MeteringBounds
from waypost.flow.notify import Effort
from waypost.flow.overrides import OverrideBounds
from waypost.flow.permits import Permits
from waypost.flow.places import Patience, Shares
from waypost.flow.plausible import PlausibleTime
from waypost.flow.quotas import Cost, Quota
from waypost.flow.replay_runner import Pace
from waypost.flow.trouble import Bounds as TroubleBounds
from waypost.front.limits import Limits as FrontLimits
from waypost.net import intake
from waypost.net.exchange import HttpSettings
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient
from waypost.net.resolve import GuardedResolver, Resolver, SystemResolver
from waypost.net.shares import Places
from waypost.observe.telemetry import Options as TelemetryOptions
from waypost.settings import PREFIX, Settings
from waypost.store.retention import Log
from waypost.store.vault import Vault, key_beside, parse_key


def filter_limits_of(settings: Settings) -> FilterLimits:
    return FilterLimits(**{name: getattr(settings, f"filter_{name}") for name in FilterLimits.__struct_fields__})


def metadata_limits_of(settings: Settings) -> textmaps.Limits:
    return textmaps.Limits(
        entries=settings.metadata_max_entries,
        key_length=settings.metadata_max_key_length,
        value_length=settings.metadata_max_value_length,
    )


def front_limits_of(settings: Settings) -> FrontLimits:
    return FrontLimits(
        head_bytes=settings.request_head_max_bytes,
        line_bytes=settings.request_line_max_bytes,
        headers=settings.request_max_headers,
        head_timeout=settings.request_head_timeout,
        body_bytes=settings.request_max_bytes,
        bodies={
            b"/api/v1/publish": settings.publish_max_bytes,
            b"/api/v1/publish/batch": settings.publish_batch_max_bytes,
        },
        body_rate=settings.request_body_min_rate,
        body_grace=settings.request_body_grace,
        memory=settings.request_memory,
        memory_per_address=settings.request_memory_per_address,
        pipelined=settings.request_max_pipelined,
        answer_timeout=settings.answer_timeout,
        answer_memory=settings.answer_memory,
        idle_timeout=settings.keep_alive_timeout,
        connections=settings.max_connections,
        connections_per_address=settings.max_connections_per_address,
    )


def vault_of(settings: Settings, types: Mapping[str, ConnectorType] | None = None) -> Vault:
    """The vault with the settings' keys, or with the key file beside the database. Raises SettingsError.

    `types` are the destination and channel types, whose fields say what in a config is sealed.
    """
    first = settings.encryption_key
    current = parse_key(first.get_secret_value()) if first else key_beside(settings.sqlite_path)
    keys = [current, *(parse_key(key.get_secret_value()) for key in settings.encryption_old_keys)]
    return Vault(keys, {name: fields.secret_keys(kind.config_fields) for name, kind in (types or {}).items()})


def keeping_of(settings: Settings) -> Keeping:
    return Keeping(
        headers=settings.record_max_header_bytes,
        exchange=max(settings.record_max_bytes, settings.webhook_response_max_bytes),
        delivery=settings.record_max_delivery_bytes,
        detail=settings.record_max_detail,
    )


def quotas_of(settings: Settings) -> Mapping[Cost, Quota]:
    """Streams that are open are counted where they listen."""
    return {
        cost: Quota(
            rate=getattr(settings, f"tenant_{cost}_rate"),
            burst=getattr(settings, f"tenant_{cost}_burst"),
            at_once=None if cost is Cost.STREAM else getattr(settings, f"tenant_{cost}_at_once"),
        )
        for cost in Cost
    }


def overrides_of(settings: Settings) -> OverrideBounds:
    return OverrideBounds(
        retries=settings.tenant_retry_limit,
        shortest_wait=settings.tenant_retry_min_wait,
        longest_wait=settings.tenant_retry_max_wait,
    )


def api_key_of(settings: Settings) -> str | None:
    """The fixed admin key. Raises SettingsError for one that is easily guessed."""
    return _strong("api_key", settings.api_key, least_bytes=16)


def jwt_secret_of(settings: Settings) -> str | None:
    """What tokens are signed with, if the settings say. Raises SettingsError for one that is easily guessed."""
    return _strong("jwt_secret", settings.jwt_secret, least_bytes=32)


def _strong(name: str, value: SecretStr | None, *, least_bytes: int) -> str | None:
    secret = None if value is None else value.get_secret_value()
    fault = None if secret is None else weakness(secret, least_bytes=least_bytes)
    if fault is not None:
        raise SettingsError(
            f"{name} ({PREFIX}{name.upper()}) {fault} and can be guessed: make one of chance, for example with"
            " `openssl rand -base64 32`"
        )
    return secret


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


def telemetry_options_of(settings: Settings) -> TelemetryOptions:
    named = ("endpoint", "service_name", "traces", "metrics", "logs", "sample_ratio")
    return TelemetryOptions(
        **{name: getattr(settings, f"otel_{name}") for name in named},
        headers={name: value.get_secret_value() for name, value in settings.otel_headers.items()},
        forward=settings.webhook_traceparent,
    )


def effort_of(settings: Settings) -> Effort:
    policy = RetryPolicy(
        limit=settings.alert_retry_limit,
        base_seconds=settings.alert_retry_base,
        factor=2.0,
        max_wait_seconds=settings.alert_retry_max_wait,
    )
    return Effort(policy=policy, timeout=settings.alert_timeout)


def permits_of(settings: Settings, types: Mapping[str, ChannelType], vault: Vault) -> Permits:
    """Raises SettingsError for a type that there is not."""
    unknown = set(settings.alert_tenant_channels) - set(types)
    if unknown:
        raise SettingsError(f"alert_tenant_channels: there is no alert channel {min(unknown)}")
    return Permits(
        types=types,
        allowed=frozenset(settings.alert_tenant_channels),
        per_hour=settings.alert_tenant_messages,
        secret=vault.derive("codes that confirm addresses").encode(),
    )


def replay_limits_of(settings: Settings) -> Limits:
    return Limits(
        per_event=settings.replay_max_per_event,
        per_hour=settings.replay_max_per_hour,
        events=settings.replay_max_events,
        running=settings.replay_max_running,
    )


def pace_of(settings: Settings) -> Pace:
    return Pace(rate=settings.replay_rate, outstanding=settings.replay_max_outstanding)


def bounds_of(settings: Settings) -> Bounds:
    return Bounds(
        concurrency=settings.delivery_concurrency,
        concurrency_per_destination=settings.delivery_concurrency_per_destination,
        concurrency_per_tenant=settings.delivery_concurrency_per_tenant,
        sockets=settings.delivery_sockets,
        first_width=settings.delivery_first_width,
        shares=Shares(
            kept=settings.delivery_share_kept,
            new=settings.delivery_share_new,
            slow=settings.delivery_share_slow,
            hanging=settings.delivery_share_hanging,
        ),
        patience=Patience(quick=settings.delivery_patience, long=settings.delivery_long_answer),
        queue=settings.delivery_queue,
        queue_per_destination=settings.delivery_queue_per_destination,
        memory=settings.delivery_memory_bytes,
        largest_event=settings.publish_max_bytes,
        lease=settings.delivery_lease,
        sweep_interval=settings.sweep_interval,
        shutdown=settings.shutdown_timeout,
    )


def trouble_bounds_of(settings: Settings) -> TroubleBounds:
    return TroubleBounds(
        percent=settings.alert_store_trouble_percent,
        window=settings.alert_store_trouble_window,
        room=settings.publish_max_bytes,
        log_bytes=settings.database_log_max_bytes,
    )


def time_of(settings: Settings) -> PlausibleTime:
    return PlausibleTime(jump=settings.retention_clock_jump, patience=settings.retention_clock_patience)


def metering_bounds_of(settings: Settings) -> MeteringBounds:
    return MeteringBounds(
        row_limit=settings.metrics_row_limit,
        scan_limit=settings.metrics_scan_limit,
        interval=settings.metrics_fold_interval,
        minutes_kept=settings.metrics_minutes_kept,
        hours_kept=settings.metrics_hours_kept,
        days_kept=settings.metrics_days_kept,
    )


def lifetimes_of(settings: Settings) -> Lifetimes:
    return Lifetimes(**{kind: getattr(settings, f"retention_{kind}") for kind in Kept})


def log_lifetimes_of(settings: Settings) -> dict[Log, int]:
    return {log: getattr(settings, f"retention_{log}") for log in Log}


def stream_bounds_of(settings: Settings) -> live.Bounds:
    return live.Bounds(
        listeners=settings.stream_max_listeners,
        listeners_per_tenant=settings.stream_max_listeners_per_tenant,
        queue=settings.stream_queue,
        memory=settings.stream_memory,
        batch_bytes=settings.stream_batch_bytes,
        reach=settings.stream_reach,
        longest_attempt=settings.delivery_timeout,
    )


def names_of(settings: Settings) -> Resolver:
    """c-ares; where there is none for the platform, the system's resolver in threads."""
    try:
        cares = import_module("waypost.net.cares")
    except ImportError:
        return SystemResolver(timeout=settings.dns_timeout)
    made: Resolver = cares.CaresResolver(timeout=settings.dns_timeout, servers=settings.dns_servers)
    return made


def tools_of(settings: Settings) -> Tools:
    guard = AddressGuard(
        [ip_network(network) for network in settings.webhook_allowed_networks],
        enabled=settings.webhook_address_guard,
        denied_networks=[ip_network(network) for network in settings.webhook_denied_networks],
    )
    resolver = GuardedResolver(
        names_of(settings),
        guard,
        ttl=settings.dns_ttl,
        stale=settings.dns_stale,
        places=Places(
            all=settings.dns_lookups, tenant=settings.dns_lookups_per_tenant, domain=settings.dns_lookups_per_domain
        ),
        patience=settings.dns_timeout,
    )
    http = HttpSettings(
        connect_timeout=settings.webhook_connect_timeout,
        first_byte_timeout=settings.webhook_timeout,
        total_timeout=settings.webhook_timeout,
        body_cap=settings.webhook_response_max_bytes,
        request_header_cap=settings.webhook_max_header_bytes,
        user_agent=settings.webhook_user_agent,
        http2=settings.webhook_http2,
        proxy=settings.webhook_proxy.get_secret_value() if settings.webhook_proxy else None,
        proxy_guards=settings.webhook_proxy_guards,
        pool_size=settings.webhook_keep_alive,
        ca_bundle=str(settings.webhook_ca_file) if settings.webhook_ca_file else None,
    )
    return Tools(
        http=HttpClient(http, resolver, guard),
        guard=guard,
        resolver=resolver,
        options=destination_options(settings),
        bounds=intake.Bounds(
            frame=settings.broker_frame_max_bytes,
            unasked=settings.broker_unasked_messages,
            turn=settings.broker_turn_messages,
            rounds=settings.broker_sign_in_rounds,
        ),
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
    "webhook_traceparent",
)


def destination_options(settings: Settings) -> dict[str, Any]:
    """What destination types and alert channels may know of the settings, by `<type>_<name>`.

    What is not set is left to the type.
    """
    chosen = {name: getattr(settings, name) for name in _WEBHOOK_OPTIONS}
    plain = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else value for name, value in chosen.items()
    }
    plain["email_server"] = settings.smtp_url.get_secret_value() if settings.smtp_url else None
    plain["email_from"] = settings.smtp_from
    named = {name: value for name, value in plain.items() if value is not None}
    return settings.destination_options | settings.alert_options | named
