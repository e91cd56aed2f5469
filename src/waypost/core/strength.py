"""Secrets that somebody chose: which of them are too easily guessed."""

from __future__ import annotations

import re

_FEWEST_DIFFERENT = 6
_LEAST_OF_CHANCE = 4
_WELL_KNOWN = re.compile(
    "api.?key|admin|change.?(me|it|this)?|default|demo|example|letmein|outpost|pass(word|wd)?|placeholder|qwert[yz]u?"
    "|secret|token|waypost|webhook|0?123456789?0?|1234|abcdef(gh)?|asdf(gh)?|jwt|key"
)


def weakness(secret: str, *, least_bytes: int) -> str | None:
    """Why a secret can be guessed, as what it is; None when nothing speaks against it."""
    if len(secret.encode()) < least_bytes:
        return f"is shorter than {least_bytes} bytes"
    if len(set(secret)) < _FEWEST_DIFFERENT or secret in (secret + secret)[1:-1]:
        return "repeats itself"
    if len(re.sub(r"[^a-z0-9]", "", _WELL_KNOWN.sub("", secret.lower()))) < _LEAST_OF_CHANCE:
        return "is made of words that everybody tries"
    return None
