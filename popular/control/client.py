"""A connection to a master over its control socket; used in pcontrol and in tests."""

import os
import socket
from dataclasses import dataclass
from types import TracebackType

from popular.control.answer import parse_end, unstuffed
from popular.errors import PopularError
from popular.unix.rights import Peer

_PATIENCE = 60.0                # seconds without an octet of an answer; longer than any command takes
MAX_ANSWER = 80 << 20           # octets of an answer; somewhat more than a master sends
MAX_ANSWER_LINES = 1_000_000    # of an answer

_BLOCK = 65536


class NoDaemon(PopularError):
    """No daemon listens at the socket, or the connection ended before the answer came."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it arrived."""

    ok: bool
    text: str
    lines: tuple[str, ...]


class ControlClient:
    """One connection to a master; as a context manager it is closed at the end."""

    def __init__(self, path: str, patience: float = _PATIENCE) -> None:
        """Connect to the socket `path`; raises NoDaemon."""
        self._buffer = bytearray()
        self._searched = 0    # octets of the buffer known to have no line end
        self._size = 0        # octets of the answer that were taken out of the buffer
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(patience)
        try:
            self._sock.connect(path)
        except OSError as why:
            self._sock.close()
            reason = "no daemon listens there" if isinstance(why, ConnectionRefusedError) else why.strerror or str(why)
            raise NoDaemon(f"{path}: {reason}") from why

    def ask(self, line: str) -> Reply:
        """Send one command and return its answer; raises NoDaemon; ValueError for a line end in `line`."""
        self.send(line)
        return self.receive()

    def send(self, line: str) -> None:
        """Send one command; raises NoDaemon; ValueError for a line end in `line`."""
        if "\n" in line:
            raise ValueError("a command is one line")
        try:
            self._sock.sendall(line.encode("utf-8", "surrogateescape") + b"\n")
        except OSError as why:
            if not self._has_word():
                raise NoDaemon(f"the connection is broken: {why.strerror}") from why

    def receive(self) -> Reply:
        """Return the next answer; raises NoDaemon."""
        lines: list[str] = []
        self._size = 0
        while True:
            line = self._line()
            end = parse_end(line)
            if end is not None:
                return Reply(*end, tuple(lines))
            lines.append(unstuffed(line))
            if len(lines) > MAX_ANSWER_LINES:
                raise NoDaemon("the answer does not end")

    def peer(self) -> Peer:
        """Return the process that listens at the other end; raises NoDaemon."""
        try:
            return Peer.of(self._sock)
        except OSError as why:
            raise NoDaemon(f"the connection is broken: {why.strerror}") from why

    def fileno(self) -> int:
        """Return the descriptor of the connection."""
        return self._sock.fileno()

    def close(self) -> None:
        """End the connection; may be called twice."""
        self._sock.close()

    def __enter__(self) -> "ControlClient":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _has_word(self) -> bool:
        """Tell whether a last answer of the daemon, why it ended the connection, can be read."""
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _line(self) -> str:
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            try:
                block = self._sock.recv(_BLOCK)
            except TimeoutError as why:
                raise NoDaemon("the daemon does not answer") from why
            except OSError as why:
                raise NoDaemon(f"the connection is broken: {why.strerror}") from why
            if not block:
                raise NoDaemon("the daemon closed the connection")
            self._buffer += block
            if self._size + len(self._buffer) > MAX_ANSWER:
                raise NoDaemon("the answer does not end")
        line = bytes(self._buffer[:end]).decode("utf-8", "replace")
        del self._buffer[:end + 1]
        self._searched = 0
        self._size += end + 1
        return line


def default_path(rundir: str, program: str) -> str:
    """Return the link to the socket of a running `program`."""
    return os.path.join(rundir, f"{program}.ctrl")
