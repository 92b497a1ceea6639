"""Octets of messages on their way: blocks read as from a file, lines ended by CRLF, counted and hashed.

Part of pmigrate.  Passes on what the reader raises.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass


class BlockReader:
    """Blocks, read as from a file."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """Return up to `size` octets; none at the end."""
        while not self._rest:
            block = next(self._blocks, None)
            if block is None:
                return b""
            self._rest = memoryview(block)
        part = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return part


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of a message after it was read."""

    size: int      # octets on the wire
    digest: str    # SHA-256, hexadecimal
    head: bytes    # how it begins, up to HEAD octets


MAX_HEAD = 1 << 16    # octets of a message in which its date is looked for


class Meter:
    """Takes note of what goes by."""

    def __init__(self) -> None:
        self._size = 0
        self._hash = hashlib.sha256()
        self._head = b""

    def take(self, block: bytes) -> None:
        """Take note of a block."""
        self._size += len(block)
        self._hash.update(block)
        if len(self._head) < MAX_HEAD:
            self._head += block[:MAX_HEAD - len(self._head)]

    def result(self) -> Measured:
        """Return what was noted."""
        return Measured(self._size, self._hash.hexdigest(), self._head)
