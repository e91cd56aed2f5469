"""The command line that repeats a request, read back by a real shell."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.core.curl import LONGEST_ARGUMENT, command, is_repeatable

texts = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=50)
nasty = st.sampled_from(
    ["'", '"', "$(id)", "`id`", "\\", "\n", " ", "!", "~", "*", "-x", "é", "'\\''", "{", "[a]", "\t"]
)
words = st.lists(texts | nasty, max_size=4).map("".join)


def arguments(line: str) -> list[str]:
    """What a program called curl gets from the shell, and behind it what was piped in."""
    script = (
        "curl() { for each; do printf '%s\\0' \"$each\"; done; if [ ! -t 0 ]; then cat; printf '\\0'; fi; }\n" + line
    )
    ran = subprocess.run(["sh", "-c", script], stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=True)
    assert ran.stderr == b""
    return ran.stdout.decode().split("\x00")[:-1]


def record(**changes: Any) -> dict[str, Any]:
    return {
        "method": "POST",
        "url": "https://example.com/hook",
        "headers": {"content-type": "application/json"},
    } | changes


def test_the_command() -> None:
    assert command(record(), b'{"it": "it\'s"}') == (
        "curl --globoff --request POST --url https://example.com/hook --header 'content-type: application/json'"
        """ --data-raw '{"it": "it'"'"'s"}'"""
    )


@given(words, st.dictionaries(words, words, max_size=3), words)
def test_a_shell_reads_back_what_was_meant(url: str, headers: dict[str, str], body: str) -> None:
    lines = [f"{name}: {value}" if value.strip() else f"{name};" for name, value in headers.items()]
    expected = ["--globoff", "--request", "POST", "--url", url]
    expected += [part for line in lines for part in ("--header", line)]
    expected += ["--data-raw", body]
    assert arguments(command(record(url=url, headers=headers), body.encode())) == [*expected, ""]


def test_a_long_body_goes_through_a_pipe() -> None:
    body = '{"text": "it\'s %s \\n ' + "x" * LONGEST_ARGUMENT + '"}'
    *given_, piped = arguments(command(record(), body.encode()))
    assert given_[-2:] == ["--data-binary", "@-"]
    assert piped == body


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (record(size=2), True),
        (record(size=3), False),
        (record(), False),
        (record(size=2, messages=1), False),
        (None, False),
        ({"topic": "orders", "size": 2}, False),
    ],
)
def test_only_what_carried_the_events_data_can_be_repeated(request_: dict[str, Any] | None, expected: bool) -> None:
    assert is_repeatable(request_, b"{}") is expected
