"""The load generator: several processes, each with one epoll set and a fixed number of sessions at once.

Each slot plays one script after the other; a session ends with the answer to its last command, then the
connection is closed, as real clients do.  Every answer is checked against its script.  Nothing but the
socket is made for a session: one buffer serves all, times go into a histogram.

`run_load` forks the processes and adds up what they found.  It never reports more than it saw: what
did not end in time is a failure.
"""

import errno
import gc
import json
import os
import select
import signal
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import TypeVar

from popular.addresses import Endpoint
from tests.bench.histogram import Histogram
from tests.bench.scripts import Script

BUFFER = 1 << 18
GRACE = 120.0
MAX_FAILURES = 200         # of one process, then it gives up
_TICK = 0.25               # seconds between two looks at the clock while nothing happens
_START = 0.02              # seconds for all processes to come up
_LATE_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)
END = b"\r\n.\r\n"         # of an answer with many lines
_SOURCES = 200             # client addresses of each process, so that ports do not run out

T = TypeVar("T")


@dataclass(slots=True)
class LoadResult:
    """What the processes of one run saw."""

    sessions: int = 0              # that ended well
    in_time: int = 0               # of these, before the time was over
    failed: Counter[str] = field(default_factory=Counter)    # what went wrong → how often
    octets: int = 0                # received
    seconds: float = 0.0           # from the first start to the last end
    window: float = 0.0            # seconds in which sessions were begun
    cpu: list[float] = field(default_factory=list)           # CPU seconds of each process
    times: Histogram = field(default_factory=Histogram)

    def add(self, raw: dict) -> None:
        """Add what one process wrote."""
        self.sessions += raw["sessions"]
        self.in_time += raw["in_time"]
        self.failed.update(raw["failed"])
        self.octets += raw["octets"]
        self.seconds = max(self.seconds, raw["seconds"])
        self.cpu.append(raw["cpu"])
        self.times.merge(raw["times"])


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run is to do."""

    endpoints: Sequence[Endpoint]     # of one server; sessions go to each in turn
    scripts: Sequence[Script]
    concurrency: int
    seconds: float
    processes: int = 2
    grace: float = GRACE              # seconds that sessions have to end after the last one has begun
    make: "Callable[[Plan, int, int], Generator] | None" = None    # the generator of a process; None: the one in clear


class Slot:
    """One session at a time."""

    __slots__ = ("sock", "fd", "script", "place", "got", "tail", "begun")

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self.fd = -1
        self.script: Script = ()
        self.place = 0             # step that is waited for
        self.got = 0               # octets of its answer
        self.tail = b""            # the last of them, while there are more to come
        self.begun = 0


class Generator:
    """One process of the load."""

    def __init__(self, plan: Plan, number: int, start: int) -> None:
        """Prepare process `number`, to begin at the monotonic nanosecond `start`."""
        share, rest = divmod(plan.concurrency, plan.processes)
        self._slots = [Slot() for _ in range(share + (number < rest))]
        share_of = number / plan.processes          # each process has other users and addresses at a time
        self._addresses = cycle(_from(share_of, [(endpoint.host, endpoint.port) for endpoint in plan.endpoints]))
        self._scripts = cycle(_from(share_of, plan.scripts))
        self._sources = _sources(number, plan.endpoints[0].host)
        self._start = start
        self._deadline = start + int(plan.seconds * 1e9)
        self._grace = int(plan.grace * 1e9)
        self._poll = select.epoll()
        self._by_fd: dict[int, Slot] = {}
        self._buffer = bytearray(BUFFER)
        self.sessions = self.in_time = self.octets = 0
        self.failed: Counter[str] = Counter()
        self.times = Histogram()

    def run(self) -> dict:
        """Play until the time is over and what was begun has ended; returns the figures."""
        time.sleep(max(0.0, (self._start - time.monotonic_ns()) / 1e9))
        cpu = time.process_time()
        for slot in self._slots:
            self._begin(slot)
        end = self._deadline + self._grace
        while self._by_fd and time.monotonic_ns() < end and self.failed.total() < MAX_FAILURES:
            for fd, _ in self._poll.poll(_TICK):
                waiting = self._by_fd.get(fd)
                if waiting is not None:
                    self._receive(waiting)
        if self._by_fd:
            self.failed["not ended in time" if self.failed.total() < MAX_FAILURES else "given up"] += len(self._by_fd)
            for left in list(self._by_fd.values()):
                self._close(left)
        self._poll.close()
        return {"sessions": self.sessions, "in_time": self.in_time, "failed": self.failed, "octets": self.octets,
                "seconds": (time.monotonic_ns() - self._start) / 1e9, "cpu": time.process_time() - cpu,
                "times": self.times.dump()}

    def _begin(self, slot: Slot) -> None:
        """Open the next session of a slot, unless the time is over; the first one, however late it is."""
        while ((now := time.monotonic_ns()) < self._deadline or not slot.begun) and self.failed.total() < MAX_FAILURES:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            if self._sources is not None:
                sock.setsockopt(socket.IPPROTO_IP, _LATE_PORT, 1)
                sock.bind(next(self._sources))
            code = sock.connect_ex(next(self._addresses))
            if code not in (0, errno.EINPROGRESS):
                sock.close()
                self.failed[f"connect: {os.strerror(code)}"] += 1
                continue
            slot.sock, slot.fd = sock, sock.fileno()
            slot.script, slot.place, slot.got, slot.tail, slot.begun = next(self._scripts), 0, 0, b"", now
            self._by_fd[slot.fd] = slot
            self._poll.register(slot.fd, select.EPOLLIN)
            self._connected(slot)
            return

    def _connected(self, slot: Slot) -> None:
        """Do what comes before the greeting: nothing in clear."""

    def _receive(self, slot: Slot) -> None:
        assert slot.sock is not None
        try:
            count = slot.sock.recv_into(self._buffer)
        except BlockingIOError:
            return
        except OSError as why:
            return self._fail(slot, why.strerror or "error")
        if count == 0:
            return self._fail(slot, "closed by the server")
        return self._got(slot, count)

    def _got(self, slot: Slot, count: int) -> None:
        """Check the octets that came, the first `count` of the buffer, and go on when the answer is whole."""
        buffer = self._buffer
        self.octets += count
        command, answer, is_multi, least = slot.script[slot.place]
        total = slot.got + count
        if slot.got == 0 and not buffer.startswith(answer, 0, count):
            if count >= len(answer):
                return self._fail(slot, f"{_word(command)} was answered {bytes(buffer[:min(count, 60)])!r}")
            return self._fail(slot, "an answer began with too little")
        if is_multi:
            is_whole = buffer.endswith(END, 0, count) or (
                count < len(END) and (slot.tail + buffer[:count]).endswith(END))
        else:
            is_whole = buffer[count - 1] == 10
        if not is_whole:
            slot.got = total
            slot.tail = (slot.tail + buffer[max(0, count - 5):count])[-5:] if is_multi else b""
            return None
        if total < least:
            return self._fail(slot, f"{_word(command)} brought {total} octets, wanted {least}")
        return self._go_on(slot)

    def _go_on(self, slot: Slot) -> None:
        """Send the next command, or end the session."""
        slot.place += 1
        if slot.place == len(slot.script):
            now = time.monotonic_ns()
            self._close(slot)
            self.sessions += 1
            self.in_time += now < self._deadline
            self.times.add((now - slot.begun) // 1000)
            return self._begin(slot)
        slot.got, slot.tail = 0, b""
        try:
            self._send(slot, slot.script[slot.place].command)
        except OSError as why:
            self._fail(slot, why.strerror or "error")

    def _send(self, slot: Slot, octets: bytes) -> None:
        assert slot.sock is not None
        slot.sock.send(octets)

    def _fail(self, slot: Slot, why: str) -> None:
        self.failed[f"{why} ({_word(slot.script[slot.place].command)})"] += 1
        self._close(slot)
        self._begin(slot)

    def _close(self, slot: Slot) -> None:
        assert slot.sock is not None
        del self._by_fd[slot.fd]
        slot.sock.close()
        slot.sock = None


def run_load(plan: Plan) -> LoadResult:
    """Run one load and return what all its processes saw; raises RuntimeError when one of them broke."""
    processes = max(1, min(plan.processes, plan.concurrency))
    plan = replace(plan, processes=processes)
    start = time.monotonic_ns() + int(_START * 1e9)
    children: list[tuple[int, int]] = []
    try:
        for number in range(processes):
            children.append(_fork(plan, number, start))
        texts = [_read_all(fd) for _, fd in children]
    finally:
        _end(children)
    result = LoadResult(window=plan.seconds)
    for text in texts:
        if not text.startswith(b"{"):
            raise RuntimeError(f"the load generator broke:\n{text.decode(errors='replace')}")
        result.add(json.loads(text))
    return result


def _fork(plan: Plan, number: int, start: int) -> tuple[int, int]:
    """Start one process; returns its pid and the pipe its figures come through."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write_end)
        return pid, read_end
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        gc.disable()
        text = json.dumps((plan.make or Generator)(plan, number, start).run()).encode()
    except Exception:    # the process ends here: whatever it was goes to the parent
        text = traceback.format_exc().encode()
    with os.fdopen(write_end, "wb") as pipe:
        pipe.write(text)
    os._exit(0)


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts)


def _end(children: Sequence[tuple[int, int]]) -> None:
    """End the processes, which have ended unless something went wrong."""
    for pid, fd in children:
        os.close(fd)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _sources(number: int, host: str) -> "Iterator[tuple[str, int]] | None":
    """Return own addresses in turn, where the server is on 127.0.0.0/8, all of which is this host."""
    if not host.startswith("127."):
        return None
    return cycle([(f"127.1.{number + 1}.{place + 1}", 0) for place in range(_SOURCES)])


def _from(share: float, things: Sequence[T]) -> list[T]:
    """Return all things, beginning with the one that `share` of them stand before."""
    first = int(len(things) * share)
    return [*things[first:], *things[:first]]


def _word(command: bytes) -> str:
    return command.split()[0].decode() if command else "greeting"
