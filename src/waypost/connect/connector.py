"""What a destination type has to offer. One file in `waypost.destinations` (or an entry point) implements this.

Alert channels stand on the same base: see `waypost.connect.channel`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol

from msgspec import Struct

from waypost.connect.fields import Field
from waypost.core.errors import MissingExtra
from waypost.core.model import Destination, Event, Micros
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient
from waypost.net.intake import Bounds
from waypost.net.resolve import Resolver

TEMPLATE_STEPS = 20_000


class Message(Struct, frozen=True, kw_only=True, gc=False):
    """One event as it goes out in one attempt.

    `body` is the event's data byte for byte. `metadata` is what travels beside it, already merged: the system's
    `timestamp`, `event-id` and `topic`, the destination's delivery metadata, the event's own metadata.
    `template_steps` is what a template may spend on it.
    """

    event: Event
    metadata: dict[str, str]
    attempt: int
    manual: bool
    sent_at: Micros
    template_steps: int = TEMPLATE_STEPS

    @property
    def body(self) -> bytes:
        return self.event.data


class Receipt(Struct, frozen=True, kw_only=True, gc=False):
    """The destination's own acknowledgement: its code ("200", "ack") and what it answered, kept on the attempt."""

    code: str
    response: dict[str, Any] | None = None
    request: dict[str, Any] | None = None


class Tools(Struct, frozen=True, kw_only=True):
    """What Waypost lends to connections: one HTTP client, the address guard and its resolver, options of the operator.

    `options` holds the operator's settings for destination types, keyed `<type>_<name>`; `bounds` is what
    a broker may say.
    """

    http: HttpClient
    guard: AddressGuard
    resolver: Resolver
    options: dict[str, Any]
    bounds: Bounds = Bounds()


class Change(Struct, frozen=True, kw_only=True):
    """A create (`old` is None) or an update of a destination, as a type sees it before it is saved.

    `config` and `credentials` are the values after merging. `by_tenant` tells a tenant's request from the operator's.
    `options` are the operator's, as in Tools.
    """

    old: Destination | None
    config: dict[str, str]
    credentials: dict[str, str]
    by_tenant: bool
    now: Micros
    options: dict[str, Any] = {}


class Connection(Protocol):
    """A warm connection to one destination at one version. Safe for concurrent sends; `close` is idempotent."""

    async def send(self, message: Message) -> Receipt:
        """Hand the message over and return once the destination has acknowledged it.

        Raises DeliveryError when it has not. A cancelled send leaves the connection usable.
        """
        ...

    async def verify(self) -> None:
        """Check credentials and reachability without sending an event. Raises DeliveryError with what is wrong."""
        ...

    async def close(self) -> None: ...


class ConnectorType(ABC):
    """What destination types and alert channels have in common: what they are called and what a person fills in.

    Stateless: one instance serves all destinations or channels of the type.
    """

    what: ClassVar[str]
    type: ClassVar[str]
    label: ClassVar[str]
    description: ClassVar[str]
    icon: ClassVar[str]
    instructions: ClassVar[str]
    extra: ClassVar[str | None] = None
    config_fields: ClassVar[tuple[Field, ...]] = ()
    credential_fields: ClassVar[tuple[Field, ...]] = ()

    def check_options(self, options: dict[str, Any]) -> None:  # noqa: B027  most types have no options to look at
        """Look at the operator's options when the process starts. Raises SettingsError for one that is wrong."""

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        """Rules beyond the fields' own, as sentences that start with the field's path. Offline: no call to a vendor."""
        return []

    def prepare(self, change: Change) -> tuple[dict[str, str], dict[str, str]]:
        """Config and credentials as they are to be stored: secrets generated, rotated. Raises Invalid or Forbidden."""
        return change.config, change.credentials

    def describe(self) -> dict[str, Any]:
        """The type as `GET /destination-types` and `GET /alert-channel-types` show it."""
        return {
            "type": self.type,
            "label": self.label,
            "description": self.description,
            "icon": self.icon,
            "instructions": self.instructions,
            "config_fields": [field.describe() for field in self.config_fields],
            "credential_fields": [field.describe() for field in self.credential_fields],
        }

    def missing_extra(self) -> MissingExtra:
        return MissingExtra(f"{self.what} {self.type}", self.extra or "all")


class DestinationType(ConnectorType):
    """A kind of destination."""

    what: ClassVar[str] = "destination type"

    @abstractmethod
    def target(self, destination: Destination) -> tuple[str, str | None]:
        """What a person calls the destination (a host, a queue) and, where there is one, a link to it."""

    @abstractmethod
    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        """Open what sending needs. Cheap where the client connects by itself. Raises DeliveryError or MissingExtra."""
