from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from waypost.connect.batch import Batcher, Limits
from waypost.core.errors import DeliveryError

Result = str | DeliveryError


class Service:
    """Takes batches of names; answers when it is told to, with what was planned for a name or a batch."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.plans: dict[str, Exception] = {}
        self.whole: Exception | None = None
        self.cancelled = 0
        self._may_answer = asyncio.Event()
        if not held:
            self._may_answer.set()

    def answer(self) -> None:
        self._may_answer.set()

    async def send(self, batch: Sequence[str]) -> list[Result]:
        self.batches.append(list(batch))
        try:
            await self._may_answer.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.whole is not None and (len(batch) > 1 or batch[0] in self.plans):
            raise self.whole
        return [self._result(name) for name in batch]

    def _result(self, name: str) -> Result:
        planned = self.plans.get(name)
        return planned if isinstance(planned, DeliveryError) else f"got {name}"


def batcher(service: Service, *, count: int = 10, size: int = 1_000, wait: float = 60.0) -> Batcher[str, str]:
    return Batcher(service.send, Limits(count=count, size=size, wait=wait))


async def all_of(sender: Batcher[str, str], names: Sequence[str], size: int = 1) -> list[str | BaseException]:
    return await asyncio.gather(*(sender.send(name, size) for name in names), return_exceptions=True)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_what_is_sent_at_the_same_time_travels_together() -> None:
    service = Service()
    assert await all_of(batcher(service), ["a", "b", "c"]) == ["got a", "got b", "got c"]
    assert service.batches == [["a", "b", "c"]]


async def test_one_by_one_nothing_waits() -> None:
    service = Service()
    sender = batcher(service)
    async with asyncio.timeout(5):
        for name in "abc":
            assert await sender.send(name, 1) == f"got {name}"
    assert service.batches == [["a"], ["b"], ["c"]]


async def test_a_batch_has_no_more_than_the_count() -> None:
    service = Service()
    await all_of(batcher(service, count=3), list("abcdefgh"))
    assert service.batches == [["a", "b", "c"], ["d", "e", "f"], ["g", "h"]]


async def test_a_batch_is_no_larger_than_the_size() -> None:
    service = Service()
    sender = batcher(service, size=10)
    await asyncio.gather(sender.send("a", 4), sender.send("b", 6), sender.send("c", 1), sender.send("huge", 99))
    assert service.batches == [["a", "b"], ["c"], ["huge"]]


async def test_while_a_call_is_under_way_messages_gather() -> None:
    service = Service(held=True)
    sender = batcher(service)
    first = asyncio.create_task(sender.send("a", 1))
    await turns()
    rest = asyncio.create_task(all_of(sender, ["b", "c"]))
    await turns()
    late = asyncio.create_task(sender.send("d", 1))
    await turns()
    assert service.batches == [["a"]]
    service.answer()
    await asyncio.gather(first, rest, late)
    assert service.batches == [["a"], ["b", "c", "d"]]


async def test_a_full_batch_does_not_wait() -> None:
    service = Service(held=True)
    sender = batcher(service, count=2)
    sends = [asyncio.create_task(sender.send("a", 1))]
    await turns()
    sends += [asyncio.create_task(sender.send(name, 1)) for name in "bcd"]
    await turns()
    assert service.batches == [["a"], ["b", "c"]]
    service.answer()
    await asyncio.gather(*sends)
    assert service.batches[2] == ["d"]


async def test_nothing_waits_longer_than_the_wait() -> None:
    service = Service(held=True)
    sender = batcher(service, wait=0.001)
    sends = [asyncio.create_task(sender.send("a", 1))]
    await turns()
    sends.append(asyncio.create_task(sender.send("b", 1)))
    async with asyncio.timeout(5):
        while len(service.batches) < 2:
            await asyncio.sleep(0.001)
    service.answer()
    await asyncio.gather(*sends)


async def test_flush_holds_nothing_back() -> None:
    service = Service(held=True)
    sender = batcher(service)
    sends = [asyncio.create_task(sender.send("a", 1))]
    await turns()
    sends.append(asyncio.create_task(sender.send("b", 1)))
    await turns()
    sender.flush()
    sender.flush()
    await turns()
    assert service.batches == [["a"], ["b"]]
    service.answer()
    assert await asyncio.gather(*sends) == ["got a", "got b"]


async def test_each_message_has_its_own_outcome() -> None:
    service = Service()
    service.plans["b"] = DeliveryError("throttled", "Slow down", retry_after=3.0)
    results = await all_of(batcher(service), ["a", "b", "c"])
    assert results[0] == "got a"
    assert results[2] == "got c"
    assert isinstance(results[1], DeliveryError)
    assert (results[1].code, results[1].retry_after) == ("throttled", 3.0)


async def test_a_call_that_fails_fails_all_with_an_error_of_their_own() -> None:
    service = Service()
    service.whole = DeliveryError("access_denied", "No", retryable=False, response={"a": 1})
    first, second = await all_of(batcher(service), ["a", "b"])
    assert isinstance(first, DeliveryError)
    assert isinstance(second, DeliveryError)
    assert first is not second
    assert (first.code, first.retryable, first.response) == ("access_denied", False, {"a": 1})
    assert service.batches == [["a", "b"]]


async def test_of_a_call_that_fails_is_known_how_many_travelled_in_it() -> None:
    service = Service()
    service.whole = DeliveryError("timeout", "No answer came", request={"method": "POST"})
    for came in await all_of(batcher(service), ["a", "b", "c"]):
        assert isinstance(came, DeliveryError)
        assert came.request == {"method": "POST", "messages": 3}


@pytest.mark.parametrize("code", ["message_too_large", "invalid_request", "metadata_too_large"])
async def test_a_message_that_spoils_the_batch_fails_alone(code: str) -> None:
    service = Service()
    service.whole = DeliveryError(code, "No", retryable=False)
    service.plans["b"] = service.whole
    results = await all_of(batcher(service), ["a", "b", "c"])
    assert results[0] == "got a"
    assert results[2] == "got c"
    assert isinstance(results[1], DeliveryError)
    assert results[1].code == code
    assert service.batches == [["a", "b", "c"], ["a"], ["b"], ["c"]]


async def test_a_fault_in_the_type_reaches_everybody() -> None:
    service = Service()
    service.whole = KeyError("oops")
    results = await all_of(batcher(service), ["a", "b"])
    assert [type(result) for result in results] == [KeyError, KeyError]


async def test_an_answer_with_too_few_results_is_a_fault() -> None:
    async def short(batch: Sequence[str]) -> list[Result]:
        return ["one"]

    sender: Batcher[str, str] = Batcher(short, Limits(count=10, size=10))
    results = await all_of(sender, ["a", "b"])
    assert all(isinstance(result, ValueError) for result in results)


async def test_what_is_cancelled_before_it_leaves_is_not_sent() -> None:
    service = Service(held=True)
    sender = batcher(service)
    first = asyncio.create_task(sender.send("a", 1))
    await turns()
    second, third = (asyncio.create_task(sender.send(name, 1)) for name in "bc")
    await turns()
    second.cancel()
    service.answer()
    assert list(await asyncio.gather(first, third)) == ["got a", "got c"]
    assert service.batches == [["a"], ["c"]]


async def test_what_is_cancelled_on_its_way_leaves_the_others_alone() -> None:
    service = Service(held=True)
    sender = batcher(service)
    sends = [asyncio.create_task(sender.send(name, 1)) for name in "abc"]
    await turns()
    sends[1].cancel()
    await turns()
    service.answer()
    results = await asyncio.gather(*sends, return_exceptions=True)
    assert [results[0], results[2]] == ["got a", "got c"]
    assert isinstance(results[1], asyncio.CancelledError)
    assert service.cancelled == 0


async def test_a_call_that_nobody_waits_for_is_cancelled() -> None:
    service = Service(held=True)
    sender = batcher(service)
    sends = [asyncio.create_task(sender.send(name, 1)) for name in "ab"]
    await turns()
    for send in sends:
        send.cancel()
    await asyncio.gather(*sends, return_exceptions=True)
    await turns()
    assert service.cancelled == 1
    service.answer()
    assert await sender.send("c", 1) == "got c"


async def test_thousands_arrive_once_each() -> None:
    service = Service()
    sender = batcher(service, count=7, wait=0.0)
    names = [f"n{n}" for n in range(3_000)]
    assert await all_of(sender, names) == [f"got {name}" for name in names]
    assert sorted(name for batch in service.batches for name in batch) == sorted(names)
    assert max(map(len, service.batches)) == 7
