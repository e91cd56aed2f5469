"""One open client of a service, shared by all sends: opened when it is needed, given up when it is broken."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from waypost.core.errors import DeliveryError, SettingsError
from waypost.net.failure import copy_of

DEFAULT_TIMEOUT = 10.0


async def import_aside(module: str) -> None:
    """Import what takes a second, as client libraries do, in a thread: the event loop goes on. Raises ImportError."""
    if module not in sys.modules:
        await asyncio.to_thread(importlib.import_module, module)


class Client(Protocol):
    """What a link needs to know of a client: whether it still works, and how to end it."""

    @property
    def alive(self) -> bool: ...

    async def close(self) -> None:
        """End the connection; whoever waits for an answer gets an error at once. Idempotent."""
        ...


C = TypeVar("C", bound=Client)


class Link(Generic[C]):
    """A client, opened by one task for all who ask meanwhile; a cancelled caller does not disturb the others.

    `server` is what a customer calls the other end. Opening, and each use, may take `timeout` seconds.
    """

    def __init__(self, server: str, open_client: Callable[[], Awaitable[C]], *, timeout: float) -> None:
        self._server = server
        self._open_client = open_client
        self._timeout = timeout
        self._client: C | None = None
        self._opening: asyncio.Task[C] | None = None
        self._endings: set[asyncio.Task[None]] = set()
        self._closed = False

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator[C]:
        """A working client. One that does not answer in time is given up: the next use opens another.

        Raises DeliveryError.
        """
        client = await self._get()
        try:
            async with asyncio.timeout(self._timeout):
                yield client
        except TimeoutError:
            self.drop(client)
            raise DeliveryError("timeout", f"{self._server} did not acknowledge within {self._timeout:g} s") from None

    def drop(self, client: C) -> None:
        """Never use this client again, and end it in the background."""
        if self._client is client:
            self._client = None
        ending = asyncio.ensure_future(self._end(client))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def close(self) -> None:
        """End whatever is open. Idempotent."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._client is not None:
            self.drop(self._client)
        await asyncio.gather(*self._endings)

    async def _get(self) -> C:
        client = self._client
        if client is not None and client.alive:
            return client
        if self._closed:
            raise _closed_meanwhile()
        if client is not None:
            self.drop(client)
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
            self._opening.add_done_callback(_heard)
        try:
            return await asyncio.shield(self._opening)
        except DeliveryError as error:
            raise copy_of(error) from error
        except asyncio.CancelledError:
            if self._interrupted():
                raise
            raise _closed_meanwhile() from None

    def _interrupted(self) -> bool:
        """Whether it is the caller that was cancelled, not the task that opens the client."""
        task = asyncio.current_task()
        return not self._closed or (task is not None and task.cancelling() > 0)

    async def _open(self) -> C:
        try:
            async with asyncio.timeout(self._timeout):
                self._client = await self._open_client()
        except TimeoutError:
            raise DeliveryError("timeout", f"{self._server} did not answer within {self._timeout:g} s") from None
        finally:
            self._opening = None
        return self._client

    async def _end(self, client: C) -> None:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(self._timeout):
                await client.close()


def timeout_of(options: Mapping[str, Any], kind: str) -> float:
    """The operator's limit for one attempt of a destination type in seconds: the option `<type>_timeout`."""
    value = options.get(f"{kind}_timeout", DEFAULT_TIMEOUT)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise SettingsError(f"{kind}_timeout must be a number of seconds above 0")
    return float(value)


def _closed_meanwhile() -> DeliveryError:
    return DeliveryError("connection_closed", "The connection was closed before the event was sent")


def _heard(task: asyncio.Task[Any]) -> None:
    """Take note of a failure that nobody waited for."""
    if not task.cancelled():
        task.exception()
