"""Kinds of values that only plmtpd has; otherwise as config.kinds."""

import re
from dataclasses import dataclass
from typing import ClassVar

from popular.names import is_id

_MODE = re.compile(r"0?[0-7]{3}", re.ASCII)
_PERCENT = re.compile(r"[0-9]{1,3}%?", re.ASCII)


@dataclass(frozen=True, slots=True)
class IdList:
    """Ids of objects, each once."""

    name: ClassVar[str] = "Ids"
    wanted: ClassVar[str] = "ids of 1 to 64 letters, digits, ., - and _, separated by commas"

    def parse(self, text: str) -> tuple[str, ...]:
        """Read `ID, ID, …`."""
        words = tuple(word.strip() for word in text.split(","))
        if not all(map(is_id, words)) or len(set(words)) != len(words):
            raise ValueError(self.wanted)
        return words

    def show(self, value: tuple[str, ...]) -> str:
        """Return the ids separated by a comma and a space."""
        return ", ".join(value)


@dataclass(frozen=True, slots=True)
class Percents:
    """Levels in percent, the lowest first."""

    name: ClassVar[str] = "Percents"
    wanted: ClassVar[str] = "up to 8 whole numbers from 1 to 100, each greater than the one before, such as 80, 95"

    def parse(self, text: str) -> tuple[int, ...]:
        """Read `NUMBER, NUMBER, …`."""
        words = [word.strip() for word in text.split(",")]
        if len(words) > 8 or not all(map(_PERCENT.fullmatch, words)):
            raise ValueError(self.wanted)
        levels = tuple(int(word.rstrip("%")) for word in words)
        if list(levels) != sorted(set(levels)) or not 1 <= levels[0] <= levels[-1] <= 100:
            raise ValueError(self.wanted)
        return levels

    def show(self, value: tuple[int, ...]) -> str:
        """Return the numbers separated by a comma and a space."""
        return ", ".join(map(str, value))


@dataclass(frozen=True, slots=True)
class Mode:
    """Permissions of a file."""

    name: ClassVar[str] = "Mode"
    wanted: ClassVar[str] = "three octal digits such as 0660"

    def parse(self, text: str) -> int:
        """Read `660` or `0660`."""
        word = text.strip()
        if not _MODE.fullmatch(word):
            raise ValueError(self.wanted)
        return int(word, 8)

    def show(self, value: int) -> str:
        """Return four octal digits."""
        return f"{value:04o}"
