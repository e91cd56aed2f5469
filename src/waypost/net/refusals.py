"""What REST services mean by their statuses, in the words of Waypost."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus

from msgspec import Struct

from waypost.core.errors import DeliveryError
from waypost.net.exchange import HttpResponse
from waypost.net.failure import one_line
from waypost.net.record import sent, shown
from waypost.net.retry_after import retry_after

_LONGEST_REASON = 1_000


class Meaning(Struct, frozen=True):
    """A status as a named failure. Code and sentence may contain `{names}` that are filled in."""

    code: str
    sentence: str
    retryable: bool = False


TOO_LARGE = Meaning("message_too_large", "The message is larger than {service} accepts for {what}")
_UNKNOWN = Meaning("unavailable", "{service} answered with status {status}")
_UNAVAILABLE = Meaning("unavailable", "{service} answered with status {status}", retryable=True)


def refusal(response: HttpResponse, meanings: Mapping[int, Meaning], reason: str, **names: str) -> DeliveryError:
    """The error of an answer that is not a success. `reason` is the service's own word for it; it may be empty."""
    status = response.status
    otherwise = _UNAVAILABLE if status >= HTTPStatus.INTERNAL_SERVER_ERROR else _UNKNOWN
    meaning = meanings.get(status, otherwise)
    sentence = meaning.sentence.format(status=status, **names)
    said = one_line(reason, _LONGEST_REASON).rstrip(".")
    return DeliveryError(
        meaning.code.format(**names),
        f"{sentence}: {said}" if said else sentence,
        retryable=meaning.retryable,
        retry_after=retry_after(response.headers.get("retry-after"), now=time.time()),
        response=shown(response),
        request=sent(response.request),
    )
