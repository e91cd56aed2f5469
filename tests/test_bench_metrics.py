"""One small run of the benchmark of the metrics API."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SMALL = ["--attempts", "3000", "--tenants", "2", "--runs", "2", "--recorded", "256"]


@pytest.mark.slow
def test_it_asks_counts_and_folds() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "bench.metrics", *SMALL],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert re.search(r"^(2,9\d\d|3,0\d\d) attempts of 30 days", run.stdout)
    asked = dict(re.findall(r"^(\S.*?\S) {2,}([\d,]+) +[\d.]+ +[\d.]+$", run.stdout, re.MULTILINE))
    assert asked["all attempts by day"] == "30"
    assert asked["by day and tenant"] == "60"
    assert len(re.findall("without counting", run.stdout)) == 4
