"""One process that is to succeed a master, and what it says on the line between both (master only)."""

import os
import re
import socket

from popular.daemon.upgrade.estate import WORD, Estate
from popular.daemon.upgrade.rerun import Origin, run_orphan
from popular.unix.signals import kill_and_wait

TOOK_OVER = "took over"    # and its version: the line of a successor that serves
END = "end"                # and a command: the line of one that was told to end

_MAX_TEXT = 1 << 16        # octets that are kept of what it says
_MAX_LINES = 20            # of its reasons, the last ones
_BLOCK = 65536

_TOOK_OVER = re.compile(rf"^{TOOK_OVER} ([!-~]{{1,64}})$", re.MULTILINE)
_NO_REASON = re.compile(rf"$|{TOOK_OVER} |{END} |failed [0-9]+$|Traceback | ")    # and what a traceback is made of
_END = re.compile(rf"^{END} ([ -~]{{1,64}})$", re.MULTILINE)


class Heir:
    """The process, from the moment it is started."""

    def __init__(self, pid: int, pidfd: int, channel: socket.socket) -> None:
        """Listen to `channel`, which does not block."""
        self.pid = pid
        self._pidfd = pidfd
        self._channel = channel
        self._text = bytearray()
        self._taken = 0           # commands
        self.is_silent = False    # it is dead, or has closed its end of the line, which it never does

    @classmethod
    def start(cls, origin: Origin, estate: Estate, ours: socket.socket, theirs: socket.socket) -> "Heir":
        """Start it; the line is `ours` to `theirs`.  Raises OSError."""
        will = estate.write()
        try:
            pid, pidfd = run_orphan(origin, [WORD, str(will)], {2: theirs.fileno()}, [will, *estate.descriptors])
        finally:
            os.close(will)
        ours.setblocking(False)
        return cls(pid, pidfd, ours)

    @property
    def version(self) -> str:
        """The version of one that has taken over."""
        found = _TOOK_OVER.search(self._said)
        return found[1] if found else ""

    @property
    def has_taken_over(self) -> bool:
        """Tell whether it serves."""
        return bool(self.version)

    def take_commands(self) -> list[str]:
        """Return the commands by which it was told to end since the last call."""
        found: list[str] = _END.findall(self._said)
        fresh = found[self._taken:]
        self._taken = len(found)
        return fresh

    def fileno(self) -> int:
        """Return the descriptor of the line, readable when it has said something."""
        return self._channel.fileno()

    def hear(self) -> None:
        """Take what it says."""
        try:
            block = self._channel.recv(_BLOCK)
        except BlockingIOError:
            return
        except OSError:
            block = b""
        self._text += block[:_MAX_TEXT - len(self._text)]
        self.is_silent = self.is_silent or not block

    def reason(self, otherwise: str) -> list[str]:
        """Return why it cannot, in its own words or in others."""
        lines = [line for line in self._said.splitlines() if not _NO_REASON.match(line)]
        return lines[-_MAX_LINES:] or [f"the new process {otherwise}"]

    def end(self) -> None:
        """End it, and wait until it has let go of everything."""
        kill_and_wait(self._pidfd)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._pidfd)
        self._channel.close()

    @property
    def _said(self) -> str:
        return self._text.decode("utf-8", "replace")
