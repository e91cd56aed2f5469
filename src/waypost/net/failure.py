"""One failure that several wait for."""

from __future__ import annotations

from waypost.core.errors import DeliveryError


def copy_of(error: DeliveryError) -> DeliveryError:
    """A copy to raise: an exception that is raised twice would drag its first traceback along."""
    return DeliveryError(
        error.code,
        error.sentence,
        retryable=error.retryable,
        retry_after=error.retry_after,
        response=error.response,
        request=error.request,
    )
