"""A connection on which many ask at the same time and a reader hands out the answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from waypost.core.errors import DeliveryError
from waypost.net.dial import network_error
from waypost.net.failure import copy_of
from waypost.net.intake import Bounds, Intake

K = TypeVar("K", int, str)
A = TypeVar("A")


class Wire(Generic[K, A]):
    """Questions go out at once, each under a key; answers come by key. When the connection is lost, everybody hears.

    A question whose asker was cancelled keeps its key until it is answered: nobody else gets the answer. A server that
    breaks the bounds or the protocol loses the connection with `protocol_error`.
    """

    def __init__(
        self, server: object, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bounds: Bounds
    ) -> None:
        self.intake = Intake(reader, bounds)
        self.writer = writer
        self._server = server
        self._waiting: dict[K, asyncio.Future[A]] = {}
        self._lost: DeliveryError | None = None
        self._reading: asyncio.Task[None] | None = None
        self._answered = 0

    @property
    def alive(self) -> bool:
        return self._lost is None

    @property
    def waiting(self) -> int:
        """How many questions have no answer yet."""
        return len(self._waiting)

    def read_with(self, read_one: Callable[[], Awaitable[None]]) -> None:
        """Call this again and again from now on, until the connection is lost."""
        self._reading = asyncio.ensure_future(self._read(read_one))

    def waits(self, key: K) -> bool:
        return key in self._waiting

    async def ask(self, key: K, question: bytes) -> A:
        """Send, and wait for the answer. Raises DeliveryError."""
        if self._lost is not None:
            raise copy_of(self._lost)
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        await self.tell(question)
        return await future

    async def tell(self, words: bytes) -> None:
        """Send something that has no answer."""
        with contextlib.suppress(OSError, RuntimeError):  # it is closed: the reader notices, and tells everybody
            self.writer.write(words)
            await self.writer.drain()

    def answer(self, key: K, value: A) -> None:
        future = self._taken(key)
        if future is not None and not future.done():
            future.set_result(value)

    def refuse(self, key: K, error: DeliveryError) -> None:
        future = self._taken(key)
        if future is not None and not future.done():
            future.set_exception(error)
            future.exception()  # it counts as heard, though the asker may have been cancelled before it could listen

    def lose(self, error: DeliveryError) -> None:
        """Give the connection up; all who wait get a copy of the error."""
        if self._lost is None:
            self._lost = error
        for key in list(self._waiting):
            self.refuse(key, copy_of(error))
        self.writer.close()

    async def close(self) -> None:
        """Idempotent."""
        self.lose(DeliveryError("connection_reset", f"The connection to {self._server} was given up"))
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        with contextlib.suppress(OSError, RuntimeError):
            await self.writer.wait_closed()

    def _taken(self, key: K) -> asyncio.Future[A] | None:
        future = self._waiting.pop(key, None)
        self._answered += future is not None
        return future

    async def _read(self, read_one: Callable[[], Awaitable[None]]) -> None:
        try:
            while self._lost is None:
                answered, taken = self._answered, self.intake.taken
                await read_one()
                await self.intake.next(self.intake.taken - taken, asked=self._answered > answered)
        except (OSError, EOFError) as error:
            self.lose(network_error(error, self._server))
        except Exception:  # noqa: BLE001 - whatever a server's words make a parser raise
            self.lose(protocol_error(self._server))


def protocol_error(server: object) -> DeliveryError:
    return DeliveryError("protocol_error", f"{server} does not speak the protocol that is expected of it")
