"""Lists of events and attempts, each read from an index in which what is wanted lies together and in order.

First the keys of a page are found, where possible without a look at the rows, which are large; then the rows are read.
SQLite is told which index to take: it knows nothing of how many rows there are. What only a FEW rows match is collected
and sorted; what more match is soon come across in the order of the list.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterator, Sequence

from msgspec import structs

from waypost.core.model import SECOND
from waypost.core.routing import REASONS
from waypost.core.status import Status
from waypost.store.base import AttemptQuery, EventQuery, StoredEvent
from waypost.store.paging import Page, Range, Slice
from waypost.store.sqlite import rows, skips
from waypost.store.sqlite.conditions import Conditions
from waypost.store.sqlite.window import Way, Window, fitting, weight

FEW = 1_000
_FEW_EVENTS = 3_000
"""The same for events whose attempts are wanted: their index tells of all of them."""
_NOT_MANY = 10_000
"""So many numbers are handed to SQLite as a list: to look into it takes less time than to look into a table."""
_MANY = 100
"""More destinations than these are not looked through one after another."""

IN_STATUS = {
    Status.PENDING: "x.state = 0 AND x.leased = 0 AND x.attempt = 1",
    Status.DELIVERING: "x.state = 0 AND x.leased = 1",
    Status.RETRYING: "x.state = 0 AND x.leased = 0 AND x.attempt <> 1",
    Status.DELIVERED: "x.state = 1",
    Status.EXHAUSTED: "x.state = 2",
    Status.CANCELLED: "x.state = 3",
    Status.DISABLED: "x.state = 4",
}
"""`waypost.core.status.status_of` as conditions on deliveries `x`."""

INDEX_OF = {
    Status.PENDING: "deliveries_pending",
    Status.DELIVERING: "deliveries_pending",
    Status.RETRYING: "deliveries_pending",
    Status.EXHAUSTED: "deliveries_exhausted",
    Status.CANCELLED: "deliveries_cancelled",
    Status.DISABLED: "deliveries_kept",
}
"""Partial indexes: whatever is in one of these statuses, by destination."""

LISTED = "(SELECT value FROM json_each(?))"
"""Numbers, or texts, as one parameter."""
_NUMBERS_OF = "SELECT no FROM destinations WHERE id IN ({values})"
_TO_DESTINATIONS = f"x.destination_no IN ({_NUMBERS_OF})"
_COMMON_CODES = ("200", "201", "202", "204", "ack")
_LARGEST_COMMON_CODE = 204
_NOTABLE_LATENCY = SECOND
_NOTABLE = f"NOT (a.ok = 1 AND a.manual = 0 AND a.latency < {_NOTABLE_LATENCY} AND a.code IN {_COMMON_CODES})"
"""As the partial indexes on attempts say it."""
_CODE_CLASS = re.compile("[1-5]xx", re.IGNORECASE)


@contextlib.contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[None]:
    """What is read within is of one moment, which is now."""
    db.execute("BEGIN")
    try:
        db.execute("SELECT 1 FROM main.sqlite_schema").fetchone()
        yield
    finally:
        db.execute("COMMIT")


# events


def events(db: sqlite3.Connection, query: EventQuery, page: Page) -> Slice[StoredEvent]:
    window = Window(page, ("e.time", "e.seq"))
    with snapshot(db):
        seqs = [seq for _, seq in window.keys(db, _event_ways(db, query))]
        sql = f"SELECT {rows.STORED_EVENT} FROM json_each(?) k CROSS JOIN events e ON e.seq = k.value"
        found, short = fitting(db.execute(sql, (rows.json_text(seqs),)), page.most_bytes, weight)
    return window.cut([rows.stored_event(row) for row in found], short=short)


def selecting(query: EventQuery) -> Conditions:
    """All that a query says of events `e`, but for its search."""
    conditions = (
        Conditions()
        .any_of("e.id", query.ids)
        .any_of("e.tenant_id", query.tenant_ids)
        .any_of("e.topic", query.topics)
        .within("e.time", query.time)
        .numbered_within("e.seq", query.accepted)
        .contains_any("e.skipped", skips.marks(query.skipped_by, query.skip_reasons))
    )
    return conditions.either(_deliveries_or_skips(query))


def _deliveries_or_skips(query: EventQuery) -> list[Conditions]:
    """What the destinations and statuses of a query say, as alternatives."""
    if not query.destination_ids and not query.statuses:
        return []
    alternatives = []
    statuses = [IN_STATUS[status] for status in query.statuses if status is not Status.SKIPPED]
    if statuses or not query.statuses:
        delivery = Conditions().when("x.event_seq = e.seq").when_any(_TO_DESTINATIONS, query.destination_ids)
        delivery.either([Conditions().when(status) for status in statuses])
        exists = f"EXISTS (SELECT 1 FROM deliveries x{delivery.where})"
        alternatives.append(Conditions().when(exists, *delivery.parameters))
    if Status.SKIPPED in query.statuses:
        marks = skips.marks(query.destination_ids, ())
        alternatives.append(Conditions().when("e.skipped IS NOT NULL").contains_any("e.skipped", marks))
    return alternatives


def _event_ways(db: sqlite3.Connection, query: EventQuery) -> Iterator[Way]:
    if query.ids:
        yield Way("events e INDEXED BY events_by_id", selecting(query))
        return
    named = query.destination_ids or query.skipped_by
    if named and not query.tenant_ids:
        query = structs.replace(query, tenant_ids=owners(db, named))
        if query.destination_ids and not query.tenant_ids:
            return
    query, candidates = narrowed(db, query)
    if candidates is not None and len(candidates) <= FEW:
        yield Way("events e NOT INDEXED", selecting(query).when(f"e.seq IN {LISTED}", rows.json_text(candidates)))
        return
    for one, index in _in_order(db, query):
        conditions = selecting(one)
        if index == "events_skipped":
            conditions.when("e.skipped IS NOT NULL").either(_for_reasons(query))
        if candidates is not None:
            conditions.when(f"+e.seq IN {LISTED}", rows.json_text(candidates))
        yield Way(f"events e INDEXED BY {index}", conditions)


def _in_order(db: sqlite3.Connection, query: EventQuery) -> Iterator[tuple[EventQuery, str]]:
    """Disjoint parts of a query with the index in which each is in order."""
    if query.topics and (not query.tenant_ids or _are_rare(db, query.topics)):
        for topic in dict.fromkeys(query.topics):
            yield structs.replace(query, topics=(topic,)), "events_by_topic"
    elif query.tenant_ids:
        for tenant_id in dict.fromkeys(query.tenant_ids):
            index = "events_skipped" if _wants_skips(query) else "events_by_tenant"
            yield structs.replace(query, tenant_ids=(tenant_id,)), index
    else:
        yield query, "events_by_time"


def _are_rare(db: sqlite3.Connection, topics: Sequence[str]) -> bool:
    """Whether these topics, of all tenants, do not have many events."""
    of_topics = Conditions().any_of("topic", topics)
    sql = f"SELECT count(*) FROM (SELECT 1 FROM events INDEXED BY events_by_topic{of_topics.where} LIMIT ?)"
    (count,) = db.execute(sql, (*of_topics.parameters, _NOT_MANY + 1)).fetchone()
    return bool(count <= _NOT_MANY)


def _wants_skips(query: EventQuery) -> bool:
    """Whether only events can be meant that some destination did not get."""
    return bool(query.skipped_by or query.skip_reasons) or query.statuses == (Status.SKIPPED,)


def _for_reasons(query: EventQuery) -> list[Conditions]:
    """What the index on skipped events tells of the reasons."""
    return [
        Conditions().when(f"""instr(e.skipped, '","{reason}",')""")
        for reason in REASONS
        if reason in query.skip_reasons
    ]


def narrowed(db: sqlite3.Connection, query: EventQuery) -> tuple[EventQuery, list[int] | None]:
    """The numbers of all events that can be meant, if an index tells that they are not many.

    Before them stands what the query says beyond that.
    """
    parts = list(_narrow_parts(db, query))
    if not parts:
        return query, None
    sql = " UNION ALL ".join(source + conditions.where for source, conditions in parts)
    parameters = [value for _, conditions in parts for value in conditions.parameters]
    found = [seq for (seq,) in db.execute(f"{sql} LIMIT ?", (*parameters, _NOT_MANY + 1))]
    if len(found) > _NOT_MANY:
        return query, None
    if not _wants_skips(query) and INDEX_OF.keys() >= set(query.statuses):
        query = structs.replace(query, statuses=(), destination_ids=())
    return query, found


def _narrow_parts(db: sqlite3.Connection, query: EventQuery) -> Iterator[tuple[str, Conditions]]:
    if _wants_skips(query):
        of_tenants = Conditions().when("e.skipped IS NOT NULL").any_of("e.tenant_id", query.tenant_ids)
        yield "SELECT e.seq FROM events e INDEXED BY events_skipped", of_tenants.either(_for_reasons(query))
    elif query.statuses and INDEX_OF.keys() >= set(query.statuses):
        for status in query.statuses:
            conditions = Conditions().when(IN_STATUS[status])
            if query.tenant_ids:
                nos = numbers(db, query.destination_ids, query.tenant_ids)
                conditions.when(f"x.destination_no IN {LISTED}", rows.json_text(nos))
            yield f"SELECT x.event_seq FROM deliveries x INDEXED BY {INDEX_OF[status]}", conditions
    elif query.destination_ids:
        nos = numbers(db, query.destination_ids, query.tenant_ids)
        to_them = Conditions().when(f"x.destination_no IN {LISTED}", rows.json_text(nos))
        if Status.SKIPPED not in query.statuses:
            yield "SELECT x.event_seq FROM deliveries x INDEXED BY deliveries_by_destination", to_them
    elif query.tenant_ids and query.search:
        of_tenants = Conditions().any_of("tenant_id", query.tenant_ids)
        yield "SELECT seq FROM events INDEXED BY events_by_tenant", of_tenants


def numbers(db: sqlite3.Connection, destination_ids: Sequence[str], tenant_ids: Sequence[str]) -> list[int]:
    """The numbers of destinations, deleted ones too."""
    conditions = Conditions().any_of("id", destination_ids).any_of("tenant_id", tenant_ids)
    return [no for (no,) in db.execute(f"SELECT no FROM destinations{conditions.where}", conditions.parameters)]


def owners(db: sqlite3.Connection, destination_ids: Sequence[str]) -> tuple[str, ...]:
    """The tenants that have, or had, destinations of these ids."""
    conditions = Conditions().any_of("id", destination_ids)
    sql = f"SELECT DISTINCT tenant_id FROM destinations{conditions.where}"
    return tuple(tenant_id for (tenant_id,) in db.execute(sql, conditions.parameters))


# attempts


def attempts(db: sqlite3.Connection, query: AttemptQuery, page: Page, select: str) -> Slice[rows.Row]:
    """`select` reads attempts `a`, whose numbers are `k.value`, with what belongs to them."""
    window = Window(page, ("a.seq",))
    with snapshot(db):
        seqs = [seq for (seq,) in window.keys(db, _attempt_ways(db, query))]
        found, short = fitting(db.execute(select, (rows.json_text(seqs),)), page.most_bytes, weight)
    return window.cut(found, short=short)


def _attempt_ways(db: sqlite3.Connection, query: AttemptQuery) -> Iterator[Way]:
    if query.ids:
        yield Way("attempts a NOT INDEXED", _of_attempts(query))
        return
    if query.destination_ids and not query.tenant_ids:
        query = structs.replace(query, tenant_ids=owners(db, query.destination_ids))
    nos = _destinations_of(db, query)
    if nos == []:
        return
    events = _events_of(db, query)
    if events is not None:
        query = structs.replace(query, event_ids=(), topics=query.topics if query.event_ids else ())
        if len(events) <= (FEW if _is_notable(query) else _FEW_EVENTS):
            rest = structs.replace(query, tenant_ids=())  # theirs are the events
            of_events = _of_attempts(rest, nos).when(f"a.event_seq IN {LISTED}", rows.json_text(events))
            yield Way("attempts a INDEXED BY attempts_by_event", of_events)
            return
    for one, source in _attempts_in_order(query, nos):
        conditions = _of_attempts(*one)
        if _is_notable(query):
            conditions.when(_NOTABLE)
        if events is not None:
            conditions.when(f"+a.event_seq IN {LISTED}", rows.json_text(events))
        yield Way(source, conditions)


def _attempts_in_order(
    query: AttemptQuery, nos: Sequence[int] | None
) -> Iterator[tuple[tuple[AttemptQuery, Sequence[int] | None], str]]:
    """Disjoint parts of a query, each with its destinations and the index in which it is in order."""
    notable = _is_notable(query)
    if nos is not None and not notable:
        for no in nos:
            yield (query, [no]), "attempts a INDEXED BY attempts_by_destination"
    elif query.tenant_ids:
        for tenant_id in dict.fromkeys(query.tenant_ids):
            index = "attempts_notable_by_tenant" if notable else "attempts_by_tenant"
            yield (structs.replace(query, tenant_ids=(tenant_id,)), nos), f"attempts a INDEXED BY {index}"
    else:
        yield (query, nos), f"attempts a {'INDEXED BY attempts_notable' if notable else 'NOT INDEXED'}"


def _of_attempts(query: AttemptQuery, nos: Sequence[int] | None = None) -> Conditions:
    """All that a query says of attempts `a`; `nos` are the only destinations that can be meant."""
    conditions = (
        Conditions()
        .any_of("a.seq", query.ids)
        .any_of("a.tenant_id", query.tenant_ids)
        .any_of("a.destination_no", nos or ())
        .when_any("a.event_seq IN (SELECT seq FROM events WHERE id IN ({values}))", query.event_ids)
        .when_any("EXISTS (SELECT 1 FROM events e WHERE e.seq = a.event_seq AND e.topic IN ({values}))", query.topics)
        .either([_of_code(code) for code in query.codes])
        .within("a.latency", query.latency)
        .numbered_within("a.seq", query.time)
    )
    if nos is None:
        conditions.any_of("a.destination_type", query.destination_types).when_any(
            f"a.destination_no IN ({_NUMBERS_OF})", query.destination_ids
        )
    if query.status_code != Range():
        conditions.when("a.code >= '0' AND a.code < ':'").within("CAST(a.code AS INTEGER)", query.status_code)
    for column, wanted in (("a.ok", query.ok), ("a.manual", query.manual)):
        if wanted is not None:
            conditions.any_of(column, (int(wanted),))
    return conditions


def _of_code(code: str) -> Conditions:
    """A code, or a class such as `4xx`."""
    if _CODE_CLASS.fullmatch(code):
        return Conditions().when("a.code >= ? AND a.code < ?", code[0], chr(ord(code[0]) + 1))
    return Conditions().any_of("a.code", (code,))


def _is_notable(query: AttemptQuery) -> bool:
    """Whether no attempt can be meant that is like most of them."""
    least = max(query.latency.gte or 0, query.latency.gt or 0)
    codes, numbers = query.codes, query.status_code
    return (
        query.ok is False
        or query.manual is True
        or least >= _NOTABLE_LATENCY
        or bool(codes and not {*_COMMON_CODES, "2xx"}.intersection(code.lower() for code in codes))
        or max(numbers.gte or 0, numbers.gt or 0) > _LARGEST_COMMON_CODE
    )


def _events_of(db: sqlite3.Connection, query: AttemptQuery) -> list[int] | None:
    """The numbers of the events that can be meant, if they are not many."""
    of_tenants = Conditions().any_of("tenant_id", query.tenant_ids)
    if query.event_ids:
        sql = f"SELECT seq FROM events{of_tenants.any_of('id', query.event_ids).where}"
        return [seq for (seq,) in db.execute(sql, of_tenants.parameters)]
    if not query.topics:
        return None
    by_topic = not query.tenant_ids or _are_rare(db, query.topics)
    index = "events_by_topic" if by_topic else "events_by_tenant"
    sql = f"SELECT seq FROM events INDEXED BY {index}{of_tenants.any_of('topic', query.topics).where} LIMIT ?"
    found = [seq for (seq,) in db.execute(sql, (*of_tenants.parameters, _NOT_MANY + 1))]
    return found if len(found) <= _NOT_MANY else None


def _destinations_of(db: sqlite3.Connection, query: AttemptQuery) -> list[int] | None:
    """The numbers of the destinations that can be meant, if they are few."""
    if query.destination_ids:
        conditions = Conditions().any_of("id", query.destination_ids)
    elif query.destination_types:
        conditions = Conditions()
    else:
        return None
    conditions.any_of("tenant_id", query.tenant_ids).any_of("type", query.destination_types)
    sql = f"SELECT no FROM destinations{conditions.where} LIMIT ?"
    found = [no for (no,) in db.execute(sql, (*conditions.parameters, _MANY + 1))]
    return found if len(found) <= _MANY else None
