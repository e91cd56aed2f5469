from __future__ import annotations

import pytest

from waypost.net.redis import packed, refusal


def test_a_command_in_bytes() -> None:
    assert packed(["XADD", b"\x00\r\n", "ü"]) == b"*3\r\n$4\r\nXADD\r\n$3\r\n\x00\r\n\r\n$2\r\n\xc3\xbc\r\n"


@pytest.mark.parametrize(
    ("said", "code", "retryable"),
    [
        ("WRONGPASS invalid username-password pair or user is disabled.", "bad_credentials", False),
        ("NOAUTH Authentication required.", "bad_credentials", False),
        ("ERR AUTH <password> called without any password configured", "bad_credentials", False),
        ("ERR Protocol error: unauthenticated multibulk length", "bad_credentials", False),
        ("NOPERM this user has no permissions to run the 'xadd' command", "access_denied", False),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "wrong_type", False),
        ("OOM command not allowed when used memory > 'maxmemory'.", "out_of_memory", True),
        ("LOADING Redis is loading the dataset in memory", "unavailable", True),
        ("READONLY You can't write against a read only replica.", "unavailable", True),
        ("MOVED 3999 10.0.0.1:6381", "wrong_node", False),
        ("CLUSTERDOWN Hash slot not served", "unavailable", True),
        ("ERR Protocol error: invalid bulk length", "message_too_large", False),
        ("ERR DB index is out of range", "refused", False),
    ],
)
def test_what_redis_refuses(said: str, code: str, retryable: bool) -> None:
    error = refusal(said, "redis.example.com:6379")
    assert (error.code, error.retryable) == (code, retryable)
    assert "redis.example.com:6379" in error.sentence
    assert "10.0.0.1" not in error.sentence
