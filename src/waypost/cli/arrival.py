"""What a developer wants to know of a webhook that arrived: which event it is, and whether its signature holds."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from msgspec import Struct

from waypost.cli.receiver import Request
from waypost.core import signing
from waypost.core.model import SECOND, Micros

TOLERANCE_SECONDS = 300
"""How far a webhook's timestamp may be from the receiver's clock (Standard Webhooks 1.0.0)."""

_STANDARD = "webhook-"
_PREFIXED_VERSION = "v0="
_NONE_FITS = "no signature fits the secret"
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
    """Why the webhook's signature does not hold, as a sentence; None when it does.

    `secret` is the destination's secret (`whsec_...`, or any text with prefixed headers) or a public key (`whpk_...`).
    """
    if f"{_STANDARD}signature" in request.headers:
        return _standard_problem(request, secret, now)
    signature = _by_ending(request.headers, "-signature")
    if not signature:
        return "there is no signature header"
    return _prefixed_problem(request.body, secret, signature)


def _standard_problem(request: Request, secret: str, now: Micros) -> str | None:
    """Standard Webhooks 1.0.0: several signatures between spaces, one of which has to fit."""
    sent = request.headers.get(f"{_STANDARD}timestamp", "")
    if not sent.isdecimal() or len(sent) > _TIMESTAMP_LENGTH:
        return "webhook-timestamp is missing or not a number"
    away = abs(now // SECOND - int(sent))
    if away > TOLERANCE_SECONDS:
        return f"webhook-timestamp is {away} seconds from this machine's clock"
    content = signing.standard_content(request.headers.get(f"{_STANDARD}id", ""), int(sent), request.body)
    signatures = request.headers[f"{_STANDARD}signature"].split(" ")
    try:
        return None if _standard_fits(content, secret, signatures) else _NONE_FITS
    except ValueError as error:
        return f"the secret {error}"


def _standard_fits(content: bytes, secret: str, signatures: list[str]) -> bool:
    """Whether one of the signatures fits. Raises ValueError for a secret of the wrong form."""
    if secret.startswith(signing.PUBLIC_KEY_PREFIX):
        return any(signing.verify_ed25519(secret, content, signature) for signature in signatures)
    return _is_among(signing.HmacSigner(signing.parse_secret(secret)).sign(content), signatures)


def _prefixed_problem(body: bytes, secret: str, signature: str) -> str | None:
    """`v0=<hex HMAC-SHA256 of the body>`, the previous secret's after a comma."""
    expected = signing.RecipeSigner(signing.Recipe(), (secret,)).sign("", 0, body).removeprefix(_PREFIXED_VERSION)
    signatures = [part.strip().removeprefix(_PREFIXED_VERSION) for part in signature.split(",")]
    return None if _is_among(expected, signatures) else _NONE_FITS


def _is_among(expected: str, signatures: list[str]) -> bool:
    fits = [hmac.compare_digest(expected.encode(), signature.encode()) for signature in signatures]
    return any(fits)


def _by_ending(headers: Mapping[str, str], ending: str) -> str:
    """The value of the first header that ends so, without regard to the prefix that the operator has chosen."""
    return next((value for name, value in headers.items() if f"-{name}".endswith(ending)), "")
