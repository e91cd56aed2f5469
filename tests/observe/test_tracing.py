from __future__ import annotations

from collections.abc import Iterator, Sequence

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tests.store import builders
from waypost.core.model import Delivery, Event
from waypost.observe.tracing import ForwardingTracer, NullTracer, context_of, log_fields, traceparent
from waypost.store.base import Accepted, Result

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def hexadecimal(digits: int, *, zero: bool = False) -> st.SearchStrategy[str]:
    return st.integers(0 if zero else 1, 16**digits - 1).map(lambda number: f"{number:0{digits}x}")


ids = st.tuples(hexadecimal(32), hexadecimal(16))
flags = hexadecimal(2, zero=True)
later = hexadecimal(2).filter(lambda version: version != "ff")
states = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=512)


def context(*parents: str, states: Sequence[str] = ()) -> str | None:
    headers = [("host", "waypost"), *(("traceparent", parent) for parent in parents)]
    headers += [("tracestate", state) for state in states]
    return context_of([(name.encode(), value.encode()) for name, value in headers])


# the context of a request


@given(ids, flags)
def test_takes_what_level_1_allows(ids: tuple[str, str], flags: str) -> None:
    parent = f"00-{ids[0]}-{ids[1]}-{flags}"
    assert context(parent) == parent


@given(later, ids, flags, st.just("") | st.text(st.characters(codec="ascii", exclude_characters="\n")).map("-".__add__))
def test_takes_of_later_versions_what_level_1_knows(version: str, ids: tuple[str, str], flags: str, more: str) -> None:
    sampled = int(flags, 16) & 1
    assert context(f"{version}-{ids[0]}-{ids[1]}-{flags}{more}") == f"00-{ids[0]}-{ids[1]}-0{sampled}"


@given(st.text() | st.from_regex(r"[0-9a-fA-F]{1,3}-[0-9a-fA-F]{31,33}-[0-9a-fA-F]{15,17}-[0-9a-fA-F]{1,3}-?"))
def test_takes_nothing_that_opentelemetry_refuses(parent: str) -> None:
    found = context(parent)
    theirs = get_current_span(TraceContextTextMapPropagator().extract({"traceparent": parent})).get_span_context()
    if found is None:
        assert not theirs.is_valid or parent != parent.strip(" \t\n")
    else:
        assert found[:52] == f"00-{theirs.trace_id:032x}-{theirs.span_id:016x}"


def test_takes_none_of_these() -> None:
    ids, span, none = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "0" * 32
    wrong = [
        "",
        f"00-{none}-{span}-01",
        f"00-{ids}-{none[:16]}-01",
        f"ff-{ids}-{span}-01",
        f"00-{ids.upper()}-{span}-01",
        f"00-{ids}-{span}-01-more",
        f"00-{ids}-{span}-01\n",
        f"cc-{ids}-{span}-01.more",
        f"00-{ids}-{span}",
    ]
    assert [parent for parent in wrong if context(parent) is not None] == []
    assert context() is None
    assert context(PARENT, PARENT) is None


@given(states.filter(lambda state: not state.startswith(" ")))
def test_keeps_the_state_of_the_callers_vendor(state: str) -> None:
    found = context(PARENT, states=[state])
    assert found == f"{PARENT} {state}"
    assert traceparent(found) == PARENT


def test_joins_states_and_leaves_out_what_is_none() -> None:
    assert context(PARENT, states=["a=1", "b=2"]) == f"{PARENT} a=1,b=2"
    for state in ("", "x" * 513, "\xe4=1", "a=\n"):
        assert context(PARENT, states=[state]) == PARENT
    assert context(states=["a=1"]) is None


def test_gives_a_log_line_what_ties_it_to_its_trace() -> None:
    assert log_fields(f"{PARENT} a=1-2") == {
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
        "trace_flags": "01",
    }
    assert log_fields(None) == {}


# without traces


class Unread:
    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        raise AssertionError("nobody needs the headers")


async def test_the_null_tracer_lets_everything_through_as_it_is() -> None:
    tracer, event, to = NullTracer(), builders.event(), builders.destination()
    delivery = builders.delivery(event, to)
    accepted, result = Accepted(duplicate=False, destination_ids=()), builders.result(delivery, builders.outcome())
    passed: list[object] = []

    async def accept(event: Event) -> Accepted:
        passed.append(event)
        return accepted

    async def accept_many(events: Sequence[Event]) -> list[Accepted]:
        passed.extend(events)
        return [accepted]

    async def make(delivery: Delivery) -> Result:
        passed.append(delivery)
        return result

    assert await tracer.publish(event, accept) is accepted
    assert await tracer.publish_many([event], accept_many) == [accepted]
    assert await tracer.attempt(delivery, to, make) is result
    assert [one is other for one, other in zip(passed, (event, event, delivery), strict=True)] == [True] * 3
    assert tracer.caller(Unread()) is None


def test_the_forwarding_tracer_keeps_the_callers_context() -> None:
    assert ForwardingTracer().caller([(b"traceparent", PARENT.encode())]) == PARENT
