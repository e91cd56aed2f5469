"""Host names as they are looked up: IDNA 2008 after the mapping of UTS 46, non-transitional, as browsers read them.

Python's own codec is IDNA 2003, to which `faß.de` is `fass.de`: a name that belongs to somebody else.
"""

from __future__ import annotations

import unicodedata

import idna

_ACE = "xn--"
_RIGHT_TO_LEFT = frozenset({"R", "AL", "AN"})


def ascii_name(name: str) -> str:
    """The name in lower case and A-labels. Raises ValueError for a name that no registry could hold.

    ASCII labels are left to the caller's own rules, except that an A-label has to be the one spelling of a label that
    is allowed (RFC 5891, section 5.4). The result may end with the root's dot.
    """
    labels = idna.uts46_remap(name, std3_rules=False).split(".")
    shown = [idna.ulabel(label) if label.startswith(_ACE) else label for label in labels]
    if any(map(_is_right_to_left, shown)):
        for label in filter(None, shown):
            idna.check_bidi(label, check_ltr=True)  # of the whole name, once one label is (RFC 5893, section 2)
    return ".".join(label if label.isascii() else idna.alabel(label).decode() for label in labels)


def _is_right_to_left(label: str) -> bool:
    return not label.isascii() and any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in label)
