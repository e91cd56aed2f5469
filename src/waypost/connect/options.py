"""The operator's options of one type: those that begin with its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from waypost.core.errors import SettingsError

T = TypeVar("T")


def own_options(name: str, options: Mapping[str, Any], shape: type[T]) -> T:
    """The options `<name>_...` as the shape. Raises SettingsError for one that is unknown or of a wrong type."""
    prefix = f"{name}_"
    mine = {key.removeprefix(prefix): value for key, value in options.items() if key.startswith(prefix)}
    try:
        return msgspec.convert(mine, shape)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{name} options: {error}") from error
