"""Which destinations an event goes to, and the reason why not for each of the others (specification, 4.2.2, 4.2.6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from waypost.core import topics
from waypost.core.filters import DEFAULT_LIMITS, Document, FilterLimits, TooCostly
from waypost.core.model import Destination, Event

_MOST_TOLD = 3
"""How many subscriptions the reason for a skip tells about."""


class Filter(Protocol):
    """A compiled payload filter. It spends the document's steps, so many of them or all that are left."""

    def passes(self, document: Document, steps: int | None = None) -> bool:
        """Raises TooCostly when the steps run out."""
        ...

    def explain(self, document: Document, steps: int | None = None) -> str:
        """The clause that decided, as a sentence."""
        ...


def _answer(filter_: Filter | None, document: Document, steps: int) -> bool | None:
    """None when it would take more steps."""
    try:
        return filter_ is None or filter_.passes(document, steps)
    except TooCostly:
        return None


class AnySubscription:
    """Several subscriptions as one filter: an event passes when one that covers its topic lets it pass.

    Each is a test of topics and, unless all their events will do, a compiled filter.
    """

    def __init__(self, subscriptions: Sequence[tuple[Callable[[str], bool], Filter | None]]) -> None:
        self._subscriptions = tuple(subscriptions)

    def passes(self, document: Document, steps: int | None = None) -> bool:
        """Cheap ones decide before costly ones, each within its share and then within what is left."""
        asked = [filter_ for _, filter_ in self._covering(document.topic)]
        if None in asked:
            return True
        steps = document.left if steps is None else steps
        share, kept = steps // max(1, len(asked)), document.left - steps
        costly, undecided = [], False
        for filter_ in asked:
            passes = _answer(filter_, document, share)
            if passes:
                return True
            costly += [filter_] if passes is None else []
        for number, filter_ in enumerate(costly):
            more = (document.left - kept) // (len(costly) - number)
            passes = _answer(filter_, document, more) if more > share else None
            if passes:
                return True
            undecided = undecided or passes is None
        if undecided:
            raise TooCostly
        return False

    def explain(self, document: Document, steps: int | None = None) -> str:
        """What each of the subscriptions to the topic says, by its index."""
        asked = self._covering(document.topic)
        share = (document.left if steps is None else steps) // max(1, min(len(asked), _MOST_TOLD))
        told = [
            f"subscriptions.{index}: "
            f"{'Passes: it has no filter.' if filter_ is None else filter_.explain(document, share)}"
            for index, filter_ in asked[:_MOST_TOLD]
        ]
        more = [f"And {len(asked) - _MOST_TOLD} more."] if len(asked) > _MOST_TOLD else []
        return " ".join(told + more)

    def _covering(self, topic: str) -> list[tuple[int, Filter | None]]:
        return [(index, filter_) for index, (covers, filter_) in enumerate(self._subscriptions) if covers(topic)]


class Route(Struct, frozen=True):
    """A destination with its subscription compiled; built once per destination version."""

    destination: Destination
    covers: Callable[[str], bool]
    filter: Filter | None = None

    @classmethod
    def of(cls, destination: Destination, compiled: Filter | None = None) -> Route:
        return cls(destination, topics.matcher(destination.topics), compiled)


REASONS = ("not_addressed", "topic", "filter", "filter_cost", "disabled")
"""Why a destination may be skipped, in the order in which they are looked for."""


class Skip(Struct, frozen=True, array_like=True, gc=False):
    """A destination that does not get the event. `reason` is one of REASONS."""

    destination_id: str
    reason: str
    detail: str | None = None


class Routing(NamedTuple):
    """`kept` are destinations that would have got the event, but are disabled; they are among the skipped too.

    `spent` are the steps that the filters took.
    """

    matched: tuple[Destination, ...]
    skipped: tuple[Skip, ...]
    kept: tuple[Destination, ...] = ()
    spent: int = 0


def route(
    event: Event, routes: Sequence[Route], limits: FilterLimits = DEFAULT_LIMITS, steps: int | None = None
) -> Routing:
    """Split a tenant's destinations into those that get the event and those that don't, each with its reason.

    An event addressed to one destination still obeys that destination's topics, filter and disabled state. All filters
    look at one document, so the event's data is decoded at most once, and not at all where no filter asks.

    All filters spend from the same steps, by default what the limits allow one event. Each destination is sure of an
    equal share; those that need more are asked again afterwards, with what the others have left.
    """
    given = limits.max_steps if steps is None else steps
    document = Document(event, given, limits.max_data_values)
    share = given // len(routes) if routes else given
    split = _Split()
    costly: list[Route] = []
    for candidate in routes:
        reason = _reason_to_skip(event, document, candidate, share)
        if reason is None:
            split.matched.append(candidate.destination)
        elif reason == "filter_cost":
            costly.append(candidate)
        else:
            split.put(candidate, reason)
    for number, candidate in enumerate(costly):
        more = document.left // (len(costly) - number)
        reason = _reason_to_skip(event, document, candidate, more) if more > share else "filter_cost"
        split.put(candidate, reason, document.too_costly if reason == "filter_cost" else None)
    if split.refused:
        split.explain(document)
    return Routing(tuple(split.matched), tuple(split.skipped), tuple(split.kept), given - document.left)


class _Split:
    __slots__ = ("kept", "matched", "refused", "skipped")

    def __init__(self) -> None:
        self.matched: list[Destination] = []
        self.skipped: list[Skip] = []
        self.kept: list[Destination] = []
        self.refused: list[tuple[int, Filter]] = []

    def put(self, candidate: Route, reason: str | None, detail: str | None = None) -> None:
        destination = candidate.destination
        if reason is None:
            self.matched.append(destination)
            return
        if reason == "filter" and candidate.filter is not None:
            self.refused.append((len(self.skipped), candidate.filter))
        elif reason == "disabled":
            self.kept.append(destination)
        self.skipped.append(Skip(destination.id, reason, detail))

    def explain(self, document: Document) -> None:
        """Why each filter let the event not pass, with what all of them left."""
        for number, (at, filter_) in enumerate(self.refused):
            skip = self.skipped[at]
            detail = filter_.explain(document, document.left // (len(self.refused) - number))
            self.skipped[at] = Skip(skip.destination_id, skip.reason, detail)


def _reason_to_skip(event: Event, document: Document, candidate: Route, steps: int) -> str | None:
    destination = candidate.destination
    if event.destination_id is not None and event.destination_id != destination.id:
        return "not_addressed"
    if not candidate.covers(event.topic):
        return "topic"
    try:
        if candidate.filter is not None and not candidate.filter.passes(document, steps):
            return "filter"
    except TooCostly:
        return "filter_cost"
    return "disabled" if destination.disabled_at is not None else None
