"""The kind of the setting `ports`: which ports ringd may open, `110, 995, 8000-8010`.

Pure; read by the starter and by ringd itself.  `parse` raises ValueError(what is wanted).
"""

import re
from dataclasses import dataclass
from typing import ClassVar

MAX_RANGES = 64

_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class PortRanges:
    """Some ports."""

    ranges: tuple[tuple[int, int], ...]    # first and last of each

    def __contains__(self, port: int) -> bool:
        return any(low <= port <= high for low, high in self.ranges)

    def __str__(self) -> str:
        return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in self.ranges)


@dataclass(frozen=True, slots=True)
class Ports:
    """One or more ports or ranges of ports, separated by commas."""

    name: ClassVar[str] = "Ports"
    wanted: ClassVar[str] = "a list of ports from 1 to 65535 such as 110, 995, 8000-8010"

    def parse(self, text: str) -> PortRanges:
        """Read ports and ranges, at most `MAX_RANGES`."""
        words = text.split(",")
        if len(words) > MAX_RANGES:
            raise ValueError(self.wanted)
        return PortRanges(tuple(self._range(word.strip()) for word in words))

    def show(self, value: PortRanges) -> str:
        """Return ports and ranges separated by a comma and a space."""
        return str(value)

    def _range(self, word: str) -> tuple[int, int]:
        found = _RANGE.fullmatch(word)
        if found is None:
            raise ValueError(self.wanted)
        low, high = int(found[1]), int(found[2] or found[1])
        if not 1 <= low <= high <= 65535:
            raise ValueError(self.wanted)
        return low, high
