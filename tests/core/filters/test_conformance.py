"""The three dialects case by case, in the tables beside this file."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from waypost.core.filters import FilterError, compile_filter, normalise

from .documents import document
from .interpreter import holds

HERE = Path(__file__).parent


def table(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((HERE / f"{name}.json").read_text(), parse_float=Decimal)
    return rows


def cases() -> list[Any]:
    return [
        pytest.param(_filter(dialect, row["filter"]), row.get("metadata"), data, passes, id=f"{row['about']}: {data}")
        for dialect in ("hookdeck", "shopify", "eventbridge")
        for row in table(dialect)
        for passes, key in ((True, "passes"), (False, "skips"))
        for data in row.get(key, [])
    ]


def _filter(dialect: str, body: Any) -> dict[str, Any]:
    return {"$dialect": dialect, "pattern": body} if dialect == "eventbridge" else normalise(body)


@pytest.mark.parametrize(("filter_", "metadata", "data", "passes"), cases())
def test_the_filter_decides(
    filter_: dict[str, Any], metadata: dict[str, str] | None, data: dict[str, Any], passes: bool
) -> None:
    seen = document(data, metadata=metadata)
    compiled = compile_filter(filter_)
    assert compiled.passes(seen) is passes
    assert holds(compiled.parsed.test, seen.scope.root) is passes
    assert compiled.explain(seen).startswith("Passes: ") is passes


@pytest.mark.parametrize("row", [pytest.param(row, id=str(row["filter"])) for row in table("refused")])
def test_the_filter_is_refused(row: dict[str, Any]) -> None:
    with pytest.raises(FilterError) as refusal:
        normalise(row["filter"])
    assert refusal.value.pointer == row["pointer"]
    assert refusal.value.position == row.get("position")
    assert row["says"] in refusal.value.sentence
    assert str(refusal.value).startswith(refusal.value.sentence)
