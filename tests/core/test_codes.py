from __future__ import annotations

import pytest

from waypost.core import codes


@pytest.mark.parametrize("text", ["410", "4xx", "4XX", "timeout", "AccessDenied", "tls_error"])
def test_codes_and_classes(text: str) -> None:
    assert codes.is_code(text)


@pytest.mark.parametrize("text", ["", "40", "4100", "40x", "4xxx", "410;404", '"410"', "a b", "é", "x" * 65, "410\n"])
def test_what_no_attempt_can_have_is_no_code(text: str) -> None:
    assert not codes.is_code(text)


@pytest.mark.parametrize(
    ("patterns", "code", "named"),
    [
        (("410",), "410", True),
        (("4XX",), "404", True),
        (("4xx",), "504", False),
        (("4xx",), "4xx", True),
        (("ACCESSDENIED",), "AccessDenied", True),
        (("timeout", "5xx"), "timeout", True),
        ((), "500", False),
    ],
)
def test_a_class_names_its_codes_and_case_does_not_matter(patterns: tuple[str, ...], code: str, named: bool) -> None:
    assert codes.names(patterns, code) is named
