"""How fast lists, filters, searches and metrics answer over a month of traffic.

uv run python -m bench.queries
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from urllib.parse import quote

import httpx

from bench import history
from bench.history import COMMON_WORD, CUSTOMERS, RARE_TOPIC, RARE_WORD, SHARDS, TENANTS, TOPICS, tenant_id
from waypost import settings as settings_module
from waypost.core import times
from waypost.core.model import DAY
from waypost.flow import clock
from waypost.machine import settle_down
from waypost.observe.logs import NullJournal
from waypost.service import Service

KEY = "the-key-of-the-benchmark"
STATUSES = ("delivering", "retrying", "delivered", "exhausted", "cancelled", "skipped", "disabled")
CODES = ("404", "4xx", "503", "timeout", "tls_error")

Call = Callable[[Random], str]
"""Makes a path with a query; it differs from time to time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000, help="how many there are")
    parser.add_argument("--database", type=Path, help="the file to make, or to use as it is if it exists")
    parser.add_argument("--repeat", type=int, default=40, help="how often each call is made")
    parser.add_argument("--limit", type=float, default=100.0, help="the largest p95 that is well, in milliseconds")
    options = parser.parse_args()
    settle_down()
    with tempfile.TemporaryDirectory() as folder:
        path = (options.database or Path(folder) / "waypost.db").absolute()
        if not path.exists():
            began = time.monotonic()
            history.write(path, options.events)
            print(f"{options.events:,} events written in {time.monotonic() - began:.0f} s")
        slow = asyncio.run(_run(path, options.repeat, options.limit))
    raise SystemExit(1 if slow else 0)


async def _run(path: Path, repeat: int, limit: float) -> int:
    """Ask; how many calls were slower than they should be."""
    settings = settings_module.load({}, database_url=f"sqlite:///{path}", api_key=KEY)
    service = Service(settings, NullJournal())  # only what answers is opened: nothing is delivered
    await service.store.open()
    try:
        await _index(service)
        while await service.store.rollups.fold(limit=20_000):
            pass
        transport = httpx.ASGITransport(app=service.app)
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://bench/api/v1", headers=headers) as client:
            print(f"\n{'call':34}{'items':>7}{'p50':>9}{'p95':>9}   ms")
            return sum([await _measure(client, name, call, repeat, limit) for name, call in CALLS.items()])
    finally:
        await service.store.close()


async def _index(service: Service) -> None:
    began, events, more = time.monotonic(), 0, True
    while more:
        done = await service.store.search.index(now=clock.now())
        events, more = events + done.events, done.more
    if events:
        print(f"{events:,} events indexed in {time.monotonic() - began:.0f} s")


async def _measure(client: httpx.AsyncClient, name: str, call: Call, repeat: int, limit: float) -> bool:
    random, taken, items = Random(name), [], []
    for _ in range(repeat):
        path = call(random)
        began = time.perf_counter()
        answer = await client.get(path)
        taken.append((time.perf_counter() - began) * 1000)
        body = answer.raise_for_status().json()
        items.append(len(body["models"] if "models" in body else body["data"]))
    p95 = statistics.quantiles(taken, n=20)[-1]
    mark = "  <-- slow" if p95 > limit else ""
    print(f"{name:34}{statistics.mean(items):7.1f}{statistics.median(taken):9.1f}{p95:9.1f}{mark}", flush=True)
    return p95 > limit


# what is asked


def _tenant(random: Random) -> str:
    """Large and small ones alike."""
    return tenant_id(min(int(random.expovariate(0.05)), TENANTS - 1))


def _destination(random: Random) -> str:
    return f"{_tenant(random)}-des-0"


def _instant(random: Random) -> str:
    return times.render(clock.now() - random.randrange(1, 29) * DAY)


_words = history.vocabulary(Random(1))


def _word(random: Random) -> str:
    """Sometimes a frequent word, often a rare one, sometimes none that there is."""
    return random.choice((COMMON_WORD, RARE_WORD, _words(1), _words(1), _words(1), "nowhereland"))


def _event(random: Random) -> str:
    return f"evt_{random.randrange(1_000_000):08}"


def _metrics(subject: str, days: float, more: str = "") -> str:
    """Counts of the last days until now, as a dashboard asks for them: the range does not begin with a minute."""
    now = clock.now()
    start, end = times.render(now - round(days * DAY)), times.render(now)
    measures = ("count", "failed_count", "error_rate") if subject == "attempts" else ("count",)
    asked = "&".join(f"measures={measure}" for measure in measures)
    return f"/metrics/{subject}?time[start]={start}&time[end]={end}&{asked}&{more}"


EVENTS: dict[str, Call] = {
    "all": lambda _: "/events",
    "tenant": lambda r: f"/events?tenant_id={_tenant(r)}",
    "three tenants": lambda r: "/events?" + "&".join(f"tenant_id={_tenant(r)}" for _ in range(3)),
    "topic": lambda r: f"/events?topic={r.choice(TOPICS)}",
    "rare topic": lambda _: f"/events?topic={RARE_TOPIC}",
    "tenant, topic": lambda r: f"/events?tenant_id={_tenant(r)}&topic={r.choice((*TOPICS, RARE_TOPIC))}",
    "destination": lambda r: f"/events?destination_id={_destination(r)}",
    "id": lambda r: f"/events?id={_event(r)}",
    "time": lambda r: f"/events?time[lt]={_instant(r)}",
    "tenant, time": lambda r: f"/events?tenant_id={_tenant(r)}&time[gte]={_instant(r)}&dir=asc",
    "status": lambda r: f"/events?status={r.choice(STATUSES)}",
    "tenant, status": lambda r: f"/events?tenant_id={_tenant(r)}&status={r.choice(STATUSES)}",
    "destination, status": lambda r: f"/events?destination_id={_destination(r)}&status={r.choice(STATUSES)}",
    "skip reason": lambda r: f"/events?skip_reason={r.choice(('topic', 'filter'))}",
    "with deliveries": lambda r: f"/events?tenant_id={_tenant(r)}&include=deliveries",
}
SEARCHES: dict[str, Call] = {
    "q": lambda r: f"/events?q={_word(r)}",
    "q, two words": lambda r: f"/events?q={_word(r)} {_word(r)}",
    "q, phrase": lambda _: f"/events?q={quote(chr(34) + _words(2) + chr(34))}",
    "q, prefix": lambda r: f"/events?q={_word(r)[: r.randrange(2, 5)]}*",
    "tenant, q": lambda r: f"/events?tenant_id={_tenant(r)}&q={_word(r)}",
    "tenant, q, prefix": lambda r: f"/events?tenant_id={_tenant(r)}&q={_word(r)[:3]}*",
    "q, time": lambda r: f"/events?q={_word(r)}&time[lt]={_instant(r)}",
    "q, topic": lambda r: f"/events?q={_word(r)}&topic={r.choice((*TOPICS, RARE_TOPIC))}",
    "q, status": lambda r: f"/events?q={_word(r)}&status={r.choice(STATUSES)}",
    "q, destination": lambda r: f"/events?q={_word(r)}&destination_id={_destination(r)}",
    "data": lambda r: f"/events?data[customer.id]={r.randrange(CUSTOMERS)}",
    "data in a list": lambda r: f"/events?data[items.sku]=SKU-{r.randrange(20_000)}",
    "data, frequent": lambda r: f"/events?data[currency]={r.choice(('EUR', 'CHF'))}&data[customer.plan]=pro",
    "tenant, data": lambda r: f"/events?tenant_id={_tenant(r)}&data[customer.id]={r.randrange(CUSTOMERS)}",
    "metadata": lambda r: f"/events?metadata[shard]={r.randrange(SHARDS)}",
}
ATTEMPTS: dict[str, Call] = {
    "all": lambda _: "/attempts",
    "tenant": lambda r: f"/attempts?tenant_id={_tenant(r)}",
    "destination": lambda r: f"/attempts?destination_id={_destination(r)}",
    "event": lambda r: f"/attempts?event_id={_event(r)}",
    "topic": lambda r: f"/attempts?topic={r.choice((*TOPICS, RARE_TOPIC))}",
    "tenant, topic": lambda r: f"/attempts?tenant_id={_tenant(r)}&topic={r.choice((*TOPICS, RARE_TOPIC))}",
    "failed": lambda _: "/attempts?status=failed",
    "tenant, failed": lambda r: f"/attempts?tenant_id={_tenant(r)}&status=failed",
    "code": lambda r: f"/attempts?code={r.choice(CODES)}",
    "tenant, code": lambda r: f"/attempts?tenant_id={_tenant(r)}&code={r.choice(CODES)}",
    "code range": lambda _: "/attempts?status_code[gte]=500&status_code[lt]=503",
    "slow": lambda r: f"/attempts?latency_ms[gte]={r.choice((500, 2_000, 20_000))}",
    "manual": lambda r: f"/attempts?tenant_id={_tenant(r)}&manual=true",
    "time": lambda r: f"/attempts?time[lt]={_instant(r)}",
    "with all beside it": lambda r: f"/attempts?tenant_id={_tenant(r)}&include=event.data&include=response_data",
}
DELIVERIES: dict[str, Call] = {
    "all": lambda _: "/deliveries",
    "tenant": lambda r: f"/deliveries?tenant_id={_tenant(r)}",
    "destination": lambda r: f"/deliveries?destination_id={_destination(r)}",
    "event": lambda r: f"/deliveries?event_id={_event(r)}",
    "status": lambda r: f"/deliveries?status={r.choice([each for each in STATUSES if each != 'skipped'])}",
    "tenant, status": lambda r: f"/deliveries?tenant_id={_tenant(r)}&status={r.choice(('retrying', 'exhausted'))}",
    "due": lambda _: f"/deliveries?due[lte]={times.render(clock.now() + DAY)}",
}
METRICS: dict[str, Call] = {
    "attempts of a month": lambda _: _metrics("attempts", 30),
    "by day and status": lambda _: _metrics("attempts", 30, "granularity=1d&dimensions=status"),
    "by hour and topic": lambda _: _metrics("attempts", 30, "granularity=1h&dimensions=topic"),
    "by code": lambda _: _metrics("attempts", 30, "dimensions=code"),
    "by tenant": lambda _: _metrics("attempts", 30, "dimensions=tenant_id"),
    "by destination": lambda _: _metrics("attempts", 30, "dimensions=destination_id"),
    "by week and destination": lambda _: _metrics("attempts", 30, "granularity=1w&dimensions=destination_id"),
    "tenant, by hour and status": lambda r: _metrics(
        "attempts", 30, f"granularity=1h&dimensions=status&filters[tenant_id]={_tenant(r)}"
    ),
    "destination, by day and code": lambda r: _metrics(
        "attempts", 30, f"granularity=1d&dimensions=code&filters[destination_id]={_destination(r)}"
    ),
    "the last day by 5 minutes": lambda _: _metrics("attempts", 1, "granularity=5m"),
    "tenant, the last hours by minute": lambda r: _metrics(
        "attempts", 0.25, f"granularity=1m&filters[tenant_id]={_tenant(r)}"
    ),
    "events by hour and topic": lambda _: _metrics("events", 30, "granularity=1h&dimensions=topic"),
    "events by destination": lambda _: _metrics("events", 30, "dimensions=destination_id"),
    "tenant, events by day": lambda r: _metrics("events", 30, f"granularity=1d&filters[tenant_id]={_tenant(r)}"),
}
CALLS: dict[str, Call] = {
    f"{noun}: {name}": call
    for noun, calls in (
        ("events", EVENTS),
        ("events", SEARCHES),
        ("attempts", ATTEMPTS),
        ("deliveries", DELIVERIES),
        ("metrics", METRICS),
    )
    for name, call in calls.items()
}

if __name__ == "__main__":
    main()
