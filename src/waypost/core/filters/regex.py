"""Regular expressions in time linear to the text: RE2, with bounds on the pattern and its compiled form."""

from __future__ import annotations

import re2

from waypost.core.filters.limits import FilterLimits

_WORK_OF_A_STEP = 16
"""How many instructions of RE2's slowest engine, each on one character, are a step."""

_STEPS_OF_A_CALL = 10


class Regex:
    """A compiled pattern. Raises ValueError with a sentence for a bad one."""

    def __init__(self, pattern: str, limits: FilterLimits) -> None:
        if len(pattern) > limits.max_regex_characters:
            raise ValueError(f"the regular expression is longer than {limits.max_regex_characters} characters")
        self._compiled = _compiled(pattern, limits.max_regex_bytes)
        self._instructions = int(self._compiled.programsize)

    def found_in(self, text: str) -> bool:
        """Whether it matches anywhere in the text."""
        return self._compiled.search(text.encode("utf-8", "replace")) is not None

    def steps(self, text: str) -> int:
        """What a search costs at most: RE2 is linear in the text, times the size of the compiled pattern."""
        return _STEPS_OF_A_CALL + len(text) * self._instructions // _WORK_OF_A_STEP


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
