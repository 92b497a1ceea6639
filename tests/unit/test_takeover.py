"""The parts of an upgrade that need no daemon: names that change hands, the record, what the new master says."""

import json
import os
import select
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from popular.control.place import Place, answers
from popular.daemon.start.handover import HandOver
from popular.daemon.upgrade.old_master import NewMaster
from popular.daemon.upgrade.rerun import Origin
from popular.errors import UsageError
from popular.statefile.layout import SERVER
from popular.statefile.writer import StateFile
from popular.unix.descriptors import ReservedDescriptors
from popular.unix.notify import Notify
from popular.unix.pidfile import AlreadyRunning, PidFile
from popular.unix.rights import own_rights
from popular.version import VERSION
from tests.harness.daemon import ROOT


def test_two_masters_have_the_lock_of_a_pid_file_and_one_writes(tmp_path: Path) -> None:
    path = tmp_path / "p.pid"
    old = PidFile.claim(str(path))
    new = PidFile(old.path, os.dup(old.fd))
    for master, pid in ((old, 4711), (new, 12), (old, 4711), (new, 123456)):
        master.write(pid)
        assert path.read_text() == f"{pid}\n"
    old.close()
    with pytest.raises(AlreadyRunning, match="pid 123456"):
        PidFile.claim(str(path))
    new.remove()
    assert [*tmp_path.iterdir()] == []


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
    old.publish()
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


def test_a_control_socket_beside_another_is_found_when_that_is_wanted(tmp_path: Path) -> None:
    place = Place(str(tmp_path), "p")
    with place.open(beside=True):
        assert not os.path.lexists(place.link)
        place.publish()
        dead = tmp_path / "p.1.ctrl"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
            other.bind(str(dead))
        (tmp_path / "p.ctrl").unlink()
        (tmp_path / "p.ctrl").symlink_to("p.1.ctrl")
        assert not answers(place.link)
        place.publish()
        assert answers(place.link) and not dead.exists()
    place.remove()


@pytest.mark.parametrize("address", ["{folder}/notify", "@popular-test-{pid}"])
def test_a_manager_is_told(tmp_path: Path, address: str) -> None:
    address = address.format(folder=tmp_path, pid=os.getpid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        silent = Notify(address)
        silent.may_speak = lambda: False
        silent.tell("STOPPING=1")
        Notify(address).tell("READY=1", "MAINPID=7")
        assert manager.recv(100) == b"READY=1\nMAINPID=7"
    Notify(address).tell("READY=1")    # nobody is there
    Notify("").tell("READY=1")


def hand_over(**items: object) -> HandOver:
    """Return a record whose descriptors are open."""
    given: dict[str, object] = {
        "program": "p", "version": "2.0", "module": "m", "config": "", "path": ("/x",), "prefix": "/y",
        "rights": own_rights(), "drops": False, "detached": True, "log_fd": 0, "pid_path": "/p", "pid_fd": 0,
        "ready_fd": None, "reserved": ReservedDescriptors(0, 0, 0), "handles": (), "line": 0, **items}
    return HandOver(**given)    # type: ignore[arg-type]


def written(data: object) -> int:
    """Return a descriptor from which `data` can be read as JSON."""
    fd = os.memfd_create("test")
    os.write(fd, json.dumps(data).encode())
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def test_what_a_later_version_hands_over_beside_is_ignored() -> None:
    hand = hand_over()
    raw = json.loads(json.dumps(asdict(hand)))
    raw["later"] = raw["rights"]["later"] = raw["reserved"]["later"] = 1
    assert HandOver.read(written(raw), "p") == hand


ESTATE = {    # of version 2.0 and before
    "program": "p", "channel": 0, "config": "{}", "base": "{}", "log_fd": 0, "pid_path": "/p", "heirlooms": [],
    "seats": {"client": 0, "backend": 0, "spare": 0}, "rings": [], "argv": [], "folder": "/", "notify": ""}


@pytest.mark.parametrize("data", ["", {}, [], {"program": "p"}, None, ESTATE, {**asdict(hand_over()), "pid_fd": 999}])
def test_what_is_no_hand_over(data: object) -> None:
    with pytest.raises(UsageError, match=f"^the running daemon hands over what version {VERSION} cannot"):
        HandOver.read(written(data), "p")


@pytest.mark.parametrize("items", [{"program": "q"}, {"line": None}])
def test_a_hand_over_of_another_kind(items: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="^this is no hand-over of a running p$"):
        HandOver.read(written(asdict(hand_over(**items))), "p")


@pytest.mark.parametrize("words", [["--succeed"], ["--succeed", "x"], ["--succeed", "0"], ["--succeed", "99"]])
def test_nobody_but_a_master_starts_a_successor(words: list[str]) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "bin/pserv"), *words], capture_output=True, text=True, timeout=30,
                          check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == os.EX_USAGE
    assert done.stderr.startswith("pserv: ") and "Traceback" not in done.stderr


MAIN = """
import json, os, socket, sys
from popular.unix.ready import Ready

def main():
    with open(int(sys.argv[2]), "rb") as file:
        raw = json.load(file)
    line = socket.socket(fileno=os.dup(raw["line"]))    # the line itself is open to the end, whatever is collected
    ready = Ready(raw["ready_fd"])
    {}
"""


@pytest.mark.parametrize(("text", "said", "reason"), [
    ("pass", [], ["the new process is gone"]),
    ("print('pserv: a\\nb', file=sys.stderr)", [], ["pserv: a", "b"]),
    ("ready.tell_failed(78, 'a\\nb')", [], ["a", "b"]),
    ("{}['z']", [], ["KeyError: 'z'"]),
    ("def f(: pass", [], ["SyntaxError: invalid syntax"]),
    ("line.send(b'serves 2.0.0'); line.send(b'end shutdown all')", [("serves", "2.0.0"), ("end", "shutdown all")],
     ["the new process is gone"]),
    ("line.send(b'\\xff'); sys.exit('x' * 100)", [("\ufffd", "")], ["x" * 100]),
    ("os.write(2, b'x' * (1 << 17))", [], ["x" * (1 << 16)]),
])
def test_what_a_new_master_says(tmp_path: Path, text: str, said: list[tuple[str, str]], reason: list[str]) -> None:
    (tmp_path / "successor.py").write_text(MAIN.format(text))
    with open(os.devnull, "rb") as null:
        number = null.fileno()
        hand = hand_over(log_fd=number, pid_fd=number, reserved=ReservedDescriptors(number, number, number))
        new = NewMaster(Origin((str(tmp_path), *sys.path), sys.prefix, "successor", (), "/"), hand)
    heard: list[tuple[str, str]] = []
    is_dead = False
    while not is_dead:
        assert select.select([new.line], [], [], 20.0)[0]
        words, is_dead = new.hear()
        heard += words
    new.end()
    assert heard == said and new.reason("is gone") == reason
    new.close()
