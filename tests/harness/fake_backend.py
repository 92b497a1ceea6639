"""A scripted TCP server in place of a backend: POP3 or XPOP, polite, slow, hostile or broken.

    script = [Say(b"+OK hello\\r\\n"), Expect(b"USER joe\\r\\n"), Say(b"-ERR [IN-USE] later\\r\\n"), Close()]
    with FakeBackend(script) as fake:
        ... fake.endpoint ... fake.result()

One thread; each connection plays the script from its start, one connection after the other, and what
was received lies in `sessions`.  A step that meets something else than it expects ends its connection
and is reported by `result`.  Nothing here waits for a time to pass.
"""

import socket
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from popular.addresses import Endpoint
from tests.harness.system import wait_for

PATIENCE = 40.0    # seconds without anything from the other side, then the script has failed


@dataclass(frozen=True)
class Say:
    """Send octets as they are."""

    data: bytes


@dataclass(frozen=True)
class Expect:
    """Wait for exactly these octets."""

    data: bytes


@dataclass(frozen=True)
class ReadLines:
    """Wait for so many lines, whatever is in them."""

    number: int = 1


@dataclass(frozen=True)
class ReadToEnd:
    """Read until the other side closes, or closes its sending half."""


@dataclass(frozen=True)
class HalfClose:
    """Send no more; the other side sees the end of the stream and may go on."""


@dataclass(frozen=True)
class Close:
    """Close in the ordinary way."""


@dataclass(frozen=True)
class Reset:
    """Close with a reset: the other side loses what it has not read."""


@dataclass(frozen=True)
class Hold:
    """Do nothing until the test says `release`."""


Step = Say | Expect | ReadLines | ReadToEnd | HalfClose | Close | Reset | Hold


@dataclass
class FakeSession:
    """One connection as the fake saw it."""

    peer: tuple[str, int]
    received: bytes = b""
    done: bool = False
    failure: str = ""
    released: threading.Event = field(default_factory=threading.Event)


class ScriptFailed(Exception):
    """The other side did not do what the script says."""


class FakeBackend:
    """Serves from `with` to the end of the block."""

    def __init__(self, script: Sequence[Step] | Callable[[int], Sequence[Step]], host: str = "127.0.0.1",
                 port: int = 0) -> None:
        """Play `script` for every connection; a function is given the connection's number, from 0.

        A `host` that begins with a slash is the path of a unix socket to be made.
        """
        self._script = script
        if host.startswith("/"):
            self._sock = socket.socket(socket.AF_UNIX)
            self._sock.bind(host)
            self._sock.listen()
        else:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._sock = socket.create_server((host, port), family=family)
        self._thread = threading.Thread(target=self._serve, name="fake-backend")
        self._stopping = False
        self._current: socket.socket | None = None
        self.endpoint = Endpoint(host, 0 if host.startswith("/") else self._sock.getsockname()[1])
        self.sessions: list[FakeSession] = []

    def result(self, number: int = 0, seconds: float = 10.0) -> bytes:
        """Return all that connection `number` received once its script is done; fails if it did not go so."""
        wait_for(lambda: len(self.sessions) > number and self.sessions[number].done, seconds,
                 f"the end of connection {number} at the fake backend")
        session = self.sessions[number]
        assert not session.failure, f"{session.failure}; received {session.received!r}"
        return session.received

    def wait_received(self, data: bytes, number: int = 0, seconds: float = 10.0) -> None:
        """Wait until connection `number` has received `data` somewhere."""
        wait_for(lambda: len(self.sessions) > number and data in self.sessions[number].received, seconds,
                 f"{data!r} at the fake backend")

    def release(self, number: int = 0) -> None:
        """Let connection `number`, which is there or about to come, go on after `Hold`."""
        wait_for(lambda: len(self.sessions) > number, 10.0, f"connection {number} at the fake backend")
        self.sessions[number].released.set()

    def __enter__(self) -> "FakeBackend":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stopping = True
        _shut(self._sock)
        if self._current is not None:
            _shut(self._current)
        for session in self.sessions:
            session.released.set()
        self._thread.join(PATIENCE + 5)
        self._sock.close()

    def _serve(self) -> None:
        while not self._stopping:
            try:
                sock, peer = self._sock.accept()
            except OSError:
                return
            session = FakeSession(peer[:2])
            steps = self._script(len(self.sessions)) if callable(self._script) else self._script
            self.sessions.append(session)
            with sock:
                self._current = sock
                sock.settimeout(PATIENCE)
                try:
                    play(sock, session, steps)
                except (OSError, ScriptFailed) as why:
                    session.failure = f"{type(why).__name__}: {why}"
                self._current = None
            session.done = True


def play(sock: socket.socket, session: FakeSession, steps: Sequence[Step]) -> None:
    """Play the script on one connection; raises ScriptFailed and OSError."""
    unread = b""
    for step in steps:
        match step:
            case Say(data):
                sock.sendall(data)
            case Expect(data):
                unread = _fill(sock, session, unread, lambda seen: len(seen) >= len(data))
                if not unread.startswith(data):
                    raise ScriptFailed(f"expected {data!r}, got {unread!r}")
                unread = unread[len(data):]
            case ReadLines(number):
                unread = _fill(sock, session, unread, lambda seen: seen.count(b"\n") >= number)
                unread = unread.split(b"\n", number)[-1]
            case ReadToEnd():
                while data := sock.recv(65536):
                    session.received += data
            case HalfClose():
                sock.shutdown(socket.SHUT_WR)
            case Reset():
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            case Close():
                return
            case Hold():
                session.released.wait(PATIENCE)


def _fill(sock: socket.socket, session: FakeSession, unread: bytes, enough: Callable[[bytes], bool]) -> bytes:
    """Receive until there is enough; returns all that no step has taken yet."""
    while not enough(unread):
        data = sock.recv(65536)
        if not data:
            raise ScriptFailed(f"the other side closed after {unread!r}")
        session.received += data
        unread += data
    return unread


def _shut(sock: socket.socket) -> None:
    """Wake whoever waits on the socket."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
