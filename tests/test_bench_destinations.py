"""The benchmark of the destination types: its stages are found, its figures are those of events that arrived."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from bench import destinations
from bench.stages import stages
from bench.stages.http import ANSWERS, sink

from waypost.connect.registry import Registry


def test_every_stage_is_for_a_type_that_exists() -> None:
    assert set(stages()) <= set(Registry.discover())


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_a_small_run(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
