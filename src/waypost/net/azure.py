"""What Azure's Service Bus and Event Hubs share: connection strings, signatures, refusals in the words of Waypost."""

from __future__ import annotations

import base64
import hmac
import html
import re
import time
from collections.abc import Callable
from hashlib import sha256
from urllib.parse import quote, quote_plus, urlsplit

from msgspec import Struct

from waypost.core.errors import DeliveryError
from waypost.net.exchange import HttpResponse
from waypost.net.refusals import TOO_LARGE, Meaning, refusal
from waypost.net.target import parse_url

_TOKEN_SECONDS = 3_600
_RENEWED_BEFORE_SECONDS = 300
_DETAIL = re.compile(r"<Detail>(.*?)</Detail>", re.DOTALL)


class ConnectionString(Struct, frozen=True, kw_only=True):
    """Where a namespace is and the key to it. `authority` is a host, with its port where that is not 443."""

    authority: str
    key_name: str
    key: str
    entity_path: str | None = None

    @property
    def host(self) -> str:
        return parse_url(f"https://{self.authority}/").host


def parse_connection_string(text: str) -> ConnectionString:
    """Read `Endpoint=sb://...;SharedAccessKeyName=...;SharedAccessKey=...[;EntityPath=...]`, in any order.

    Raises ValueError with the end of a sentence ("must ...").
    """
    pairs = (part.partition("=") for part in text.strip().split(";") if part.strip())
    parts = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if parts.get("usedevelopmentemulator", "").lower() == "true":
        raise ValueError("must not be that of the local emulator, which has no HTTPS endpoint to send to")
    lacking = [name for name in ("Endpoint", "SharedAccessKeyName", "SharedAccessKey") if not parts.get(name.lower())]
    if lacking:
        raise ValueError(f"must have {', '.join(lacking)}: copy it whole from the shared access policy")
    return ConnectionString(
        authority=_authority(parts["endpoint"]),
        key_name=parts["sharedaccesskeyname"],
        key=parts["sharedaccesskey"],
        entity_path=parts.get("entitypath") or None,
    )


def _authority(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in {"sb", "https", "amqps"} or not parts.netloc:
        raise ValueError("must have an Endpoint like sb://NAMESPACE.servicebus.windows.net/")
    try:
        parse_url(f"https://{parts.netloc}/")
    except ValueError as error:
        raise ValueError(f"must have a valid Endpoint, which {error}") from None
    return parts.netloc.lower()


def sas_token(uri: str, key_name: str, key: str, *, expires: int) -> str:
    """A shared access signature: HMAC-SHA256 over the encoded URI and the expiry in seconds since the epoch."""
    encoded = quote_plus(uri)
    digest = hmac.digest(key.encode(), f"{encoded}\n{expires}".encode(), sha256)
    signature = quote_plus(base64.b64encode(digest))
    return f"SharedAccessSignature sr={encoded}&sig={signature}&se={expires}&skn={quote_plus(key_name)}"


class SasTokens:
    """Signatures for one entity, each used for most of its hour."""

    def __init__(self, access: ConnectionString, entity: str, clock: Callable[[], float] = time.time) -> None:
        self._access = access
        self._uri = f"https://{access.authority}/{quote(entity)}".lower()
        self._clock = clock
        self._token = ""
        self._renew_at = 0.0

    def current(self) -> str:
        now = self._clock()
        if now >= self._renew_at:
            expires = int(now) + _TOKEN_SECONDS
            self._token = sas_token(self._uri, self._access.key_name, self._access.key, expires=expires)
            self._renew_at = expires - _RENEWED_BEFORE_SECONDS
        return self._token


_MEANINGS = {
    400: Meaning("invalid_request", "{service} does not accept the message"),
    401: Meaning("bad_credentials", "{service} does not accept the connection string for {what}"),
    403: Meaning("quota_exceeded", "{service} refuses messages for {what} at the moment", retryable=True),
    404: Meaning("{missing}", "There is no {what}"),
    408: Meaning("unavailable", "{service} could not take the message in time", retryable=True),
    410: Meaning("{missing}", "There is no {what}"),
    413: TOO_LARGE,
    429: Meaning("throttled", "{service} takes no more messages at the moment", retryable=True),
    503: Meaning("throttled", "{service} takes no more messages at the moment", retryable=True),
}
"""Azure's statuses (Service Bus and Event Hubs REST references, "Send Message Batch", "Send batch events")."""
_OVERSIZE = _MEANINGS | {400: TOO_LARGE, 403: TOO_LARGE}


def refused(response: HttpResponse, *, service: str, missing: str, what: str) -> DeliveryError:
    """The error of an answer that is not a success.

    `missing` is the code for what does not exist and `what` names it ("queue or topic orders"). 403 stands for a full
    queue as well as for a message that is too large; only the reason tells them apart.
    """
    reason = said(response)
    meanings = _OVERSIZE if _is_about_size(reason) else _MEANINGS
    return refusal(response, meanings, reason, service=service, missing=missing, what=what)


def said(response: HttpResponse) -> str:
    """The reason in an error's body (`<Error><Code>...</Code><Detail>...</Detail></Error>`), empty without one."""
    found = _DETAIL.search(response.body.decode("utf-8", "replace"))
    return html.unescape(found[1]) if found else ""


def _is_about_size(reason: str) -> bool:
    lower = reason.lower()
    exceeds = "size" in lower and ("exceed" in lower or "larger" in lower)
    return "too large" in lower or (exceeds and "quota" not in lower)
