"""What the head of a request says of its target and its body (RFC 9112)."""

from __future__ import annotations

from collections.abc import Sequence

import httptools
from msgspec import Struct

from waypost.front.refusal import Refusal

Headers = Sequence[tuple[bytes, bytes]]


class Target(Struct, frozen=True, gc=False):
    path: bytes
    query: bytes


class Framing(Struct, frozen=True, gc=False):
    """How the body comes: so many bytes, or in chunks (`length` is None)."""

    length: int | None
    expects: bool = False
    upgrade: bool = False


def target(url: bytes) -> Target:
    """Path and query, as they were sent. Raises Refusal (400)."""
    if b"#" in url:
        raise Refusal(400, "the request target must not have a fragment")
    if url.startswith(b"/"):
        path, _, query = url.partition(b"?")
        return Target(path, query)
    return _absolute(url)


def _absolute(url: bytes) -> Target:
    """The absolute form, which every server has to take (RFC 9112, 3.2.2)."""
    try:
        parsed = httptools.parse_url(url)
    except httptools.HttpParserError:
        raise Refusal(400, "the request target is not a path") from None
    schema: bytes | None = parsed.schema
    if schema is None or schema.lower() not in {b"http", b"https"} or parsed.userinfo:
        raise Refusal(400, "the request target is not a path")
    return Target(parsed.path or b"/", parsed.query or b"")


def framing(headers: Headers, version: str) -> Framing:
    """What the parser has not refused already. Raises Refusal."""
    facts = dict(headers)
    if len(facts) < len(headers):
        _check_repeated(headers)
    if version != "1.1":
        _check_old(facts, version)
    elif b"host" not in facts:
        raise Refusal(400, "the Host header is missing")
    coding, expectation = facts.get(b"transfer-encoding"), facts.get(b"expect")
    if coding is not None and coding.lower() != b"chunked":
        raise Refusal(501, "no transfer coding but chunked is understood")
    if expectation is not None and expectation.lower() != b"100-continue":
        raise Refusal(417, "no expectation but 100-continue is understood")
    return Framing(
        length=int(facts.get(b"content-length", 0)) if coding is None else None,
        expects=expectation is not None and version == "1.1",
        upgrade=b"upgrade" in facts,
    )


def _check_repeated(headers: Headers) -> None:
    names = [name for name, _ in headers]
    for name in (b"host", b"transfer-encoding", b"authorization"):
        if names.count(name) > 1:
            raise Refusal(400, f"the header {name.decode()} must come once")


def _check_old(facts: dict[bytes, bytes], version: str) -> None:
    if version != "1.0":
        raise Refusal(505, "the versions of HTTP that are understood are 1.0 and 1.1")
    if b"transfer-encoding" in facts:
        raise Refusal(400, "HTTP/1.0 has no transfer codings")


def size(url: bytes, headers: Headers) -> int:
    """The bytes of a head, but for its method and version."""
    return len(url) + sum(len(name) + len(value) + 4 for name, value in headers)
