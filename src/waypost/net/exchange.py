"""The values of an HTTP exchange: how the client behaves, what is asked, what is answered."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FORBIDDEN_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class HttpSettings(Struct, frozen=True, kw_only=True):
    """How the client behaves. Times in seconds, sizes in bytes.

    `connect_timeout` covers the TCP and TLS handshakes. `first_byte_timeout` runs from the start of a request to the
    first byte of its answer, `total_timeout` to the last. Of an answer's body `body_cap` bytes are kept; what follows
    is read and dropped, so that the connection can be used again, up to `drain_cap`, where the connection is cut.
    Of an answer's headers `header_cap` bytes are kept; a request may have `request_header_cap` bytes of its own.
    `pool_size` idle connections are kept, each for at most `max_idle` and none older than `max_connection_age`.
    `proxy` is the URL of a forward proxy for all requests; the environment's proxies are never used. It is told checked
    addresses, never names, unless `proxy_guards`: then it looks names up and decides what may be reached. `ca_bundle`
    is a PEM file of authorities trusted in addition to the system's.
    """

    connect_timeout: float = 5.0
    first_byte_timeout: float = 15.0
    total_timeout: float = 30.0
    body_cap: int = 16 * 1024
    drain_cap: int = 1024 * 1024
    header_cap: int = 16 * 1024
    request_header_cap: int = 16 * 1024
    user_agent: str = "Waypost"
    http2: bool = True
    proxy: str | None = None
    proxy_guards: bool = False
    pool_size: int = 1000
    max_idle: float = 60.0
    max_connection_age: float = 600.0
    ca_bundle: str | None = None

    @property
    def multiplexes(self) -> bool:
        """Whether HTTP/2 is offered. Behind a proxy it is not: there, owners cannot be told apart by the route."""
        return self.http2 and self.proxy is None


class HttpRequest(Struct, frozen=True, kw_only=True, gc=False):
    """One request. `headers` are whole lines as `header_line` makes them.

    `timeout` replaces the settings' total and first-byte timeouts for this request (seconds). Requests of different
    `owner`s (tenants) are never on one HTTP/2 connection.
    """

    method: str
    url: str
    headers: Sequence[str] = ()
    body: bytes = b""
    timeout: float | None = None
    owner: str = ""


class Timings(Struct, frozen=True, kw_only=True, gc=False):
    """Where the time of an exchange went, in microseconds.

    `dns`, `connect` and `tls` are the lengths of these phases, 0 when they were skipped (a connection was reused).
    `first_byte` and `total` count from the start of the request; `first_byte` is 0 when no answer came.
    """

    dns: int
    connect: int
    tls: int
    first_byte: int
    total: int


class HttpResponse(Struct, frozen=True, kw_only=True, gc=False):
    """An answer of any status, and the request that it is for.

    Header names are lower-case; a repeated header's values are joined with a comma. `truncated` says that the body or
    the headers were longer than what is kept, `resent` that the request was sent twice, after the receiver had said
    that it did nothing with the first.
    """

    request: HttpRequest
    status: int
    headers: dict[str, str]
    body: bytes
    truncated: bool
    timings: Timings
    http_version: str
    resent: bool = False

    @property
    def latency(self) -> int:
        """Microseconds from the start of the request to the end of the answer."""
        return self.timings.total


def head_size(lines: Sequence[str]) -> int:
    """Bytes of header lines as HTTP/1.1 sends them."""
    text = "".join(lines)
    return (len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))) + 2 * len(lines)


def is_header_name(name: str) -> bool:
    """Whether a name is a token (RFC 9110, section 5.6.2)."""
    return _NAME.fullmatch(name) is not None


def is_header_value(value: str) -> bool:
    """Whether a value is free of control characters other than tab (RFC 9110, section 5.5)."""
    return _FORBIDDEN_IN_VALUE.search(value) is None


def clean_header_value(value: str) -> str:
    """A value made fit to travel: control characters become spaces, as RFC 9110, section 5.5 tells receivers to do."""
    return _FORBIDDEN_IN_VALUE.sub(" ", value).strip()


def header_line(name: str, value: str) -> str:
    """A header as `HttpRequest.headers` wants it. Raises ValueError for a name or value that no header may have."""
    if not is_header_name(name):
        raise ValueError(f"{name!r} is not a header name")
    if not is_header_value(value):
        raise ValueError(f"the value of header {name} contains a control character")
    return f"{name}: {value}" if value.strip() else f"{name};"
