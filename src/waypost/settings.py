"""Every setting of Waypost: `WAYPOST_*` environment variables over one TOML file over the defaults here."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from waypost.core.errors import SettingsError
from waypost.spelling import (
    Age,
    Codes,
    Count,
    Names,
    Networks,
    Pairs,
    Part,
    Rate,
    Seconds,
    SecretPairs,
    Secrets,
    Steps,
    Strings,
    Table,
    Topics,
    Waits,
    WebAddress,
    as_toml,
    is_quoted,
)

PREFIX = "WAYPOST_"
CONFIG_FILE_VARIABLE = "WAYPOST_CONFIG"
DEFAULT_CONFIG_FILE = Path("waypost.toml")
_SET_BY_ORCHESTRATORS = ("WAYPOST_SERVICE_", "WAYPOST_PORT_")
_NOT_A_SETTING = frozenset({CONFIG_FILE_VARIABLE, "WAYPOST_URL"})


class Settings(BaseSettings):
    """The effective settings. Durations are in seconds, sizes in bytes."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, validate_default=False)

    # where it listens
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(3333, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    trusted_proxies: Networks = Field(
        (), description="Reverse proxies (csv of CIDRs) whose `X-Forwarded-For` is believed, for the audit log."
    )
    public_url: WebAddress | None = Field(
        None, description="The URL under which browsers reach Waypost (portal links)."
    )

    # requests and connections, whoever they are from
    max_connections: Count = Field(4_096, description="Most connections, and at most half of the descriptor limit.")
    max_connections_per_address: Count = Field(
        256, description="Most of them from one address (IPv6: /64) that has shown no credentials."
    )
    keep_alive_timeout: Seconds = Field(75.0, description="How long a connection may wait for its next request.")
    request_head_max_bytes: Annotated[int, Field(ge=1_024)] = Field(
        65_536, description="Longest head of a request: its line and its headers."
    )
    request_line_max_bytes: Annotated[int, Field(ge=256)] = Field(16_384, description="Longest target of a request.")
    request_max_headers: Annotated[int, Field(ge=8)] = Field(100, description="Most headers of a request.")
    request_head_timeout: Seconds = Field(15.0, description="Longest wait for the head of a request.")
    request_body_grace: Seconds = Field(5.0, description="After this long, a request's body must have come at")
    request_body_min_rate: Count = Field(1_024, description="so many bytes a second on average; and answers must go.")
    request_memory: Count = Field(67_108_864, description="Most bytes of bodies that are being received;")
    request_memory_per_address: Count = Field(33_554_432, description="those from one address.")
    request_max_pipelined: Count = Field(16, description="Most requests of a connection that wait for the first.")
    answer_timeout: Seconds = Field(30.0, description="How long a client may take nothing of its answer.")
    answer_memory: Count = Field(
        134_217_728,
        description="Most bytes of answers that clients have yet to take; the oldest are dropped.",
    )

    # where it keeps its truth
    database_url: str = Field(
        "sqlite:///waypost.db", description="`sqlite:///relative.db` or `sqlite:////absolute.db`."
    )
    database_busy_timeout: Seconds = Field(5.0, description="How long to wait for a locked database file.")
    database_log_max_bytes: Count = Field(
        268_435_456, description="Size of the database's write-ahead log from which the server's log warns of it."
    )
    readiness_timeout: Seconds = Field(2.0, description="How long `/readyz` waits for the database to write something.")
    encryption_key: SecretStr | None = Field(
        None, description="32 bytes in base64; encrypts credentials at rest. Default: a key file beside the database."
    )
    encryption_old_keys: Secrets = Field(
        (), description="Former encryption keys (csv), still able to read what they wrote."
    )

    # who may do what
    api_key: SecretStr | None = Field(
        None, min_length=1, description="A fixed admin key beside the stored ones; at least 16 characters of chance."
    )
    jwt_secret: SecretStr | None = Field(
        None,
        min_length=1,
        description="Signs tenant tokens; at least 32 bytes of chance. Default: derived from the encryption key.",
    )
    jwt_lifetime: Seconds = Field(86_400.0, description="How long a tenant token is valid, unless asked for otherwise.")
    jwt_max_lifetime: Seconds = Field(
        2_592_000.0, description="The longest life of a token that may be asked for; never less than `jwt_lifetime`."
    )

    # what may be published
    topics: Topics = Field((), description="The topic catalogue (csv); empty = any.")
    topic_validation: Literal["off", "warn", "enforce"] = Field(
        "off",
        description="Data that does not fit its topic's JSON Schema: `warn` logs and counts it, `enforce` refuses it.",
    )
    publish_max_bytes: Count = Field(1_048_576, description="Largest publish request, and largest event in a batch.")
    publish_batch_max_events: Count = Field(1_000, description="Most events in one batch.")
    publish_batch_max_bytes: Count = Field(16_777_216, description="Largest batch request.")
    request_max_bytes: Count = Field(1_048_576, description="Largest request to any other route.")
    max_destinations_per_tenant: Count = Field(20, description="Most destinations a tenant may have.")

    metadata_max_entries: Count = Field(100, description="Most entries in a map of metadata.")
    metadata_max_key_length: Count = Field(128, description="Longest key in a map of metadata, in characters.")
    metadata_max_value_length: Count = Field(4_096, description="Longest value in a map of metadata, in characters.")
    filter_max_depth: Count = Field(20, description="Deepest nesting in a filter.")
    filter_max_characters: Count = Field(16_384, description="All keys and texts of a filter together, in characters.")
    filter_max_values: Count = Field(1_000, description="Most objects, lists and scalars in a filter.")
    filter_max_cost: Count = Field(1_000, description="Most that the conditions of a filter may weigh together.")
    filter_max_regex_characters: Count = Field(512, description="Longest regular expression, in characters.")
    filter_max_regex_bytes: Count = Field(1 << 20, description="Most memory of a compiled regular expression.")
    filter_max_alternatives: Count = Field(64, description="What the `$or`s of an EventBridge pattern multiply to.")
    filter_max_steps: Count = Field(
        100_000, description="What all filters of a tenant may spend on one event, in steps of about 0.1 us."
    )
    filter_max_batch_steps: Count = Field(2_000_000, description="The same for all events of a batch together.")
    filter_max_data_values: Count = Field(
        100_000, description="Filters read no data that may hold more values (commas and opening brackets) than this."
    )
    filter_max_destination_cost: Count = Field(4_000, description="`filter_max_cost` for a destination's filters.")
    filter_max_destination_characters: Count = Field(
        65_536, description="`filter_max_characters` for a destination's filters together."
    )
    filter_max_destination_values: Count = Field(
        4_000, description="`filter_max_values` for a destination's filters together."
    )
    template_max_steps: Count = Field(
        20_000, description="What a template of a destination may spend on one event, in steps of about 1 us."
    )
    filter_test_max_events: Count = Field(100, description="Most events that a filter is tried on in one request.")

    # delivery
    delivery_concurrency: Count = Field(
        1_000, description="Most attempts in flight at once, without those that wait long for an answer."
    )
    delivery_concurrency_per_destination: Count = Field(64, description="Most attempts in flight to one destination.")
    delivery_concurrency_per_tenant: Count = Field(
        500, description="Most attempts in flight for one tenant, so that others always find room."
    )
    delivery_patience: Seconds = Field(
        1.0, description="An attempt without an answer for so long gives up its place to another, and costs a socket."
    )
    delivery_sockets: int = Field(
        4_000, ge=0, description="Most attempts that wait so, within half of the descriptors that the process may have."
    )
    delivery_long_answer: Seconds = Field(
        10.0, description="An answer that takes longer narrows its destination, as no answer does."
    )
    delivery_first_width: Count = Field(
        4, description="Attempts in flight to a destination that has answered nothing yet; each quick answer adds one."
    )
    delivery_share_kept: Part = Field(0.1, description="Share of the places kept for tenants with little in flight.")
    delivery_share_new: Part = Field(0.5, description="Most of the places for destinations without an answer yet;")
    delivery_share_slow: Part = Field(0.25, description="for those that take longer than `delivery_patience`;")
    delivery_share_hanging: Part = Field(
        0.0625, description="and for those that do not answer, each of which gets one attempt at a time."
    )
    delivery_queue: Count = Field(20_000, description="Most deliveries held in memory; more wait in the store.")
    delivery_queue_per_destination: Count = Field(2_000, description="The same for one destination.")
    delivery_memory_bytes: Count = Field(
        67_108_864, description="Most bytes of events held in memory for delivery; more wait in the store."
    )
    delivery_timeout: Seconds = Field(60.0, description="Longest attempt to any destination, whatever its type.")
    delivery_lease: Seconds = Field(
        180.0, description="How long a worker owns a delivery; at least twice the longest attempt."
    )
    shutdown_timeout: Seconds = Field(8.0, description="How long a stop waits for attempts under way.")
    shutdown_deadline: Seconds = Field(
        25.0, description="Longest stop as a whole; what has not ended by then is ended by force, with status 70."
    )
    sweep_interval: Seconds = Field(5.0, description="How often the store is searched for forgotten deliveries.")

    # retries: the server's policy, which a destination may override
    retry_limit: int = Field(10, ge=0, description="Most automatic retries after the first attempt.")
    retry_base: Seconds = Field(30.0, description="Wait before the first retry.")
    retry_factor: float = Field(2.0, ge=1, le=100, description="Each further wait is this many times the one before.")
    retry_max_wait: Seconds = Field(86_400.0, description="Longest wait, also for Retry-After.")
    retry_jitter: float = Field(0.1, ge=0, le=1, description="Share of the wait that is added at random, at most.")
    retry_schedule: Waits = Field((), description="Explicit waits (csv of seconds) in place of limit, base and factor.")
    retry_on: Literal["transient", "any"] = Field(
        "transient", description="`transient`: network errors, timeouts, 408, 425, 429, 5xx; `any`: every failure."
    )
    retry_codes: Codes = Field((), description="Further codes worth a retry (csv): `404`, `4xx`, `tls_error`.")
    no_retry_codes: Codes = Field((), description="Codes never worth a retry (csv); wins over the others.")

    # what tenants may ask for, and what is kept of attempts
    tenant_retry_limit: int = Field(
        30, ge=0, le=100, description="Most retries that a tenant may ask for in a `retry_policy`; API keys up to 100."
    )
    tenant_retry_min_wait: float = Field(
        1.0, ge=0.1, le=2_592_000, description="Shortest wait that a tenant may ask for there; API keys from 0.1."
    )
    tenant_retry_max_wait: float = Field(
        604_800.0, ge=0.1, le=2_592_000, description="Longest wait that a tenant may ask for there; API keys 30 days."
    )
    tenant_read_rate: Rate = Field(50.0, description="Requests a second of a tenant's token that read a few rows.")
    tenant_read_burst: Count = Field(200, description="So many of them in a row, when there were few before.")
    tenant_read_at_once: Count = Field(16, description="So many of them being answered at one time.")
    tenant_search_rate: Rate = Field(
        10.0, description="Requests a second of a tenant's token for lists, metrics and trials of filters."
    )
    tenant_search_burst: Count = Field(100, description="So many of them in a row, when there were few before.")
    tenant_search_at_once: Count = Field(4, description="So many of them being answered at one time.")
    tenant_change_rate: Rate = Field(2.0, description="Requests a second of a tenant's token that change something.")
    tenant_change_burst: Count = Field(100, description="So many of them in a row, when there were few before.")
    tenant_change_at_once: Count = Field(8, description="So many of them being answered at one time.")
    tenant_outbound_rate: Rate = Field(
        0.5, description="Requests a second of a tenant's token that have something sent: tests and verifications."
    )
    tenant_outbound_burst: Count = Field(30, description="So many of them in a row, when there were few before.")
    tenant_outbound_at_once: Count = Field(4, description="So many of them being answered at one time.")
    tenant_stream_rate: Rate = Field(1.0, description="Requests a second of a tenant's token to follow the stream.")
    tenant_stream_burst: Count = Field(30, description="So many of them in a row, when there were few before.")
    page_max_bytes: Count = Field(
        16_777_216, description="A page of a list ends at so many bytes, even with fewer items than its `limit`."
    )
    tenant_config_max_bytes: Count = Field(
        262_144, description="Largest destination or alert channel of a tenant, all its parts together as JSON."
    )
    record_max_header_bytes: Count = Field(
        8_192, description="How much of the headers (or metadata) of a request or an answer is kept on an attempt."
    )
    record_max_bytes: Count = Field(
        65_536, description="How much of a request or an answer is kept on an attempt, with headers and body, as JSON."
    )
    record_max_delivery_bytes: Count = Field(
        262_144,
        description="How much the attempts of a delivery keep beyond the first and last; further ones keep code, "
        "timings and sentence.",
    )
    record_max_detail: Count = Field(2_000, description="Longest sentence about a failure, in characters.")

    # sending again by hand
    replay_max_per_event: Count = Field(100, description="Most manual retries of one event.")
    replay_max_per_hour: Count = Field(
        100_000, description="Most events that a tenant may send again with its token within an hour."
    )
    replay_max_events: Count = Field(1_000_000, description="Most events of one replay.")
    replay_max_running: Count = Field(3, description="Most replays of a tenant's token at one time.")
    replay_rate: float = Field(
        400.0, gt=0, le=1_000_000, description="Most deliveries that all replays together make due within a second."
    )
    replay_max_outstanding: Count = Field(64, description="Most deliveries of one replay that wait for their attempt.")

    # webhooks
    webhook_mode: Literal["standard", "default"] = Field(
        "standard",
        description="`standard`: Standard Webhooks headers; `default`: prefixed ones, as Outpost sends them.",
    )
    webhook_header_prefix: str = Field(
        "x-waypost-", pattern=r"^[A-Za-z0-9-]*$", description="Prefix of Waypost's headers."
    )
    webhook_allowed_networks: Networks = Field((), description="Networks (csv of CIDRs) let through the address guard.")
    webhook_denied_networks: Networks = Field(
        (),
        description="Networks (csv of CIDRs) that nothing may reach, whatever else is set: also not mail and alerts.",
    )
    webhook_address_guard: bool = Field(True, description="Refuse private, local and reserved addresses.")
    webhook_secret_overlap: Seconds = Field(86_400.0, description="How long a rotated secret still signs.")
    webhook_headers_omit: Names = Field(
        (), description="Waypost's headers to leave out (csv): `topic`, `timestamp` ..."
    )
    webhook_headers_rename: Pairs = Field({}, description="Other names for Waypost's headers (csv of `topic=x-topic`).")
    webhook_signature_content: str | None = Field(
        None, description="Mode `default`: what is signed, a template; default `{body}`."
    )
    webhook_signature_header: str | None = Field(
        None, description="Mode `default`: how the signature header reads, a template; default `v0={signatures}`."
    )
    webhook_signature_algorithm: str | None = Field(
        None, description="Mode `default`: `hmac-sha256` or another that the webhook docs name."
    )
    webhook_signature_encoding: str | None = Field(None, description="Mode `default`: `hex` or `base64`.")
    webhook_private_key: SecretStr | None = Field(
        None, description="Mode `standard`: an ed25519 key (`whsk_...`) that signs beside the destination's secret."
    )
    webhook_allow_http: bool = Field(True, description="Permit webhook URLs without TLS.")
    webhook_proxy: SecretStr | None = Field(
        None, description="Forward proxy for webhooks: `http://user:pass@host:port`."
    )
    webhook_proxy_guards: bool = Field(
        False,
        description="The proxy looks names up and decides what may be reached; else it gets checked addresses only.",
    )
    webhook_ca_file: Path | None = Field(None, description="Further CA certificates (PEM) for webhook receivers.")
    webhook_connect_timeout: Seconds = Field(5.0, description="Longest wait for a connection, TLS included.")
    webhook_timeout: Seconds = Field(30.0, description="Longest attempt as a whole.")
    webhook_response_max_bytes: Count = Field(16_384, description="How much of a response body is kept.")
    webhook_max_header_bytes: Count = Field(
        16_384, description="Most bytes of headers in a request: custom headers, metadata and Waypost's own."
    )
    webhook_traceparent: bool = Field(False, description="Send `traceparent`, so that a receiver can join the trace.")
    webhook_http2: bool = Field(True, description="Offer HTTP/2 to https receivers.")
    webhook_user_agent: str = Field("waypost", min_length=1, description="User-Agent of webhooks.")
    webhook_keep_alive: Count = Field(1_000, description="Most idle connections kept open.")
    broker_frame_max_bytes: int = Field(
        262_144, ge=16_384, description="Largest message that is read from a broker, and all that it may say unasked."
    )
    broker_unasked_messages: Count = Field(
        1_000, description="Most messages a minute from a broker that nobody awaits."
    )
    broker_turn_messages: Count = Field(64, description="Messages of a broker read in a row before others have a turn.")
    broker_sign_in_rounds: Count = Field(
        200_000, description="Most rounds of hashing that a broker may demand (SCRAM)."
    )
    dns_ttl: Seconds = Field(30.0, description="How long a looked-up address is used.")
    dns_timeout: Seconds = Field(5.0, description="Longest wait for a name, and for a place to look it up.")
    dns_stale: Age = Field(86_400, description="How long an old address stands in while a name cannot be looked up.")
    dns_lookups: Count = Field(512, description="Most names that are looked up at once.")
    dns_lookups_per_tenant: Count = Field(32, description="The same for the names of one tenant.")
    dns_lookups_per_domain: Count = Field(
        16, description="The same for the names under one domain (its last two labels)."
    )
    dns_servers: Strings = Field((), description="Name servers (csv of `address:port`); empty = those of the system.")

    destination_options: Table = Field(
        {}, description="Options of other destination types by `<type>_<name>`: a TOML table, or JSON."
    )

    # alerts: the rules that hold where none is stored, and how channels are told
    alert_consecutive_failures: int = Field(
        100, ge=0, description="Alert when a destination fails this often in a row; 0 = never."
    )
    alert_failure_steps: Steps = Field(
        (50, 70, 90, 100), min_length=1, description="At which percentages of that number (csv), growing."
    )
    alert_failure_rate: float = Field(
        50.0, ge=0, le=100, description="Alert at this percentage of failures; 0 = never."
    )
    alert_failure_rate_window: Seconds = Field(600.0, le=86_400, description="Within this time.")
    alert_failure_rate_min_count: Count = Field(50, description="And at least this many attempts.")
    alert_exhausted_window: float = Field(
        3_600.0, ge=0, le=86_400, description="After a given-up delivery alert once in this time; 0 = never."
    )
    alert_backlog_age: float = Field(
        300.0, ge=0, description="Alert when the oldest due delivery waits this long; 0 = never."
    )
    alert_store_trouble_after: Seconds = Field(10.0, description="Alert when the database fails for this long:")
    alert_store_trouble_percent: float = Field(
        10.0, gt=0, le=100, description="when at least this percentage of a kind of its work fails"
    )
    alert_store_trouble_window: Seconds = Field(30.0, le=3_600, description="within this time.")
    alert_max_channels: Count = Field(20, description="Most alert channels of the operator, and of each tenant.")
    alert_tenant_channels: Names = Field(
        (),
        description="Types of channels that tenants may use too (csv): `email` and `apprise` use what is yours.",
    )
    alert_tenant_messages: Count = Field(
        60, description="Most messages of all such channels of a tenant within an hour; more wait for the next."
    )
    alert_timeout: Seconds = Field(30.0, description="Longest try to tell a channel.")
    alert_retry_limit: int = Field(9, ge=0, description="Most further tries to tell a channel.")
    alert_retry_base: Seconds = Field(5.0, description="Wait before the first of them; each further wait is doubled.")
    alert_retry_max_wait: Seconds = Field(900.0, description="Longest wait between them, also for Retry-After.")
    alert_templates: Path | None = Field(None, description="Folder with templates of your own: see the alerts docs.")
    alert_options: Table = Field({}, description="Options of alert channels by `<type>_<name>`: a TOML table, or JSON.")
    smtp_url: SecretStr | None = Field(
        None, description="Mail server for alerts: `smtp://user:pass@host:587` (STARTTLS) or `smtps://...`."
    )
    smtp_from: str | None = Field(None, description="Sender of alerts by e-mail: `Waypost <alerts@example.com>`.")
    deployment_id: str | None = Field(None, min_length=1, description="Names this Waypost in operator events.")

    # disabling destinations that keep failing
    auto_disable: bool = Field(True, description="Disable destinations that keep failing, or say that they are gone.")
    auto_disable_failures: Count = Field(100, description="After this many failures in a row,")
    auto_disable_after: Seconds = Field(86_400.0, description="and when it has been failing for this long.")
    auto_disable_any: bool = Field(False, description="One of the two is enough.")
    auto_disable_codes: Codes = Field(("410",), description="Codes that disable at once (csv).")
    auto_disable_probe_after: Seconds | None = Field(
        None, description="Try one delivery of a disabled destination after this long, and enable it if that succeeds."
    )

    # what the metrics API counts
    metrics_row_limit: Count = Field(100_000, description="Most data points of an answer, and most time buckets.")
    metrics_scan_limit: Count = Field(
        1_000_000, description="Most events or attempts read one by one for an answer, where counts are too coarse."
    )
    metrics_minutes_kept: Seconds = Field(259_200.0, description="How long counts are kept by the minute;")
    metrics_hours_kept: Seconds = Field(7_776_000.0, description="by the hour;")
    metrics_days_kept: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="and by the day; none = for ever."
    )
    metrics_fold_interval: Seconds = Field(300.0, description="How often fresh counts are put to the others.")

    # finding events by what is in them
    search: bool = Field(True, description="Keep an index of payloads and metadata, in a file beside the database.")
    search_share: float = Field(0.1, gt=0, le=1, description="Most of one core's time that indexing takes.")

    # how long things are kept, in seconds; 0 = for ever
    retention_events: Age = Field(7_776_000, description="Events, with all about them: 90 days; 0 = for ever.")
    retention_attempts: Age = Field(0, description="Attempts; 0 = as long as their events.")
    retention_data: Age = Field(
        0, description="What events hold, and what was sent and answered; 0 = as long as the event."
    )
    retention_alerts: Age = Field(7_776_000, description="Alerts: 90 days.")
    retention_news: Age = Field(604_800, description="What alert channels were told: 7 days.")
    retention_audit: Age = Field(31_536_000, description="The audit log: a year.")
    retention_replays: Age = Field(7_776_000, description="Replays that have ended: 90 days.")
    retention_share: float = Field(
        0.1, gt=0, le=0.5, description="Share of the store's time that removing takes; more while it falls behind."
    )
    retention_interval: Seconds = Field(60.0, description="How often it is looked for what is too old.")

    retention_clock_jump: Seconds = Field(
        3_600.0, description="A step of the clock by more than this, also over a stop, is not believed at once:"
    )
    retention_clock_patience: Seconds = Field(
        21_600.0, description="nothing is removed by it until it has lasted this long."
    )

    # the live stream
    stream_max_listeners: Count = Field(100, description="Most streams open at one time.")
    stream_max_listeners_per_tenant: Count = Field(10, description="The same for one tenant's token.")
    stream_queue: Count = Field(1_000, description="Most messages that wait for one listener, which misses the next.")
    stream_memory: Count = Field(50_000, description="So many messages are remembered for those who come back.")
    stream_batch_bytes: Count = Field(
        1_048_576, description="Most bytes of messages that one listener holds at a time, unless one alone is larger."
    )
    stream_reach: Seconds = Field(3_600.0, description="How far back one may come back beyond these.")
    stream_heartbeat: Seconds = Field(15.0, description="A quiet stream is kept open by a comment so often.")

    # what is written about it
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity logged.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: console on a terminal, else json."
    )
    log_queue_lines: Count = Field(
        10_000, description="Most lines that wait to be written; more are dropped and counted."
    )
    log_queue_bytes: Count = Field(8_388_608, description="Most bytes of them.")
    log_events: bool = Field(True, description="One line per publish and one per attempt.")
    metrics: bool = Field(True, description="Serve `/metrics`, open to whoever reaches the port.")
    otel_endpoint: str | None = Field(
        None, pattern=r"^https?://", description="An OTLP/HTTP collector (`http://127.0.0.1:4318`); none = off."
    )
    otel_headers: SecretPairs = Field({}, description="Headers for the collector (csv of `name=value`).")
    otel_service_name: str = Field("waypost", min_length=1, description="How Waypost is called there.")
    otel_traces: bool = Field(True, description="Export traces.")
    otel_metrics: bool = Field(True, description="Export metrics.")
    otel_logs: bool = Field(True, description="Export what is logged.")
    otel_sample_ratio: float = Field(1.0, ge=0, le=1, description="Share of the traces begun here that are exported.")

    @model_validator(mode="after")
    def _leases_outlast_attempts(self) -> Self:
        if self.webhook_timeout > self.delivery_timeout:
            raise ValueError("webhook_timeout must not be longer than delivery_timeout")
        if self.delivery_lease < 2 * self.delivery_timeout:
            raise ValueError("delivery_lease must be at least twice delivery_timeout")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @property
    def sqlite_path(self) -> Path:
        """The database file. Raises SettingsError for a URL of another kind."""
        scheme, _, path = self.database_url.partition(":///")
        if scheme != "sqlite" or not path:
            raise SettingsError(f"database_url: {self.database_url!r} is not of the form sqlite:///FILE")
        return Path(path)


def load(environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read the settings. `overrides` (command-line options) win over the environment, that over the TOML file.

    Raises SettingsError with one line per wrong setting.
    """
    environment = os.environ if environment is None else environment
    values = _from_file(environment) | _from_environment(environment)
    values |= {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError("\n".join(_sentences(error))) from None


def shown(settings: Settings) -> Iterator[str]:
    """The settings as lines of a TOML file that has the same meaning; of secrets only whether they are set."""
    return (as_toml(name, getattr(settings, name)) for name in Settings.model_fields)


def _from_file(environment: Mapping[str, str]) -> dict[str, Any]:
    named = environment.get(CONFIG_FILE_VARIABLE)
    path = Path(named) if named else DEFAULT_CONFIG_FILE
    if not named and not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for variable, value in _own_variables(environment):
        name = variable.removeprefix(PREFIX).lower()
        if name not in Settings.model_fields and name.removesuffix("_file") in Settings.model_fields:
            name, value = name.removesuffix("_file"), _secret_file(variable, value)  # noqa: PLW2901
        elif is_quoted(value):
            raise SettingsError(f"{variable}: leave the quotation marks out; they would be part of the value")
        if name in values:
            raise SettingsError(f"{PREFIX}{name.upper()} and {PREFIX}{name.upper()}_FILE are both set: leave one out")
        values[name] = value
    return values


def _own_variables(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for variable, value in environment.items():
        foreign = variable in _NOT_A_SETTING or variable.startswith(_SET_BY_ORCHESTRATORS)
        if variable.startswith(PREFIX) and not foreign and value != "":
            yield variable, _as_text(variable, value)


def _as_text(variable: str, value: str) -> str:
    """The value, which Python keeps with surrogates in it (PEP 383) where it is not UTF-8."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise SettingsError(f"{variable}: is not UTF-8") from None
    return value


def _secret_file(variable: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(f"{variable}: cannot read {path}: {error}") from None


def _sentences(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_input=False):
        if not problem["loc"]:
            yield problem["msg"].removeprefix("Value error, ")
            continue
        name = str(problem["loc"][0])
        if problem["type"] == "extra_forbidden":
            yield f"{name}: there is no such setting ({PREFIX}{name.upper()}); `waypost config` lists them"
        else:
            yield f"{name} ({PREFIX}{name.upper()}): {problem['msg']}"
