"""What a developer wants to know of a webhook that arrived: which event it is, and whether its signature holds."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from msgspec import Struct

from waypost.core.model import SECOND, Micros
from waypost.receiver import Request

TOLERANCE_SECONDS = 300
"""How far a webhook's timestamp may be from the receiver's clock (Standard Webhooks 1.0.0)."""

_SECRET_PREFIX = "whsec_"  # noqa: S105  it is public
_STANDARD = "webhook-"
_TIMESTAMP_LENGTH = 12


class Arrival(Struct, frozen=True, kw_only=True):
    """A webhook as it arrived. `attempt` counts the arrivals of the same event here.

    `verified` is None when no secret is known to verify it with; `problem` says why it is False.
    """

    at: Micros
    event_id: str
    topic: str
    verified: bool | None
    problem: str | None
    headers: dict[str, str]
    body: bytes
    attempt: int = 1


def read(request: Request, secret: str | None, *, at: Micros) -> Arrival:
    """Take a webhook apart, whichever of Waypost's two header styles it comes in."""
    problem = None if secret is None else signature_problem(request, secret, now=at)
    return Arrival(
        at=at,
        event_id=request.headers.get(f"{_STANDARD}id") or _by_ending(request.headers, "-event-id"),
        topic=_by_ending(request.headers, "-topic"),
        verified=None if secret is None else problem is None,
        problem=problem,
        headers=request.headers,
        body=request.body,
    )


def signature_problem(request: Request, secret: str, *, now: Micros) -> str | None:
    """Why the webhook's signature does not hold, as a sentence; None when it does."""
    if f"{_STANDARD}signature" in request.headers:
        return _standard_problem(request, secret, now)
    signature = _by_ending(request.headers, "-signature")
    if not signature:
        return "there is no signature header"
    return _prefixed_problem(request.body, secret, signature)


def _standard_problem(request: Request, secret: str, now: Micros) -> str | None:
    """Standard Webhooks 1.0.0: `v1,<base64 HMAC-SHA256 of id.timestamp.body>`, several signatures between spaces."""
    try:
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return f"the secret is not base64 after {_SECRET_PREFIX}"
    sent = request.headers.get(f"{_STANDARD}timestamp", "")
    if not sent.isdecimal() or len(sent) > _TIMESTAMP_LENGTH:
        return "webhook-timestamp is missing or not a number"
    away = abs(now // SECOND - int(sent))
    if away > TOLERANCE_SECONDS:
        return f"webhook-timestamp is {away} seconds from this machine's clock"
    content = f"{request.headers.get(f'{_STANDARD}id', '')}.{sent}.".encode("latin-1") + request.body
    expected = "v1," + base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    signatures = request.headers[f"{_STANDARD}signature"].split(" ")
    return None if _is_among(expected, signatures) else "no signature fits the secret"


def _prefixed_problem(body: bytes, secret: str, signature: str) -> str | None:
    """`v0=<hex HMAC-SHA256 of the body>`, the previous secret's after a comma."""
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    signatures = [part.strip().removeprefix("v0=") for part in signature.split(",")]
    return None if _is_among(expected, signatures) else "no signature fits the secret"


def _is_among(expected: str, signatures: list[str]) -> bool:
    fits = [hmac.compare_digest(expected.encode(), signature.encode("latin-1")) for signature in signatures]
    return any(fits)


def _by_ending(headers: Mapping[str, str], ending: str) -> str:
    """The value of the first header that ends so, without regard to the prefix that the operator has chosen."""
    return next((value for name, value in headers.items() if f"-{name}".endswith(ending)), "")
