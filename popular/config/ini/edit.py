"""Changing values in the text of an INI file while keeping everything else: comments, order and layout.

Pure functions over lines, for files that `read_ini` has read without a mistake; the caller reads the result again
to check it.  Raises nothing.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from popular.config.changes import Change
from popular.config.ini.text import quote

_HEADER = re.compile(r"""(?P<margin>\s*)(?P<open>\[+)\s*(?P<quote>["']?)(?P<name>[^\]"']*?)(?P=quote)\s*\]+\s*(#.*)?""")
_KEY = re.compile(r"""(?P<head>(?P<margin>\s*)(?P<quote>["']?)(?P<name>[^"'=#\[\s][^"'=]*?)(?P=quote)\s*=[ \t]*)"""
                  r"""(?P<value>".*?"|'.*?'|[^'"#].*?|)(?P<tail>\s*(#.*)?)""")
_MARGIN = "    "


@dataclass(slots=True)
class _Line:
    """One line, and its section: ("vserv", "main"), ("pproxy",), or () before the first."""

    text: str
    place: tuple[str, ...]
    is_header: bool = False
    key: str = ""

    @property
    def says_something(self) -> bool:
        return self.is_header or bool(self.key)

    @property
    def margin(self) -> str:
        return self.text[:len(self.text) - len(self.text.lstrip())]


def edited(lines: Sequence[str], changes: Sequence[Change]) -> list[str]:
    """Return the lines of a file with `changes`."""
    end = "\r" if lines and lines[0].endswith("\r") else ""
    file = _File(lines, end)
    for change in changes:
        if change.is_gone:
            file.remove((change.section, change.ident))
            continue
        place = (change.section, change.ident) if change.ident else (change.section,)
        for name, text in change.values.items():
            file.put(place, name, text)
    return [line.text for line in file.lines]


class _File:
    def __init__(self, lines: Sequence[str], end: str) -> None:
        self._end = end    # of each line, before the line feed
        self.lines: list[_Line] = []
        place: tuple[str, ...] = ()
        for text in lines:
            header, key = _HEADER.fullmatch(text), _KEY.fullmatch(text)
            if header is not None:
                place = (*place[:len(header["open"]) - 1], header["name"])
            self.lines.append(_Line(text, place, header is not None, key["name"] if key and header is None else ""))

    def put(self, place: tuple[str, ...], name: str, text: str) -> None:
        """Give a key a value: in its present line, or in a new one."""
        value = quote(text) if text else ""
        for line in self.lines:
            if line.place == place and line.key == name:
                line.text = _replaced(line.text, value)
                return
        self._need(place)
        index, margin = self._room_for(place, name)
        self._insert(index, f"{margin}{name} = {value}".rstrip(), place, key=name)

    def remove(self, place: tuple[str, ...]) -> None:
        """Remove an object: its header, its keys and what is between them."""
        own = [index for index, line in enumerate(self.lines) if line.place == place and line.says_something]
        if own:
            del self.lines[own[0]:own[-1] + 1]

    def _need(self, place: tuple[str, ...]) -> None:
        """Add the section if it is missing."""
        if any(line.is_header and line.place == place for line in self.lines):
            return
        if len(place) == 1:
            last = self._last(lambda line: line.says_something or bool(line.text.strip()))
            blank = self.lines[last + 1:-1]    # after the last line feed there is nothing
            self.lines[last + 1:] = blank or ([_Line(self._end, ())] if last >= 0 else [])
            self._insert(len(self.lines), f"[{place[0]}]", place, is_header=True)
            self.lines.append(_Line("", place))
            return
        self._need(place[:1])
        siblings = [line.margin for line in self.lines if line.is_header and line.place[:1] == place[:1]
                    and len(line.place) == 2]
        last = self._last(lambda line: line.place[:1] == place[:1] and line.says_something)
        self._insert(last + 1, f"{siblings[-1] if siblings else _MARGIN}[[{place[1]}]]", place, is_header=True)

    def _room_for(self, place: tuple[str, ...], name: str) -> tuple[int, str]:
        """Return where a new key goes, and its margin: after the comment that holds it, or after the last key."""
        hint = re.compile(rf"\s*#\s*{re.escape(name)}\s*=.*", re.DOTALL)
        commented = self._last(lambda line: line.place == place and hint.fullmatch(line.text) is not None)
        last = self._last(lambda line: line.place == place and line.says_something)
        return (commented if commented >= 0 else last) + 1, self.lines[last].margin

    def _last(self, test: Callable[[_Line], bool]) -> int:
        return max((index for index, line in enumerate(self.lines) if test(line)), default=-1)

    def _insert(self, index: int, text: str, place: tuple[str, ...], *, is_header: bool = False, key: str = "") -> None:
        self.lines.insert(index, _Line(text + self._end, place, is_header, key))


def _replaced(text: str, value: str) -> str:
    """Return a line with a new value and its old comment."""
    found = _KEY.fullmatch(text)
    if found is None:
        return text
    head, tail = found["head"], found["tail"]
    if not value:
        return f"{head.rstrip()}{tail}"
    return f"{head}{' ' if head.endswith('=') and not found['value'] else ''}{value}{tail}"
