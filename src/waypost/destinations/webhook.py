"""Webhooks: a signed POST to the customer's URL."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Literal, Protocol

import msgspec
from msgspec import Struct

from waypost.connect.connector import Change, Connection, DestinationType, Message, Receipt, Tools
from waypost.connect.fields import Field, mask
from waypost.connect.options import own_options
from waypost.core import times
from waypost.core.errors import DeliveryError, Invalid, SettingsError
from waypost.core.model import SECOND, Destination, Micros
from waypost.core.signing import Algorithm as SignatureAlgorithm
from waypost.core.signing import (
    Digits,
    Ed25519Signer,
    HmacSigner,
    Recipe,
    RecipeSigner,
    Signer,
    make_secret,
    parse_secret,
    standard_content,
    standard_signature,
)
from waypost.net.exchange import (
    HttpRequest,
    HttpResponse,
    clean_header_value,
    head_size,
    is_header_name,
    is_header_value,
)
from waypost.net.http import HttpClient
from waypost.net.record import shown
from waypost.net.retry_after import retry_after
from waypost.net.target import Target, parse_url
from waypost.observe.tracing import traceparent

_SECRET_BYTES = 32
_LONGEST_URL = 2_048
_MOST_CUSTOM_HEADERS = 50
_LONGEST_HEADER_VALUE = 4_096
_NAMES_REMEMBERED = 1_000
_NO_TOKEN = re.compile(r"[^!#$%&'*+.^_`|~0-9A-Za-z-]+")

_RESERVED = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    }
)
"""Headers that are the client's, the protocol's or the signature's own."""

_WORTH_A_RETRY = frozenset({408, 425, 429})
_SECRETS = ("secret", "previous_secret", "previous_secret_invalid_at")
_STANDARD_NAMES = frozenset({"webhook-id", "webhook-timestamp", "webhook-signature"})


class WebhookOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the operator decides for all webhooks: the options `webhook_<name>`.

    - `mode`: `standard` sends the headers of Standard Webhooks, `default` prefixed ones with a `v0` signature.
    - `header_prefix` stands before `topic` and metadata keys, in mode `default` also before `event-id`, `timestamp` and
      `signature`. `headers_omit` leaves out headers by these names, `headers_rename` gives them another name.
    - `signature_*` make up the signature of mode `default`, see `Recipe`. `private_key` (`whsk_...`) adds an ed25519
      signature in mode `standard`.
    - `secret_overlap` is how long a rotated secret still signs, in seconds.
    - `allow_http` permits URLs without TLS.
    - `traceparent` sends the trace context along: the attempt's own, or the publisher's where no traces are made.
    """

    mode: Literal["standard", "default"] = "standard"
    header_prefix: str = "x-waypost-"
    headers_omit: tuple[str, ...] = ()
    headers_rename: dict[str, str] = {}
    signature_content: str = Recipe().content
    signature_header: str = Recipe().header
    signature_algorithm: SignatureAlgorithm = "hmac-sha256"
    signature_encoding: Digits = "hex"
    private_key: str | None = None
    secret_overlap: float = 86_400.0
    allow_http: bool = True
    traceparent: bool = False

    @property
    def recipe(self) -> Recipe:
        return Recipe(
            content=self.signature_content,
            header=self.signature_header,
            algorithm=self.signature_algorithm,
            encoding=self.signature_encoding,
        )


def options_of(options: Mapping[str, Any]) -> WebhookOptions:
    """The options that concern webhooks. Raises SettingsError for one that is unknown or wrong."""
    found = own_options("webhook", options, WebhookOptions)
    names = (found.header_prefix, *found.headers_rename.values())
    wrong = next((name for name in names if name and not is_header_name(name)), None)
    if wrong is not None:
        raise SettingsError(f"webhook options: {wrong!r} is not a header name")
    return found


class WebhookType(DestinationType):
    type: ClassVar[str] = "webhook"
    label: ClassVar[str] = "Webhook"
    description: ClassVar[str] = "Send events as signed HTTP POST requests to a URL of yours."
    icon: ClassVar[str] = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
        'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><circle cx="6" cy="17" r="3"/>'
        '<circle cx="18" cy="17" r="3"/><circle cx="12" cy="6" r="3"/>'
        '<path d="M9 17h6M7.5 14.4l3-5.4M16.5 14.4l-3-5.4"/></svg>'
    )
    instructions: ClassVar[str] = (
        "Enter the URL of an endpoint that accepts POST requests and answers with a 2xx status within a few seconds; "
        "redirects are not followed. The body is the event's data. Check the signature of each request with the secret "
        "shown here, and the id against those you have seen: an event can arrive more than once."
    )
    config_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="url",
            label="URL",
            description="Where events are sent.",
            locates=True,
            required=True,
            maxlength=_LONGEST_URL,
            pattern=r"https?://.+",
            pattern_hint="a URL that starts with http:// or https://",
            placeholder="https://example.com/webhooks",
        ),
        Field(
            key="custom_headers",
            label="Custom headers",
            description="Headers to send with every request, as a JSON object of names and values.",
            type="key_value_map",
            sensitive=True,
            advanced=True,
            placeholder='{"x-api-key": "..."}',
        ),
    )
    credential_fields: ClassVar[tuple[Field, ...]] = (
        Field(
            key="secret",
            label="Signing secret",
            description="Signs every request. Made by the server when it is left out; only an API key can set it.",
        ),
        Field(
            key="previous_secret",
            label="Previous secret",
            description="Signs beside the secret for some time after a rotation.",
            advanced=True,
        ),
        Field(
            key="previous_secret_invalid_at",
            label="Previous secret valid until",
            description="When the previous secret stops signing (RFC 3339).",
            advanced=True,
        ),
        Field(
            key="rotate_secret",
            label="Rotate secret",
            description="Make a new secret; the present one goes on signing for some time.",
            type="checkbox",
            advanced=True,
        ),
    )

    def check_options(self, options: dict[str, Any]) -> None:
        found = options_of(options)
        try:
            RecipeSigner(found.recipe, ())
        except ValueError as error:
            raise SettingsError(f"webhook_signature options: {error}") from None
        try:
            Ed25519Signer.parse(found.private_key) if found.private_key else None
        except ValueError as error:
            raise SettingsError(f"webhook_private_key {error}") from None

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        options = options_of(tools.options)
        return [
            *_url_problems(config.get("url", ""), tools, options),
            *_header_problems(config.get("custom_headers"), options, tools.http.settings.request_header_cap),
            *_secret_problems(credentials, options),
        ]

    def prepare(self, change: Change) -> tuple[dict[str, str], dict[str, str]]:
        given = dict(change.credentials)
        old = change.old.credentials if change.old is not None else {}
        rotate = given.pop("rotate_secret", "false")
        if rotate not in {"true", "false"}:
            raise Invalid(["credentials.rotate_secret must be one of: true, false"])
        if change.by_tenant:
            _refuse_secrets(old, given)
        overlap = options_of(change.options).secret_overlap
        if rotate == "true":
            given = _rotated(old, given, change.now, overlap)
        given.setdefault("secret", make_secret(secrets.token_bytes(_SECRET_BYTES)))
        if "previous_secret" in given:
            given.setdefault("previous_secret_invalid_at", _after(change.now, overlap))
        return change.config, given

    def target(self, destination: Destination) -> tuple[str, str | None]:
        url = destination.config["url"]
        return url, url

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        options = options_of(tools.options)
        try:
            target = parse_url(destination.config["url"])
            style = _style(destination.credentials, options)
        except ValueError as error:
            raise DeliveryError("configuration_error", f"The destination cannot be used: {error}") from error
        custom = custom_headers(destination.config.get("custom_headers"))
        return WebhookConnection(tools.http, target, style, custom, owner=destination.tenant_id)


# what may be saved


def custom_headers(text: str | None) -> dict[str, str]:
    """The custom headers in a config value. Raises ValueError unless it is a JSON object of texts."""
    try:
        return msgspec.json.decode(text, type=dict[str, str]) if text else {}
    except msgspec.DecodeError as error:
        raise ValueError("must be a JSON object of header names and text values") from error


def _url_problems(url: str, tools: Tools, options: WebhookOptions) -> list[str]:
    try:
        target = parse_url(url)
    except ValueError as error:
        return [f"config.url {error}"]
    if target.scheme == "http" and not options.allow_http:
        return ["config.url must start with https://"]
    refusal = tools.guard.host_refusal(target.host)
    return [] if refusal is None else [f"config.url is not allowed: {refusal}"]


def _header_problems(text: str | None, options: WebhookOptions, cap: int) -> list[str]:
    path = "config.custom_headers"
    try:
        headers = custom_headers(text)
    except ValueError as error:
        return [f"{path} {error}"]
    if len(headers) > _MOST_CUSTOM_HEADERS:
        return [f"{path} must have at most {_MOST_CUSTOM_HEADERS} headers"]
    if len({name.lower() for name in headers}) < len(headers):
        return [f"{path} must not have the same header twice (case does not matter)"]
    if head_size(_lines(headers)) > cap:
        return [f"{path} must have at most {cap} bytes together"]
    found = (_header_problem(name, value, options) for name, value in headers.items())
    return [f"{path}.{problem}" for problem in found if problem is not None]


def _header_problem(name: str, value: str, options: WebhookOptions) -> str | None:
    if not is_header_name(name):
        return f"{name} must be a header name: letters, digits and hyphens"
    if is_reserved(name, options):
        return f"{name} is reserved and cannot be set"
    if not is_header_value(value):
        return f"{name} must not contain control characters"
    if len(value) > _LONGEST_HEADER_VALUE:
        return f"{name} must be at most {_LONGEST_HEADER_VALUE} characters"
    return None


def is_reserved(name: str, options: WebhookOptions) -> bool:
    """Whether a header is the protocol's or Waypost's own, so that a customer cannot set it."""
    lower = name.lower()
    prefix = options.header_prefix.lower()
    return (
        lower in _RESERVED
        or lower.startswith("proxy-")
        or (prefix != "" and lower.startswith(prefix))
        or lower in {renamed.lower() for renamed in options.headers_rename.values()}
        or (prefix == "" and lower in {"event-id", "timestamp", "topic", "signature"})
    )


def _secret_problems(credentials: dict[str, str], options: WebhookOptions) -> list[str]:
    found = []
    for key in ("secret", "previous_secret"):
        if key in credentials and options.mode == "standard":
            try:
                parse_secret(credentials[key])
            except ValueError as error:
                found.append(f"credentials.{key} {error} (whsec_ and base64)")
    until = credentials.get("previous_secret_invalid_at")
    if until is not None and times.parse(until) is None:
        found.append("credentials.previous_secret_invalid_at must be an RFC 3339 date-time")
    if until is not None and "previous_secret" not in credentials:
        found.append("credentials.previous_secret is required with previous_secret_invalid_at")
    return found


def _refuse_secrets(old: Mapping[str, str], given: Mapping[str, str]) -> None:
    changed = [key for key in _SECRETS if given.get(key) != old.get(key)]
    if changed:
        raise Invalid(
            [f"credentials.{key} may only be set with an API key; rotate_secret is allowed" for key in changed]
        )


def _rotated(old: Mapping[str, str], given: Mapping[str, str], now: Micros, overlap: float) -> dict[str, str]:
    """The credentials after a rotation: to a secret that was given with it, or to one that is still to be made."""
    if "secret" not in old:
        raise Invalid(["credentials.rotate_secret needs a secret to rotate"])
    rotated = {"previous_secret": old["secret"], "previous_secret_invalid_at": _after(now, overlap)}
    until = given.get("previous_secret_invalid_at")
    if until is not None and until != old.get("previous_secret_invalid_at"):
        rotated["previous_secret_invalid_at"] = until
    if "secret" in given and given["secret"] != old["secret"]:
        rotated["secret"] = given["secret"]
    return rotated


def _after(now: Micros, seconds: float) -> str:
    return times.render(now + round(seconds * SECOND))


# what is sent


class Style(Protocol):
    """The headers that identify and sign a message."""

    def headers(self, message: Message) -> dict[str, str]: ...


def _style(credentials: Mapping[str, str], options: WebhookOptions) -> Style:
    secret, previous = credentials["secret"], credentials.get("previous_secret")
    until = times.parse(credentials.get("previous_secret_invalid_at", "")) if previous is not None else None
    metadata = MetadataHeaders(options)
    kind = StandardStyle if options.mode == "standard" else PrefixedStyle
    style = kind(secret, previous, until or 0, options, metadata)
    return TracedStyle(style) if options.traceparent else style


class MetadataHeaders:
    """Metadata as headers: prefixed, renamed, left out, never in place of a header that is not theirs.

    What cannot be in a header name becomes a hyphen. Keys recur, so that their headers' names are remembered.
    """

    def __init__(self, options: WebhookOptions) -> None:
        self._prefix = options.header_prefix.lower()
        self._omitted = frozenset(name.lower() for name in options.headers_omit)
        self._renamed = {name.lower(): header.lower() for name, header in options.headers_rename.items()}
        self._names: dict[str, str] = {}

    def name(self, key: str) -> str:
        """The header of a metadata key, lower-case; empty for one that is not sent."""
        lower = key.lower()
        if lower in self._omitted:
            return ""
        name = self._renamed.get(lower) or self._prefix + _NO_TOKEN.sub("-", lower)
        return "" if name in _RESERVED or name.startswith("proxy-") else name

    def add(self, headers: dict[str, str], metadata: Mapping[str, str]) -> None:
        """Add the metadata to the headers, which keep the values that they have."""
        names = self._names
        for key, value in metadata.items():
            name = names.get(key)
            if name is None:
                name = self._remember(key)
            if name and name not in headers:
                headers[name] = value if value.isprintable() else clean_header_value(value)

    def _remember(self, key: str) -> str:
        if len(self._names) >= _NAMES_REMEMBERED:
            self._names.clear()
        name = self._names[key] = self.name(key)
        return name


class StandardStyle:
    """Standard Webhooks. Its id may have no dot, which separates the parts of what is signed: a dot becomes `%2E`.

    A `%` becomes `%25`, so that two events never travel under one id.
    """

    def __init__(
        self, secret: str, previous: str | None, until: Micros, options: WebhookOptions, metadata: MetadataHeaders
    ) -> None:
        extra = (Ed25519Signer.parse(options.private_key),) if options.private_key else ()
        current = HmacSigner(parse_secret(secret))
        self._current: tuple[Signer, ...] = (current, *extra)
        self._both = self._current if previous is None else (current, HmacSigner(parse_secret(previous)), *extra)
        self._until = until
        self._metadata = metadata

    def headers(self, message: Message) -> dict[str, str]:
        message_id = message.event.id.replace("%", "%25").replace(".", "%2E")
        timestamp = message.sent_at // SECOND
        signers = self._both if message.sent_at < self._until else self._current
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": standard_signature(signers, standard_content(message_id, timestamp, message.body)),
        }
        metadata = {key: value for key, value in message.metadata.items() if key not in {"event-id", "timestamp"}}
        self._metadata.add(headers, metadata)
        return headers


class PrefixedStyle:
    """Mode `default`: everything under the prefix, the signature made by the operator's recipe."""

    def __init__(
        self, secret: str, previous: str | None, until: Micros, options: WebhookOptions, metadata: MetadataHeaders
    ) -> None:
        self._current = RecipeSigner(options.recipe, (secret,))
        self._both = self._current if previous is None else RecipeSigner(options.recipe, (secret, previous))
        self._until = until
        self._metadata = metadata
        self._signature = metadata.name("signature")

    def headers(self, message: Message) -> dict[str, str]:
        headers = {}
        if self._signature:
            signer = self._both if message.sent_at < self._until else self._current
            headers[self._signature] = signer.sign(message.event.id, message.sent_at // SECOND, message.body)
        self._metadata.add(headers, message.metadata)
        return headers


class TracedStyle:
    """The headers of another style, and the trace context."""

    def __init__(self, style: Style) -> None:
        self._style = style

    def headers(self, message: Message) -> dict[str, str]:
        headers, trace = self._style.headers(message), message.event.trace
        return headers if trace is None else headers | {"traceparent": traceparent(trace)}


class WebhookConnection:
    """Posts to one URL. Whatever is the same for every message is made once; the sockets are the HTTP client's."""

    def __init__(
        self, http: HttpClient, target: Target, style: Style, custom: Mapping[str, str], *, owner: str
    ) -> None:
        self._http = http
        self._owner = owner
        self._url = target.url
        self._host = target.host
        self._style = style
        fixed = {"content-type": "application/json", **custom}
        self._fixed_lines = _lines(fixed)
        self._fixed_names = frozenset(name.lower() for name in fixed)
        agent = {} if "user-agent" in self._fixed_names else {"user-agent": http.settings.user_agent}
        self._shown = {"content-type": "application/json", **agent, **{name: mask(custom[name]) for name in custom}}

    async def send(self, message: Message) -> Receipt:
        headers = self._style.headers(message)
        if not self._fixed_names.isdisjoint(headers):
            headers = {name: value for name, value in headers.items() if name not in self._fixed_names}
        request = {"method": "POST", "url": self._url, "headers": self._shown | headers, "size": len(message.body)}
        try:
            response = await self._http.send(
                HttpRequest(
                    method="POST",
                    url=self._url,
                    headers=self._fixed_lines + _lines(headers),
                    body=message.body,
                    owner=self._owner,
                )
            )
        except DeliveryError as error:
            error.request = request
            raise
        if HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES:
            return Receipt(code=str(response.status), response=shown(response), request=request)
        raise _refused(self._host, response, request)

    async def verify(self) -> None:
        """Ask for the URL's headers: whoever answers, with whatever status, can be reached."""
        await self._http.send(HttpRequest(method="HEAD", url=self._url, owner=self._owner))

    async def close(self) -> None:
        """There is nothing to close: idle sockets belong to the HTTP client."""


def _lines(headers: Mapping[str, str]) -> list[str]:
    """Header lines; libcurl marks a header without value by a semicolon."""
    return [f"{name}: {value}" if value.strip() else f"{name};" for name, value in headers.items()]


# what the answer means


def _refused(host: str, response: HttpResponse, request: dict[str, Any]) -> DeliveryError:
    status = response.status
    return DeliveryError(
        str(status),
        _sentence(host, status),
        retryable=status in _WORTH_A_RETRY or status >= HTTPStatus.INTERNAL_SERVER_ERROR,
        retry_after=retry_after(response.headers.get("retry-after"), now=time.time()),
        response=shown(response),
        request=request,
    )


def _sentence(host: str, status: int) -> str:
    try:
        phrase = f" ({HTTPStatus(status).phrase})"
    except ValueError:
        phrase = ""
    redirected = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    return f"{host} answered with status {status}{phrase}" + ("; redirects are not followed" if redirected else "")
