"""The URLs that can be requested, taken apart once and put together the way libcurl gets them.

Host and port are found here and nowhere else: what is checked and pinned is what is requested.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from msgspec import Struct

from waypost.net.guard import literal_address, looks_like_address
from waypost.net.names import ascii_name

_PORTS = {"http": 80, "https": 443}
_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f\\]")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_LONGEST_HOST = 253
_HIGHEST_PORT = 65_535
_KEPT_IN_PATH = "/:?#[]@!$&'()*+,;=%-._~|^`{}\"<>"


class Target(Struct, frozen=True, kw_only=True):
    """Where a URL leads. `host` is lower-case ASCII, an address in its plain form; `url` is free of fragment."""

    scheme: str
    host: str
    port: int
    url: str
    is_address: bool

    @property
    def authority(self) -> str:
        """`host:port` as libcurl names an entry of its cache of addresses."""
        return f"{self.host}:{self.port}"


def parse_url(url: str) -> Target:
    """Take a URL apart. Raises ValueError with what is wrong, as the end of a sentence ("must ...")."""
    if _NOT_IN_URLS.search(url):
        raise ValueError("must not contain spaces, backslashes or control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError("must be a valid URL") from error
    if parts.scheme not in _PORTS:
        raise ValueError("must start with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name or password")
    if port == 0:
        raise ValueError(f"must have a port between 1 and {_HIGHEST_PORT}")
    host = _host(parts.hostname or "", bracketed="[" in parts.netloc)
    authority = f"[{host}]" if ":" in host else host
    authority += f":{port}" if port is not None else ""
    path = quote(parts.path or "/", safe=_KEPT_IN_PATH)
    query = "?" + quote(parts.query, safe=_KEPT_IN_PATH) if parts.query else ""
    return Target(
        scheme=parts.scheme,
        host=host,
        port=port or _PORTS[parts.scheme],
        url=f"{parts.scheme}://{authority}{path}{query}",
        is_address=looks_like_address(host),
    )


def _host(host: str, *, bracketed: bool) -> str:
    if not host:
        raise ValueError("must have a host")
    name = host if bracketed else _ascii(host).removesuffix(".")
    if looks_like_address(name):
        address = literal_address(name)
        if address is None:
            raise ValueError("must have a valid host: it looks like an IP address but is not one")
        return str(address)
    if len(name) > _LONGEST_HOST or not _HOST.fullmatch(name):
        raise ValueError("must have a valid host")
    return name


def _ascii(host: str) -> str:
    try:
        return ascii_name(host)
    except ValueError as error:
        raise ValueError("must have a valid host") from error
