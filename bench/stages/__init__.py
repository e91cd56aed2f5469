"""Where the benchmark of the destination types sends to: a server for each type, started for the length of a run.

A module here offers `STAGES`: the name of a destination type -> a context manager that starts what the type needs and
yields a Stage. All modules of this package are found by themselves; importing one must not be expensive.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from msgspec import Struct


class Stage(Struct, frozen=True, kw_only=True):
    """A destination that works: its config and credentials, and the operator's options that it needs.

    `server` says in a few words what answers. `ca_bundle` is the file of the authority that its certificate is from,
    for types that speak HTTPS and take no authority in their config.
    """

    config: dict[str, str]
    credentials: dict[str, str]
    server: str
    options: dict[str, Any] = {}
    ca_bundle: str | None = None


class Unavailable(Exception):
    """What a stage needs is not on this machine; the text says what is missing."""


StageOf = Callable[[], AbstractContextManager[Stage]]


def stages() -> dict[str, StageOf]:
    """The stages that are known, by the name of the destination type."""
    found: dict[str, StageOf] = {}
    for module in pkgutil.iter_modules(__path__):
        found |= getattr(importlib.import_module(f"{__name__}.{module.name}"), "STAGES", {})
    return dict(sorted(found.items()))
