"""Who is published to, who receives, and what the server is told for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from bench.events import Target
from bench.options import Options
from bench.servers import Subscriber
from bench.sink import Receiver

_NAME = "bench"
_DEFAULT_DESTINATION_LIMIT = 20
_QUICK_RETRIES = ",".join(["0.1"] * 30)
_NO_RECEIVER = "http://127.0.0.1:9/"

PASSING = {"data": {"type": "order.created", "amount": {"$gte": 100}, "customer": {"plan": "pro"}}}
"""A filter that every event of the default payload passes."""


class Layout(Struct, frozen=True, kw_only=True):
    """Who is published to: targets taken in turn, healthy ones first, and the receivers of each, in the same order."""

    targets: tuple[Target, ...]
    healthy: int
    receivers: tuple[tuple[Target, Receiver], ...]
    filtered: int = 0

    def subscribers(self, urls: Iterable[str]) -> list[Subscriber]:
        """The destinations of the receivers, and those that get nothing: the clause that fails is their last one."""
        passing = PASSING if self.filtered else None
        wanting = [Subscriber(target, url, passing) for (target, _), url in zip(self.receivers, urls, strict=True)]
        return wanting + [
            Subscriber(target, _NO_RECEIVER, {"data": PASSING["data"] | {"customer": {"plan": f"plan {number}"}}})
            for target in self.targets
            for number in range(self.filtered)
        ]

    def healthy_events(self, first: int, count: int) -> Iterator[int]:
        every = len(self.targets)
        return (number for number in range(first, first + count) if number % every < self.healthy)


def layout(options: Options, hanging: int, filtered: int = 0) -> Layout:
    """The targets and receivers that the options describe."""
    targets = tuple(_target(number, options.same_tenant) for number in range(options.tenants + hanging))
    receivers = []
    for number, target in enumerate(targets):
        for slot in range(options.destinations):
            place = number * options.destinations + slot
            receivers.append((target, _receiver(options, number, slot, slow=place < options.slow)))
    return Layout(targets=targets, healthy=options.tenants, receivers=tuple(receivers), filtered=filtered)


def _target(number: int, same_tenant: bool) -> Target:
    return Target(_NAME, f"bench.r{number}") if same_tenant else Target(f"{_NAME}-{number}", "bench")


def _receiver(options: Options, number: int, slot: int, *, slow: bool) -> Receiver:
    return Receiver(
        slot=slot,
        delay=options.slow_delay if slow else 0.0,
        failure_rate=options.failure_rate,
        hanging=number >= options.tenants,
    )


def server_settings(options: Options, own: Mapping[str, str]) -> dict[str, str]:
    """What the server is told beside what every measured server is told: room for the destinations, quick retries."""
    most = (options.tenants + options.hanging) if options.same_tenant else options.destinations
    most += options.filtered * (options.tenants if options.same_tenant else 1)
    settings = {"WAYPOST_MAX_DESTINATIONS_PER_TENANT": str(max(_DEFAULT_DESTINATION_LIMIT, most))}
    if options.failure_rate:
        settings["WAYPOST_RETRY_SCHEDULE"] = _QUICK_RETRIES
    return settings | dict(pair.split("=", 1) for pair in options.settings) | dict(own)
