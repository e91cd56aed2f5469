"""Answers that are made to break a parser."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from waypost.net.aws.errors import parse_xml
from waypost.net.decoding import read_json


class Wanted(msgspec.Struct):
    code: str = ""


@pytest.mark.parametrize("kind", [Wanted, dict[str, Any]])
@pytest.mark.parametrize(
    "body",
    [
        b'{"other":' + b"[" * 8_000 + b"]" * 8_000 + b"}",
        b'{"other":' + b'{"a":' * 8_000 + b"1" + b"}" * 8_000 + b"}",
        b"[" * 16_000,
        b'{"code":"\xff\xfe"}',
        b'{"code":"\\ud800"}',
        b"",
        b"\x00" * 100,
    ],
)
def test_json_that_is_none_is_said_to_be_none(kind: Any, body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read_json(body, type=kind)


LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><a>&b;</a>'


@pytest.mark.parametrize("body", [LAUGHS.encode(), LAUGHS.encode("utf-16"), LAUGHS.encode("utf-16-be"), b"<a", b""])
def test_xml_with_entities_of_its_own_is_none(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_xml(body)
