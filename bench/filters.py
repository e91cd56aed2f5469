"""What payload filters cost: one match, one explanation, and an event on its way past a thousand of them.

uv run python -m bench.filters
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from waypost.core.filters import Document, compile_filter, normalise
from waypost.core.model import Destination, Event
from waypost.core.routing import Route, route
from waypost.machine import settle_down

NOON = 1_700_000_000_000_000
DATA = {
    "type": "order.created",
    "amount": 129.5,
    "currency": "EUR",
    "customer": {"id": 4711, "tier": "premium", "email": "ada@example.com"},
    "tags": ["web", "first", "gift"],
    "variants": [{"sku": f"S-{number}", "price": f"{number}.99", "taxable": True} for number in range(10)],
}
FILTERS: dict[str, Any] = {
    "3 clauses, hookdeck": {
        "data": {"type": "order.created", "amount": {"$gte": 100}, "customer": {"tier": "premium"}}
    },
    "3 clauses, shopify": "type:order.created AND amount:>=100 AND customer.tier:premium",
    "3 clauses, eventbridge": {
        "$dialect": "eventbridge",
        "pattern": {
            "data": {
                "type": ["order.created"],
                "amount": [{"numeric": [">=", 100]}],
                "customer": {"tier": [{"prefix": "prem"}]},
            }
        },
    },
    "3 clauses, the first fails": {"data": {"type": "x", "amount": {"$gte": 100}, "customer": {"tier": "premium"}}},
    "text price in a list of 10": {"data": {"variants": {"price": {"$gte": 9}}}},
    "regular expression": {"data": {"customer": {"email": {"$regex": "@example[.]com$"}}}},
}


def main() -> None:
    settle_down()
    event = _event()
    document = Document(event, steps=sys.maxsize)
    print(f"an event of {len(event.data)} bytes\n")
    _line("decode", lambda: Document(event).scope)
    for name, filter_ in FILTERS.items():
        normal = normalise(filter_)
        compiled = compile_filter(normal)
        _line(f"{name}, match", partial(compiled.passes, document))
        _line(f"{name}, explain", partial(compiled.explain, document))
        _line(f"{name}, compile", partial(compile_filter, normal), rounds=500)
    print()
    for count in (1, 20, 1_000):
        for name, passing in (("all pass", count), ("1 in 10 passes", max(1, count // 10)), ("no filters", None)):
            routes = _routes(count, passing)
            took = _micros(partial(route, event, routes), rounds=max(20, 20_000 // count))
            print(f"route past {count:5} destinations, {name:<16} {took:10.2f} us {took / count:8.2f} us each")


def _event() -> Event:
    return Event(seq=1, id="evt_1", tenant_id="acme", topic="order", time=NOON, data=msgspec.json.encode(DATA))


def _routes(count: int, passing: int | None) -> list[Route]:
    """Destinations of one tenant, each with a filter of its own; None is for none with a filter."""
    return [_route(number, None if passing is None else number < passing) for number in range(count)]


def _route(number: int, passes: bool | None) -> Route:
    filter_ = {
        "data": {"type": "order.created", "amount": {"$gte": 100 if passes else 1_000 + number}, "currency": "EUR"}
    }
    destination = Destination(
        no=number,
        id=f"des_{number}",
        tenant_id="acme",
        type="webhook",
        topics=("*",),
        config={},
        credentials={},
        created_at=NOON,
        updated_at=NOON,
        filter=None if passes is None else filter_,
    )
    return Route.of(destination, None if passes is None else compile_filter(filter_))


def _line(name: str, action: Callable[[], object], rounds: int = 20_000) -> None:
    print(f"{name:<40} {_micros(action, rounds):8.2f} us")


def _micros(action: Callable[[], object], rounds: int = 20_000) -> float:
    """Microseconds of CPU for one call: the median of five runs."""
    return statistics.median(_run(action, rounds) for _ in range(5)) / 1_000


def _run(action: Callable[[], object], rounds: int) -> float:
    started = time.process_time_ns()
    for _ in range(rounds):
        action()
    return (time.process_time_ns() - started) / rounds


if __name__ == "__main__":
    main()
