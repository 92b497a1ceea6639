"""Telling a process's own children and their descendants from all others at a Unix socket."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from popular.unix import kin
from popular.unix.rights import Peer

CONNECT = "import socket, sys; sock = socket.socket(socket.AF_UNIX); sock.connect(sys.argv[1]); sys.stdin.read()"
PYTHON = [sys.executable, "-I", "-S", "-c", CONNECT]


@pytest.fixture
def listener(rundir: Path) -> Iterator[socket.socket]:
    """A listening Unix socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(rundir / "socket"))
        sock.listen()
        sock.settimeout(30)
        yield sock


@pytest.fixture(params=["SO_PEERPIDFD", "no SO_PEERPIDFD"])
def _kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels with and without that option."""
    if request.param == "no SO_PEERPIDFD":
        monkeypatch.setattr(kin, "_SO_PEERPIDFD", 9999)


@pytest.mark.usefixtures("_kernel")
@pytest.mark.parametrize(("words", "is_direct"), [
    pytest.param(PYTHON, True, id="child"),
    pytest.param(["sh", "-c", '"$@"; exit', "sh", *PYTHON], False, id="grandchild"),
    pytest.param(["sh", "-c", '(cd /; "$@"; exit); exit', "sh", *PYTHON], False, id="great-grandchild"),
])
def test_children_and_their_descendants_are_found(listener: socket.socket, words: list[str], is_direct: bool) -> None:
    with subprocess.Popen([*words, listener.getsockname()], stdin=subprocess.PIPE) as process:
        with listener.accept()[0] as sock:
            peer = Peer.of(sock)
            assert (peer.pid == process.pid) is is_direct
            assert kin.child_behind(sock, peer, ()) == process.pid
        process.communicate()


def test_children_of_the_other_master_count(listener: socket.socket) -> None:
    with subprocess.Popen(["sh", "-c", '"$@"; exit', "sh", *PYTHON, listener.getsockname()],
                          stdin=subprocess.PIPE) as master:
        with listener.accept()[0] as sock:
            assert kin.child_behind(sock, Peer.of(sock), (master.pid,)) == Peer.of(sock).pid
        master.communicate()


@pytest.mark.usefixtures("_kernel")
def test_others_are_not_children(listener: socket.socket) -> None:
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(listener.getsockname())
        with listener.accept()[0] as sock:
            assert kin.child_behind(sock, Peer.of(sock), ()) == 0
            assert kin.child_behind(sock, Peer(0, os.geteuid()), ()) == 0    # from outside a container


def test_who_hides_is_taken_for_a_child(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hidepid, /proc does not show a child of the other master that cannot be traced."""
    def hidden(pid: int) -> int:
        raise FileNotFoundError(pid)

    monkeypatch.setattr(kin, "_parent", hidden)
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(listener.getsockname())
        with listener.accept()[0] as sock:
            assert kin.child_behind(sock, Peer.of(sock), ()) == os.getpid()


@pytest.mark.usefixtures("_kernel")
def test_of_a_process_that_has_ended_nothing_can_be_told(listener: socket.socket) -> None:
    subprocess.run([*PYTHON, listener.getsockname()], stdin=subprocess.DEVNULL, check=True)
    with listener.accept()[0] as sock, pytest.raises(OSError, match="No such process"):
        kin.child_behind(sock, Peer.of(sock), ())
