"""The words of a text, so that it is found by each of them, however it is written.

Words end where Unicode's rules for words end them (UAX 29), and at punctuation within words too. Scripts that put no
blanks between words are taken apart into pieces: a character with its marks. Case, accents, the vowel points of Arabic
and Hebrew, and forms of the same character are disregarded; marks that make another letter of one are not.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect
from collections.abc import Sequence
from itertools import pairwise

_LONGEST_WORD = 64
"""Characters. What is longer are several words."""
_MOST_MARKS = 16
"""On one character; what follows them is another word."""
_PIECES = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f"  # Myanmar
    "\u1780-\u17ff"  # Khmer
    "\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf\U00011700-\U0001174f"  # Tai scripts
    "\u2e80-\u9fff\uf900-\ufaff\uff66-\uff9d"  # Chinese characters, kana
    "\U00016fe0-\U00018d8f\U0001aff0-\U0001b2ff\U00020000-\U0003ffff"  # the same, Tangut, Nushu
)
_HALF_WIDTH_MARKS = range(0xFF9E, 0xFFA0)
"""Of kana: letters to Python."""
_ROUND = "\u24b6-\u24e9\U0001f130-\U0001f149\U0001f150-\U0001f169\U0001f170-\U0001f189"
"""Letters in circles and squares, which are symbols to Python."""
_FOLDED = re.compile(
    "["
    "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"  # accents
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7"  # Hebrew points
    "\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc\u06df-\u06e4\u06e7\u06e8\u06ea-\u06ed"  # Arabic ones
    "\u00ad\u034f\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"  # what is not seen
    "\ufe00-\ufe0f\U000e0100-\U000e01ef"  # variants
    "]+"
)


def _classes() -> tuple[str, str, str]:
    """Letters and digits, marks, and both together, as parts of a regular expression.

    Characters beyond the first 65,536 are asked about apart: Python looks the others up in a table.
    """
    is_piece = re.compile(f"[{_PIECES}]").match
    letters, marks = [], []
    for number in (*range(0x20000), *range(0xE0000, 0xE0200)):
        category = unicodedata.category(chr(number))
        if category in {"Mn", "Mc", "Me", "Cf"} or number in _HALF_WIDTH_MARKS:
            marks.append(number)
        elif chr(number).isalnum() and category != "No" and not is_piece(chr(number)):
            letters.append(number)
    return _either(letters), _either(marks), _either(sorted(letters + marks))


def _either(numbers: Sequence[int]) -> str:
    middle = bisect(numbers, 0xFFFF)
    return f"(?:[{_spans(numbers[:middle])}]|(?![\0-\uffff])[{_spans(numbers[middle:])}])"


def _spans(numbers: Sequence[int]) -> str:
    """`a-z` and its like, for numbers that grow."""
    ends = [here for here, following in pairwise((*numbers, -1)) if following != here + 1]
    starts = [here for before, here in pairwise((-1, *numbers)) if here != before + 1]
    return "".join(f"{re.escape(chr(start))}-{re.escape(chr(end))}" for start, end in zip(starts, ends, strict=True))


_LETTER, _MARK, _LETTER_OR_MARK = _classes()
_word = re.compile(rf"{_LETTER}{_LETTER_OR_MARK}{{0,{_LONGEST_WORD - 1}}}|[^\W_]{_MARK}{{0,{_MOST_MARKS}}}|[{_ROUND}]")
_ascii_word = re.compile(f"[a-z0-9]{{1,{_LONGEST_WORD}}}")
_piece = re.compile(f"[{_PIECES}]")


def words_of(text: str) -> list[str]:
    """The words in their order, each as it is compared with others."""
    if text.isascii():
        return _ascii_word.findall(text.lower())
    written = "\n".join(_word.findall(text))
    plain = _FOLDED.sub("", unicodedata.normalize("NFKD", written)).casefold()
    return _word.findall(unicodedata.normalize("NFC", _FOLDED.sub("", unicodedata.normalize("NFKD", plain))))


def is_piece(word: str) -> bool:
    """Whether a word is a piece of a text that has no blanks between words."""
    return _piece.match(word) is not None
