"""Verifying a destination and sending it a test event, with deliveries that really happen."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from msgspec import structs

from tests.flow import samples
from tests.flow.samples import letterbox
from tests.store.builders import OPERATOR
from waypost.api.app import create_app
from waypost.connect.connector import Connection, Message, Receipt, Tools
from waypost.connect.registry import Registry
from waypost.core.errors import DeliveryError
from waypost.core.model import Destination
from waypost.core.retry import RetryPolicy
from waypost.flow import clock
from waypost.flow.attempt import Attempts
from waypost.flow.deliver import Bounds, Dispatcher
from waypost.flow.manage import Manager
from waypost.flow.probe import Prober
from waypost.observe.logs import NullJournal
from waypost.observe.metrics import NullMetrics

from .kit import ADMIN_KEY, Caller, World, error

SEAL = "a-seal-that-nobody-may-see"


class Postman:
    """What the letterboxes saw, and what they do: by address, an exception to raise or a number of seconds to wait."""

    def __init__(self) -> None:
        self.seen: list[Message] = []
        self.opened = 0
        self.closed = 0
        self.behaviour: dict[str, Exception | float] = {}


def letterbox_type(postman: Postman) -> type[samples.Letterbox]:
    class Letterbox(samples.Letterbox):
        type: ClassVar[str] = "letterbox"
        extra = "post"

        async def connect(self, destination: Destination, tools: Tools) -> Connection:
            postman.opened += 1
            if destination.config["address"] == "No library":
                raise self.missing_extra()
            return Slot(destination)

    class Slot:
        def __init__(self, destination: Destination) -> None:
            self._address = destination.config["address"]

        async def send(self, message: Message) -> Receipt:
            await self.verify()
            postman.seen.append(message)
            return Receipt(code="ack", response={"slot": 1}, request={"to": self._address})

        async def verify(self) -> None:
            behaviour = postman.behaviour.get(self._address)
            if isinstance(behaviour, Exception):
                raise behaviour
            await asyncio.sleep(behaviour or 0)

        async def close(self) -> None:
            postman.closed += 1

    return Letterbox


class Town:
    """The world of the API's tests with a dispatcher at work."""

    def __init__(self, world: World) -> None:
        self.postman = Postman()
        self.world = world
        types = Registry(iter([letterbox_type(self.postman)]))
        sequence, tools = clock.Sequence(), samples.tools()
        policy = RetryPolicy(schedule=(0.01,), jitter=0, retry_on="any")
        attempts = Attempts(registry=types, tools=tools, policy=policy, sequence=sequence, timeout=30.0)
        bounds = Bounds(sweep_interval=0.05)
        self.dispatcher = Dispatcher(world.store, attempts, NullMetrics(), NullJournal(), bounds=bounds)
        self.manager = Manager(
            world.store,
            types,
            tools,
            topics=lambda: (),
            max_destinations=20,
            changed=self.dispatcher.changed,
            now=clock.now,
        )
        self.probers = (world.store, types, tools, self.dispatcher, sequence.next)
        self.backend = structs.replace(world.backend, registry=types, manager=self.manager)
        self.patience(5.0)

    def patience(self, seconds: float) -> None:
        app = create_app(structs.replace(self.backend, probe=Prober(*self.probers, timeout=seconds)))
        self.admin = Caller(app, ADMIN_KEY)
        self.acme = Caller(app, self.world.access.mint("acme"))
        self.zeta = Caller(app, self.world.access.mint("zeta"))
        self.nobody = Caller(app, None)

    async def box(self, address: str = "Elm Street 1", **changes: Any) -> None:
        body = letterbox(id="box", config={"address": address}, credentials={"pin": SEAL}, **changes)
        await self.manager.create("acme", body, by=OPERATOR)


@pytest.fixture
async def town(world: World) -> AsyncIterator[Town]:
    made = Town(world)
    await made.dispatcher.start()
    yield made
    await made.dispatcher.close()


BOX = "/tenants/acme/destinations/box"


# verify


async def test_a_good_destination_is_ok(town: Town) -> None:
    await town.box()
    answer = await town.acme.post(f"{BOX}/verify")
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert (town.postman.seen, town.postman.opened, town.postman.closed) == ([], 1, 1)


async def test_a_bad_one_is_told_with_code_and_sentence(town: Town) -> None:
    await town.box()
    town.postman.behaviour["Elm Street 1"] = DeliveryError("access_denied", "The key does not fit")
    answer = await town.acme.post(f"{BOX}/verify")
    expected = {"ok": False, "code": "access_denied", "message": "The key does not fit"}
    assert (answer.status_code, answer.json()) == (200, expected)
    assert town.postman.closed == 1


async def test_a_missing_library_is_named_with_its_extra(town: Town) -> None:
    await town.box("No library")
    answer = (await town.acme.post(f"{BOX}/verify")).json()
    assert (answer["ok"], answer["code"]) == (False, "missing_extra")
    assert "waypost[post]" in answer["message"]


async def test_a_fault_of_the_type_is_an_answer_without_its_details(town: Town) -> None:
    await town.box()
    town.postman.behaviour["Elm Street 1"] = RuntimeError(f"oops {SEAL}")
    answer = await town.acme.post(f"{BOX}/verify")
    assert (answer.status_code, answer.json()["code"]) == (200, "internal_error")
    assert SEAL not in answer.text


async def test_a_destination_that_does_not_answer_is_waited_for_only_so_long(town: Town) -> None:
    await town.box()
    town.postman.behaviour["Elm Street 1"] = 60.0
    town.patience(0.05)
    answer = (await town.acme.post(f"{BOX}/verify")).json()
    assert (answer["ok"], answer["code"]) == (False, "timeout")
    assert town.postman.closed == 1


async def test_a_disabled_destination_can_be_verified(town: Town) -> None:
    await town.box()
    await town.manager.disable("acme", "box")
    assert (await town.acme.post(f"{BOX}/verify")).json() == {"ok": True}


# test


async def test_a_test_event_takes_the_real_way_and_the_answer_is_its_attempt(town: Town) -> None:
    await town.box(delivery_metadata={"who": "me"})
    answer = await town.acme.post(f"{BOX}/test?include=event.data&include=response_data")
    assert answer.status_code == 200
    attempt = answer.json()
    [message] = town.postman.seen
    assert attempt["status"] == "success"
    assert (attempt["code"], attempt["attempt_number"], attempt["manual"]) == ("ack", 1, False)
    assert (attempt["destination_id"], attempt["event_id"]) == ("box", message.event.id)
    assert attempt["response_data"] == {"slot": 1}
    assert attempt["event"]["topic"] == "waypost.test"
    assert attempt["event"]["data"]["test"] is True
    assert json.loads(message.body) == attempt["event"]["data"]
    assert (message.metadata["waypost-test"], message.metadata["who"]) == ("true", "me")
    assert (await town.acme.get(f"{BOX}/attempts/{attempt['id']}")).status_code == 200
    event = (await town.acme.get(f"/events/{message.event.id}")).json()
    assert event["matched_destination_ids"] == ["box"]


async def test_topics_and_filter_are_not_asked(town: Town) -> None:
    await town.box(topics=["invoice.paid"], filter={"data": {"amount": {"$gt": 100}}})
    assert (await town.acme.post(f"{BOX}/test")).json()["status"] == "success"


async def test_no_other_destination_gets_the_test_event(town: Town) -> None:
    await town.box()
    await town.manager.create("acme", letterbox(id="other"), by=OPERATOR)
    await town.acme.post(f"{BOX}/test")
    assert len(town.postman.seen) == 1


async def test_a_failed_attempt_is_an_answer_too_and_is_not_retried(town: Town) -> None:
    await town.box()
    town.postman.behaviour["Elm Street 1"] = DeliveryError("connection_refused", "Nobody is at home")
    answer = await town.acme.post(f"{BOX}/test")
    attempt = answer.json()
    assert (answer.status_code, attempt["status"], attempt["code"]) == (200, "failed", "connection_refused")
    assert attempt["detail"] == "Nobody is at home"
    await asyncio.sleep(0.1)
    page = (await town.acme.get(f"{BOX}/attempts")).json()
    assert [one["id"] for one in page["models"]] == [attempt["id"]]


async def test_each_test_is_an_event_of_its_own(town: Town) -> None:
    await town.box()
    answers = await asyncio.gather(*(town.admin.post(f"{BOX}/test") for _ in range(20)))
    assert len({answer.json()["event_id"] for answer in answers}) == 20


async def test_a_tenant_has_few_tests_under_way(town: Town) -> None:
    await town.box()
    town.postman.behaviour["Elm Street 1"] = 0.2
    answers = await asyncio.gather(*(town.acme.post(f"{BOX}/test") for _ in range(20)))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) >= 16
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert (await town.acme.post(f"{BOX}/test")).status_code != 429


async def test_an_attempt_that_takes_too_long_is_pending(town: Town) -> None:
    await town.box()
    town.postman.behaviour["Elm Street 1"] = 0.3
    town.patience(0.05)
    answer = await town.acme.post(f"{BOX}/test")
    assert answer.status_code == 202
    assert answer.json()["status"] == "pending"
    async with asyncio.timeout(10):
        while not (await town.acme.get(f"{BOX}/attempts?event_id={answer.json()['event_id']}")).json()["models"]:
            await asyncio.sleep(0.02)


async def test_the_newest_version_of_the_destination_is_tested(town: Town) -> None:
    await town.box()
    await town.acme.post(f"{BOX}/test")
    await town.manager.update("acme", "box", {"config": {"address": "Oak Street 2"}}, by=OPERATOR)
    attempt = (await town.acme.post(f"{BOX}/test?include=request_data")).json()
    assert attempt["request_data"] == {"to": "Oak Street 2"}


async def test_a_full_queue_delays_the_test_and_does_not_lose_it(town: Town) -> None:
    await town.box()
    town.dispatcher._bounds = Bounds(queue=0, sweep_interval=0.05)
    town.patience(0.02)
    pending = (await town.acme.post(f"{BOX}/test")).json()
    town.dispatcher._bounds = Bounds(sweep_interval=0.05)
    async with asyncio.timeout(10):
        while not town.postman.seen:
            await asyncio.sleep(0.02)
    assert town.postman.seen[0].event.id == pending["event_id"]


async def test_what_is_our_own_trouble_is_no_verdict_and_no_attempt(town: Town) -> None:
    await town.box()
    town.postman.behaviour["Elm Street 1"] = OSError(errno.EMFILE, "Too many open files")
    for verb in ("test", "verify"):
        answer = await town.acme.post(f"{BOX}/{verb}")
        assert answer.status_code == 503
    assert (await town.acme.get(f"{BOX}/attempts")).json()["models"] == []


async def test_a_disabled_destination_gets_no_test_event(town: Town) -> None:
    await town.box()
    await town.manager.disable("acme", "box")
    assert error(await town.acme.post(f"{BOX}/test")) == (400, "Destination is disabled", None)
    assert town.postman.seen == []


# who may


@pytest.mark.parametrize("verb", ["verify", "test"])
async def test_only_those_who_may_touch_the_destination(town: Town, verb: str) -> None:
    await town.box()
    assert (await town.admin.post(f"{BOX}/{verb}")).status_code == 200
    assert (await town.acme.post(f"{BOX}/{verb}")).status_code == 200
    assert (await town.zeta.post(f"{BOX}/{verb}")).status_code == 403
    assert (await town.nobody.post(f"{BOX}/{verb}")).status_code == 401
    missing = await town.admin.post(f"/tenants/acme/destinations/nobody/{verb}")
    assert error(missing) == (404, "destination not found", None)
    assert error(await town.admin.post(f"/tenants/nobody/destinations/box/{verb}"))[:2] == (404, "tenant not found")


async def test_a_wrong_include_is_refused_before_anything_is_sent(town: Town) -> None:
    await town.box()
    assert (await town.acme.post(f"{BOX}/test?include=everything")).status_code == 422
    assert town.postman.seen == []


async def test_both_are_in_the_description(town: Town) -> None:
    paths = (await town.nobody.http.get("/openapi.json")).json()["paths"]
    for verb, name in (("verify", "verifyTenantDestination"), ("test", "testTenantDestination")):
        path = f"/api/v1/tenants/{{tenant_id}}/destinations/{{destination_id}}/{verb}"
        assert paths[path]["post"]["operationId"] == name
