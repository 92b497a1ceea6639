"""What proxies tell each other by way of the server: the counts of one, and events (pure functions).

    counts    4s  PPC1
              I   CRC-32 of what follows
              Q   beat: a number that grows with each packet of a proxy
              3I  how many keys there are, in the order of CountedBy
              Q…  the keys, one for each session
    events    4s  PPE1
              I   CRC-32 of what follows
              8s  name of the proxy
              Q   a number that grows with each packet of a proxy
              d   seconds from the events to the sending of the packet
              …   events, 17 octets each (events.py)

Little-endian, without gaps.  Anybody may have written it: what is not whole, has another version or a wrong checksum
is nothing.  Used in the process that shares counts.
"""

import math
import struct
from binascii import crc32
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from popular.pproxy.limits.sharing.events import LimitEvent, events_in
from popular.statefile.layout import CountedBy

_MAX_PACKET = 1 << 22        # octets
MAX_AGE = 600.0             # seconds for which events wait
MEMBER_SIZE = 8

_MARK = struct.Struct("<4sI")
_COUNTS, _EVENTS = b"PPC1", b"PPE1"
_COUNTS_HEAD = struct.Struct(f"<Q{len(CountedBy)}I")
_EVENTS_HEAD = struct.Struct(f"<{MEMBER_SIZE}sQd")

SessionKeys = Mapping[CountedBy, Sequence[int]]


@dataclass(frozen=True, slots=True)
class Counts:
    """The sessions of one proxy."""

    beat: int
    keys: SessionKeys

    def packed(self) -> bytes:
        """Return it as octets."""
        numbers = [key for by in CountedBy for key in self.keys[by]]
        return _marked(_COUNTS, _COUNTS_HEAD.pack(self.beat, *(len(self.keys[by]) for by in CountedBy))
                       + struct.pack(f"<{len(numbers)}Q", *numbers))

    @classmethod
    def read(cls, packet: bytes) -> "Counts | None":
        """Return what is in a packet; None: it is none."""
        content = _content(_COUNTS, packet)
        if content is None or len(content) < _COUNTS_HEAD.size:
            return None
        beat, *sizes = _COUNTS_HEAD.unpack_from(content)
        if len(content) != _COUNTS_HEAD.size + 8 * sum(sizes):
            return None
        numbers = struct.unpack_from(f"<{sum(sizes)}Q", content, _COUNTS_HEAD.size)
        keys: dict[CountedBy, Sequence[int]] = {}
        for by, size in zip(CountedBy, sizes):
            keys[by], numbers = numbers[:size], numbers[size:]
        return cls(beat, keys)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some events at one proxy."""

    member: bytes    # its name
    number: int
    age: float       # seconds from the events to the sending
    octets: bytes    # of the events

    def packed(self) -> bytes:
        """Return it as octets."""
        return _marked(_EVENTS, _EVENTS_HEAD.pack(self.member, self.number, self.age) + self.octets)

    @classmethod
    def read(cls, packet: bytes) -> "Batch | None":
        """Return what is in a packet; None: it is none."""
        content = _content(_EVENTS, packet)
        if content is None or len(content) < _EVENTS_HEAD.size:
            return None
        member, number, age = _EVENTS_HEAD.unpack_from(content)
        if not (math.isfinite(age) and 0 <= age <= MAX_AGE):
            return None
        return cls(member, number, age, content[_EVENTS_HEAD.size:])

    def events(self) -> list[LimitEvent]:
        """Return the sound events."""
        return [*events_in(self.octets)]


def _marked(kind: bytes, content: bytes) -> bytes:
    return _MARK.pack(kind, crc32(content)) + content


def _content(kind: bytes, packet: bytes) -> bytes | None:
    if not _MARK.size <= len(packet) <= _MAX_PACKET:
        return None
    found, checksum = _MARK.unpack_from(packet)
    content = packet[_MARK.size:]
    return content if found == kind and crc32(content) == checksum else None
