"""What an alert channel has to offer. One file in `waypost.alerts` (or an entry point) implements this."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Protocol

from msgspec import Struct

from waypost.connect.connector import ConnectorType, Receipt, Tools
from waypost.core.alerts import Channel, Severity
from waypost.core.model import Micros

__all__ = ["Channel", "ChannelConnection", "ChannelType", "Notice", "Severity"]


class Notice(Struct, frozen=True, kw_only=True):
    """One piece of news for one channel: for people `title`, `text`, `facts` and `link`, for machines `envelope`.

    `id` is the alert's, the same on every try. `title` is one line; `text` is plain text of a few sentences; `facts`
    are pairs of label and value to lay out as a table (first failure, code, count, next retry ...). `link` leads into
    the portal, where there is one. `dedup_key` is the same for all news about one trouble, and `resolves` says that
    the trouble is over: paging services open and close their incidents by the two. `envelope` is a JSON object
    `{id, topic, time, tenant_id, data}` with the whole event and attempt.
    """

    id: str
    topic: str
    severity: Severity
    title: str
    text: str
    facts: tuple[tuple[str, str], ...]
    link: str | None
    time: Micros
    dedup_key: str
    resolves: bool
    envelope: bytes


class ChannelConnection(Protocol):
    """A way to one channel at one version. Safe for concurrent sends; `close` is idempotent."""

    async def send(self, notice: Notice) -> Receipt:
        """Hand the notice over; return once the service has taken it. Raises DeliveryError when it has not."""
        ...

    async def close(self) -> None: ...


class ChannelType(ConnectorType):
    """A kind of alert channel."""

    what: ClassVar[str] = "alert channel"
    borrows: ClassVar[bool] = False
    """Whether it sends by means of the operator's, which tenants need leave for."""

    def addressees(self, config: dict[str, str]) -> tuple[str, ...]:
        """Those who get what is sent, where they have to agree first."""
        return ()

    def addressed(self, config: dict[str, str], addressee: str) -> dict[str, str]:
        """The config of a channel that reaches this one of them alone."""
        return config

    @abstractmethod
    def target(self, config: dict[str, str], credentials: dict[str, str]) -> str:
        """What a person calls the place (an address, a room, a phone number); never a secret."""

    @abstractmethod
    async def connect(self, channel: Channel, tools: Tools) -> ChannelConnection:
        """Open what sending needs. Cheap. Raises DeliveryError or MissingExtra."""
