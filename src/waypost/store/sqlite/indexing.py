"""The index of what is in events: a database file of its own, which can be made again from the record at any time.

It has parts of so many events each, one after another by their numbers. In each part SQLite's FTS5 leads from tokens to
events; the tokens are ours already, so that it only has to split them at blanks. A part that holds what the record no
longer does is made anew and then takes the old one's place.
"""

from __future__ import annotations

import contextlib
import sqlite3
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct, structs

from waypost.core.errors import SettingsError
from waypost.core.model import DAY, SECOND, Event, Micros
from waypost.core.search import tokens_of
from waypost.store.sqlite import rows

_VERSION = 2
"""Of the schema and of what tokens are: an index of another version is made anew."""
_SCHEMA = f"""
    CREATE TABLE search_parts (
        no       INTEGER PRIMARY KEY,
        first    INTEGER NOT NULL,            -- number of the first event
        last     INTEGER NOT NULL,            -- and of the last
        events   INTEGER NOT NULL,            -- how many there are
        earliest INTEGER NOT NULL,            -- of their times
        latest   INTEGER NOT NULL,
        expunged INTEGER NOT NULL,            -- how many had lost their data when it was begun
        seen_at  INTEGER NOT NULL,            -- when it was begun, or last compared with the record
        remakes  INTEGER                      -- the part whose place it is to take
    ) STRICT;
    CREATE TABLE search_docs (
        part INTEGER NOT NULL,
        id   INTEGER NOT NULL,                -- 1, 2, 3 ...: takes less room in an index than the event's number
        seq  INTEGER NOT NULL,
        time INTEGER NOT NULL,                -- when the event happened
        PRIMARY KEY (part, id)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE search_stragglers (          -- events that came too late for their part
        seq INTEGER PRIMARY KEY
    ) STRICT;
    PRAGMA user_version = {_VERSION};
"""
_WORDS = "CREATE VIRTUAL TABLE search_words_{no} USING fts5(tokens, content = '', columnsize = 0, tokenize = 'ascii')"
BATCH = 200
_BATCH_BYTES = 1 << 22
_PART = 50_000
_MOST_STRAGGLERS = 100
_LOOK_EVERY = 60 * SECOND
"""How often parts are compared with what was expunged; with what was removed in other ways once a day."""
_NEVER: Micros = 1 << 62
_NEXT = f"SELECT {rows.EVENT} FROM events e WHERE e.seq > ? AND e.seq < ? ORDER BY e.seq LIMIT ?"
_EXPUNGED = "SELECT count(*) FROM expunged WHERE event_seq BETWEEN ? AND ?"
_PRESENT = "SELECT count(*) FROM events WHERE seq BETWEEN ? AND ?"


class Part(Struct, frozen=True):
    """So many events of the index, as the table has it."""

    no: int
    first: int
    last: int
    events: int
    earliest: Micros
    latest: Micros
    expunged: int
    seen_at: Micros
    remakes: int | None


def parts(db: sqlite3.Connection) -> list[Part]:
    """What the index is made of, from the first events to the last."""
    return [Part(*row) for row in db.execute("SELECT * FROM search_parts WHERE remakes IS NULL ORDER BY first")]


class Index:
    """All of it belongs to one thread. `record` opens a connection to the events."""

    def __init__(self, path: Path, record: Callable[[], sqlite3.Connection]) -> None:
        self.path = path
        self._connect = record
        self._look_at = 0
        self.more = False
        self._expunged: dict[int, int] = {}

    def open(self, owner: int) -> None:
        """Open the file; one that is damaged, of another version or another's is made anew. Raises SettingsError."""
        _require_fts5()
        if self._is_usable(owner):
            self._db = self._opened()
        else:
            self.remove()
            self.path.touch(mode=0o600)
            self._db = self._opened()
            self._db.executescript(f"BEGIN; {_SCHEMA} PRAGMA application_id = {owner}; COMMIT;")
        self._record = self._connect()

    def close(self) -> None:
        self._db.close()
        self._record.close()

    def remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _is_usable(self, owner: int) -> bool:
        try:
            with contextlib.closing(self._opened()) as db:
                (version,), (mark,) = (
                    db.execute(f"PRAGMA {name}").fetchone() for name in ("user_version", "application_id")
                )
        except sqlite3.DatabaseError:
            return False
        return bool(version == _VERSION and mark == owner)

    def _opened(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # a power cut may take the last events out again
        db.execute("PRAGMA secure_delete = ON")
        return db

    @property
    def last(self) -> int:
        """The number of the last event that is in it."""
        (last,) = self._db.execute("SELECT max(last) FROM search_parts WHERE remakes IS NULL").fetchone()
        return last or 0

    # new events

    def catch(self, since: int) -> None:
        """Events of this number or higher ones may have come in after others that are in the index."""
        known = {seq for part in parts(self._db) if part.last >= since for seq in self._seqs(part, since)}
        came = self._record.execute("SELECT seq FROM events WHERE seq BETWEEN ? AND ?", (since, self.last))
        late = [(seq,) for (seq,) in came if seq not in known]
        self._db.executemany("INSERT OR IGNORE INTO search_stragglers VALUES (?)", late)

    def _seqs(self, part: Part, since: int) -> list[int]:
        sql = "SELECT seq FROM search_docs WHERE part = ? AND id > ?"
        return [seq for (seq,) in self._db.execute(sql, (part.no, count_below(self._db, part, since)))]

    def take_in(self, before: int, now: Micros) -> int:
        """Add the next events below a number to the last part, or to a new one. How many they were."""
        events = self._next(self.last, before)
        if events:
            with self._transaction():
                self._add(self._open_part() or self._begin(events[0].seq, now), events)
        return len(events)

    def _open_part(self) -> Part | None:
        last, remade = parts(self._db)[-1:], self._remade()
        closed = not last or last[0].events >= _PART or (remade is not None and remade.remakes == last[0].no)
        return None if closed else last[0]

    # what the record no longer has

    def look(self, now: Micros) -> None:
        """Begin to make a part anew if that is needed; no oftener than every minute."""
        if now < self._look_at or self._remade() is not None:
            return
        self._look_at = now + _LOOK_EVERY
        for part in parts(self._db):
            if self._is_outdated(part, now):
                with self._transaction():
                    self._put(self._begin(part.first, now, remakes=part.no))
                return

    def _is_outdated(self, part: Part, now: Micros) -> bool:
        bounds = (part.first, part.last)
        (expunged,) = self._record.execute(_EXPUNGED, bounds).fetchone()
        before, self._expunged[part.no] = self._expunged.get(part.no), expunged
        if expunged > part.expunged:
            return bool(expunged == before)  # not while more and more are
        (late,) = self._db.execute(
            "SELECT count(*) FROM search_stragglers WHERE seq BETWEEN ? AND ?", bounds
        ).fetchone()
        if late > _MOST_STRAGGLERS:
            return True
        if now < part.seen_at + DAY:
            return False
        self._put(structs.replace(part, seen_at=now))
        (present,) = self._record.execute(_PRESENT, bounds).fetchone()
        return bool(present < part.events)

    def remake(self) -> bool:
        """Go on with the part that is being made anew. Whether there is one."""
        new = self._remade()
        if new is None:
            return False
        (old,) = [part for part in parts(self._db) if part.no == new.remakes]
        following = [part.first for part in parts(self._db) if part.first > old.first]
        events = self._next(new.last, min(following, default=old.last + 1))
        with self._transaction():
            if events:
                self._add(new, events)
            else:
                self._replace(old, new)
        if not events:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log still holds what is no longer in the file
        return True

    def _remade(self) -> Part | None:
        found = self._db.execute("SELECT * FROM search_parts WHERE remakes IS NOT NULL").fetchone()
        return None if found is None else Part(*found)

    def _replace(self, old: Part, new: Part) -> None:
        last = max(old.last, new.last)
        self._db.execute("DELETE FROM search_stragglers WHERE seq BETWEEN ? AND ?", (old.first, last))
        self._drop(old)
        if new.events:
            self._put(structs.replace(new, last=last, remakes=None))
        else:
            self._drop(new)

    # parts

    def _next(self, after: int, before: int) -> list[Event]:
        """As many as one batch may be in number and in bytes; `more` says whether it was cut."""
        events: list[Event] = []
        size = 0
        with contextlib.closing(self._record.execute(_NEXT, (after, before, BATCH))) as found:
            while size < _BATCH_BYTES and (row := found.fetchone()) is not None:
                events.append(rows.event(row))
                size += len(events[-1].data)
        self.more = len(events) == BATCH or size >= _BATCH_BYTES
        return events

    def _begin(self, first: int, now: Micros, remakes: int | None = None) -> Part:
        (no,) = self._db.execute("SELECT coalesce(max(no), 0) + 1 FROM search_parts").fetchone()
        self._db.execute(_WORDS.format(no=no))
        return Part(no, first, first - 1, 0, _NEVER, -_NEVER, 0, now, remakes)

    def _add(self, part: Part, events: Sequence[Event]) -> None:
        numbered = list(enumerate(events, part.events + 1))
        words = [(number, str(tokens_of(event))) for number, event in numbered]
        self._db.executemany(f"INSERT INTO search_words_{part.no} (rowid, tokens) VALUES (?, ?)", words)
        docs = [(part.no, number, event.seq, event.time) for number, event in numbered]
        self._db.executemany("INSERT INTO search_docs VALUES (?, ?, ?, ?)", docs)
        self._put(
            structs.replace(
                part,
                last=events[-1].seq,
                events=part.events + len(events),
                earliest=min(part.earliest, *[event.time for event in events]),
                latest=max(part.latest, *[event.time for event in events]),
                expunged=part.expunged + sum(event.expunged_at is not None for event in events),
            )
        )

    def _put(self, part: Part) -> None:
        self._db.execute("REPLACE INTO search_parts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", structs.astuple(part))

    def _drop(self, part: Part) -> None:
        self._db.execute(f"DROP TABLE search_words_{part.no}")
        self._db.execute("DELETE FROM search_docs WHERE part = ?", (part.no,))
        self._db.execute("DELETE FROM search_parts WHERE no = ?", (part.no,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk ends it by itself
                self._db.execute("ROLLBACK")
            raise


def _require_fts5() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        try:
            db.execute("SELECT fts5_source_id()")
        except sqlite3.OperationalError:
            raise SettingsError("search: this Python's SQLite was built without FTS5; set search to false") from None


def count_below(db: sqlite3.Connection, part: Part, seq: int) -> int:
    """How many events of a part have a lower number."""
    sql = "SELECT seq FROM search_docs WHERE part = ? AND id = ?"
    return bisect_left(
        range(1, part.events + 1), seq, key=lambda number: db.execute(sql, (part.no, number)).fetchone()[0]
    )
