"""Tenants that bear an id one after another.

A tenant's id may be used again once the tenant was deleted, and then names somebody else. So everything that belongs to
a tenant is kept under its key: the id, and from the second bearer on a blank, which no id has in it, and which of them.
Whatever is known of a tenant by its key is unknown to all others that bear the id. Only the API and what is told to
people speak of ids.
"""

from __future__ import annotations

from typing import overload

FIRST = 1
_BEHIND_THE_ID = " "


def key_of(tenant_id: str, incarnation: int) -> str:
    """The key of the first, second ... tenant of this id."""
    return tenant_id if incarnation == FIRST else f"{tenant_id}{_BEHIND_THE_ID}{incarnation}"


@overload
def id_of(key: str) -> str: ...
@overload
def id_of(key: None) -> None: ...
@overload
def id_of(key: str | None) -> str | None: ...
def id_of(key: str | None) -> str | None:
    """The id that a key's tenant bears, or bore."""
    return key if key is None or _BEHIND_THE_ID not in key else key.partition(_BEHIND_THE_ID)[0]


def incarnation_of(key: str) -> int:
    """Which of the tenants of its id a key names."""
    return int(key.partition(_BEHIND_THE_ID)[2] or FIRST)
