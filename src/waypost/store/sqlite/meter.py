"""Counts what is accepted and recorded, in the same transaction. Lives in the writing thread."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from enum import IntEnum
from typing import NamedTuple

from waypost.core import ids
from waypost.core.metering import MINUTE
from waypost.core.model import Event
from waypost.store.base import Publication, Result
from waypost.store.sqlite.bulk import in_bulk


class View(IntEnum):
    """What a series counts, and so what it can be told apart by."""

    EVENTS = 0
    ROUTED = 1
    """Events once for each destination that they were routed to."""
    ATTEMPTS = 2
    ALL_EVENTS = 3
    ROUTED_BY_DESTINATION = 4
    ALL_ATTEMPTS = 5
    ATTEMPTS_BY_TENANT = 6
    ATTEMPTS_BY_DESTINATION = 7
    STATUS_BY_TOPIC = 8
    STATUS_BY_DESTINATION = 9


WIDER: dict[View, tuple[View, frozenset[str]]] = {
    View.ALL_EVENTS: (View.EVENTS, frozenset({"tenant_id"})),
    View.ROUTED_BY_DESTINATION: (View.ROUTED, frozenset({"topic"})),
    View.STATUS_BY_TOPIC: (
        View.ATTEMPTS,
        frozenset({"tenant_id", "destination_id", "destination_type", "code", "manual", "number"}),
    ),
    View.STATUS_BY_DESTINATION: (View.ATTEMPTS, frozenset({"topic", "code", "manual", "number"})),
    View.ALL_ATTEMPTS: (View.ATTEMPTS, frozenset({"tenant_id", "destination_id"})),
    View.ATTEMPTS_BY_TENANT: (View.ATTEMPTS, frozenset({"topic", "destination_id", "destination_type"})),
    View.ATTEMPTS_BY_DESTINATION: (View.ATTEMPTS, frozenset({"topic"})),
}
"""Views with fewer series, for questions that span many: what they add up, and what they cannot tell apart. Those with
the fewest come first."""


class Series(NamedTuple):
    """What is alike about the things that one series counts."""

    view: View
    tenant_id: str = ""
    topic: str = ""
    destination_id: str = ""
    destination_type: str = ""
    code: str = ""
    ok: bool = False
    manual: bool = False
    number: int = 0


_MOST_KNOWN = 100_000
_COUNT = """
    INSERT INTO rollups_fresh VALUES {rows}
    ON CONFLICT (bucket, series) DO UPDATE SET count = count + excluded.count
"""
_FIELDS = ", ".join(Series._fields)
_ADD = f"""
    INSERT INTO series ({_FIELDS}) VALUES ({", ".join("?" * len(Series._fields))})
    ON CONFLICT DO UPDATE SET no = no RETURNING no
"""


class Meter:
    """Knows the numbers of series; `forget` when a transaction was undone, which may have added some."""

    def __init__(self) -> None:
        self._known: dict[Hashable, int] = {}

    def forget(self) -> None:
        self._known.clear()

    def accepted(self, db: sqlite3.Connection, publications: Iterable[Publication]) -> None:
        known, counts = self._known.get, defaultdict[tuple[int, int], int](int)
        for publication in publications:
            event = publication.event
            tenant_id, topic, minute = event.tenant_id, event.topic, event.time // MINUTE
            counts[minute, known((tenant_id, topic)) or self._event(db, event)] += 1
            for to in publication.matched:
                counts[minute, known((to.no, topic)) or self._routed(db, event, to.no, to.id)] += 1
        _add(db, counts)

    def recorded(self, db: sqlite3.Connection, results: Iterable[Result]) -> None:
        known, counts = self._known.get, defaultdict[tuple[int, int], int](int)
        for result in results:
            delivery, outcome = result.delivery, result.outcome
            key = (
                delivery.destination_no,
                delivery.event.topic,
                outcome.code,
                outcome.ok,
                delivery.manual,
                delivery.attempt,
            )
            counts[ids.time_of(result.seq) // MINUTE, known(key) or self._attempt(db, key, result)] += 1
        _add(db, counts)

    def _event(self, db: sqlite3.Connection, event: Event) -> int:
        return self._learn(db, (event.tenant_id, event.topic), Series(View.EVENTS, event.tenant_id, event.topic))

    def _routed(self, db: sqlite3.Connection, event: Event, no: int, destination_id: str) -> int:
        return self._learn(db, (no, event.topic), Series(View.ROUTED, event.tenant_id, event.topic, destination_id))

    def _attempt(self, db: sqlite3.Connection, key: Hashable, result: Result) -> int:
        delivery, outcome = result.delivery, result.outcome
        (destination_id,) = db.execute(
            "SELECT id FROM destinations WHERE no = ?", (delivery.destination_no,)
        ).fetchone()
        series = Series(
            view=View.ATTEMPTS,
            tenant_id=delivery.event.tenant_id,
            topic=delivery.event.topic,
            destination_id=destination_id,
            destination_type=result.destination_type,
            code=outcome.code,
            ok=outcome.ok,
            manual=delivery.manual,
            number=delivery.attempt,
        )
        return self._learn(db, key, series)

    def _learn(self, db: sqlite3.Connection, key: Hashable, series: Series) -> int:
        if len(self._known) >= _MOST_KNOWN:
            self.forget()
        number = self._known[key] = number_of(db, series)
        return number


def number_of(db: sqlite3.Connection, series: Series) -> int:
    """The number of a series, which is added if it is new, as are those that it is a part of."""
    number = _number(db, series)
    wholes = [number, *[_number(db, wider) for wider in _wider(series)]]
    db.executemany("INSERT OR IGNORE INTO series_sums VALUES (?, ?)", [(number, whole) for whole in wholes])
    return number


def _number(db: sqlite3.Connection, series: Series) -> int:
    number: int
    (number,) = db.execute(_ADD, series).fetchone()
    return number


def _wider(series: Series) -> Iterator[Series]:
    """The series that this one is a part of."""
    for view, (parts, without) in WIDER.items():
        if parts is series.view:
            kept = {name: value for name, value in series._asdict().items() if name not in without}
            yield Series(**(kept | {"view": view}))


def _add(db: sqlite3.Connection, counts: dict[tuple[int, int], int]) -> None:
    in_bulk(db, _COUNT, [(minute, series, count) for (minute, series), count in counts.items()])
