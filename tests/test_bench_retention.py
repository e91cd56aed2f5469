"""The measurement of removing old events, small."""

from __future__ import annotations

import re

import pytest
from bench import retention

pytestmark = pytest.mark.slow


def test_old_events_go_while_others_come(capsys: pytest.CaptureFixture[str]) -> None:
    status = retention.main(
        ["--events", "500", "--live", "50", "--rate", "100", "--tenants", "2", "--payload", "256", "--limit", "60000"]
    )
    said = capsys.readouterr()
    assert (status, said.err) == (0, "")
    assert re.search(r"^alone +publish p50", said.out, re.MULTILINE)
    assert "500 events removed" in said.out
    assert re.search(r"file refilled +\S+ MB for [\d,]+ events", said.out)
