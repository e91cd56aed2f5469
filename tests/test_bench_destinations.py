"""The benchmark of the destination types: its stages are found, its figures are those of events that arrived."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import NoReturn

import msgspec
import pytest
from bench import destinations
from bench.stages import Unavailable, cloud, stages
from bench.stages.http import ANSWERS, sink

from tests.servers.harness import program
from waypost.connect.registry import Registry

pytestmark = pytest.mark.slow


def test_every_type_has_a_stage_and_every_stage_a_type() -> None:
    assert set(stages()) == set(Registry.discover())


@pytest.mark.parametrize("name", sorted({*ANSWERS, *cloud.ANSWERS}))
def test_a_small_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_a_little(name, tmp_path, capsys)


@pytest.mark.server
@pytest.mark.xdist_group("redis")
def test_a_small_run_with_a_server_of_the_tests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program("redis-server")
    run_a_little("redis", tmp_path, capsys)


def run_a_little(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = tmp_path / "figures.json"
    destinations.main(
        [name, "--events", "100", "--rounds", "1", "--concurrency", "8", "--payload", "200", "--json", str(figures)]
    )
    (result,) = msgspec.json.decode(figures.read_bytes(), type=list[destinations.Result])
    (only,) = result.rounds
    assert result.type == name
    assert only.events_per_second > 0
    assert only.cpu > 0
    assert 0 < only.latency.p50 <= only.latency.p99 <= only.latency.largest
    assert name in capsys.readouterr().out


def test_what_is_not_on_this_machine_is_named_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent() -> NoReturn:
        raise Unavailable("missing: a-broker")

    monkeypatch.setattr(destinations, "stages", lambda: {"kafka": absent, "webhook": stages()["webhook"]})
    figures = tmp_path / "figures.json"
    with pytest.raises(SystemExit) as ended:
        destinations.main(["--events", "50", "--rounds", "1", "--json", str(figures)])
    assert ended.value.code == 1
    assert [result["type"] for result in msgspec.json.decode(figures.read_bytes())] == ["webhook"]
    assert capsys.readouterr().err == "kafka was not measured: missing: a-broker\n"


@pytest.mark.parametrize("ci", ["true", ""])
def test_a_missing_server_makes_a_stage_unavailable(ci: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tests would be skipped, or fail."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with (
        pytest.raises(Unavailable, match=r"^missing: redis-server \(Debian package redis-server\)$"),
        stages()["redis"](),
    ):
        pytest.fail("the stage was set")


def test_a_missing_library_makes_a_stage_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest", None)
    with pytest.raises(Unavailable, match=r"^missing: pytest "), stages()["redis"]():
        pytest.fail("the stage was set")


def test_a_server_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    with sink("aws_kinesis") as url:
        config = ["stream_name=s", "region=eu-west-1", f"endpoint={url}"]
        arguments = [part for pair in config for part in ("--config", pair)]
        destinations.main(
            ["aws_kinesis", *arguments, "--credential", "key=a", "--credential", "secret=b", "--events", "20"]
        )
    assert "your own" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["smoke_signal"], "there is no stage for smoke_signal"),
        (["--config", "a=b"], "are for one TYPE"),
        (["aws_sqs", "--config", "nonsense"], "is not KEY=VALUE"),
    ],
)
def test_wrong_arguments(arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        destinations.main(arguments)
    assert problem in capsys.readouterr().err


def test_a_send_that_fails_ends_the_run() -> None:
    with sink("hookdeck") as url:
        config = ["stream_name=s", "region=eu-west-1", f"endpoint={url}"]
        arguments = [part for pair in config for part in ("--config", pair)]
        with pytest.raises(ExceptionGroup):
            destinations.main(["aws_kinesis", *arguments, "--credential", "key=a", "--credential", "secret=b"])


def test_the_payload_has_its_size() -> None:
    assert [len(destinations.payload(size)) for size in (100, 512, 4_096)] == [100, 512, 4_096]
    assert msgspec.json.decode(destinations.payload(512))["customer"] == "c_42"
