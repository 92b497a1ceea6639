"""A part of a file that goes to a peer as it is, without passing through this process.

Used in the children of pserv: `net.stuffing` names such parts, `net.wire` sends them.  Raises nothing.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FilePart:
    """`count` octets from `start` of the open file `fd`, which must stay open until they are sent."""

    fd: int
    start: int
    count: int

    def __len__(self) -> int:
        """Return the octets, as of any other part of an answer."""
        return self.count
