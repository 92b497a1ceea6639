"""Bytes both ways between a client and its backend, untouched, until one side ends.

Used in the children of pproxy once the backend has accepted the login, and, for many pairs at once (pairs.py), in
its relay processes.  Knows no POP3 and does not change, add or lose a byte (NUL is allowed too, because the server
sends mail).  Raises nothing for what peers do; the result says how it ended.

Back-pressure: each direction holds one block and reads no more until that block has been sent, so
a slow reader slows the other side's writer, not our memory.

A side may be under TLS; then everything is copied, and data that TLS has already deciphered is not waited for.
Lines are copied.  Once a direction has filled a block, its octets go through a pipe inside the kernel instead, until
nothing has moved for a second.  If the system gives no pipe or cannot splice, and where another process shares a socket
(SharedSocket), everything is copied.
"""

import errno
import select
import socket
import time
from collections.abc import Callable, Container
from dataclasses import dataclass

from popular.net.idleness import LOOKS, Idleness
from popular.net.relay.pipe import Pipe
from popular.net.transport import SharedSocket, Stream

_BLOCK = 64 * 1024    # most octets in flight per direction when they are copied; a pipe has room for `pipe.SIZE`
BURST = 16            # blocks that one direction may move before the other has its turn
MUCH = 16 * 1024      # octets received at once that suggest more will follow
TELL_AFTER = 1.0      # seconds
KEEP_PIPE = 1.0       # seconds without anything moved

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RelayEnd:
    """What was moved, and why the relay ended."""

    to_server: int    # octets delivered
    to_client: int    # octets delivered
    reason: str       # "client closed", "server closed", "client reset", "server reset": the first of these; or "idle"


def relay(client: Stream, server: Stream, *, to_server: bytes = b"", to_client: bytes = b"",
          idle: float, progress: Progress | None = None) -> RelayEnd:
    """Move bytes until the server has closed and all it sent is delivered, a side is lost, or `idle` seconds pass.

    `to_server` and `to_client` were read from the other side earlier and are sent first.  `idle` is how
    long nothing may come from either side nor be taken by its TCP.  A client's half-close is passed on and the server's
    remaining output still delivered; a client is not kept once the server has closed.  What a side
    sent before it was lost is still delivered.  `progress` is called with the octets delivered so far, to
    the server and to the client, within `TELL_AFTER` seconds of a change and not more often.

    Both descriptors must be below FD_SETSIZE (1024), select's limit; both sockets become
    non-blocking and stay open.  Close the client lingering: it may have sent more than was read.
    """
    for sock in (client, server):
        if isinstance(sock, socket.socket) and sock.gettimeout() != 0:
            sock.setblocking(False)
    pair = Pair(client, server, to_server, to_client)
    report = _Report(pair, progress)
    try:
        while not pair.is_over:
            if not _move(pair, idle, report):
                pair.reason = "idle"
                break
    finally:
        pair.drop_pipes()
    return pair.result


class Pair:
    """A client and its backend, with what is on its way between them; whoever waits for both calls `act`."""

    __slots__ = ("up", "down", "reason")

    def __init__(self, client: Stream, server: Stream, to_server: bytes = b"", to_client: bytes = b"") -> None:
        """Take both, which must not block, and what was read from them before."""
        self.up = _Flow(client, server, to_server, "client", "server")
        self.down = _Flow(server, client, to_client, "server", "client")
        self.reason = ""    # the first end of a side; empty: there was none

    @property
    def is_over(self) -> bool:
        """Tell whether nothing is left to do: a lost client ends the way down; what they had sent still goes up."""
        up, down = self.up, self.down
        return not (down.reading or down.held or (down.lost_sink and (up.reading or up.held)))

    @property
    def moved(self) -> tuple[int, int]:
        """The octets delivered to the server and to the client."""
        return self.up.moved, self.down.moved

    @property
    def result(self) -> RelayEnd:
        """What was moved so far, and why the relay ended."""
        return RelayEnd(self.up.moved, self.down.moved, self.reason)

    def act(self, readable: Container[int], writable: Container[int]) -> bool:
        """Move what these descriptors, which are ready, have or take; tell whether anything happened."""
        happened = False
        for flow in (self.up, self.down):
            if flow.held:
                happened |= flow.sink in writable and flow.push()
            elif flow.reading:
                happened |= flow.source in readable and flow.receive()
        if self.up.lost_source and not self.down.lost_sink:
            self.down.cut()    # a client that was reset takes nothing more
        self.reason = self.reason or self.up.end or self.down.end
        return happened

    def drop_pipes(self) -> None:
        """Close the pipes, and lose what they hold."""
        self.up.drop_pipe()
        self.down.drop_pipe()

    def rest(self) -> None:
        """Close pipes that are empty."""
        for flow in (self.up, self.down):
            if not flow.held:
                flow.drop_pipe()


class _Report:
    """When to report the progress."""

    __slots__ = ("_pair", "_tell", "_told", "_due")

    def __init__(self, pair: Pair, tell: Progress | None) -> None:
        self._pair = pair
        self._tell = tell
        self._told = (0, 0)
        self._due = 0.0    # time.monotonic()

    def wait(self, now: float, until: float) -> float:
        """Report what is due; return `until`, or the time of the next report if that is earlier."""
        moved = self._pair.moved
        if self._tell is None or moved == self._told:
            return until
        if now >= self._due:
            self._tell(*moved)
            self._told, self._due = moved, now + TELL_AFTER
            return until
        return min(until, self._due)


class _Flow:
    """One direction: from `source` to `sink`."""

    __slots__ = ("source", "sink", "pending", "pipe", "held", "moved", "reading", "lost_source", "lost_sink", "end",
                 "tls", "sink_stream", "_may_splice", "_source_stream", "_names")

    def __init__(self, source: Stream, sink: Stream, pending: bytes,
                 source_name: str, sink_name: str) -> None:
        self.source = source.fileno()
        self.sink = sink.fileno()
        self.pending: bytes | memoryview = pending    # received, not yet sent; goes before what the pipe holds
        self.pipe: Pipe | None = None
        self.held = len(pending)                      # octets received and not yet sent, in `pending` and the pipe
        self.moved = 0                                # octets sent
        self.reading = True                           # the source may have more
        self.lost_source = False                      # the source was reset
        self.lost_sink = False                        # the sink takes no more
        self.end = ""                                 # why nothing more will come
        self._may_splice = all(isinstance(end, socket.socket) and not isinstance(end, SharedSocket)
                               for end in (source, sink))
        self.tls = None if isinstance(source, socket.socket) else source
        self._source_stream = source
        self.sink_stream = sink
        self._names = source_name, sink_name

    def receive(self) -> bool:
        """Read blocks as long as they are full, and send what the sink takes; tell whether anything happened.

        Called only with nothing held, so at the source's end the half-close is due at once.
        """
        for turn in range(BURST):
            try:
                count = self._take()
            except BlockingIOError:
                return turn > 0
            except OSError:
                self.lost_source = True
                self._finish(f"{self._names[0]} reset")
                return True
            if count == 0:
                self._finish(f"{self._names[0]} closed")
                return True
            self.held += count
            self.push()
            if self.held or not self.reading or (count < MUCH and not (self.tls and self.tls.pending)):
                return True
        return True

    def push(self) -> bool:
        """Send what is held as far as the sink takes it; tell whether anything happened."""
        try:
            if self.pipe is not None and not self.pending:
                sent = self.pipe.empty(self.sink)
            else:
                sent = self.sink_stream.send(self.pending)
                self.pending = memoryview(self.pending)[sent:] if sent < len(self.pending) else b""
        except BlockingIOError:
            return False
        except OSError as why:
            if self.pending or why.errno != errno.EINVAL:
                self.cut()
            else:
                self._copy_from_now_on()
        else:
            self.moved += sent
            self.held -= sent
        return True

    def cut(self) -> None:
        """Give up: the sink is lost."""
        self.lost_sink = True
        self.reading = False
        self.pending = b""
        self.held = 0
        self.drop_pipe()
        self.end = self.end or f"{self._names[1]} reset"

    def drop_pipe(self) -> None:
        """Close the pipe and lose what it holds."""
        if self.pipe is not None:
            self.pipe.close()
            self.pipe = None
            self.held = len(self.pending)

    def _take(self) -> int:
        """Receive a block; return its octets, 0 at the source's end; raises OSError."""
        if self.pipe is not None:
            try:
                return self.pipe.fill(self.source)
            except OSError as why:
                if why.errno != errno.EINVAL:
                    raise
            self._copy_from_now_on()
        self.pending = self._source_stream.recv(_BLOCK)
        if len(self.pending) == _BLOCK and self._may_splice:
            self._make_pipe()
        return len(self.pending)

    def _make_pipe(self) -> None:
        """Have the kernel move what comes next, if it can."""
        try:
            self.pipe = Pipe()
        except OSError:    # too many pipes or descriptors
            self._may_splice = False

    def _copy_from_now_on(self) -> None:
        """Stop using the pipe: these sockets cannot be spliced."""
        assert self.pipe is not None
        self._may_splice = False
        self.pending = self.pipe.take_all()
        self.drop_pipe()

    def _finish(self, end: str) -> None:
        """Note that the source has ended, and pass it on."""
        self.reading = False
        self.end = end
        self.drop_pipe()
        try:
            self.sink_stream.shutdown(socket.SHUT_WR)
        except OSError:
            pass    # the sink is lost as well; its flow will report it


def _move(pair: Pair, idle: float, report: _Report) -> bool:
    """Wait for something to happen and do it; False when both sides are idle for `idle` seconds."""
    now = time.monotonic()
    look = now + idle / LOOKS
    rest = now + KEEP_PIPE
    idleness: Idleness | None = None
    while not _step(pair, min(report.wait(now, look), rest)):
        now = time.monotonic()
        if now >= look:
            if idleness is None:
                idleness = Idleness(idle, idle / LOOKS, pair.up.sink_stream, pair.down.sink_stream)
            if idleness.is_over():
                return False
            look = now + idle / LOOKS
        if now >= rest:
            rest = float("inf")
            pair.rest()
    return True


def _step(pair: Pair, until: float) -> bool:
    """Wait for something to happen and do it; False when `until` (time.monotonic()) comes first."""
    happened = False
    while not happened:
        sources: list[int] = []
        sinks: list[int] = []
        ready: list[int] = []    # known to have data without asking
        for flow in (pair.up, pair.down):
            if flow.held:
                sinks.append(flow.sink)
            elif flow.reading:
                (ready if flow.tls and flow.tls.pending else sources).append(flow.source)
        patience = 0.0 if ready else max(0.0, until - time.monotonic())
        readable, writable, _ = select.select(sources, sinks, (), patience)
        readable += ready
        if not readable and not writable:
            return False
        happened = pair.act(readable, writable)
    return True
