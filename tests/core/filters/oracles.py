"""The reference implementations of two dialects, fetched once into `.tools/` and asked in one process per question set.

`simple-json-match` (npm) is what Hookdeck's filters run on; `event-ruler` (Maven Central) is AWS's own matcher of
EventBridge patterns. Where the tools for one are missing, its tests are skipped with the name of what is missing; with
CI=true they fail.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

HERE = Path(__file__).parent
TOOLS = Path(__file__).parents[3] / ".tools"
SIMPLE_JSON_MATCH = "simple-json-match@1.3.0"

_ENCODER = msgspec.json.Encoder(decimal_format="number")


def simple_json_match(questions: Iterable[tuple[Any, Any]]) -> list[bool]:
    """Whether each schema matches its input, says simple-json-match."""
    folder = _installed_simple_json_match()
    lines = [_ENCODER.encode({"schema": schema, "input": value}).decode() for schema, value in questions]
    answers = _answers(["node", str(HERE / "match.js"), str(folder)], lines)
    return [{"true": True, "false": False}[answer] for answer in answers]


def event_ruler(questions: Iterable[tuple[Any, Any]]) -> list[str]:
    """What event-ruler says to each pattern and event: `true`, `false` or `refused: ...`."""
    folder = _installed_event_ruler()
    lines = [
        json.dumps({"pattern": _ENCODER.encode(pattern).decode(), "event": _ENCODER.encode(event).decode()})
        for pattern, event in questions
    ]
    return _answers(["java", "-cp", f"{folder}/*", str(HERE / "Match.java")], lines)


def _installed_simple_json_match() -> Path:
    _need("node", "npm")
    folder = TOOLS / "simple-json-match"
    with _one_at_a_time(folder):
        if not (folder / "node_modules" / "simple-json-match").is_dir():
            options = ["--no-audit", "--no-fund", "--ignore-scripts", "--no-save"]
            _fetch(["npm", "install", "--prefix", str(folder), *options, SIMPLE_JSON_MATCH])
    return folder


def _installed_event_ruler() -> Path:
    _need("java", "javac", "mvn")
    folder = TOOLS / "event-ruler"
    with _one_at_a_time(folder):
        if not any(folder.glob("event-ruler-*.jar")):
            goal = ["dependency:copy-dependencies", f"-DoutputDirectory={folder}"]
            _fetch(["mvn", "--quiet", "--batch-mode", "--file", str(HERE / "pom.xml"), *goal])
    return folder


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Keep the other test processes from fetching into the folder too."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _need(*programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        _unavailable(f"not installed: {', '.join(missing)}")


def _fetch(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    if done.returncode:
        _unavailable(f"{' '.join(command[:2])} failed: {(done.stderr or done.stdout).strip()[-300:]}")


def _unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _answers(command: list[str], lines: list[str]) -> list[str]:
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=100, check=False)
    answers = done.stdout.splitlines()
    assert len(answers) == len(lines), done.stderr
    return answers
