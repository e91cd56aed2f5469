"""Which destinations an event goes to, and the reason why not for each of the others (specification, 4.2.2, 4.2.6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from waypost.core import topics
from waypost.core.filters import Document
from waypost.core.model import Destination, Event

_MOST_TOLD = 3
"""How many subscriptions the reason for a skip tells about."""


class Filter(Protocol):
    """A compiled payload filter."""

    def passes(self, document: Document) -> bool: ...

    def explain(self, document: Document) -> str:
        """The clause that decided, as a sentence."""
        ...


class AnySubscription:
    """Several subscriptions as one filter: an event passes when one that covers its topic lets it pass.

    Each is a test of topics and, unless all their events will do, a compiled filter.
    """

    def __init__(self, subscriptions: Sequence[tuple[Callable[[str], bool], Filter | None]]) -> None:
        self._subscriptions = tuple(subscriptions)

    def passes(self, document: Document) -> bool:
        topic = document.topic
        for covers, filter_ in self._subscriptions:
            if covers(topic) and (filter_ is None or filter_.passes(document)):
                return True
        return False

    def explain(self, document: Document) -> str:
        """What each of the subscriptions to the topic says, by its index."""
        told = [
            f"subscriptions.{index}: {'Passes: it has no filter.' if filter_ is None else filter_.explain(document)}"
            for index, (covers, filter_) in enumerate(self._subscriptions)
            if covers(document.topic)
        ]
        more = [f"And {len(told) - _MOST_TOLD} more."] if len(told) > _MOST_TOLD else []
        return " ".join(told[:_MOST_TOLD] + more)


class Route(Struct, frozen=True):
    """A destination with its subscription compiled; built once per destination version."""

    destination: Destination
    covers: Callable[[str], bool]
    filter: Filter | None = None

    @classmethod
    def of(cls, destination: Destination, compiled: Filter | None = None) -> Route:
        return cls(destination, topics.matcher(destination.topics), compiled)


REASONS = ("not_addressed", "topic", "filter", "disabled")
"""Why a destination may be skipped, in the order in which they are looked for."""


class Skip(Struct, frozen=True, array_like=True, gc=False):
    """A destination that does not get the event. `reason` is one of REASONS."""

    destination_id: str
    reason: str
    detail: str | None = None


class Routing(NamedTuple):
    """`kept` are destinations that would have got the event, but are disabled; they are among the skipped too."""

    matched: tuple[Destination, ...]
    skipped: tuple[Skip, ...]
    kept: tuple[Destination, ...] = ()


def route(event: Event, routes: Sequence[Route]) -> Routing:
    """Split a tenant's destinations into those that get the event and those that don't, each with its reason.

    An event addressed to one destination still obeys that destination's topics, filter and disabled state. All filters
    look at one document, so the event's data is decoded at most once, and not at all where no filter asks.
    """
    document = Document(event)
    matched: list[Destination] = []
    skipped: list[Skip] = []
    kept: list[Destination] = []
    for candidate in routes:
        skip = _reason_to_skip(event, document, candidate)
        if skip is None:
            matched.append(candidate.destination)
            continue
        skipped.append(skip)
        if skip.reason == "disabled":
            kept.append(candidate.destination)
    return Routing(tuple(matched), tuple(skipped), tuple(kept))


def _reason_to_skip(event: Event, document: Document, candidate: Route) -> Skip | None:
    destination = candidate.destination
    if event.destination_id is not None and event.destination_id != destination.id:
        return Skip(destination.id, "not_addressed")
    if not candidate.covers(event.topic):
        return Skip(destination.id, "topic")
    if candidate.filter is not None and not candidate.filter.passes(document):
        return Skip(destination.id, "filter", candidate.filter.explain(document))
    if destination.disabled_at is not None:
        return Skip(destination.id, "disabled")
    return None
