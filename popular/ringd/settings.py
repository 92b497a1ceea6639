"""The settings of ringd: one row per variable (spec 10.3), and the kind of `ports`, `110, 995, 8000-8010`.

Read by the starter (INI file, options, documents) and by ringd itself.
"""

import re
from dataclasses import dataclass, replace
from typing import ClassVar

from popular.config.kinds import Id
from popular.config.setting import Schema, Setting
from popular.daemon.settings import process_rows

MAX_RANGES = 64

_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class PortRanges:
    """A set of ports."""

    ranges: tuple[tuple[int, int], ...]    # first and last of each

    def __contains__(self, port: int) -> bool:
        return any(low <= port <= high for low, high in self.ranges)

    def __str__(self) -> str:
        return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in self.ranges)


@dataclass(frozen=True, slots=True)
class Ports:
    """One or more ports or ranges of ports, separated by commas."""

    name: ClassVar[str] = "Ports"
    wanted: ClassVar[str] = "a list of ports from 1 to 65535, for example 110, 995, 8000-8010"

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


_POP3_PORTS = PortRanges(((110, 110), (995, 995)))

_OWN_ROWS = {
    "rundir": "The folder for pid file and socket; it is made when it is missing.",
    "user": "The user that may ask for ports: that of pproxy; required. Started as root, ringd becomes this "
            "user and keeps only the right to open ports below 1024.",
    "group": "The group that the socket belongs to; the primary group of the user when not set.",
}

_PORT_ROWS = (
    Setting("ports", Ports(), _POP3_PORTS,
            "The ports that may be requested, for example 110, 995, 8000-8010; each on any address of this host.",
            readonly=True, at_start=True),
)


def _rows() -> tuple[Setting, ...]:
    """Return the rows of every daemon with the texts for this one; `user` has no default here."""
    rows = [replace(row, doc=_OWN_ROWS.get(row.name, row.doc)) for row in process_rows("ringd")]
    return tuple(replace(row, kind=Id(), default=None) if row.name == "user" else row for row in rows)


SCHEMA = Schema("ringd", _rows() + _PORT_ROWS,
                purpose="Opener of low ports, such as 110, for a pproxy that is not root.")
