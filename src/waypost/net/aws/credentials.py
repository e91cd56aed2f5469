"""Whose requests they are: a key that was typed in, a role that was assumed, or the machine's own identity."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from msgspec import Struct

from waypost.core.errors import DeliveryError
from waypost.net.failure import copy_of

Clock = Callable[[], float]
_MARGIN = 300.0
_LOOK_AGAIN = 60.0


class Credentials(Struct, frozen=True, kw_only=True):
    """A key pair; `session` is the token that belongs to a temporary one."""

    key: str
    secret: str
    session: str | None = None

    def __repr__(self) -> str:
        return "Credentials(...)"

    def hide(self, text: str) -> str:
        """The text with stars where it repeats what must not be shown."""
        for value in (self.session, self.secret, self.key):
            if value:
                text = text.replace(value, "****")
        return text


class Lease(Struct, frozen=True):
    """Credentials that are good until a moment (seconds since the epoch)."""

    credentials: Credentials
    until: float


class Source(Protocol):
    """Where the credentials of a request come from."""

    async def current(self) -> Credentials:
        """Raises DeliveryError when there are none to be had."""
        ...

    def renew(self, refused: Credentials) -> bool:
        """A service calls these credentials expired. Whether asking again can bring others."""
        ...


class Fixed:
    """A key that a customer typed in."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    async def current(self) -> Credentials:
        return self._credentials

    def renew(self, refused: Credentials) -> bool:
        return False


class Leased:
    """Temporary credentials, fetched when they are first needed and again shortly before they expire.

    The margin is five minutes, or half of a life that is shorter than ten.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Lease]], *, clock: Clock = time.time) -> None:
        self._fetch = fetch
        self._clock = clock
        self._credentials: Credentials | None = None
        self._renew_at = 0.0
        self._pending: asyncio.Task[Credentials] | None = None

    async def current(self) -> Credentials:
        if self._credentials is not None and self._clock() < self._renew_at:
            return self._credentials
        if self._pending is None:
            self._pending = asyncio.create_task(self._fetched())
        try:
            return await asyncio.shield(self._pending)
        except DeliveryError as error:
            raise copy_of(error) from None

    def renew(self, refused: Credentials) -> bool:
        if refused is self._credentials:
            self._credentials = None
        return True

    async def _fetched(self) -> Credentials:
        """One fetch for all who ask at the same time; it goes on when one of them is cancelled."""
        try:
            lease = await self._fetch()
        finally:
            self._pending = None
        now = self._clock()
        self._renew_at = lease.until - min(_MARGIN, (lease.until - now) / 2)
        self._credentials = lease.credentials
        return lease.credentials


class Machine:
    """The identity of the machine that Waypost runs on, as botocore finds it.

    In its order: environment, configuration files, container and instance metadata.
    Raises ImportError without botocore.
    """

    def __init__(self, *, clock: Clock = time.time) -> None:
        from botocore.session import Session  # noqa: PLC0415 - an optional library, for this alone

        self._session = Session()
        self._clock = clock
        self._found: Any = None

    async def fetch(self) -> Lease:
        """What the machine has now. It is looked at every minute; botocore renews it in time by itself."""
        try:
            credentials = await asyncio.to_thread(self._look)
        except Exception as error:
            raise _nothing_found() from error
        if credentials is None:
            raise _nothing_found()
        return Lease(credentials, self._clock() + 2 * _LOOK_AGAIN)

    def _look(self) -> Credentials | None:
        if self._found is None:
            self._found = self._session.get_credentials()
        if self._found is None:
            return None
        frozen = self._found.get_frozen_credentials()
        return Credentials(key=frozen.access_key, secret=frozen.secret_key, session=frozen.token)


def _nothing_found() -> DeliveryError:
    return DeliveryError("bad_credentials", "The machine that Waypost runs on has no AWS credentials of its own")
