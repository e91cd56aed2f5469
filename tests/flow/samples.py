"""Destination types for tests of the management: every kind of field, and rules of a type's own."""

from __future__ import annotations

from typing import Any, ClassVar

from waypost.connect.connector import Change, Connection, DestinationType, Message, Receipt, Tools
from waypost.connect.fields import Field, Option
from waypost.connect.registry import Registry
from waypost.core.errors import Invalid
from waypost.core.model import Destination
from waypost.net.exchange import HttpSettings
from waypost.net.guard import AddressGuard
from waypost.net.http import HttpClient
from waypost.net.resolve import SystemResolver


class _Nowhere:
    async def send(self, message: Message) -> Receipt:
        return Receipt(code="ok")

    async def verify(self) -> None:
        return None

    async def close(self) -> None:
        return None


class _Sample(DestinationType):
    icon: ClassVar[str] = "<svg/>"
    instructions: ClassVar[str] = "Put it up."

    async def connect(self, destination: Destination, tools: Tools) -> Connection:
        return _Nowhere()


class Letterbox(_Sample):
    """`seal` is made by the server and turned by `turn_seal`; an address in "Nowhere" is refused by `check`."""

    type = "letterbox"
    label = "Letterbox"
    description = "Drops events into a letterbox."
    config_fields = (
        Field(
            key="address",
            label="Address",
            description="Where.",
            required=True,
            locates=True,
            minlength=3,
            maxlength=100,
        ),
        Field(key="marks", label="Marks", description="On it.", type="key_value_map", sensitive=True),
        Field(key="floor", label="Floor", description="Which.", pattern=r"-?[0-9]+", pattern_hint="a whole number"),
        Field(key="express", label="Express", description="Fast.", type="checkbox", default="false"),
        Field(key="stamps", label="Stamps", description="By country.", type="key_value_map"),
        Field(
            key="size",
            label="Size",
            description="How large.",
            type="select",
            options=(Option("S", "s"), Option("L", "l")),
        ),
        Field(key="zip", label="Zip", description="Code.", pattern="[0-9]{5}", pattern_hint="five digits"),
    )
    credential_fields = (
        Field(key="pin", label="PIN", description="Opens it.", sensitive=True),
        Field(key="seal", label="Seal", description="Proves it.", read_only=True),
        Field(key="turn_seal", label="Turn", description="A new seal.", type="checkbox"),
    )

    def check(self, config: dict[str, str], credentials: dict[str, str], tools: Tools) -> list[str]:
        return ["config.address is nowhere"] if "Nowhere" in config["address"] else []

    def prepare(self, change: Change) -> tuple[dict[str, str], dict[str, str]]:
        if change.by_tenant and change.credentials.get("pin", "").startswith("root"):
            raise Invalid(["credentials.pin is the operator's"])
        credentials = dict(change.credentials)
        turn = credentials.pop("turn_seal", "false") == "true"
        if turn or "seal" not in credentials:
            credentials["seal"] = f"seal-{change.now}"
        return change.config, credentials

    def target(self, destination: Destination) -> tuple[str, str | None]:
        return destination.config["address"], f"https://map.example/{destination.config['address']}"


class Pigeon(_Sample):
    type = "pigeon"
    label = "Pigeon"
    description = "Sends a pigeon."
    config_fields = (Field(key="loft", label="Loft", description="Home.", required=True),)
    credential_fields = (Field(key="ring", label="Ring", description="On its leg.", sensitive=True, required=True),)

    def target(self, destination: Destination) -> tuple[str, str | None]:
        return destination.config["loft"], None


def registry() -> Registry:
    return Registry(iter([Letterbox, Pigeon]))


def tools() -> Tools:
    guard, resolver = AddressGuard(), SystemResolver()
    return Tools(http=HttpClient(HttpSettings(), resolver, guard), guard=guard, resolver=resolver, options={})


def letterbox(**changes: Any) -> dict[str, Any]:
    """The body of a create."""
    return {"type": "letterbox", "topics": "*", "config": {"address": "Elm Street 1"}} | changes
