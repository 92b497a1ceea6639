"""Clients that log in at a steady rate while a test does other things: users of several kinds, with a session each.

They are all in the process of the test, which looks after them in `play` and `play_during`.  A session that cannot
begin in time is left out, so that a slow machine gets fewer sessions and no heap of them.
"""

import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import cycle
from types import TracebackType

from popular.addresses import Endpoint

_TICK = 0.02     # seconds between two looks at what else goes on
_WAITING = 8     # sessions at once that have not got a greeting
_ANSWER = 2      # the line, from 0, that answers PASS


@dataclass(frozen=True, slots=True)
class Kind:
    """Sessions that all do the same."""

    name: str
    endpoint: Endpoint
    user: str
    password: str


@dataclass(slots=True)
class Part:
    """What the sessions heard that began in one part of a test."""

    answers: dict[str, Counter[str]] = field(default_factory=dict)    # by kind: `+OK`, `[AUTH]` …, how often
    waits: dict[str, list[float]] = field(default_factory=dict)       # by kind: seconds from connecting to the answer

    def note(self, kind: str, answer: str, seconds: float) -> None:
        """Note one answer."""
        self.answers.setdefault(kind, Counter())[answer] += 1
        self.waits.setdefault(kind, []).append(seconds)

    def heard(self, kind: str) -> set[str]:
        """Return all different answers to one kind."""
        return {*self.answers.get(kind, ())}


@dataclass(slots=True)
class _Session:
    kind: Kind
    part: Part
    sock: socket.socket
    began: float
    got: bytes = b""
    has_asked: bool = False


class LoginStream:
    """All sessions; a context, which ends those that are open."""

    def __init__(self, kinds: Sequence[Kind], rate: float) -> None:
        """Begin sessions of all kinds in turn, `rate` a second in all, once `play` is called."""
        self.parts: list[Part] = []
        self._kinds = kinds
        self._turns = cycle(kinds)
        self._step = 1.0 / rate
        self._due = 0.0
        self._epoll = select.epoll()
        self._sessions: dict[int, _Session] = {}
        self._helper = ThreadPoolExecutor(1)

    def __enter__(self) -> "LoginStream":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._helper.shutdown()
        for session in self._sessions.values():
            session.sock.close()
        self._epoll.close()

    def play(self, count: int) -> Part:
        """Go on until `count` sessions of each kind have ended that began since this call; returns what these heard."""
        part = self._new_part()
        while any(part.answers.get(kind.name, Counter()).total() < count for kind in self._kinds):
            self._turn()
        return part

    def play_during(self, deed: Callable[[], None]) -> None:
        """Go on while `deed` is done in a thread; raises what it raises."""
        self._new_part()
        done = self._helper.submit(deed)
        while not done.done():
            self._turn()
        done.result()

    def finish(self) -> None:
        """Begin no more sessions, and go on until all have ended."""
        self._due = float("inf")
        while self._sessions:
            self._turn()

    def _new_part(self) -> Part:
        self.parts.append(Part())
        return self.parts[-1]

    def _turn(self) -> None:
        now = time.monotonic()
        if now >= self._due:
            self._due = max(self._due + self._step, now)
            self._begin(next(self._turns), now)
        for fd, _ in self._epoll.poll(max(0.0, min(_TICK, self._due - now))):
            self._receive(fd, self._sessions[fd])

    def _begin(self, kind: Kind, now: float) -> None:
        if sum(not session.has_asked for session in self._sessions.values()) >= _WAITING:
            return
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.connect_ex((kind.endpoint.host, kind.endpoint.port))    # a failure is an answer, too
        self._sessions[sock.fileno()] = _Session(kind, self.parts[-1], sock, now)
        self._epoll.register(sock, select.EPOLLIN)

    def _receive(self, fd: int, session: _Session) -> None:
        try:
            octets = session.sock.recv(4096)
        except OSError as why:
            session.got, octets = str(why).encode(), b""
        session.got += octets
        lines = session.got.split(b"\r\n")
        if octets and len(lines) <= _ANSWER + 1:
            if len(lines) > 1 and not session.has_asked:
                session.has_asked = True
                session.sock.send(f"USER {session.kind.user}\r\nPASS {session.kind.password}\r\n".encode())
            return
        answer = _word(lines[_ANSWER]) if octets else f"closed after {session.got!r}"
        session.part.note(session.kind.name, answer, time.monotonic() - session.began)
        if answer == "+OK":
            session.sock.send(b"QUIT\r\n")
        self._epoll.unregister(fd)
        del self._sessions[fd]
        session.sock.close()


def _word(answer: bytes) -> str:
    """Return what matters of an answer: `+OK`, or the code of a refusal."""
    return answer.decode("ascii", "replace").removeprefix("-ERR ").split(" ")[0]
