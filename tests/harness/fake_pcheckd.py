"""A MAILCHECK server that does as it is told: keeps silent, lies, repeats itself, answers too late.

A thread with sockets on loopback ports from the kernel.  What it answers is a function of the
requests so far (`Behaviour`); `always`, `in_turn` and `by_mailbox` make the usual ones.  Nothing
here waits for a time to pass: an answer that comes late is sent when the next request came.
"""

import select
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from popular.addresses import Endpoint


@dataclass(frozen=True)
class Reply:
    """One datagram to send."""

    data: bytes
    to: int = -1             # which request it goes to: index into the requests so far
    foreign: bool = False    # sent from another port than the one that was asked


@dataclass(frozen=True)
class Asked:
    """One datagram that came."""

    data: bytes
    peer: tuple[str, int]


Behaviour = Callable[[Sequence[Asked]], Sequence[Reply]]


def always(*replies: Reply) -> Behaviour:
    """Send the same replies to every request; without replies, keep silent."""
    return lambda asked: replies


def in_turn(*turns: Sequence[Reply]) -> Behaviour:
    """Send the first turn's replies to the first request and so on; the last turn repeats itself."""
    return lambda asked: turns[min(len(asked), len(turns)) - 1]


def by_mailbox(answers: Mapping[str, bytes], other: bytes = b"-ERR no such mailbox\n") -> Behaviour:
    """Answer requests of the form `*MNAME` from a table."""
    return lambda asked: [Reply(answers.get(asked[-1].data[2:].decode("ascii", "replace"), other))]


class FakePcheckd:
    """Serves from `with` to the end of the block."""

    def __init__(self, behaviour: Behaviour, host: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._behaviour = behaviour
        self._sock = socket.socket(family, socket.SOCK_DGRAM)
        self._foreign = socket.socket(family, socket.SOCK_DGRAM)
        self._sock.bind((host, port))
        self._foreign.bind((host, 0))
        self._stop, self._stopped = socket.socketpair()
        self._news = threading.Condition()
        self._asked: list[Asked] = []
        self._thread = threading.Thread(target=self._serve, name="fake-pcheckd")
        self.endpoint = Endpoint(host, self._sock.getsockname()[1])

    @property
    def asked(self) -> list[Asked]:
        """All requests up to now."""
        with self._news:
            return list(self._asked)

    def wait_for_requests(self, number: int, deadline: float = 5.0) -> list[Asked]:
        """Return the requests once there are `number` of them; fails after `deadline` seconds."""
        with self._news:
            assert self._news.wait_for(lambda: len(self._asked) >= number, deadline), self._asked
            return list(self._asked)

    def __enter__(self) -> "FakePcheckd":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stop.close()
        self._thread.join(5.0)
        for sock in (self._sock, self._foreign, self._stopped):
            sock.close()

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._sock, self._stopped], [], [])
            if self._stopped in ready:
                return
            data, peer = self._sock.recvfrom(65536)
            with self._news:
                self._asked.append(Asked(data, peer))
                self._news.notify_all()
            for reply in self._behaviour(self._asked):
                sender = self._foreign if reply.foreign else self._sock
                sender.sendto(reply.data, self._asked[reply.to].peer)
