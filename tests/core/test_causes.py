"""What operators are told of the exceptions behind a failure."""

from __future__ import annotations

import errno
import json

from waypost.core.causes import causes_of, own_trouble


def _failure(*, hidden: bool = False) -> Exception:
    try:
        json.loads("{")
    except ValueError as error:
        outer = ConnectionError("pass\nword=hunter2")
        outer.__context__, outer.__suppress_context__ = error, hidden
        return outer
    raise AssertionError


def test_the_chain_from_the_outermost_on() -> None:
    first, second = causes_of(_failure())
    assert first == "ConnectionError: pass word=hunter2"
    assert second.startswith("json.decoder.JSONDecodeError: Expecting property name")


def test_what_was_hidden_on_purpose_stays_so() -> None:
    assert causes_of(_failure(hidden=True)) == ("ConnectionError: pass word=hunter2",)


def test_secrets_are_masked() -> None:
    (first, _) = causes_of(_failure(), ["hunter2", "abc", "a"])
    assert first == "ConnectionError: pass word=****"


def test_chains_and_messages_are_cut() -> None:
    error: Exception = ValueError("x" * 10_000)
    for _ in range(10):
        outer = ValueError("x" * 10_000)
        outer.__cause__ = error
        error = outer
    causes = causes_of(error)
    assert len(causes) == 5
    assert all(len(cause) < 600 for cause in causes)
    assert causes_of(None) == ()


def test_what_of_our_own_was_wanting() -> None:
    outer = ConnectionError("it could not be opened")
    outer.__cause__ = OSError(errno.EMFILE, "Too many open files")
    assert own_trouble(outer) == "descriptors"
    assert own_trouble(MemoryError()) == "memory"
    assert own_trouble(OSError(errno.ENOSPC, "No space left on device")) == "disk"
    for innocent in (None, ValueError("x"), OSError(errno.ECONNREFUSED, "Connection refused")):
        assert own_trouble(innocent) is None
