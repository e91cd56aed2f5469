"""Filters on the way of an event: asked only where the topic fits, and all of one decoded document."""

from __future__ import annotations

from typing import Any

import pytest

from waypost.core import filters, routing
from waypost.core.filters import Document
from waypost.core.filters import document as documents
from waypost.core.model import Destination
from waypost.core.routing import Route, route

from .documents import NOON, event


def destination(name: str, filter_: Any = None, topics: tuple[str, ...] = ("*",)) -> Route:
    compiled = filters.compile_filter(filters.normalise(filter_)) if filter_ else None
    return Route.of(
        Destination(
            no=1,
            id=name,
            tenant_id="acme",
            type="webhook",
            topics=topics,
            config={},
            credentials={},
            created_at=NOON,
            updated_at=NOON,
            filter=filters.normalise(filter_) if filter_ else None,
        ),
        compiled,
    )


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The data that was decoded, in order."""
    seen: list[bytes] = []
    decode = documents.decode

    def counted(data: bytes) -> Any:
        seen.append(data)
        return decode(data)

    monkeypatch.setattr(documents, "decode", counted)
    return seen


def test_an_event_goes_where_the_filter_passes_and_the_skip_says_why() -> None:
    routed = route(
        event({"price": "9.99"}),
        [destination("all"), destination("cheap", "price:<10"), destination("dear", {"data": {"price": {"$gte": 10}}})],
    )
    assert [found.id for found in routed.matched] == ["all", "cheap"]
    assert routed.skipped == (
        routing.Skip("dear", "filter", 'Does not pass: data.price is not at least 10 (it is "9.99").'),
    )


def test_data_is_decoded_once_for_all_filters(decoded: list[bytes]) -> None:
    route(event({"a": 1}), [destination(str(number), f"a:{number}") for number in range(50)])
    assert decoded == [b'{"a":1}']


def test_data_is_not_decoded_where_no_filter_asks(decoded: list[bytes]) -> None:
    route(event({"a": 1}), [destination("all"), destination("other", "a:1", topics=("user.*",))])
    assert decoded == []


def test_a_filter_on_the_topic_alone_still_reads_a_document() -> None:
    seen = Document(event(b"{}", topic="user.created"))
    assert filters.compile_filter({"topic": {"$startsWith": "user."}}).passes(seen)


def test_the_time_is_rfc_3339() -> None:
    assert Document(event()).scope.root["time"] == "2023-11-14T22:13:20Z"
