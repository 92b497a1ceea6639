"""Texts of a state file as cells of a screen: one column for each character, and nothing that a terminal obeys.

Part of the tool pstatus --top; pure functions.  Texts come from clients and are hostile.  What is kept is
what every terminal draws one column wide and from left to right: printable characters of the Latin, Greek
and Cyrillic scripts.  All others (controls, combining, wide and bidirectional ones) are shown as `\\xNN`
or `\\uNNNN`.
"""

import unicodedata
from dataclasses import dataclass

from popular.tools.printing import harmless

_KEPT_BELOW = "\u0530"    # after Cyrillic: scripts that are written from right to left begin here


@dataclass(frozen=True, slots=True)
class Marks:
    """Our symbols that not every character set has."""

    up: str = "^"
    down: str = "v"
    cut: str = "~"      # the text continues


FANCY = Marks("\u25b2", "\u25bc", "\u2026")
PLAIN = Marks()


def marks_for(encoding: str) -> Marks:
    """Return the symbols that a terminal with this encoding can show."""
    try:
        "".join((FANCY.up, FANCY.down, FANCY.cut)).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return PLAIN
    return FANCY


def shown(text: str) -> str:
    """Return a text of a state file with spaces and all that is not kept escaped: one word."""
    if text.isascii() and text.isprintable() and " " not in text:
        return text
    return harmless(text, lambda char: char != " " and _is_kept(char))


def shown_line(text: str) -> str:
    """Return a sentence with such texts in it: as `shown`, but spaces stay."""
    if text.isascii() and text.isprintable():
        return text
    return harmless(text, _is_kept)


def fit(text: str, width: int, marks: Marks, *, right: bool = False) -> str:
    """Return a text in exactly `width` columns, cut or filled; `right`: aligned to the right."""
    if len(text) > width:
        return text[:width - 1] + marks.cut if width > 0 else ""
    return text.rjust(width) if right else text.ljust(width)


def _is_kept(char: str) -> bool:
    return char < _KEPT_BELOW and char.isprintable() and not unicodedata.category(char).startswith("M")
