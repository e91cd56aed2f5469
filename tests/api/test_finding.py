"""Finding events by status, metadata, payload and words, and attempts by code, duration and who asked."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

import msgspec
import pytest

from waypost.core import ids
from waypost.core.model import Destination, Event
from waypost.core.routing import Skip
from waypost.store.base import Publication

from .kit import NOW, World, error

DATA = {
    "e1": {
        "customer": {"id": 42, "name": "Ada Lovelace"},
        "items": [{"sku": "A-1"}, {"sku": "B-2"}],
        "note": "a refund",
    },
    "e2": {"customer": {"id": "42", "name": "Grace Hopper"}, "note": "Refunds for New York", "paid": True},
    "e3": {"customer": {"id": 7}, "total": 29.90},
}


@pytest.fixture
async def events(world: World) -> dict[str, Event]:
    """`e1` to `e3` of acme, a second apart, and `e4` of zeta with the words of `e1`."""
    made = {}
    for name, data in DATA.items():
        metadata = {"source": "shop"} if name != "e3" else {"source": "crm", "shop.no": "7"}
        made[name] = await world.event(id=name, data=msgspec.json.encode(data), metadata=metadata, topic=name)
    made["e4"] = await world.event(id="e4", tenant_id="zeta", data=msgspec.json.encode(DATA["e1"]))
    return made


@pytest.fixture(params=["one by one", "by the index"])
async def indexed(request: pytest.FixtureRequest, world: World, events: dict[str, Event]) -> None:
    while request.param == "by the index" and (await world.store.search.index(now=world.now + 10_000_000)).more:
        pass


@pytest.mark.usefixtures("indexed")
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("q=refund", ["e1"]),
        ("q=refund*", ["e2", "e1"]),
        ("q=REFUND*&dir=asc", ["e1", "e2"]),
        ('q="new york"', ["e2"]),
        ('q="york new"', []),
        ("q=ada lovelace", ["e1"]),
        ("q=ada hopper", []),
        ("q=NOT OR NEAR(", []),
        ("q=refund*&topic=e2", ["e2"]),
        ("q=refund*&time[gte]=2027-01-15T08:00:02Z", ["e2"]),
        ("data[customer.id]=42", ["e2", "e1"]),
        ("data[customer.id]=42.0", ["e1"]),
        ("data[customer.id]=7&data[customer.id]=42.0", ["e3", "e1"]),
        ("data[items.sku]=B-2", ["e1"]),
        ("data[total]=29.9", ["e3"]),
        ("data[paid]=true", ["e2"]),
        ("data[customer.id]=42&q=grace", ["e2"]),
        ("metadata[source]=shop", ["e2", "e1"]),
        ("metadata[shop.no]=7", ["e3"]),
        ("metadata[source]=shop&data[paid]=true", ["e2"]),
        ("metadata[source]=nowhere", []),
    ],
)
async def test_events_are_found_by_what_is_in_them(world: World, query: str, expected: list[str]) -> None:
    listed = (await world.acme.get(f"/events?{query}")).json()
    assert [item["id"] for item in listed["models"]] == expected
    assert listed["pagination"]["order_by"] == "accepted_at"
    assert listed["search"]["complete"] is True
    everybodys = (await world.admin.get(f"/events?{query}&tenant_id=acme")).json()
    assert [item["id"] for item in everybodys["models"]] == expected


async def test_the_operator_searches_everywhere(world: World, events: dict[str, Event]) -> None:
    listed = (await world.admin.get("/events?q=refund")).json()
    assert [item["id"] for item in listed["models"]] == ["e4", "e1"]
    assert [item["id"] for item in (await world.zeta.get("/events?q=refund")).json()["models"]] == ["e4"]


async def test_what_is_found_comes_in_pages(world: World, events: dict[str, Event]) -> None:
    first = (await world.admin.get("/events?q=refund*&limit=1")).json()
    assert [item["id"] for item in first["models"]] == ["e4"]
    second = (await world.admin.get(f"/events?q=refund*&limit=1&next={first['pagination']['next']}")).json()
    assert [item["id"] for item in second["models"]] == ["e2"]
    back = (await world.admin.get(f"/events?q=refund*&limit=1&prev={second['pagination']['prev']}")).json()
    assert back["models"] == first["models"]
    assert error(await world.admin.get(f"/events?next={first['pagination']['next']}"))[0] == 400


async def test_the_answer_says_how_far_the_index_has_come(world: World, events: dict[str, Event]) -> None:
    assert (await world.acme.get("/events?q=refund")).json()["search"] == {"complete": True, "indexed_until": None}
    await world.store.search.index(now=world.now + 10_000_000)
    shown = (await world.acme.get("/events?q=refund")).json()["search"]
    assert shown == {"complete": True, "indexed_until": "2027-01-15T08:00:04Z"}
    assert "search" not in (await world.acme.get("/events")).json()


@pytest.mark.parametrize(
    ("query", "came"),
    [
        ("q=***", (422, {"query.q": "must have a word in it"})),
        ("q=a*", (422, {"query.q": "must have at least 2 letters or digits before a *"})),
        ("q=a&q=b", (422, {"query.q": "must be given once"})),
        ("q=refund&order_by=time", (422, {"query.order_by": "must be 'accepted_at'"})),
        ("order_by=accepted_at", (422, {"query.order_by": "must be 'time'"})),
        ("status=gone", (422, None)),
        ("data=1", (400, None)),
        ("data[]=1", (400, None)),
        ("data[a][b]=1", (400, None)),
        ("metadata[0", (200, None)),
        ("&".join(f"data[{number}]=1" for number in range(21)), (422, None)),
    ],
)
async def test_what_cannot_be_searched_for_is_refused(world: World, query: str, came: tuple[int, Any]) -> None:
    answer = await world.acme.get(f"/events?{query}")
    assert answer.status_code == came[0], answer.text
    if came[1] is not None:
        assert error(answer)[2] == came[1]


async def test_a_server_without_an_index_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = world.settings.model_copy(update={"search": False})
    world.app.state.backend = msgspec.structs.replace(world.backend, settings=settings)
    rule = "needs the search index, which this server has switched off"
    answer = await world.acme.get("/events?q=refund&metadata[a]=b")
    assert error(answer) == (422, "validation error", {"query.q": rule, "query.metadata": rule})
    assert (await world.acme.get("/events")).status_code == 200


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("status=delivered", ["done"]),
        ("status=retrying", ["again"]),
        ("status=delivering", ["new"]),
        ("status=delivered&status=retrying", ["again", "done"]),
        ("status=skipped", ["again"]),
        ("status=skipped&destination_id=two", ["again"]),
        ("status=skipped&destination_id=one", []),
        ("status=disabled", ["kept"]),
        ("status=disabled&destination_id=one", []),
        ("status=delivered&destination_id=two", []),
        ("status=exhausted", []),
    ],
)
async def test_events_by_the_status_of_their_deliveries(world: World, query: str, expected: list[str]) -> None:
    one, two = await world.destination(id="one"), await world.destination(id="two")
    done = await world.event(one, id="done")
    await world.attempt(done, one)
    again = await world.event(id="again")  # its number and time are used for one that is routed by hand
    again = msgspec.structs.replace(again, seq=world.next_seq(), id="again2")
    await publish(world, again, one, skipped=(Skip("two", "topic"),))
    await world.attempt(again, one, ok=False, code="503")
    await world.event(one, id="new")
    await publish(world, msgspec.structs.replace(again, seq=world.next_seq(), id="kept"), kept=(two,))
    listed = (await world.acme.get(f"/events?{query}")).json()
    assert [item["id"].removesuffix("2") for item in listed["models"]] == expected


async def publish(
    world: World,
    event: Event,
    *matched: Destination,
    skipped: tuple[Skip, ...] = (),
    kept: tuple[Destination, ...] = (),
) -> None:
    await world.store.accept(
        Publication(event=event, matched=matched, skipped=skipped, accepted_at=NOW, lease_until=None, kept=kept)
    )


# attempts


@pytest.fixture
async def attempts(world: World) -> dict[str, str]:
    """Attempts by name: their ids."""
    to = await world.destination(id="one")
    made = {}
    outcomes: dict[str, dict[str, Any]] = {
        "good": {"latency": 87_654},
        "missing": {"ok": False, "code": "404", "latency": 5_000},
        "broken": {"ok": False, "code": "503", "latency": 999_999},
        "late": {"ok": False, "code": "timeout", "latency": 30_000_000},
    }
    for name, outcome in outcomes.items():
        event = await world.event(to, id=name)
        made[name] = ids.encode("atm", await world.attempt(event, to, **outcome))
    event = await world.event(to, id="asked")
    made["asked"] = ids.encode("atm", await world.attempt(event, to, manual=True))
    return made


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("code=404", ["missing"]),
        ("code=4xx", ["missing"]),
        ("code[0]=5xx&code[1]=timeout", ["late", "broken"]),
        ("code=2xx", ["asked", "good"]),
        ("code=418", []),
        ("status_code[gte]=404", ["broken", "missing"]),
        ("status_code[gte]=200&status_code[lt]=404", ["asked", "good"]),
        ("status_code[gt]=404&status_code[lte]=503", ["broken"]),
        ("latency_ms[gte]=999", ["late", "broken"]),
        ("latency_ms[gt]=999", ["late"]),
        ("latency_ms[lte]=5", ["asked", "missing"]),
        ("latency_ms[lt]=5", ["asked"]),
        ("latency_ms[gte]=5&latency_ms[lte]=87", ["missing", "good"]),
        ("manual=true", ["asked"]),
        ("manual=false&status=success", ["good"]),
    ],
)
async def test_attempts_are_narrowed(world: World, attempts: dict[str, str], query: str, expected: list[str]) -> None:
    for path in ("/attempts", "/tenants/acme/destinations/one/attempts"):
        listed = (await world.acme.get(f"{path}?{query}")).json()
        assert [item["event_id"] for item in listed["models"]] == expected


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("manual=yes", 422),
        ("latency_ms=5", 400),
        ("latency_ms[eq]=5", 400),
        ("latency_ms[gte]=-1", 400),
        ("status_code[gte]=4xx", 400),
        ("include=everything", 422),
    ],
)
async def test_bounds_that_make_no_sense_are_refused(world: World, query: str, status: int) -> None:
    assert error(await world.admin.get(f"/attempts?{query}"))[0] == status


async def test_the_exceptions_behind_a_failure_are_the_operators(world: World) -> None:
    to = await world.destination(id="one")
    seq = await world.attempt(await world.event(to), to, ok=False, code="503", causes=("OSError: refused",))
    for path in (
        f"/attempts/{ids.encode('atm', seq)}",
        f"/tenants/acme/destinations/one/attempts/{ids.encode('atm', seq)}",
    ):
        assert (await world.admin.get(f"{path}?include=causes")).json()["causes"] == ["OSError: refused"]
        for answer in (await world.acme.get(f"{path}?include=causes"), await world.admin.get(path)):
            assert "causes" not in answer.json()
    for path in ("/attempts", "/tenants/acme/destinations/one/attempts"):
        assert (await world.admin.get(f"{path}?include=causes")).json()["models"][0]["causes"] == ["OSError: refused"]
        assert "causes" not in (await world.acme.get(f"{path}?include=causes")).json()["models"][0]


# curl


def request(url: str, data: bytes) -> dict[str, Any]:
    headers = {"content-type": "application/json", "x-key": "abcd****", "x-empty": "", "x-it's": 'a "b" $c'}
    return {"method": "POST", "url": url, "headers": headers, "size": len(data)}


async def test_a_command_repeats_an_attempt(world: World) -> None:
    data = '{"it": "it\'s ünïque $HOME `id`"}'.encode()
    to = await world.destination(id="one")
    event = await world.event(to, data=data)
    name = ids.encode("atm", await world.attempt(event, to, request=request("https://example.com/in?a=[1]", data)))
    for path in (f"/attempts/{name}/curl", f"/tenants/acme/destinations/one/attempts/{name}/curl"):
        answer = await world.acme.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        line = "curl() { for each; do printf '%s\\0' \"$each\"; done; }\n" + answer.text
        ran = await asyncio.to_thread(subprocess.run, ["sh", "-c", line], capture_output=True, timeout=20, check=True)
        assert ran.stdout.decode().split("\x00")[:-1] == [
            *("--globoff", "--request", "POST", "--url", "https://example.com/in?a=[1]"),
            *("--header", "content-type: application/json", "--header", "x-key: abcd****", "--header", "x-empty;"),
            *("--header", 'x-it\'s: a "b" $c', "--data-raw", data.decode()),
        ]
    assert error(await world.zeta.get(f"/attempts/{name}/curl")) == (404, "attempt not found", None)
    assert error(await world.zeta.get(f"/tenants/acme/destinations/one/attempts/{name}/curl"))[0] == 403


@pytest.mark.parametrize("kept", [None, {"topic": "orders", "size": 2}, {"method": "POST", "url": "x", "headers": {}}])
async def test_other_attempts_have_no_command(world: World, kept: dict[str, Any] | None) -> None:
    to = await world.destination(id="one")
    name = ids.encode("atm", await world.attempt(await world.event(to), to, request=kept))
    answer = await world.acme.get(f"/attempts/{name}/curl")
    assert error(answer) == (404, "this attempt has no HTTP request on record that curl could repeat", None)


@pytest.mark.parametrize("path", ["events", "attempts", "deliveries", "replays", "metrics/events", "stream", "tenants"])
async def test_what_would_narrow_nothing_is_refused(world: World, path: str) -> None:
    answer = await world.admin.get(f"/{path}?nonsense=1&unknown[gte]=2&limit=3")
    status, _, data = error(answer)
    assert status == 422
    assert {"query.nonsense": "is not known", "query.unknown[gte]": "is not known"}.items() <= data.items()
