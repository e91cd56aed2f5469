"""The benchmark measures what it says: its events, its figures, and one small run of the whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from bench import figures, options, proc
from bench.events import SMALLEST_PAYLOAD, Requests, Target, data_parts, key, marker, number_after
from bench.layout import layout

from tests.store.builders import event
from waypost.core.filters import Document, compile_filter

ROOT = Path(__file__).parent.parent
SMALL = ["--runs", "1", "--events", "200", "--warmup", "20", "--paced-events", "50", "--connections", "8"]


def measure(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=cwd, capture_output=True, text=True, timeout=100, check=False
    )


def split(request: bytes) -> tuple[dict[str, str], Any]:
    """Headers (the request line as `""`) and decoded body of a publish request; its length must be right."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = {"": line} | dict(each.split(": ", 1) for each in lines)
    assert int(headers["content-length"]) == len(body)
    return headers, json.loads(body)


class TestEvents:
    @pytest.mark.parametrize("payload", [SMALLEST_PAYLOAD, SMALLEST_PAYLOAD + 1, 120, 160, 161, 512, 65_536])
    def test_the_data_has_exactly_the_size_asked_for(self, payload: int) -> None:
        before, after = data_parts(payload)
        data = before + key("ab12", 7) + after

        assert len(data) == payload
        assert json.loads(data)["bench"] == "ab12-00000007"

    def test_a_receiver_finds_the_number(self) -> None:
        before, after = data_parts(512)
        data = before + key("ab12", 1_234_567) + after

        found = marker("ab12")
        assert number_after(data, data.index(found) + len(found)) == 1_234_567
        assert marker("cd34") not in data

    def test_targets_take_turns(self) -> None:
        targets = [Target("t0", "a"), Target("t1", "b")]
        requests = Requests(targets, tag="ab12", payload=200, batch=0, api_key="k")

        headers, first = split(requests.make(4, 1))
        _, second = split(requests.make(5, 1))

        assert headers[""] == "POST /api/v1/publish HTTP/1.1"
        assert headers["authorization"] == "Bearer k"
        assert (first["id"], first["tenant_id"], first["topic"]) == ("ab12-00000004", "t0", "a")
        assert (second["id"], second["tenant_id"], second["topic"]) == ("ab12-00000005", "t1", "b")
        assert first["data"]["bench"] == "ab12-00000004"

    def test_batches_hold_the_events_in_order(self) -> None:
        requests = Requests([Target("t", "a")], tag="ab12", payload=200, batch=3, api_key="k")

        headers, body = split(requests.make(10, 3))

        assert headers[""] == "POST /api/v1/publish/batch HTTP/1.1"
        assert [event["id"] for event in body["events"]] == ["ab12-00000010", "ab12-00000011", "ab12-00000012"]


class TestFigures:
    def test_percentiles_are_values_that_occurred(self) -> None:
        spread = figures.spread([number / 1000 for number in range(1, 201)])

        assert (spread.p50, spread.p99, spread.largest) == pytest.approx((100, 198, 200))

    def test_nothing_measured_is_nothing(self) -> None:
        assert figures.spread([]) == figures.Spread(0, 0, 0)

    def test_ratios_are_of_pairs(self) -> None:
        """A round in which the machine is half as fast changes no ratio."""
        assert figures.ratio([100, 50, 100], [200, 100, 200]) == figures.Ratio(0.5, 0.5, 0.5)

    def test_ratios_keep_their_extremes(self) -> None:
        assert figures.ratio([1, 2, 4], [2, 2, 2]) == figures.Ratio(1.0, 0.5, 2.0)


class TestProcessFigures:
    def test_count_children_too(self) -> None:
        code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
        with subprocess.Popen([sys.executable, "-c", code]) as process:
            try:
                while proc.cpu_seconds(process.pid) < 0.2:  # the parent itself hardly uses any
                    time.sleep(0.02)
                members = list(proc.family(process.pid))
                assert len(members) == 2
                assert proc.resident_bytes(process.pid) > 1_000_000
                assert proc.resident_bytes(process.pid, "VmHWM") >= proc.resident_bytes(process.pid) // 2
            finally:
                for member in reversed(list(proc.family(process.pid))):
                    os.kill(member, 9)

    def test_a_process_that_is_gone_used_nothing(self) -> None:
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            process.wait()

        assert proc.cpu_seconds(process.pid) == 0
        assert proc.resident_bytes(process.pid) == 0


class TestLayout:
    def test_every_tenant_has_its_receivers(self) -> None:
        found = layout(options.parse(["--tenants", "2", "--destinations", "3", "--slow", "1"]), 0)

        assert [target.tenant for target in found.targets] == ["bench-0", "bench-1"]
        assert [receiver.slot for _, receiver in found.receivers] == [0, 1, 2, 0, 1, 2]
        assert [bool(receiver.delay) for _, receiver in found.receivers] == [True, False, False, False, False, False]

    def test_hanging_receivers_come_on_top_and_are_not_counted(self) -> None:
        found = layout(options.parse(["--receivers", "3", "--hanging", "1"]), 1)

        assert [receiver.hanging for _, receiver in found.receivers] == [False, False, False, True]
        assert list(found.healthy_events(0, 8)) == [0, 1, 2, 4, 5, 6]

    def test_one_tenant_can_own_them_all(self) -> None:
        found = layout(options.parse(["--receivers", "3", "--same-tenant"]), 0)

        assert {target.tenant for target in found.targets} == {"bench"}
        assert len({target.topic for target in found.targets}) == 3

    def test_filtered_destinations_come_on_top_and_their_filter_never_passes(self) -> None:
        found = layout(options.parse(["--tenants", "2"]), 0, filtered=3)
        subscribers = found.subscribers(["http://r0", "http://r1"])
        before, after = data_parts(512)
        seen = Document(event(data=before + key("ab12", 7) + after))

        tenants = [each.target.tenant for each in subscribers]
        assert tenants == ["bench-0", "bench-1", *["bench-0"] * 3, *["bench-1"] * 3]
        passed = [compile_filter(each.filter or {}).passes(seen) for each in subscribers]
        assert passed == [True, True] + [False] * 6


class TestOptions:
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            (["--payload", "10"], "--payload: an event of this benchmark has at least"),
            (["--events", "0"], "must be at least 1"),
            (["--failure-rate", "1"], "must be from 0 to 0.9"),
            (["--slow", "2"], "--slow: there are only 1 receivers"),
            (["--set", "PORT=1"], "--set and --against take WAYPOST_NAME=VALUE"),
            (["--same-tenant", "--destinations", "2"], "--same-tenant"),
            (["--hanging", "1", "--prefill", "5"], "--hanging, --prefill and --filtered"),
            (["--filtered", "1", "--payload", "100"], "--filtered: the filters ask about fields"),
        ],
    )
    def test_wrong_ones_are_named(
        self, arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit):
            options.parse(arguments)

        assert sentence in capsys.readouterr().err


@pytest.mark.slow
class TestRunning:
    def test_waypost_and_its_ceiling(self, tmp_path: Path) -> None:
        done = measure(*SMALL, "--json", str(tmp_path / "figures.json"), "--directory", str(tmp_path))

        assert done.returncode == 0, done.stderr
        assert "waypost : ceiling" in done.stdout
        report = json.loads((tmp_path / "figures.json").read_bytes())
        ours, ceiling = report["runs"]
        assert (ours["variant"], ceiling["variant"]) == ("waypost", "ceiling")
        for run in (ours, ceiling):
            assert run["problems"] == run["full"]["problems"] == run["paced"]["problems"] == []
            assert (run["full"]["attempts"], run["paced"]["attempts"]) == (200, 50)
            assert 0 < run["full"]["publish"]["p50"] <= run["full"]["publish"]["p99"]
            assert run["full"]["delivery"]["p99"] <= run["full"]["delivery"]["largest"]
            assert run["peak_rss"] >= run["idle_rss"] > 10_000_000
        assert ours["disk_bytes_per_event"] > 0
        assert report["ratios"]["waypost : ceiling"]["events/s"]["median"] > 0
        assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]

    @pytest.mark.slow
    def test_several_destinations_failures_batches_and_stored_events(self) -> None:
        done = measure(
            *SMALL, "--no-ceiling", "--destinations", "2", "--failure-rate", "0.2", "--batch", "10", "--prefill", "300"
        )

        assert done.returncode == 0, done.stderr
        assert "stored 300 events" in done.stderr

    @pytest.mark.slow
    def test_a_hanging_receiver(self) -> None:
        done = measure(*SMALL, "--hanging", "1", "--receivers", "3", "--rate", "200")

        assert done.returncode == 0, done.stderr
        assert "1 hanging : none hanging" in done.stdout

    @pytest.mark.slow
    def test_destinations_that_a_filter_keeps_events_from(self) -> None:
        done = measure(*SMALL, "--filtered", "3")

        assert done.returncode == 0, done.stderr
        assert "3 filtered : none filtered" in done.stdout

    @pytest.mark.slow
    def test_what_is_missing_is_said_and_fails(self) -> None:
        done = measure(
            *SMALL,
            *("--no-ceiling", "--warmup", "0", "--timeout", "1"),
            *("--set", "WAYPOST_WEBHOOK_ALLOWED_NETWORKS=10.0.0.0/8"),
            *("--set", "WAYPOST_WEBHOOK_ADDRESS_GUARD=true"),
        )

        assert done.returncode == 1
        assert "FAILED" in done.stderr

    def test_a_server_that_does_not_start_is_shown(self) -> None:
        done = measure(*SMALL, "--no-ceiling", "--set", "WAYPOST_RETRY_LIMIT=many")

        assert done.returncode == 1
        assert "retry_limit" in done.stderr
