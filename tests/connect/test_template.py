from __future__ import annotations

import contextlib
import inspect
import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.destinations.messages import message
from waypost.connect.template import LONGEST_TEMPLATE, Expression, compile_template, event_id, template_problems
from waypost.core.errors import DeliveryError

EVENT = {
    "customer": {"id": "c-7", "vip": True, "score": 1.5},
    "total": 12345678901234567890123,
    "lines": [{"sku": "A"}, {"sku": "B"}],
    "odd key": "x",
    "nothing": None,
    "empty": "",
}


def rendered(template: str, data: Any = None, **options: Any) -> str:
    body = json.dumps(EVENT if data is None else data).encode()
    return compile_template(template, **options)(message(body, region="eu"))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("id", "evt_1"),
        ("topic", "order.created"),
        ("data.customer.id", "c-7"),
        ('metadata."event-id"', "evt_1"),
        ("metadata.region", "eu"),
        ("data.customer.vip", "true"),
        ("data.customer.score", "1.5"),
        ("data.total", "12345678901234567890123"),
        ("data.lines[-1].sku", "B"),
        ("data.lines[?sku=='A'].sku | [0]", "A"),
        ("data.missing || data.customer.id", "c-7"),
        ("join('/', [time.year, time.month, time.day, id])", "2024/01/01/evt_1"),
        ("join('-', [time.hour, time.minute, time.second])", "12-00-00"),
        ("time", "2024-01-01T12:00:00Z"),
        ("time.rfc3339_nano", "2024-01-01T12:00:00.000000000Z"),
        ("time.unix", "1704110400"),
        ("time.date", "2024-01-01"),
        ("'always the same'", "always the same"),
        ("length(data.lines)", "2"),
        ("sort_by(data.lines, &sku)[0].sku", "A"),
        ("  id  ", "evt_1"),
        ("orders.{{data.customer.id}}.{{topic}}", "orders.c-7.order.created"),
        ("{{ id }}", "evt_1"),
        ("{{id}}{{topic}}", "evt_1order.created"),
        ("{{data.{a: customer.id}.a}}", "c-7"),
        ('{{data."odd key"}}!', "x!"),
    ],
)
def test_renders(template: str, expected: str) -> None:
    assert rendered(template) == expected


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("", "must be a JMESPath expression"),
        ("data.", "must be a JMESPath expression"),
        ("data.customer-id", "must be a JMESPath expression"),
        ("customer.id", "must start from one of id, topic, time, metadata, data: there is no customer"),
        ("[id, customer][0]", "there is no customer"),
        ("data.x || total", "there is no total"),
        ("{{id}}.{{customer}}", "there is no customer"),
        ("lower(id)", "must not use the unknown function lower()"),
        ("join('/')", "must give join() 2 arguments"),
        ("length(id, id)", "must give length() 1 argument"),
        ("orders.{{id", "must close every {{ with }}"),
        ("{{id}} {{", "must close every {{ with }}"),
        ("{{}}", "must be a JMESPath expression"),
        ("'" + "x" * LONGEST_TEMPLATE + "'", "must be at most 1024 characters"),
        ("(" * 500 + "id" + ")" * 500, "must"),
        ("!" * 1000 + "id", "must not be nested so deeply"),
        ("data" + "[]" * 500, "must not be nested so deeply"),
        ("|".join(["[@, @]"] * 8) + "|[0]", "must not multiply the event"),
        ("|".join(["to_string([@])"] * 9), "must not multiply the event"),
    ],
)
def test_refuses_a_bad_template(template: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".*") as error:
        compile_template(template)
    assert sentence in str(error.value)


def test_problems_name_the_field() -> None:
    assert template_problems("config.key", "data.id") == []
    assert template_problems("config.key", None) == []
    (problem,) = template_problems("config.key", "customer")
    assert problem.startswith("config.key must start from one of")


@pytest.mark.parametrize("template", ["data.missing", "data.nothing", "data.empty", "a.{{data.missing}}", "''"])
def test_nothing_to_render(template: str) -> None:
    with pytest.raises(DeliveryError, match="finds nothing in this event") as error:
        rendered(template)
    assert error.value.code == "template_failed"
    assert not error.value.retryable
    assert rendered(template, otherwise=event_id) == "evt_1"


@pytest.mark.parametrize("template", ["data.customer", "data.lines", "{{data.customer}}", "data.lines[*].sku", "@"])
def test_an_object_or_a_list_is_no_key(template: str) -> None:
    with pytest.raises(DeliveryError, match="not to an object or a list"):
        rendered(template, otherwise=event_id)


@pytest.mark.parametrize(
    "template", ["join('-', data.lines)", "sum(data.customer)", "sort_by(data.lines, &missing)[0].sku"]
)
def test_a_template_that_fails_on_this_event(template: str) -> None:
    with pytest.raises(DeliveryError, match="fails on this event") as error:
        rendered(template)
    assert error.value.code == "template_failed"


def test_a_join_cannot_run_away() -> None:
    data = {"glue": "x" * 50_000, "list": ["y"] * 50_000}
    with pytest.raises(DeliveryError, match="join"):
        rendered("join(data.glue, data.list)", data)


def test_a_long_text_is_refused() -> None:
    with pytest.raises(DeliveryError, match="more than 65536 characters"):
        rendered("data.text", {"text": "x" * 70_000})


def test_half_a_surrogate_pair_is_replaced() -> None:
    rendered("data.x", {"x": "a\ud800b"}).encode()


def test_very_deep_data_is_refused() -> None:
    body = b'{"x":' * 50_000 + b"1" + b"}" * 50_000
    with pytest.raises(DeliveryError, match="cannot be read as JSON"):
        compile_template("data.x")(message(body))


# what a template may do


@contextlib.contextmanager
def counted_calls() -> Iterator[list[int]]:
    """How many calls of functions there are, those written in C included."""
    calls = [0]

    def count(_frame: object, event: str, _argument: object) -> None:
        calls[0] += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


NUMBERS = {"l": [f"{number:07}" for number in range(6_000)]}
OBJECTS = {"l": [{"a": {"b": [number] * 5}, "c": number} for number in range(1_500)]}
TEXT = {"t": "ab" * 30_000}


@pytest.mark.parametrize(
    ("template", "data"),
    [
        ("data.l" + " | sort(@)" * 90 + "[0]", NUMBERS),
        ("data.l" + "[*].to_array(@)[]" * 50 + " | [0]", NUMBERS),
        ("data.l" + "[?@ != 'x']" * 70 + " | [0]", NUMBERS),
        ("join('', [" + ", ".join(["to_string(length(data.l[?a.b==`[1]`]))"] * 25) + "])", OBJECTS),
        ("join('', [" + ", ".join(["to_string(length(data.l[?@==`{}`]))"] * 25) + "])", OBJECTS),
        ("join('', [" + ", ".join(["to_string(length(to_string(data.l)))"] * 20) + "])", OBJECTS),
        ("join('', [" + ", ".join(["to_string(contains(data.t, 'aab'))"] * 25) + "])", TEXT),
        ("join('', [" + ", ".join(["to_string(data.l == data.l)"] * 30) + "])", NUMBERS),
        ("join('', [" + ", ".join(["reverse(data.t)[0:1] || 'x'"] * 30) + "])", TEXT),
        ("to_string(length(data.l" + "[]" * 60 + "[?@ == 'x']))", NUMBERS),
        ("max_by(data.l, &length(to_string(@))).c", OBJECTS),
        ("length(map(&join('', [@, @, @, @, @, @, @]), data.l))", NUMBERS),
        ("{{data.l[0]}}" * 5 + "{{length(sort(sort(sort(sort(data.l)))))}}" * 10, NUMBERS),
    ],
)
def test_work_is_bounded(template: str, data: Any) -> None:
    render = compile_template(template, field="key_template")
    with counted_calls() as calls, pytest.raises(DeliveryError, match="takes more than 20000 steps") as error:
        render(message(json.dumps(data).encode()))
    assert calls[0] < 400_000
    assert str(error.value).startswith("config.key_template: The template ")
    assert error.value.code == "template_failed"
    assert not error.value.retryable


@pytest.mark.parametrize(
    "body",
    [
        b'{"id": "x", "l": [' + b",".join([b"[]"] * 200_000) + b"]}",
        b'{"id": "x", "t": "' + b"x" * 20_000_000 + b'"}',
    ],
)
def test_data_that_is_too_large_is_not_read(body: bytes) -> None:
    with pytest.raises(DeliveryError, match=r"config.key: The event's data is too large to be read for a template"):
        compile_template("data.id", field="key")(message(body))
    assert compile_template("id", field="key")(message(body)) == "evt_1"


def test_large_data_is_read() -> None:
    body = b'{"id": "x", "l": [' + b",".join([b'"abcdefgh"'] * 90_000) + b"]}"
    assert compile_template("data.id")(message(body)) == "x"


def test_ordinary_templates_take_few_steps() -> None:
    for template in (
        "data.customer.id",
        "join('/', [time.year, topic, data.customer.id])",
        "data.lines[?sku=='A'] | [0].sku",
    ):
        few = structs.replace(message(json.dumps(EVENT).encode()), template_steps=40)
        assert compile_template(template)(few)


def test_long_numbers_are_read() -> None:
    digits = "9" * 10_000
    body = f'{{"n": {digits}, "id": "x"}}'.encode()
    assert rendered("data.id", json.loads(b'{"id": "x"}')) == "x"
    assert compile_template("data.id")(message(body)) == "x"
    assert compile_template("data.n")(message(body)) == digits


def test_a_retry_finds_what_the_first_attempt_came_to(monkeypatch: pytest.MonkeyPatch) -> None:
    first = message(json.dumps(EVENT).encode())
    render, seen = compile_template("data.customer.id"), compile_template("{{data.customer.id}}{{metadata.timestamp}}")
    assert render(first) == "c-7"
    monkeypatch.setattr(Expression, "render", None)
    assert render(structs.replace(first, attempt=2)) == "c-7"
    with pytest.raises(TypeError):
        seen(first)
    for number in range(300):
        with pytest.raises(TypeError):
            render(message(event_id=f"evt_{number + 2}"))


def test_only_the_last_results_are_kept() -> None:
    render = compile_template("data.b")
    for number in range(1_000):
        render(message(event_id=f"evt_{number}"))
    kept = inspect.getclosurevars(render).nonlocals["known"]
    assert len(kept) == 256


@pytest.mark.filterwarnings("ignore:deprecated string literal syntax:PendingDeprecationWarning")
@given(st.text(alphabet="idata.[]*?@&|'\"{}()!,0 x`", max_size=40))
def test_whatever_is_compiled_ends_in_a_text_or_a_delivery_error(template: str) -> None:
    try:
        render = compile_template(template)
    except ValueError:
        return
    try:
        assert isinstance(render(message(b'{"x": [1, {"a": "b"}]}')), str)
    except DeliveryError as error:
        assert error.code == "template_failed"  # noqa: PT017 - either outcome is right
