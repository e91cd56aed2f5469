"""Medians, percentiles and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from msgspec import Struct


class Spread(Struct, frozen=True):
    """The distribution of a latency, in milliseconds."""

    p50: float
    p99: float
    largest: float


class Ratio(Struct, frozen=True):
    """The median of the ratios of paired runs, and the smallest and largest of them."""

    median: float
    least: float
    most: float


def spread(seconds: Sequence[float]) -> Spread:
    ordered = sorted(seconds)
    return Spread(*(_at(ordered, share) * 1e3 for share in (0.5, 0.99, 1.0)))


def median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """How ours compare to theirs, run by run: what slows the machine for a while slows both runs of a round."""
    each = [mine / other for mine, other in zip(ours, theirs, strict=True) if other]
    return Ratio(median(each), min(each, default=0.0), max(each, default=0.0))


def _at(ordered: Sequence[float], share: float) -> float:
    """The value below or at which a share of all lies (nearest rank); 0 when there is none."""
    rank = max(1, -(-len(ordered) * round(share * 1000) // 1000))
    return ordered[rank - 1] if ordered else 0.0
