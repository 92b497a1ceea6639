"""The workload `idle`: many sessions that are logged in and say nothing, and the memory that each costs.

PSS is summed up by program before and while they rest, each time when it stands still; the difference is divided by
the sessions.
Fails softly: when a server takes fewer sessions than wanted, the figure is that of those it took.
"""

import resource
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice

from tests.bench.load import BUFFER, END
from tests.bench.results import Turn
from tests.bench.scripts import Script, Step
from tests.bench.ward import Ward

_SECONDS = 10.0          # for one answer
_MAX_FAILED = 5          # sessions that do not come to be, then no more are tried
_SPARE_FILES = 100
_WINDOW = 0.5            # seconds in which the CPU time at rest is counted
_SHOWN = 100             # octets of a wrong answer
_KIB = 1024


def measure_rest(ward: Ward, scripts: Sequence[Script], wanted: int, number: int) -> Turn:
    """Open the sessions, look at the memory, and close them."""
    allow_files(wanted + _SPARE_FILES)
    one = open_session(ward, scripts[0], 0)     # what is loaded at the first session belongs to none
    one.close()
    before = ward.settled_memory()
    begun = ward.cpu()
    with open_sessions(ward, scripts, wanted) as count:
        cpu = ward.settled_cpu() - begun
        during = ward.settled_memory()
        resting = cpu_at_rest(ward, _WINDOW)
    more = {f"KiB {program}": (during[program] - before.get(program, 0)) / count / _KIB
            for program in sorted(during)} if count else {}
    if count:
        more["KiB in all"] = (sum(during.values()) - sum(before.values())) / count / _KIB
        more["idle cpu"] = resting
    return Turn("idle", ward.name, wanted, number, count, cpu=cpu, cost=1000 * cpu / count if count else None,
                failed=wanted - count, failures={"session not opened": wanted - count} if count < wanted else {},
                more=more)


@contextmanager
def open_sessions(ward: Ward, scripts: Sequence[Script], wanted: int) -> Iterator[int]:
    """Open so many sessions, or as many as the server takes, and close them in the end; gives how many there are."""
    socks: list[socket.socket] = []
    failed = 0
    try:
        for place, script in enumerate(islice(cycle(scripts), wanted)):
            try:
                socks.append(open_session(ward, script, place))
            except OSError:
                failed += 1
                if failed >= _MAX_FAILED:
                    break
        yield len(socks)
    finally:
        for sock in socks:
            sock.close()


def cpu_at_rest(ward: Ward, seconds: float) -> float:
    """Return the share of one core that the contender uses in a window of `seconds` once it has come to rest."""
    before = ward.settled_cpu()
    begun = time.monotonic()
    time.sleep(seconds)
    used = ward.cpu() - before
    return max(0.0, used) / (time.monotonic() - begun)


def open_session(ward: Ward, script: Script, place: int) -> socket.socket:
    """Play a script, from one of many addresses, and leave the connection open; raises OSError."""
    source = (f"127.2.{place // 250 % 250 + 1}.{place % 250 + 1}", 0) if ward.endpoint.host.startswith("127.") else None
    sock = socket.create_connection((ward.endpoint.host, ward.endpoint.port), _SECONDS, source_address=source)
    try:
        for step in script:
            _play(sock, step)
    except BaseException:
        sock.close()
        raise
    return sock


def _play(sock: socket.socket, step: Step) -> None:
    if step.command:
        sock.sendall(step.command)
    text = bytearray()
    while not text.endswith(END if step.is_multi else b"\n"):
        part = sock.recv(BUFFER)
        if not part:
            raise ConnectionError("closed")
        text += part
    if not text.startswith(step.answer) or len(text) < step.least:
        raise ConnectionError(f"{step.command!r} was answered {bytes(text[:_SHOWN])!r}, {len(text)} octets")


def allow_files(count: int) -> None:
    """Raise our own limit of open files to `count`, where that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
