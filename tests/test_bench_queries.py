"""The benchmark of lists and searches: its history has what it says, and every call of it is answered."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_small_run(tmp_path: Path) -> None:
    path = tmp_path / "month.db"
    arguments = ["--events", "6000", "--repeat", "2", "--limit", "60000", "--database", str(path)]
    ran = subprocess.run(
        [sys.executable, "-m", "bench.queries", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    lines = ran.stdout.splitlines()
    for noun, least in (("events", 30), ("attempts", 15), ("deliveries", 7)):
        assert len([line for line in lines if line.startswith(f"{noun}: ")]) >= least
    with closing(sqlite3.connect(path)) as db:
        (events,) = db.execute("SELECT count(*) FROM events").fetchone()
        (attempts,) = db.execute("SELECT count(*) FROM attempts").fetchone()
        states = {state for (state,) in db.execute("SELECT DISTINCT state FROM deliveries")}
    assert events == 6_000
    assert 1.2 * events < attempts < 2 * events
    assert states == {0, 1, 2, 3, 4}
