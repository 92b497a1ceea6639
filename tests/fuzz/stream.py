"""A peer in memory for wires: what it sends comes in the pieces that the fuzzer wants."""

from popular.net.transport import Octets, Stream


class MemoryStream:
    """A stream whose peer sends `data` in pieces of `piece` octets, and then closes."""

    pending = False

    def __init__(self, data: bytes, piece: int) -> None:
        self.said = bytearray()    # to the peer
        self.ended = False         # our writing half
        self._data = memoryview(data)
        self._piece = max(1, piece)

    @property
    def sock(self) -> Stream:
        """There is nothing below it."""
        return self

    def fileno(self) -> int:
        """There is no descriptor: nobody waits for it, because `recv` always has something."""
        return -1

    def recv(self, bufsize: int, /) -> bytes:
        """Return the next piece, nothing at the end."""
        found = bytes(self._data[:min(self._piece, bufsize)])
        self._data = self._data[len(found):]
        return found

    def send(self, data: Octets, flags: int = 0, /) -> int:
        """Take everything."""
        self.said += data
        return len(data)

    def shutdown(self, how: int, /) -> None:
        """Note it."""
        self.ended = True

    def close(self) -> None:
        """Do nothing."""
