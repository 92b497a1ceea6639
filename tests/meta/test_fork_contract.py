"""The fork contract (design 4), read from /proc: what a child holds, and what it must not hold."""

import os
import re
import signal
from pathlib import Path

import pytest

from tests.harness.system import descriptors_of, wait_for
from tests.harness.toyclient import Client, start_toy


pytestmark = pytest.mark.usefixtures("by_exec")


@pytest.fixture
def toy(start):
    """A toy whose first children wait for connections."""
    toy = start_toy(start)
    wait_for(lambda: [waits(pid) for pid in toy.children()] == [True] * 4)
    return toy


def waits(pid):
    """Tell whether a child has come to its waiting room."""
    return "anon_inode:[eventpoll]" in descriptors_of(pid).values()


def kinds(pid):
    """Return what the descriptors of a process lead to, without numbers, sorted."""
    return sorted(re.sub(r"\d+", "N", os.path.basename(target)) for target in descriptors_of(pid).values())


def masks(pid):
    """Return blocked, ignored and caught signals of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = {}
    for field in ("SigBlk", "SigIgn", "SigCgt"):
        mask = int(re.search(rf"{field}:\s*(\w+)", status).group(1), 16)
        found[field] = {number for number in range(1, 32) if mask & 1 << (number - 1)}
    return found


def pipes(pid):
    """Return the pipes and how each descriptor on them is open: r or w."""
    found = {}
    for fd, target in descriptors_of(pid).items():
        if target.startswith("pipe:"):
            flags = int(re.search(r"flags:\s*(\d+)", Path(f"/proc/{pid}/fdinfo/{fd}").read_text()).group(1), 8)
            found.setdefault(target, set()).add("w" if flags & os.O_ACCMODE else "r")
    return found


IDLE = ["null"] * 4 + ["toy.err"] * 2 + ["toy.log", "anon_inode:[eventpoll]"]
IDLE += ["socket:[N]"]         # the listener
IDLE += ["pipe:[N]"] * 4       # doorbell (w), death pipe (r), own signals (r and w)


def test_an_idle_child_holds_this_and_nothing_else(toy):
    for pid in toy.children():
        assert kinds(pid) == sorted(IDLE)


def test_a_busy_child_has_a_client_instead_of_listener_and_waiting_room(toy):
    with Client(toy.endpoint()) as client:
        wanted = [*IDLE, "socket:[N]"]
        for gone in ("socket:[N]", "anon_inode:[eventpoll]", "null"):
            wanted.remove(gone)
        assert kinds(client.pid) == sorted(wanted)


def test_the_client_sits_on_a_low_descriptor(toy):
    with Client(toy.endpoint()) as client:
        sockets = [fd for fd, target in descriptors_of(client.pid).items() if target.startswith("socket:")]
        assert len(sockets) == 1
        assert sockets[0] < 10


def test_ends_of_pipes_are_on_the_right_side(toy):
    child, master = pipes(toy.children()[0]), pipes(toy.pid)
    shared = {pipe: (child[pipe], master[pipe]) for pipe in child.keys() & master.keys()}
    assert sorted(shared.values(), key=str) == sorted([
        ({"w"}, {"r", "w"}),      # doorbell
        ({"r"}, {"r", "w"}),      # death pipe
    ], key=str)
    assert sorted(child[pipe] == {"r", "w"} for pipe in child.keys() - master.keys()) == [True]    # own signals


def test_no_child_holds_the_locked_pid_file(toy):
    assert "toy.pid" in kinds(toy.pid)
    assert all("toy.pid" not in kinds(pid) for pid in toy.children())


def test_signals_of_a_child(toy):
    for pid in toy.children():
        found = masks(pid)
        assert found["SigBlk"] == set()
        assert found["SigCgt"] == {signal.SIGUSR1, signal.SIGUSR2}    # to retire; to tell whether there is a login
        assert signal.SIGPIPE in found["SigIgn"]
        assert not found["SigIgn"] & {signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}


def test_signals_of_the_master(toy):
    found = wait_for(lambda: now if (now := masks(toy.pid))["SigBlk"] == {signal.SIGXCPU} else None, 10.0,
                     "a moment without a fork")
    assert {signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGPWR, signal.SIGCHLD,
            signal.SIGUSR1, signal.SIGUSR2} <= found["SigCgt"]


def test_nothing_would_go_over_an_exec(toy):
    for pid in (toy.pid, *toy.children()):
        open_over_exec = [fd for fd in descriptors_of(pid) if fd > 2 and not int(re.search(
            r"flags:\s*(\d+)", Path(f"/proc/{pid}/fdinfo/{fd}").read_text()).group(1), 8) & os.O_CLOEXEC]
        assert open_over_exec == []


def test_a_child_has_its_masters_rights_and_session(toy):
    def identity(pid):
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        return [line for line in status if line.startswith(("Uid:", "Gid:", "Groups:"))] + [os.getsid(pid)]

    assert all(identity(pid) == identity(toy.pid) for pid in toy.children())
