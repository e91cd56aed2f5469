"""When to try again. The specification asks for exponential back-off with configurable limits (section 4.1.2)."""

from __future__ import annotations

import math
from typing import Literal

from msgspec import Struct, structs

from waypost.core import codes

RetryOn = Literal["transient", "any"]
"""Which failures are worth a retry.

`transient`: network failures, timeouts, HTTP 408, 425, 429 and 5xx, and whatever else a destination type calls
retryable. `any`: every failure, as Hookdeck Outpost does it.
"""


class RetryOverrides(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The parts of a retry policy that one destination sets for itself; what is None follows the server's policy."""

    limit: int | None = None
    base_seconds: float | None = None
    factor: float | None = None
    max_wait_seconds: float | None = None
    jitter: float | None = None
    schedule: tuple[float, ...] | None = None
    retry_on: RetryOn | None = None
    retry_codes: tuple[str, ...] | None = None
    no_retry_codes: tuple[str, ...] | None = None


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """How often and how long apart a failed delivery is tried again.

    The n-th retry waits `base_seconds * factor**(n-1)`, at most `max_wait_seconds`; with a `schedule`, its n-th entry
    (seconds) instead, and its length is the limit. `jitter` is the share of the wait that may be added at random
    (0.1 = up to 10 % later). The maximum wait bounds the back-off and what a destination asks for, not the entries of
    an explicit schedule. `retry_codes` and `no_retry_codes` name codes (`"404"`, `"4xx"`, `"timeout"`) that are always
    or never worth a retry; `no_retry_codes` wins. A success is never retried.
    """

    limit: int = 10
    base_seconds: float = 30.0
    factor: float = 2.0
    max_wait_seconds: float = 86_400.0
    jitter: float = 0.1
    schedule: tuple[float, ...] = ()
    retry_on: RetryOn = "transient"
    retry_codes: tuple[str, ...] = ()
    no_retry_codes: tuple[str, ...] = ()

    def overridden(self, own: RetryOverrides | None) -> RetryPolicy:
        """This policy with a destination's own settings laid over it.

        Own back-off numbers without an own schedule switch the server's schedule off: they would have no effect.
        """
        if own is None:
            return self
        changes = {name: value for name, value in structs.asdict(own).items() if value is not None}
        own_backoff = changes.keys() & {"limit", "base_seconds", "factor"}
        if own_backoff and "schedule" not in changes:
            changes["schedule"] = ()
        return structs.replace(self, **changes)

    @property
    def retries(self) -> int:
        """How many retries there are at most."""
        return len(self.schedule) if self.schedule else self.limit

    def worth_a_retry(self, code: str, *, retryable: bool) -> bool:
        """Whether a failure with this code can be mended by trying again."""
        if codes.names(self.no_retry_codes, code):
            return False
        return retryable or self.retry_on == "any" or codes.names(self.retry_codes, code)

    def wait(self, spent: int, *, jitter: float, retry_after: float | None = None) -> float | None:
        """Seconds to wait before the next retry after `spent` of them, or None when there is none left.

        `jitter` is a number drawn from [0, 1) by the caller. A destination's `retry_after` (RFC 9110, 10.2.3) lengthens
        the wait up to `max_wait_seconds` and never shortens it; jitter is added, so that not all come at that instant.
        """
        if spent >= self.retries:
            return None
        stretch = 1 + self.jitter * jitter
        if self.schedule:
            planned = self.schedule[spent] * stretch
        else:
            planned = min(_power(self.base_seconds, self.factor, spent) * stretch, self.max_wait_seconds)
        return max(planned, min((retry_after or 0.0) * stretch, self.max_wait_seconds))


def _power(base: float, factor: float, exponent: int) -> float:
    try:
        return base * factor**exponent
    except OverflowError:
        return math.inf
