"""A recorded HTTP request as a command line that repeats it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

LONGEST_ARGUMENT = 100_000
"""Bytes that every system takes as one argument; a longer body goes in through a pipe."""


def is_repeatable(request: Mapping[str, Any] | None, body: bytes) -> bool:
    """Whether the record is that of an HTTP request whose body was an event's data as it stands on record."""
    if request is None or "messages" in request:
        return False
    return {"method", "url", "headers"} <= request.keys() and request.get("size") == len(body)


def command(request: Mapping[str, Any], body: bytes) -> str:
    """The command. Headers are those on record: what is masked there has to be filled in."""
    text = body.decode("utf-8", "replace")
    arguments = ["curl", "--globoff", "--request", request["method"], "--url", request["url"]]
    for name, value in request["headers"].items():
        arguments += ["--header", f"{name}: {value}" if value.strip() else f"{name};"]
    if len(body) > LONGEST_ARGUMENT:
        return f"printf %s {shlex.quote(text)} | {shlex.join([*arguments, '--data-binary', '@-'])}"
    return shlex.join([*arguments, "--data-raw", text])
