"""Finding events by what is in them. Implements `waypost.store.search.SearchStore`.

The index gives the numbers of events, newest or oldest first, part by part. The newest events are not in it yet: they
are asked one by one.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from msgspec import Struct, structs

from waypost.core import ids
from waypost.core.errors import Unavailable
from waypost.core.model import SECOND, Micros
from waypost.core.search import Search, of_tenant, of_topic, tokens_of
from waypost.observe import ending
from waypost.store.base import EventQuery, Publication, StoredEvent
from waypost.store.paging import Page, Slice, TimeRange
from waypost.store.search import Indexed, Progress
from waypost.store.sqlite import rows
from waypost.store.sqlite.conditions import Conditions
from waypost.store.sqlite.database import Database
from waypost.store.sqlite.finding import LISTED, narrowed, owners, selecting, snapshot
from waypost.store.sqlite.indexing import Index, Part, count_below, parts
from waypost.store.sqlite.window import Way, Window, fitting

_MOST_ASKED = 500
"""Events that are asked one by one, at most."""
_LOOKED_AT = 200
_END_WITHIN = 5.0
_SETTLED = SECOND
"""After this time events with lower numbers hardly ever come in."""
_LOST_IN_A_CRASH = 60 * SECOND
_EVER = 1 << 63
_NOT_EXPUNGED = "NOT EXISTS (SELECT 1 FROM expunged u WHERE u.event_seq = e.seq)"
_NEWEST = "SELECT min(seq), count(*) FROM (SELECT seq FROM events WHERE seq >= ? ORDER BY seq DESC LIMIT ?)"


class SqliteSearch:
    """`note` and `equip` are called in other threads."""

    def __init__(self, db: Database, *, enabled: bool) -> None:
        self._db = db
        self._enabled = enabled
        self._index = Index(db.path.with_name(db.path.name + ".search"), db.connect)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="waypost-search")
        self._lock = threading.Lock()
        self._noted = self._catching = _EVER

    def open(self, owner: int) -> None:
        if self._enabled:
            self._index.open(owner)
            self._index.catch(ids.bound(ids.time_of(self._index.last) - _LOST_IN_A_CRASH))
        else:
            self._index.remove()

    async def close(self) -> None:
        if await ending.shut_down(self._thread, "waypost-search", _END_WITHIN) and self._enabled:
            self._index.close()

    def equip(self, db: sqlite3.Connection) -> None:
        """Give a connection for reading what searches need."""
        if self._enabled:
            db.execute("ATTACH ? AS search", (str(self._index.path),))

    def note(self, groups: Iterable[Sequence[Publication]]) -> None:
        """These are about to be committed; one of them may have a lower number than others that were before."""
        lowest = min(publication.event.seq for group in groups for publication in group)
        with self._lock:
            self._noted = min(self._noted, lowest)

    # the index

    async def index(self, *, now: Micros) -> Indexed:
        if not self._enabled:
            return Indexed(0, 0.0, more=False)
        with self._lock:
            self._catching, self._noted = min(self._catching, self._noted), _EVER
        await self._db.write(lambda _: None)  # what was noted is on disk by now, or has failed
        try:
            done = await asyncio.get_running_loop().run_in_executor(self._thread, self._piece, now)
        except sqlite3.DatabaseError as error:
            raise Unavailable(f"the search index cannot be written now: {error}") from error
        with self._lock:
            self._catching = _EVER
        return done

    def _piece(self, now: Micros) -> Indexed:
        began = time.perf_counter()
        if self._catching <= self._index.last:
            self._index.catch(self._catching)
        events = self._index.take_in(ids.bound(now - _SETTLED), now)
        cut = self._index.more
        if not events:
            self._index.look(now)
        remaking = self._index.remake()
        return Indexed(events, time.perf_counter() - began, more=remaking or cut)

    async def progress(self) -> Progress:
        def progress(db: sqlite3.Connection) -> Progress:
            known, outside = self._parts(db)
            (_, later) = db.execute(_NEWEST, (outside, _MOST_ASKED + 1)).fetchone()
            until = ids.time_of(known[-1].last) if known else None
            return Progress(until, complete=later <= _MOST_ASKED)

        return await self._db.read(progress)

    def _parts(self, db: sqlite3.Connection) -> tuple[list[Part], int]:
        """The index, and the number from which on events may not be in it."""
        with self._lock:
            noted = min(self._noted, self._catching)
        known = parts(db) if self._enabled else []
        return known, min(noted, known[-1].last + 1 if known else 0)

    # searches

    async def events(self, query: EventQuery, search: Search, page: Page) -> Slice[StoredEvent]:
        """Ordered by number."""
        return await self._db.read(lambda db: self.ask(db, query, search, page))

    def ask(self, db: sqlite3.Connection, query: EventQuery, search: Search, page: Page) -> Slice[StoredEvent]:
        window = Window(page, ("e.seq",))
        with snapshot(db):
            if query.destination_ids and not query.tenant_ids:
                query = structs.replace(query, tenant_ids=owners(db, query.destination_ids) or ("",))
            query, candidates = narrowed(db, query)
            known, outside = self._parts(db)
            asked = _Asked(db, window, query, search, outside, _ahead(window, candidates))
            found = asked.events(known)
            return window.cut(found, short=bool(asked.ends))


def _ahead(window: Window, candidates: list[int] | None) -> list[int] | None:
    """The candidates beyond the position, in the direction of reading."""
    if candidates is not None and window.position is not None:
        (seq,) = window.position
        candidates = [each for each in candidates if each != seq and (each > int(seq)) is window.forwards]
    return None if candidates is None else sorted(set(candidates), reverse=not window.forwards)


def _in_turn(known: Sequence[Part], *, forwards: bool) -> Iterator[Part | None]:
    """The parts in the direction of reading; None stands for what is not in them yet."""
    if forwards:
        yield from known
        yield None
    else:
        yield None
        yield from reversed(known)


class _Asked(Struct, frozen=True):
    """One search under way. Events from `outside` on may not be in the index.

    Only `candidates` can be meant, if any are given. `ends` are the numbers behind which something was left out,
    because what was found before came to too many bytes for one page.
    """

    db: sqlite3.Connection
    window: Window
    query: EventQuery
    search: Search
    outside: int
    candidates: Sequence[int] | None
    ends: list[int] = []

    def events(self, known: Sequence[Part]) -> list[StoredEvent]:
        """What is found, in the direction of reading; `known` are the parts of the index.

        Of the candidates some are looked at first: what is frequent among them is soon found like that, and what is
        rare is soon found in the index.
        """
        if self.candidates is not None:
            found = self._one_by_one(_listed(self.candidates[:_LOOKED_AT]))
            if len(self.candidates) <= _LOOKED_AT or len(found) >= self.window.wanted:
                return found
            self.ends.clear()
        found = self.stragglers() if known else []
        for part in _in_turn(known, forwards=self.window.forwards):
            if len(found) >= self.window.wanted:
                break
            more = self.newest() if part is None else self.part(part)
            found = self._prefix(found + more)
        return found

    def _prefix(self, found: Sequence[StoredEvent]) -> list[StoredEvent]:
        """In the direction of reading, as far as nothing was left out before."""
        ordered = sorted(found, key=lambda stored: stored.event.seq, reverse=not self.window.forwards)
        if self.ends:
            sign = 1 if self.window.forwards else -1
            end = min(sign * seq for seq in self.ends)
            ordered = [each for each in ordered if sign * each.event.seq <= end]
        return self._fitting(ordered)

    def _fitting(self, found: Iterable[StoredEvent]) -> list[StoredEvent]:
        taken, short = fitting(found, self.window.page.most_bytes, _weight)
        if short:
            self.ends.append(taken[-1].event.seq)
        return taken

    def stragglers(self) -> list[StoredEvent]:
        return self._one_by_one(
            Conditions().when("e.seq IN (SELECT seq FROM search_stragglers)").when("e.seq < ?", self.outside)
        )

    def newest(self) -> list[StoredEvent]:
        lowest, _ = self.db.execute(_NEWEST, (self.outside, _MOST_ASKED)).fetchone()
        return [] if lowest is None else self._one_by_one(Conditions().when("e.seq >= ?", lowest))

    def _one_by_one(self, which: Conditions) -> list[StoredEvent]:
        way = Way("events e NOT INDEXED", selecting(self.query).when(which.all, *which.parameters).when(_NOT_EXPUNGED))
        read = map(rows.stored_event, self.window.read(self.db, rows.STORED_EVENT, way))
        found = (stored for stored in read if self.search.finds(tokens_of(stored.event)))
        return self._fitting(islice(found, self.window.wanted))

    def part(self, part: Part) -> list[StoredEvent]:
        after, upto = self._bounds(part)
        if after >= upto or not _overlap(part, self.query.time):
            return []
        words = f"search_words_{part.no}"
        conditions = selecting(self.query).when(f"w.{words} MATCH ?", _expression(self.search, self.query))
        conditions.when("w.rowid > ? AND w.rowid <= ?", after, upto).within("d.time", self.query.time)
        if self.candidates is not None:
            of_part = [seq for seq in self.candidates if part.first <= seq <= part.last]
            conditions.when(f"d.seq IN {LISTED}", rows.json_text(of_part))
        conditions.when(_NOT_EXPUNGED)
        sql = f"""
            SELECT {rows.STORED_EVENT} FROM {words} w CROSS JOIN search_docs d ON d.part = {part.no} AND d.id = w.rowid
            CROSS JOIN events e ON e.seq = d.seq{conditions.where}
            ORDER BY w.rowid {"ASC" if self.window.forwards else "DESC"} LIMIT ?
        """
        return self._fitting(map(rows.stored_event, self.db.execute(sql, (*conditions.parameters, self.window.wanted))))

    def _bounds(self, part: Part) -> tuple[int, int]:
        """The events of a part that count: those behind one of its numbers, up to another."""
        after, upto = 0, count_below(self.db, part, self.outside) if self.outside <= part.last else part.events
        if self.window.position is not None:
            (seq,) = self.window.position
            if self.window.forwards:
                after = count_below(self.db, part, int(seq) + 1)
            else:
                upto = min(upto, count_below(self.db, part, int(seq)))
        return after, upto


def _weight(stored: StoredEvent) -> int:
    return len(stored.event.data) + sum(map(len, (stored.event.metadata or {}).values()))


def _listed(seqs: Sequence[int]) -> Conditions:
    return Conditions().when(f"e.seq IN {LISTED}", rows.json_text(seqs))


def _overlap(part: Part, bounds: TimeRange) -> bool:
    """Whether an event of the part can be within the bounds."""
    starts = max(_or(bounds.gte, -_EVER), _or(bounds.gt, -_EVER))
    ends = min(_or(bounds.lte, _EVER), _or(bounds.lt, _EVER))
    return part.latest >= starts and part.earliest <= ends


def _or(bound: int | None, otherwise: int) -> int:
    return otherwise if bound is None else bound


def _expression(search: Search, query: EventQuery) -> str:
    """A search in the language of FTS5. Tokens are letters and digits; nothing in them has a meaning there."""
    groups = [*search.facts, tuple(map(of_tenant, query.tenant_ids)), tuple(map(of_topic, query.topics))]
    facts = [" OR ".join(f'"{fact}"' for fact in group) for group in groups if group]
    phrases = [f'"{" ".join(phrase.words)}"{" *" * phrase.prefix}' for phrase in search.phrases]
    return " AND ".join([*phrases, *(f"({group})" for group in facts)])
