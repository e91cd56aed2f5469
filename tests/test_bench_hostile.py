"""The benchmark of attacks attacks, measures the other tenant and says what it has found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench import hostile
from bench.attacks import ATTACKS
from bench.figures import Spread
from bench.rig import Measurement

ROOT = Path(__file__).parent.parent


def measured(p99: float, *problems: str) -> Measurement:
    spread = Spread(1.0, p99, p99)
    figures = dict.fromkeys(
        ("seconds", "events_per_second", "accepted_per_second", "delivered_per_second", "cpu_us", "rig_cpu_us"), 1.0
    )
    return Measurement(events=1, attempts=1, publish=spread, delivery=spread, problems=list(problems), **figures)


def row(without: float, beside: float, peak: int = 1) -> hostile.Row:
    return hostile.Row(
        attack="silent", without=measured(without), beside=measured(beside), peak=peak, answers={"200": 3}
    )


def test_a_missed_target_is_said() -> None:
    targets = hostile.Targets(2.0, 400.0)

    assert list(hostile._missed([row(10, 19)], ["silent"], targets)) == []
    assert len(list(hostile._missed([row(10, 21)], ["silent"], targets))) == 2
    assert list(hostile._missed([row(10, 21), row(10, 12), row(10, 11)], ["silent"], targets)) == []
    assert list(hostile._missed([row(10, 10, 500_000_000)], ["silent"], targets)) == [
        "the server took 500 MB of memory"
    ]


def test_every_attack_says_what_it_is() -> None:
    assert all(attack.__doc__ for attack in ATTACKS.values())
    assert len(ATTACKS) >= 18


@pytest.mark.slow
def test_a_short_run_reports(tmp_path: Path) -> None:
    report = tmp_path / "figures.json"
    options = ["--live", "40", "--most-ratio", "1e9", "--most-memory", "1e9", "--json", str(report)]
    ended = subprocess.run(
        [sys.executable, "-m", "bench.hostile", *options, "headers", "pipelines", "mail", "nats"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    rows = json.loads(report.read_text(encoding="utf-8"))
    assert [each["attack"] for each in rows] == ["headers", "pipelines", "mail", "nats"]
    for each in rows:
        assert each["without"]["events"] == each["beside"]["events"] == 40
        assert each["peak"] > 0
        assert each["answers"]
        assert each["attack"] in ended.stdout


def test_an_unknown_attack_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        hostile.main(["tickling"])
    assert "tickling" in capsys.readouterr().err
