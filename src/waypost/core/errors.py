"""Everything that Waypost refuses or fails at, as one tree.

WaypostError
├── SettingsError            a setting is wrong; the process does not start
├── MissingExtra             a destination type needs `pip install waypost[extra]`
├── Refused                  the caller's mistake: an HTTP 4xx with a sentence
│   ├── BadRequest           400
│   ├── Unauthorized         401
│   ├── Forbidden            403
│   ├── NotFound             404
│   ├── Conflict             409
│   ├── TooLarge             413
│   ├── Invalid              422, with the fields at fault
│   └── TooMany              429, with when to try again
├── Unavailable              503: something of our own is wanting; nothing was accepted, nobody else is to blame
└── DeliveryError            an attempt failed; it says why and whether another try makes sense
"""

from __future__ import annotations

from typing import Any, ClassVar


class WaypostError(Exception):
    """The root of all errors that Waypost raises on purpose. `str()` of it is a sentence for a person."""


class SettingsError(WaypostError):
    """A setting is missing, unknown or wrong."""


class MissingExtra(WaypostError):
    """An optional library is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs an optional library: install waypost[{extra}]")
        self.feature = feature
        self.extra = extra


class Refused(WaypostError):
    """A request that Waypost will not carry out. `data` holds the details for the answer's body."""

    status: ClassVar[int] = 400

    def __init__(self, message: str, data: list[str] | dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


class BadRequest(Refused):
    status = 400


class Unauthorized(Refused):
    status = 401


class Forbidden(Refused):
    status = 403


class NotFound(Refused):
    status = 404


class MethodNotAllowed(Refused):
    status = 405


class Conflict(Refused):
    status = 409


class TooLarge(Refused):
    status = 413


class Invalid(Refused):
    """Fields that break a rule. `data` is a list of sentences, or query parameters with a sentence each."""

    status = 422

    def __init__(self, data: list[str] | dict[str, Any] | None = None, message: str = "validation error") -> None:
        super().__init__(message, data)


class TooMany(Refused):
    """A limit is used up for now. `data` says what is left, `retry_after` in how many seconds to try again."""

    status = 429

    def __init__(self, message: str, data: dict[str, Any], *, retry_after: int) -> None:
        super().__init__(message, data)
        self.retry_after = retry_after


class Unavailable(WaypostError):
    """Something of our own is wanting: a full disk, a locked file, no descriptor left, a shutdown.

    Nothing was acknowledged, and an attempt that meets it is put off rather than failed. `reason` is a word for counts.
    """

    def __init__(self, message: str = "", *, reason: str = "other") -> None:
        super().__init__(message)
        self.reason = reason


class DeliveryError(WaypostError):
    """An attempt that did not succeed.

    `code` is the destination's status or one of the named failures (`dns_error`, `connection_refused`,
    `connection_reset`, `network_unreachable`, `timeout`, `tls_error`, `blocked_address`, `network_error`, or a name of
    the destination type's own). `retryable` says whether the same send can succeed later without anybody changing
    anything; the retry policy has the last word. `retry_after` is the wait in seconds that the destination asked for.
    """

    def __init__(
        self,
        code: str,
        sentence: str,
        *,
        retryable: bool = True,
        retry_after: float | None = None,
        response: dict[str, Any] | None = None,
        request: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.retryable = retryable
        self.retry_after = retry_after
        self.response = response
        self.request = request
