"""The walls around processes: what a process can still do after it has entered them, and what is told of them.

Walls are never left, so each test enters them in a process of its own.
"""

import _thread
import ctypes
import json
import os
import re
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from popular.config.store import default_config, with_fact
from popular.daemon import confinement
from popular.daemon.child.accept import AcceptJob
from popular.daemon.confinement import confine, walls_of
from popular.log.message import Event
from popular.log.writer import Log
from popular.mailcheck.server import DatagramJob
from popular.pcheckd import settings as pcheckd_settings
from popular.pcheckd import spec as pcheckd
from popular.pserv import settings as pserv_settings
from popular.pserv import spec as pserv
from popular.store.mailbox import Mailbox, mail_state
from popular.unix.descriptors import MastersOwn
from popular.unix.load import PATH as LOAD
from popular.unix.load import LoadAverage
from popular.unix.rights import drop, find_rights
from popular.unix.syscalls import libc
from popular.unix.walls import landlock, seccomp
from popular.unix.walls.capabilities import CAP_NET_BIND_SERVICE, bequeath_nothing, permitted, survive_change_of_user
from popular.unix.walls.landlock import around
from popular.unix.walls.seccomp import ARGUMENT_RULES, NUMBERS, program
from popular.unix.walls.walls import ON, Kernel, Policy, Walls, raise_walls
from tests.harness.attacks import ATTACKS

needs_landlock = pytest.mark.skipif(landlock.abi() < landlock.LEAST_ABI, reason="the kernel has no Landlock")


def in_process(work: Callable[[], Any]) -> Any:
    """Return what `work` returns in a process of its own, as JSON allows."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write_end, json.dumps(work()).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def in_walls(policy: Policy, work: Callable[[Walls], Any]) -> Any:
    """Return what `work` returns in a process that has entered walls, as JSON allows."""
    def entered() -> Any:
        walls = raise_walls(MastersOwn())
        walls.prepare(policy)
        walls.limit_descriptors()
        walls.enter()
        return work(walls)

    return in_process(entered)


def tried(*deeds: Callable[[], object]) -> list[str]:
    """Return for each deed `done` or why not."""
    found = []
    for deed in deeds:
        try:
            deed()
            found.append("done")
        except OSError as why:
            found.append(why.strerror or "")
    return found


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """Two mailboxes, joe and ann, with a message each; new/ of joe is a link."""
    for name in ("joe", "ann"):
        for folder in ("cur", "tmp", "new"):
            (tmp_path / "spool" / name / folder).mkdir(parents=True)
        (tmp_path / "spool" / name / "new" / "1.x").write_text("mail")
    (tmp_path / "spool/joe/new").rename(tmp_path / "other")
    (tmp_path / "spool/joe/new").symlink_to(tmp_path / "other")
    return tmp_path / "spool"


@needs_landlock
def test_a_process_reaches_its_own_mailbox_only(spool: Path) -> None:
    def work(walls: Walls) -> list[str]:
        before = tried(lambda: (spool / "ann/new/1.x").read_text())
        joe = Mailbox(str(spool), "joe")
        walls.enclose(joe.places)
        return before + tried(
            lambda: (spool / "ann/new/1.x").read_text(), lambda: os.listdir(spool / "ann/new"),
            lambda: os.unlink(spool / "ann/new/1.x"), lambda: Path("/etc/hostname").read_text(),
            lambda: Path(f"{joe.new}/1.x").read_text(), lambda: os.rename(f"{joe.tmp}", f"{joe.path}/gone"),
            lambda: os.link(f"{joe.new}/1.x", f"{joe.cur}/1.x"), lambda: os.unlink(f"{joe.new}/1.x"),
            lambda: os.listdir(joe.cur), lambda: Path(os.__file__).read_bytes())

    refused = "Permission denied"
    assert in_walls(Policy(writable=(str(spool), str(spool.parent / "other")), encloses=True), work) == [
        "done", *[refused] * 4, *["done"] * 6]
    assert (spool / "joe/cur/1.x").exists()


@needs_landlock
@pytest.mark.parametrize(("maxuse", "told", "happens"), [(1, ON, "Permission denied"),
                                                         (2, "off, since maxuse is above 1", "done")])
def test_only_a_process_of_one_session_is_enclosed(spool: Path, maxuse: int, told: str, happens: str) -> None:
    config = with_fact(with_fact(default_config(pserv_settings.SCHEMA), "maxuse", maxuse), "mailboxdir", str(spool))

    def work(walls: Walls) -> list[object]:
        walls.enclose(Mailbox(str(spool), "joe").places)
        return [dict(walls_of(walls))["own_mailbox"], *tried(lambda: (spool / "ann/new/1.x").read_text())]

    assert in_walls(pserv.policy(config, AcceptJob(1, lambda connection, child: None)), work) == [told, happens]


@needs_landlock
def test_pcheckd_looks_for_mail_and_reads_none(spool: Path) -> None:
    policy = pcheckd.policy(default_config(pcheckd_settings.SCHEMA), DatagramJob(lambda request: None))

    def work(walls: Walls) -> list[object]:
        return [mail_state(str(spool), "ann"), LoadAverage()() >= 0.0,
                *tried(lambda: (spool / "ann/new/1.x").read_text(), lambda: os.unlink(spool / "ann/new/1.x"),
                       lambda: Path(LOAD).read_text())]

    assert in_walls(policy, work) == ["new", True, "Permission denied", "Permission denied", "done"]


def test_a_relay_process_opens_nothing(tmp_path: Path) -> None:
    """But it has what it needs: pipes, and splice."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        made = tried_in_process(tmp_path, address, listener)
    assert made == ["Operation not permitted"] * 6 + ["done"] * 2


def tried_in_process(folder: Path, address: tuple[str, int], listener: socket.socket) -> list[str]:
    """Try what a relay process must not do, and what it must."""
    def splice() -> None:
        reading, writing = os.pipe()
        os.write(writing, b"x")
        os.splice(reading, os.pipe()[1], 1)

    return list(in_walls(Policy(readable=(), is_sealed=True), lambda walls: tried(
        lambda: os.open("/etc/passwd", os.O_RDONLY), lambda: os.open(folder / "new", os.O_CREAT | os.O_WRONLY),
        lambda: socket.socket(), lambda: socket.socketpair(), lambda: listener.accept(), lambda: os.fork(),
        lambda: os.pipe2(os.O_CLOEXEC), splice)))


def test_folders_around_others_hold_everything_else(tmp_path: Path) -> None:
    log, run = tmp_path / "log", tmp_path / "run"
    found = around([str(log), "/usr/share/doc"])
    for kept in (log, run, Path("/usr/share")):
        assert not any(os.path.realpath(kept).startswith(f"{path}/") or str(kept) == path for path in found)
    assert "/usr/lib" in found
    assert "/etc" in found
    assert "/usr" not in found


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64"])
def test_every_refused_call_has_a_number(machine: str) -> None:
    refused = [*seccomp.WORKER, *seccomp.CHILD, *seccomp.FILES, *seccomp.SEALED]
    assert {*refused, seccomp.FALLS_BACK, *(rule.call for rule in ARGUMENT_RULES)} == set(NUMBERS)
    octets = program(machine, refused, ARGUMENT_RULES)
    assert octets is not None
    assert len(octets) // 8 < 256    # a jump goes no further


def test_another_processor_has_no_filter() -> None:
    assert program("m68k", seccomp.WORKER) is None


NOBODYS = 4_000_000_001    # the uid of a user who has no process
ONE = 1 << CAP_NET_BIND_SERVICE
needs_root = pytest.mark.skipif(os.geteuid() != 0 or not permitted() & ONE, reason="only root has capabilities")


def inherit_one() -> None:
    """Have one capability more in the sets that programs inherit."""
    header, low = struct.pack("=Ii", 0x20080522, 0), permitted() & 0xffffffff
    assert libc().capset(header, struct.pack("=6I", low, low, ONE, 0, 0, 0)) == 0
    ambient, raising = 47, 2
    assert libc().prctl(ambient, *map(ctypes.c_ulong, (raising, CAP_NET_BIND_SERVICE, 0, 0))) == 0


def capabilities() -> dict[str, str]:
    """Return the sets of this process that are not empty."""
    found = re.findall(r"^Cap(\w+):\t0*(\w*)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return {name: value for name, value in found if value}


@needs_root
@pytest.mark.parametrize("is_worker", [False, True], ids=["child", "worker"])
def test_a_capability_of_the_master_is_not_that_of_others(is_worker: bool) -> None:
    """It has one from AmbientCapabilities of the unit."""
    def work() -> list[object]:
        survive_change_of_user()
        os.setresuid(NOBODYS, NOBODYS, NOBODYS)
        inherit_one()
        walls = raise_walls(MastersOwn())
        walls.prepare(Policy(is_worker=is_worker))
        before = capabilities()
        walls.enter()
        return [before["Amb"], [*capabilities()], dict(walls_of(walls))["no_capabilities"]]

    assert in_process(work) == [f"{ONE:x}", ["Bnd"], ON]


@needs_root
def test_programs_inherit_nothing_of_a_process_that_root_has_started() -> None:
    def work() -> list[object]:
        inherit_one()
        bequeath_nothing()
        still = {*capabilities()}
        drop(find_rights("nobody", None))
        return [sorted(still), capabilities()]

    assert in_process(work) == [["Eff", "Prm"], {}]


@needs_root
@pytest.mark.parametrize("is_filtered", [True, False], ids=["threads", "processes"])
def test_a_child_that_starts_all_it_can_leaves_room_for_the_master(is_filtered: bool) -> None:
    """Without a filter these may be processes; the master has the same user."""
    def bomb(held: int) -> int:
        for started in range(100):
            try:
                if is_filtered:
                    _thread.start_new_thread(os.read, (held, 1))
                elif os.fork() == 0:
                    os.read(held, 1)
                    os._exit(0)
            except (OSError, RuntimeError):
                return started
        return 100

    def work() -> int:
        os.setresuid(NOBODYS, NOBODYS, NOBODYS)
        walls = raise_walls(MastersOwn())
        walls.prepare(Policy(processes=20, is_filtered=is_filtered))
        (told, tell), (held, holding) = os.pipe(), os.pipe()
        if os.fork() == 0:
            os.close(holding)
            walls.enter()
            os.write(tell, bytes((bomb(held),)))
            os.read(held, 1)
            os._exit(0)
        [started] = os.read(told, 1)
        if os.fork() == 0:    # the master
            os._exit(0)
        os.wait()
        os.close(holding)
        os.wait()
        return int(started)

    assert 10 < in_process(work) <= 18


HEADERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm-generic/unistd.h")


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.skipif(not all(path.exists() for path in HEADERS), reason="no headers of the kernel")
def test_numbers_are_those_of_the_kernel(column: int) -> None:
    words = [line.split() for line in HEADERS[column].read_text().splitlines() if line.startswith("#define __NR")]
    known = {each[1].removeprefix("__NR_").removeprefix("__NR3264_"): int(each[2]) for each in words
             if len(each) == 3 and each[2].isdigit()}
    newer = {name for name in NUMBERS if name not in known and NUMBERS[name][column] > max(known.values())}
    assert {name: known.get(name, -1) for name in NUMBERS if name not in newer} == {
        name: numbers[column] for name, numbers in NUMBERS.items() if name not in newer}


class Kept:
    """A sink that keeps events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: Event) -> None:
        self.events.append(event)

    def reopen(self) -> None:
        """Do nothing."""

    def fileno(self) -> int:
        return -1


@pytest.mark.parametrize(("found", "name", "walls"), [
    (Kernel(7, ON, ON, ON, "off, 1 left", ON, ON), "walls_raised",
     "no_new_privileges no_core_dumps no_access_by_others seccomp landlock landlock_ports landlock_signals "
     "no_capabilities process_limit descriptor_limit; off: empty_bounding_set: 1 left"),
    (Kernel(3, ON, ON), "walls_missing",
     "landlock_ports: ABI 4 of Landlock is needed; landlock_signals: ABI 6 of Landlock is needed"),
    (Kernel(0, "missing: no", "missing: Function not implemented", "missing: not permitted"), "walls_missing",
     "seccomp: Function not implemented; landlock: no; landlock_ports: no; landlock_signals: no; "
     "no_capabilities: not permitted"),
])
def test_the_log_tells_what_is_missing(monkeypatch: pytest.MonkeyPatch, found: Kernel, name: str, walls: str) -> None:
    monkeypatch.setattr(confinement, "raise_walls", lambda own: Walls(own, found))
    sink = Kept()
    confine(default_config(pserv_settings.SCHEMA), Log("pserv", sink), MastersOwn())
    told = [(event.message.name, "; off: ".join(map(str, event.fields.values()))) for event in sink.events]
    assert told == [(name, walls)]


def test_walls_that_are_off_are_told() -> None:
    sink = Kept()
    config = with_fact(default_config(pserv_settings.SCHEMA), "confinement", "off")
    walls = confine(config, Log("pserv", sink), MastersOwn())
    assert {state for _, state in walls_of(walls)} == {"off"}
    [event] = sink.events
    assert (event.message.name, event.fields["walls"]) == ("walls_raised", "")
    assert str(event.fields["off"]).split("; ")[:2] == ["no_new_privileges", "no_core_dumps"]


ROOT = Path(__file__).resolve().parents[2]


def test_the_page_on_security_names_every_attack_and_only_tests_that_exist() -> None:
    text = (ROOT / "docs/security.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {name for line in rows for name in re.findall(r'"([^"]+)"', line)} == set(ATTACKS)
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named
    assert {name for name in named if f"def {name}(" not in tests} == set()
    assert {path for path in re.findall(r"`(tests/\S+)`", text) if not (ROOT / path).exists()} == set()
