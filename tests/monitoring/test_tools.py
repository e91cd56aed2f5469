"""Prometheus' and Alertmanager's own tools accept what stands in monitoring/."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.servers.harness import program

from .files import ALERTMANAGER, PROMETHEUS

pytestmark = pytest.mark.server


def run(*argv: str | Path) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_of_prometheus_and_its_rules() -> None:
    checked = run(program("promtool", package="prometheus"), "check", "config", PROMETHEUS / "prometheus.yml")
    assert "1 rule files found" in checked


def test_every_rule_fires_when_it_should() -> None:
    run(program("promtool", package="prometheus"), "test", "rules", PROMETHEUS / "waypost.rules.test.yml")


@pytest.mark.parametrize(
    ("severity", "receivers"), [("info", "email"), ("warning", "slack"), ("critical", "pagerduty,slack")]
)
def test_the_example_of_alertmanager(severity: str, receivers: str) -> None:
    amtool = program("amtool", package="prometheus-alertmanager")
    run(amtool, "check-config", ALERTMANAGER)
    routing = [f"--config.file={ALERTMANAGER}", f"--verify.receivers={receivers}", f"severity={severity}"]
    run(amtool, "config", "routes", "test", *routing)
