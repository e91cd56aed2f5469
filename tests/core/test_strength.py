"""Which secrets are too easily guessed."""

from __future__ import annotations

import secrets

import pytest

from waypost.core.strength import weakness


@pytest.mark.parametrize("size", [24, 32])
def test_chance_is_strong(size: int) -> None:
    for make in (secrets.token_urlsafe, secrets.token_hex):
        assert weakness(make(size), least_bytes=size) is None


@pytest.mark.parametrize(
    ("secret", "fault"),
    [
        ("k", "shorter"),
        ("correct-horse-9", "shorter"),
        ("a" * 40, "repeats"),
        ("abcdefghij" * 4, "repeats"),
        ("0101010101010110", "repeats"),
        ("changeme-changeme!", "words"),
        ("my-secret-password", "words"),
        ("waypost-admin-key-secret", "words"),
        ("SECRET_api_key_123", "words"),
        ("1234567890-1234567890_", "words"),
        ("default-admin-password", "words"),
    ],
)
def test_what_is_easily_guessed_is_told(secret: str, fault: str) -> None:
    assert fault in str(weakness(secret, least_bytes=16))
