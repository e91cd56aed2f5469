"""Finds the destination types: the ones that come with Waypost and those that other packages add by an entry point."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points

from waypost.connect.connector import DestinationType
from waypost.core.errors import SettingsError

ENTRY_POINT_GROUP = "waypost.destinations"
BUILT_IN_PACKAGE = "waypost.destinations"


def _types_of_a_module(name: str) -> Iterator[type[DestinationType]]:
    module = importlib.import_module(name)
    for value in vars(module).values():
        if (
            isinstance(value, type)
            and issubclass(value, DestinationType)
            and value.__module__ == name
            and "type" in vars(value)
        ):
            yield value


def _built_in() -> Iterator[type[DestinationType]]:
    package = importlib.import_module(BUILT_IN_PACKAGE)
    for module in pkgutil.iter_modules(package.__path__):
        yield from _types_of_a_module(f"{BUILT_IN_PACKAGE}.{module.name}")


def _from_entry_points() -> Iterator[type[DestinationType]]:
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        loaded = entry.load()
        if not (isinstance(loaded, type) and issubclass(loaded, DestinationType)):
            raise SettingsError(f"entry point {entry.name} ({entry.value}) is not a waypost DestinationType")
        yield loaded


class Registry(Mapping[str, DestinationType]):
    """The known destination types by name, in alphabetical order with `webhook` first."""

    def __init__(self, types: Iterator[type[DestinationType]]) -> None:
        found: dict[str, DestinationType] = {}
        for kind in types:
            if kind.type in found:
                raise SettingsError(f"two destination types are named {kind.type}")
            found[kind.type] = kind()
        self._types = dict(sorted(found.items(), key=lambda item: (item[0] != "webhook", item[0])))

    @classmethod
    def discover(cls) -> Registry:
        """Built-in types and entry points. A type imports its vendor library when it first connects, not here."""

        def everything() -> Iterator[type[DestinationType]]:
            yield from _built_in()
            yield from _from_entry_points()

        return cls(everything())

    def __getitem__(self, name: str) -> DestinationType:
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)
