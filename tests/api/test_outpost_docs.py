"""The table that compares Outpost's operations with Waypost's names routes that there are."""

from __future__ import annotations

import re
from pathlib import Path

from .kit import API, World
from .test_isolation import routes_of
from .test_reference import PUBLISHING

PAGE = Path(__file__).parents[2] / "docs" / "outpost-api.md"
ROW = re.compile(r"^\| `(\w+)` \| `([A-Z]+) (/[^`]*)` \| (same|404) \|", re.MULTILINE)
OPERATIONS = 29
"""How many Outpost's v1 has."""


def test_every_operation_is_there_once() -> None:
    rows = ROW.findall(PAGE.read_text())
    assert len({operation for operation, *_ in rows}) == len(rows) == OPERATIONS
    assert len({(method, path) for _, method, path, _ in rows}) == OPERATIONS


async def test_what_is_said_to_be_there_is_there(world: World) -> None:
    routes = routes_of(world.app) | PUBLISHING
    for operation, method, path, verdict in ROW.findall(PAGE.read_text()):
        assert ((method, API + path) in routes) is (verdict == "same"), operation
        if verdict == "404":
            assert (await world.admin(method, path)).status_code == 404
