"""The soak bench in short: no failure of any type leaves objects, bodies or descriptors behind."""

from __future__ import annotations

import sys

import pytest
from bench import soak

_FAILURES = 40
_QUICK = ("webhook", "aws_sqs", "redis")
_QUICK_KINDS = ("closed port", "hang-up", "garbage", "timeout")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the figures come from /proc")


@pytest.mark.parametrize("name", _QUICK)
@pytest.mark.parametrize("kind", _QUICK_KINDS)
async def test_failures_leave_nothing_behind(name: str, kind: str) -> None:
    found = await soak.run(name, kind, failures=_FAILURES, payload=1_000)
    assert "200" not in found.codes
    assert found.flat, found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name in soak.SUBJECTS for kind in soak.kinds_of(name)])
async def test_no_kind_of_failure_leaves_anything_behind(name: str, kind: str) -> None:
    found = await soak.run(name, kind, failures=_FAILURES, payload=1_000)
    assert found.flat, found
