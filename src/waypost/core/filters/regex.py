"""Regular expressions in time linear to the text: RE2, with bounds on the pattern and its compiled form."""

from __future__ import annotations

from collections.abc import Callable

import re2

from waypost.core.filters.limits import FilterLimits


def searcher(pattern: str, limits: FilterLimits) -> Callable[[str], bool]:
    """A test whether the pattern is found anywhere in a text. Raises ValueError with a sentence for a bad pattern."""
    if len(pattern) > limits.max_regex_characters:
        raise ValueError(f"the regular expression is longer than {limits.max_regex_characters} characters")
    search = _compiled(pattern, limits.max_regex_bytes).search
    return lambda text: search(text.encode("utf-8", "replace")) is not None


def _compiled(pattern: str, memory: int) -> re2._Regexp:
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = memory
    try:
        return re2.compile(pattern.encode(), options)
    except (re2.error, UnicodeEncodeError) as error:
        raise ValueError(f"the regular expression is not usable: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    reason = error.args[0]
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(error)
