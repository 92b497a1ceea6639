"""Processes and descriptors as the kernel shows them, and waiting for a condition with a deadline.

The test process makes itself the reaper of orphans (`adopt_orphans`), so that whatever a daemon
leaves behind is seen and can be cleared away, also where pid 1 reaps nothing.
"""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

BUSY = 4    # so many times longer may things take on a busy machine than on a quiet one

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)


def wait_for(condition: Callable[[], T], seconds: float = 10.0, what: str = "") -> T:
    """Return the first true answer of `condition`.

    `seconds`: what a quiet machine needs at most.  Raises AssertionError after BUSY times as long, which only those
    tests wait for that fail.
    """
    seconds *= BUSY
    deadline = time.monotonic() + seconds
    pause = 0.001
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what or condition}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends (prctl(2), Linux)."""
    if _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def die_with_parent() -> None:
    """In a new child, before exec: be sent TERM when the starting process ends, however it ends."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def state_of(pid: int) -> str:
    """Return the state letter of a process (R, S, D, Z, T …), or an empty string if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0]


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    return state_of(pid) not in ("", "Z", "X")


def parent_of(pid: int) -> int:
    """Return the parent's pid, 0 if the process is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])


def children_of(pid: int) -> list[int]:
    """Return the pids of a process's children, zombies too, in ascending order."""
    found: set[int] = set()
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found.update(int(child) for child in (task / "children").read_text().split())
    except OSError:
        found.update(other for other in all_pids() if parent_of(other) == pid)
    return sorted(found)


def descendants_of(pid: int) -> list[int]:
    """Return the pids of children, their children, and so on."""
    found: list[int] = []
    for child in children_of(pid):
        found += [child, *descendants_of(child)]
    return found


def all_pids() -> list[int]:
    """Return every pid there is."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def zombies_of(pid: int) -> list[int]:
    """Return the children of a process that ended and were not reaped."""
    return [child for child in children_of(pid) if state_of(child) == "Z"]


def title_of(pid: int) -> str:
    """Return the process title or command line as ps(1) shows it."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def descriptors_of(pid: int) -> dict[int, str]:
    """Return the open descriptors of a process and what they lead to."""
    found: dict[int, str] = {}
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            found[int(name)] = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:   # the descriptor of the listing itself, or one closed meanwhile
            continue
    return found


def reap() -> list[int]:
    """Collect every child of ours that has ended; returns their pids."""
    gone: list[int] = []
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return gone
        if pid == 0:
            return gone
        gone.append(pid)


@contextmanager
def written_all_the_time(write: Callable[[], object]) -> Iterator[None]:
    """Have another process write to memory that it shares, again and again."""
    pid = os.fork()
    if not pid:
        try:
            while True:
                write()
        finally:
            os._exit(1)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def end_process(pid: int) -> None:
    """Kill a process that a test started, and wait until it is gone."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    wait_for(lambda: not is_alive(pid), 5.0, f"the end of process {pid}")


def end_family(process: "subprocess.Popen[bytes]") -> None:
    """End a server that a test started, by TERM if it hears, and then everything that it started; twice is fine."""
    family = descendants_of(process.pid) if process.poll() is None else []
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid in family:
        end_process(pid)
