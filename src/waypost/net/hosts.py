"""Lists of servers as customers write them: `broker-1.example.com:9092, broker-2.example.com`."""

from __future__ import annotations

import re

from msgspec import Struct

from waypost.net.guard import AddressGuard, literal_address, looks_like_address
from waypost.net.names import ascii_name

MOST_HOSTS = 32
_LONGEST_NAME = 253
_HIGHEST_PORT = 65_535
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_ENTRY = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<name>[^\[\]:]*))(?::(?P<port>[0-9]{1,5}))?")


class HostPort(Struct, frozen=True):
    """One server. `host` is a lower-case ASCII name, or an address in its plain form."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_hosts(text: str, *, default_port: int, most: int = MOST_HOSTS) -> tuple[HostPort, ...]:
    """The servers of a comma-separated list. Raises ValueError with the end of a sentence ("must ...")."""
    entries = [entry.strip() for entry in text.split(",")]
    if len(entries) > most:
        raise ValueError(f"must have at most {most} servers" if most > 1 else "must be one server")
    return tuple(dict.fromkeys(parse_host(entry, default_port=default_port) for entry in entries))


def parse_host(text: str, *, default_port: int) -> HostPort:
    """One `host`, `host:port` or `[address]:port`. Raises ValueError as parse_hosts does."""
    found = _ENTRY.fullmatch(text)
    if found is None:
        raise ValueError("must be host:port, an IPv6 address in brackets, without a scheme or a path")
    port = int(found["port"]) if found["port"] is not None else default_port
    if not 0 < port <= _HIGHEST_PORT:
        raise ValueError(f"must have a port between 1 and {_HIGHEST_PORT}")
    host = _address(found["v6"]) if found["v6"] is not None else _host(found["name"])
    return HostPort(host, port)


def host_problems(path: str, text: str, guard: AddressGuard, *, default_port: int, most: int = MOST_HOSTS) -> list[str]:
    """What is wrong with a list of servers, offline, as sentences that start with the field's path."""
    try:
        hosts = parse_hosts(text, default_port=default_port, most=most)
    except ValueError as error:
        return [f"{path} {error}"]
    refusals = (guard.host_refusal(server.host) for server in hosts)
    return [f"{path} is not allowed: {refusal}" for refusal in refusals if refusal is not None]


def _host(text: str) -> str:
    name = _ascii(text).removesuffix(".")
    if looks_like_address(name):
        return _address(name)
    if len(name) > _LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise ValueError("must have a valid host before the port" if name else "must have a host before the port")
    return name


def _address(text: str) -> str:
    address = literal_address(text)
    if address is None:
        raise ValueError(f"must have a valid host: {text} looks like an IP address but is not one")
    return str(address)


def _ascii(name: str) -> str:
    try:
        return ascii_name(name)
    except ValueError as error:
        raise ValueError("must have a valid host before the port") from error
