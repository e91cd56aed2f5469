"""Finds the types of a seam: the ones that come with Waypost and those that other packages add by an entry point."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any, ClassVar, Generic, Self, TypeVar

from waypost.connect.channel import ChannelType
from waypost.connect.connector import ConnectorType, DestinationType
from waypost.core.errors import SettingsError

K = TypeVar("K", bound=ConnectorType)


class Types(Mapping[str, K], Generic[K]):
    """The known types of a seam by name, in alphabetical order with `webhook` first.

    The built-in ones are found in `package`; the entry point group has the same name.
    """

    package: ClassVar[str]
    seam: ClassVar[type[Any]]

    def __init__(self, types: Iterator[type[K]]) -> None:
        found: dict[str, K] = {}
        for kind in types:
            if kind.type in found:
                raise SettingsError(f"two {kind.what}s are named {kind.type}")
            found[kind.type] = kind()
        self._types = dict(sorted(found.items(), key=lambda item: (item[0] != "webhook", item[0])))

    @classmethod
    def discover(cls) -> Self:
        """Built-in types and entry points. A type imports its vendor library when it first connects, not here."""

        def everything() -> Iterator[type[K]]:
            yield from cls._built_in()
            yield from cls._from_entry_points()

        return cls(everything())

    @classmethod
    def _built_in(cls) -> Iterator[type[K]]:
        package = importlib.import_module(cls.package)
        for module in pkgutil.iter_modules(package.__path__):
            yield from cls._types_of_a_module(f"{cls.package}.{module.name}")

    @classmethod
    def _types_of_a_module(cls, name: str) -> Iterator[type[K]]:
        for value in vars(importlib.import_module(name)).values():
            if cls._is_a_type(value) and value.__module__ == name and "type" in vars(value):
                yield value

    @classmethod
    def _from_entry_points(cls) -> Iterator[type[K]]:
        for entry in entry_points(group=cls.package):
            loaded = entry.load()
            if not cls._is_a_type(loaded):
                raise SettingsError(f"entry point {entry.name} ({entry.value}) is not a waypost {cls.seam.__name__}")
            yield loaded

    @classmethod
    def _is_a_type(cls, value: object) -> bool:
        return isinstance(value, type) and issubclass(value, cls.seam)

    def __getitem__(self, name: str) -> K:
        return self._types[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._types)

    def __len__(self) -> int:
        return len(self._types)


class Registry(Types[DestinationType]):
    """The destination types."""

    package = "waypost.destinations"
    seam = DestinationType


class Channels(Types[ChannelType]):
    """The alert channels."""

    package = "waypost.alerts"
    seam = ChannelType
