"""One control connection: lines in, answers out, within limits (master only).

Nothing here blocks.  While an answer waits to be sent or is not ready yet, no further line is read, so
one connection can only make us keep one line and one answer.  Raises nothing: a broken connection is
`is_over`.
"""

import os
import select
import socket
import time
from collections.abc import Callable

from popular.control.answer import ControlAnswer, Later
from popular.control.grammar import MAX_COMMAND_LINE
from popular.unix.rights import Peer

LINE_SECONDS = 10.0       # for a line from its first octet to its end, and for the client to read more of an answer
_MAX_ANSWER = 64 << 20    # octets of an answer
_MAX_TURN = 64            # lines obeyed in one turn, so that the master's other work never waits long

_BLOCK = 65536

Obey = Callable[[str, Peer], ControlAnswer | Later]


class ControlConnection:
    """The conversation with one peer."""

    def __init__(self, sock: socket.socket, peer: Peer, obey: Obey) -> None:
        """Talk over a non-blocking socket; `obey` answers each line."""
        self.sock = sock
        self.peer = peer
        self.is_over = False
        self.silent_since = time.monotonic()    # no line since then
        self._obey = obey
        self._input = bytearray()
        self._output = memoryview(b"")
        self._later: Later | None = None
        self._line_began: float | None = None
        self._sent_at = 0.0
        self._is_ended = False                  # the peer will send no more
        self._is_closing = False                # to be ended once the output is sent

    @property
    def wants_write(self) -> bool:
        """Tell whether output waits to be sent."""
        return bool(self._output)

    @property
    def is_busy(self) -> bool:
        """Tell whether a command is being processed, or another complete line waits."""
        return self._later is not None or b"\n" in self._input

    @property
    def is_silent(self) -> bool:
        """Tell whether there is no input, no output and no command in progress."""
        return not (self._input or self._output or self._later)

    def patience(self, now: float) -> float | None:
        """Return the seconds after which `work` is due even if nothing comes; None: never."""
        if self._later is not None:
            return max(0.0, self._later.deadline - now)
        if self._output:
            return max(0.0, self._sent_at + LINE_SECONDS - now)
        if b"\n" in self._input:
            return 0.0
        return None if self._line_began is None else max(0.0, self._line_began + LINE_SECONDS - now)

    def work(self) -> None:
        """Do what can be done now: send, look for a late answer, read and obey."""
        try:
            self._send()
            self._look()
            for _ in range(_MAX_TURN):
                if self._output or self._later is not None or self.is_over or not self._next():
                    break
            self._check_peer()
        except OSError:    # reset: nobody is left to answer
            self.is_over = True

    def refuse(self, why: str) -> None:
        """Send a refusal, as far as the peer reads it, and end."""
        self._answer(ControlAnswer.refusal(why))
        self._is_closing = True
        self._send()

    def close(self) -> None:
        """End the connection; a command in progress is abandoned."""
        if self._later is not None:
            self._later.abandon()
            self._later = None
        self.is_over = True
        self.sock.close()

    def _next(self) -> bool:
        """Obey the next line, reading one if necessary; return False if there is nothing to do."""
        end = self._input.find(b"\n")
        if end < 0 and not self._is_ended and self._read():
            end = self._input.find(b"\n")
        if end > MAX_COMMAND_LINE or (end < 0 and len(self._input) > MAX_COMMAND_LINE):
            self.refuse(f"a line has at most {MAX_COMMAND_LINE} octets")
            return False
        if end < 0:
            self._check_line_time()
            if self._is_ended:    # half a line is not obeyed
                self.is_over = True
            return False
        line = bytes(self._input[:end])
        del self._input[:end + 1]
        self._line_began = time.monotonic() if self._input else None
        self.silent_since = time.monotonic()
        self._obey_line(line.removesuffix(b"\r"))
        return True

    def _obey_line(self, line: bytes) -> None:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            self._answer(ControlAnswer.refusal("a line must be UTF-8"))
            return
        if not text.replace("\t", " ").isprintable():
            self._answer(ControlAnswer.refusal("a line must have no control characters"))
            return
        answer = self._obey(text, self.peer)
        if isinstance(answer, ControlAnswer):
            self._answer(answer)
        else:
            self._later = answer
            self._look()

    def _look(self) -> None:
        """Answer if a late answer is ready now, or its deadline has passed."""
        if self._later is None:
            return
        answer = self._later.look()
        if answer is None and time.monotonic() >= self._later.deadline:
            answer = self._later.give_up()
        if answer is not None:
            self._later = None
            self._answer(answer)

    def _answer(self, answer: ControlAnswer) -> None:
        octets = answer.render()
        if len(octets) > _MAX_ANSWER:
            octets = ControlAnswer.refusal("the answer is too long").render()
        self._output = memoryview(octets)
        self._sent_at = time.monotonic()
        self._send()

    def _send(self) -> None:
        try:
            while self._output:
                sent = self.sock.send(self._output, socket.MSG_NOSIGNAL)
                self._output = self._output[sent:]
                self._sent_at = time.monotonic()
        except BlockingIOError:
            if time.monotonic() >= self._sent_at + LINE_SECONDS:    # never reads
                self.is_over = True
            return
        if self._is_closing:
            self.is_over = True

    def _read(self) -> bool:
        """Take what has come; return False if nothing has."""
        try:
            block = self.sock.recv(_BLOCK)
        except BlockingIOError:
            return False
        if not block:
            self._is_ended = True
            return False
        if not self._input:
            self._line_began = time.monotonic()
        self._input += block
        return True

    def _check_line_time(self) -> None:
        if self._line_began is not None and time.monotonic() >= self._line_began + LINE_SECONDS:
            self.refuse(f"a line takes at most {LINE_SECONDS:g} s")

    def _check_peer(self) -> None:
        """End if the peer has closed both directions during a command or answer, as poll would wake us forever."""
        if self._output or self._later is not None:
            poll = select.poll()
            poll.register(self.sock, 0)
            if poll.poll(0):
                self.is_over = True


def is_allowed(peer: Peer) -> bool:
    """Tell whether the peer may give commands: only root and our own user may."""
    return peer.uid in (0, os.geteuid())
