"""Failures: one that several wait for, and what a server says of it."""

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


def one_line(text: str, most: int = 200) -> str:
    """A server's own words as they may stand in a sentence: one line, no control characters, at most that long."""
    shown = "".join(character if character.isprintable() else " " for character in text[: 4 * most])
    return " ".join(shown.split())[:most]
