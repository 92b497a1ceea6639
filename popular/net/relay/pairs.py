"""Many pairs of client and backend in one process, which waits for all of them by epoll.

Used in pproxy's relay processes (pproxy.relays).  What a pair does is that of pair.py, with the same back-pressure;
here is who waits, who is idle, and who has closed.  Only sockets, which others may share; no TLS, no pipes.  A pair at
rest costs a look at its TCP a few times in its idle time, and no memory for octets.  Raises OSError where the system
refuses to watch a descriptor.
"""

import select
import socket
import time
from collections.abc import Callable

from popular.net.idleness import LOOKS, Idleness
from popular.net.relay.pair import Pair
from popular.net.transport import SharedSocket
from popular.net.wire import LINGER_OCTETS, LINGER_SECONDS

_EVENTS = 256    # handled at once, so that no other descriptor waits long
_TICK = 1.0      # seconds between looks at what is due, at most

_READS = select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR    # as select(2) sees it
_WRITES = select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP


class RelayedPair(Pair):
    """A pair with what its process has to know of it."""

    __slots__ = ("client", "server", "idle", "place", "story", "told", "_masks", "_seen", "_idleness")

    def __init__(self, client: SharedSocket, server: SharedSocket, to_server: bytes, to_client: bytes, *,
                 idle: float, place: int = 0, story: object = None) -> None:
        """Take both ends; `idle` is that of pair.py, `place`, `story` and `told` are the caller's."""
        super().__init__(client, server, to_server, to_client)
        self.client = client
        self.server = server
        self.idle = idle
        self.place = place
        self.story = story
        self.told = (0, 0)      # octets moved that the caller has reported
        self._masks = (0, 0)    # for what client and server are watched
        self._seen = (0, 0)     # octets moved at the last look
        self._idleness: Idleness | None = None

    def wishes(self) -> tuple[int, int]:
        """Return for what client and server are to be watched; 0: for nothing, as epoll would report their end."""
        up, down = self.up, self.down
        return ((select.EPOLLIN if up.reading and not up.held else 0) | (select.EPOLLOUT if down.held else 0),
                (select.EPOLLIN if down.reading and not down.held else 0) | (select.EPOLLOUT if up.held else 0))

    def watch(self, epoll: select.epoll, masks: tuple[int, int]) -> None:
        """Have both watched as `masks` say."""
        for fd, former, mask in zip((self.up.source, self.down.source), self._masks, masks):
            if mask and former and mask != former:
                epoll.modify(fd, mask)
            elif mask and not former:
                epoll.register(fd, mask)
            elif former and not mask:
                epoll.unregister(fd)
        self._masks = masks

    def close(self) -> None:
        """Close both connections."""
        self.client.close()
        self.server.close()

    def is_idle(self) -> bool:
        """Tell whether nothing has moved for the idle time; called about `LOOKS` times in it."""
        if self.moved != self._seen:
            self._seen, self._idleness = self.moved, None
            return False
        if self._idleness is None:
            self._idleness = Idleness(self.idle, self.idle / LOOKS, self.server, self.client)
        return self._idleness.is_over()


class Pairs:
    """All pairs of a process."""

    def __init__(self, progress: Callable[[RelayedPair], None], ended: Callable[[RelayedPair], None]) -> None:
        """Begin without pairs.

        `progress` is called within `_TICK` seconds of a pair's progress, and not more often.  `ended` is called when a
        pair has ended and its backend is closed; its client may still be read for a while, to see the last octets.
        """
        self.epoll = select.epoll()    # others may be registered here, too
        self._progress = progress
        self._ended = ended
        self._pairs: dict[int, RelayedPair] = {}                   # by both descriptors
        self._looks: dict[float, dict[RelayedPair, float]] = {}    # by idle time, when each is looked at next, in order
        self._moved: dict[RelayedPair, None] = {}                  # since the last tick
        self._leaving: dict[int, tuple[socket.socket, float, list[int]]] = {}    # clients until a time, octets left
        self._tick = 0.0    # monotonic: when to look at what is due

    def __len__(self) -> int:
        return len(self._pairs) // 2

    @property
    def is_empty(self) -> bool:
        """Tell whether there are neither pairs nor clients that are still read."""
        return not self._pairs and not self._leaving

    def all(self) -> list[RelayedPair]:
        """Return all pairs, each once."""
        return list(dict.fromkeys(self._pairs.values()))

    def add(self, pair: RelayedPair) -> None:
        """Begin to relay; raises OSError, and then nothing was done."""
        try:
            pair.watch(self.epoll, pair.wishes())
        except OSError:
            self._forget(pair)
            raise
        self._pairs[pair.up.source] = self._pairs[pair.down.source] = pair
        self._looks.setdefault(pair.idle, {})[pair] = time.monotonic() + pair.idle / LOOKS
        self._tick = min(self._tick, time.monotonic() + self._interval())

    def wait(self, patience: float | None = None) -> list[int]:
        """Wait for events, at most `patience` seconds, and relay; return other descriptors that are ready."""
        now = time.monotonic()
        if not self.is_empty:
            left = max(0.0, self._tick - now)
            patience = left if patience is None else min(patience, left)
        others = []
        ready: dict[RelayedPair, dict[int, int]] = {}    # both sides of a pair together, as select shows them
        for fd, mask in self.epoll.poll(patience, _EVENTS):
            pair = self._pairs.get(fd)
            if pair is not None:
                ready.setdefault(pair, {})[fd] = mask
            elif fd in self._leaving:
                self._drain(fd)
            else:
                others.append(fd)
        for pair, masks in ready.items():
            self._act(pair, [fd for fd, mask in masks.items() if mask & _READS],
                      [fd for fd, mask in masks.items() if mask & _WRITES])
        now = time.monotonic()
        if now >= self._tick:
            self._look(now)
        return others

    def end(self, pair: RelayedPair, reason: str = "") -> None:
        """End a pair, because of `reason` if it has no better one, and have it reported."""
        pair.reason = reason or pair.reason
        self._forget(pair)
        pair.server.close()
        self._ended(pair)
        self._let_leave(pair.client)

    def drop(self, pair: RelayedPair) -> None:
        """Forget a pair and close it, unreported."""
        self._forget(pair)
        pair.close()

    def close(self) -> None:
        """Close everything unreported; for tests, because the process just ends."""
        for pair in self.all():
            pair.close()
        for sock, _, _ in self._leaving.values():
            sock.close()
        self.epoll.close()

    def _act(self, pair: RelayedPair, readable: list[int], writable: list[int]) -> None:
        before = pair.moved
        try:
            pair.act(readable, writable)
        except MemoryError:    # its end frees some, and the others go on
            self.end(pair, "no memory")
            return
        if pair.is_over:
            self.end(pair)
            return
        if pair.moved != before:
            self._moved[pair] = None
        pair.watch(self.epoll, pair.wishes())

    def _look(self, now: float) -> None:
        """Report progress, and end what is idle or has had its time."""
        self._tick = now + self._interval()
        moved, self._moved = self._moved, {}
        for pair in moved:
            self._progress(pair)
        for idle, table in [*self._looks.items()]:
            due = []
            for pair, when in table.items():
                if when > now:
                    break
                due.append(pair)
            for pair in due:
                del table[pair]
                if pair.is_idle():
                    self.end(pair, "idle")
                else:
                    table[pair] = now + idle / LOOKS
            if not table:
                del self._looks[idle]
        for fd in [fd for fd, (_, until, _) in self._leaving.items() if until <= now]:
            self._dismiss(fd)

    def _interval(self) -> float:
        """Return the seconds between two looks."""
        return min([_TICK, *(idle / LOOKS / 2 for idle in self._looks)])

    def _forget(self, pair: RelayedPair) -> None:
        for fd in (pair.up.source, pair.down.source):
            self._pairs.pop(fd, None)
            try:
                self.epoll.unregister(fd)
            except OSError:    # it was not watched
                pass
        self._moved.pop(pair, None)
        self._looks.get(pair.idle, {}).pop(pair, None)

    def _let_leave(self, client: socket.socket) -> None:
        """Close a client as Wire.linger_close does: input that was not read would let them miss the last octets."""
        try:
            client.shutdown(socket.SHUT_WR)
            self._leaving[client.fileno()] = (client, time.monotonic() + LINGER_SECONDS, [LINGER_OCTETS])
            self.epoll.register(client.fileno(), select.EPOLLIN)
        except OSError:    # there is no peer to miss anything
            self._leaving.pop(client.fileno(), None)
            client.close()
        else:
            self._drain(client.fileno())

    def _drain(self, fd: int) -> None:
        """Read and forget what a client sends who is to leave."""
        sock, _, left = self._leaving[fd]
        try:
            data = sock.recv(left[0])
        except BlockingIOError:
            return
        except OSError:
            data = b""
        left[0] -= len(data)
        if not data or left[0] <= 0:
            self._dismiss(fd)

    def _dismiss(self, fd: int) -> None:
        sock, _, _ = self._leaving.pop(fd)
        sock.close()
