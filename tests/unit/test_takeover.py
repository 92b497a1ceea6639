"""The parts of an upgrade that need no daemon: names that change hands, the estate, the line between two masters."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from popular.control.place import Place, answers
from popular.daemon.upgrade.estate import Estate
from popular.daemon.upgrade.heir import Heir
from popular.errors import UsageError
from popular.statefile.layout import SERVER
from popular.statefile.writer import StateFile
from popular.unix.notify import Notify
from popular.unix.pidfile import NEW, AlreadyRunning, PidFile
from tests.harness.daemon import ROOT


def claim(path: Path, pid: int) -> PidFile:
    """Lock a pid file and write into it."""
    pidfile = PidFile.claim(str(path))
    pidfile.write(pid)
    return pidfile


def test_a_pid_file_changes_hands_and_back(tmp_path: Path) -> None:
    path = tmp_path / "p.pid"
    old, new = claim(path, 1), claim(tmp_path / f"p.pid{NEW}", 2)
    new.publish()
    assert path.read_text() == "2\n" and [each.is_in_place for each in (old, new)] == [False, True]
    with pytest.raises(AlreadyRunning):
        old.retake()
    os.close(new.fd)    # its owner dies
    number = old.fd
    old.retake()
    assert path.read_text() == f"{os.getpid()}\n" and [each.is_in_place for each in (old,)] == [True]
    assert old.fd == number
    with pytest.raises(AlreadyRunning):
        PidFile.claim(str(path))
    old.remove()
    assert not path.exists()


def test_a_pid_file_that_was_replaced_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "p.pid"
    old, new = claim(path, 1), claim(tmp_path / f"p.pid{NEW}", 2)
    new.publish()
    old.remove()
    assert path.read_text() == "2\n"
    new.remove()
    assert [*tmp_path.iterdir()] == []


def test_only_a_stale_pid_file_is_replaced_where_nobody_hands_it_over(tmp_path: Path) -> None:
    path = tmp_path / "p.pid"
    old, new = claim(path, 1), claim(tmp_path / f"p.pid{NEW}", 2)
    with pytest.raises(AlreadyRunning):
        new.publish(if_stale=True)
    os.close(old.fd)
    new.publish(if_stale=True)
    assert path.read_text() == "2\n" and new.is_in_place
    new.remove()


def test_what_a_dead_successor_left_is_removed(tmp_path: Path) -> None:
    old = claim(tmp_path / "p.pid", 1)
    (tmp_path / f"p.pid{NEW}").touch()
    old.retake()
    assert [path.name for path in tmp_path.iterdir()] == ["p.pid"]
    old.remove()


@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_state_file_is_put_back(tmp_path: Path, is_replaced: bool) -> None:
    path, aside = tmp_path / "p.state", tmp_path / "p.7.state"
    old = StateFile(SERVER, 4, str(path))
    inode = path.stat().st_ino
    old.set_aside(str(aside))
    new = StateFile(SERVER, 4, str(path), publish=False)
    assert path.stat().st_ino == aside.stat().st_ino == inode
    if is_replaced:
        new.publish()
        assert path.stat().st_ino != inode
    old.put_back()
    assert path.stat().st_ino == inode and [path.name for path in tmp_path.iterdir()] == ["p.state"]
    for statefile in (old, new):
        statefile.remove()
        statefile.close()
    assert [*tmp_path.iterdir()] == []


def test_a_state_file_that_was_replaced_is_removed_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "p.state"
    old = StateFile(SERVER, 4, str(path))
    old.set_aside(str(tmp_path / "p.7.state"))
    new = StateFile(SERVER, 4, str(path))
    old.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["p.state"]
    new.remove()
    for statefile in (old, new):
        statefile.close()


def test_a_control_socket_is_taken_back(tmp_path: Path) -> None:
    place = Place(str(tmp_path), "p")
    with place.open():
        dead = tmp_path / "p.1.ctrl"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.bind(str(dead))
        (tmp_path / "p.ctrl").unlink()
        (tmp_path / "p.ctrl").symlink_to("p.1.ctrl")
        assert not answers(place.link)
        place.take_back()
        assert answers(place.link) and not dead.exists()
    place.remove()


@pytest.mark.parametrize("address", ["{folder}/notify", "@popular-test-{pid}"])
def test_a_manager_is_told(tmp_path: Path, address: str) -> None:
    address = address.format(folder=tmp_path, pid=os.getpid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        Notify(address, speaks=False).tell("STOPPING=1")
        Notify(address).tell("READY=1", "MAINPID=7")
        assert manager.recv(100) == b"READY=1\nMAINPID=7"
    Notify(address).tell("READY=1")    # nobody is there
    Notify("").tell("READY=1")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"program": "p"}', "null"])
def test_what_is_no_estate(text: str) -> None:
    fd = os.memfd_create("test")
    os.write(fd, text.encode())
    os.lseek(fd, 0, os.SEEK_SET)
    with pytest.raises(UsageError, match="^this is no estate"):
        Estate.read(fd, "p")


@pytest.mark.parametrize("words", [["--succeed"], ["--succeed", "x"], ["--succeed", "0"], ["--succeed", "99"]])
def test_nobody_but_a_master_starts_a_successor(words: list[str]) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "bin/pserv"), *words], capture_output=True, text=True, timeout=30,
                          check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == os.EX_USAGE
    assert done.stderr.startswith("pserv: ") and "Traceback" not in done.stderr


def heard(*words: bytes) -> Heir:
    """Return a successor that has said something."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    heir = Heir(os.getpid(), os.pidfd_open(os.getpid()), ours)
    for each in words:
        theirs.sendall(each)
        heir.hear()
    theirs.close()
    heir.hear()
    return heir


@pytest.mark.parametrize(("said", "version", "reason"), [
    ((b"",), "", ["the new process is gone"]),
    ((b"failed 78\n", b"pserv: a\nb\n"), "", ["pserv: a", "b"]),
    ((b"Traceback (most recent call last):\n  File x\n    y\nKeyError: 'z'\n",), "", ["KeyError: 'z'"]),
    ((b"took ov", b"er 2.0.0\n"), "2.0.0", ["the new process is gone"]),
    ((b"warning\ntook over 2.0.0\n",), "2.0.0", ["warning"]),
    ((b"took over \x1b[m\n",), "", ["the new process is gone"]),
    ((b"x" * (1 << 17),), "", ["x" * (1 << 16)]),
])
def test_what_a_successor_says(said: tuple[bytes, ...], version: str, reason: list[str]) -> None:
    heir = heard(*said)
    assert heir.version == version and heir.has_taken_over == bool(version)
    assert heir.reason("is gone") == reason
    heir.close()


def test_commands_are_taken_once() -> None:
    heir = heard(b"took over 2.0.0\nend shutdown delayed\nend shutdown all\n")
    assert heir.is_silent
    assert heir.take_commands() == ["shutdown delayed", "shutdown all"]
    assert heir.take_commands() == []
    heir.close()
