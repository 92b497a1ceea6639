"""Attacks from inside the processes of the daemons; docs/security.md says what each of them shows."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from popular.unix.walls import landlock
from tests.harness.attacks import ATTACKS
from tests.harness.control import tell
from tests.harness.daemon import ROOT, Daemon
from tests.harness.logs import read_classic
from tests.harness.popclient import PopClient
from tests.harness.proxy import FAILED, PASSWORD, StartOdd

Pop = Callable[..., PopClient]
Start = Callable[..., Daemon]

READABLE = ("read a secret",)    # by children of pproxy, which have it in memory, or may have to read such files
ABI = landlock.abi()

DEED = """
import sys
sys.path.insert(0, {root!r})
from tests.harness.attacks import DONE, Target, outcomes
from popular.errors import PdmError
found = outcomes(Target.find({secret!r}), {names!r})
raise PdmError("done: " + ", ".join(sorted(name for name in found if found[name] == DONE)))
"""


def successes(odd: StartOdd, pop: Pop, names: Iterable[str] = ATTACKS, **variables: object) -> set[str]:
    """Return which attacks by a database module succeed, in a child of pproxy or, if it is `blocking`, in a worker."""
    deed = DEED.format(root=str(ROOT), secret=__file__, names=list(names))
    proxy = odd(deed, pdmtimeout="30s", **variables)
    with pop(proxy.endpoint()) as client:
        assert client.login("joe", PASSWORD).startswith(FAILED)
    [line] = map(read_classic, proxy.wait_log(" login_failed "))
    assert not proxy.log_lines("child_")
    return set(line.fields["why"].decode().removeprefix("done: ").split(", "))


@pytest.mark.skipif(ABI < 6, reason="the kernel lacks some walls, which the daemon tells")
def test_no_attack_from_a_child_of_pproxy_succeeds(odd: StartOdd, pop: Pop) -> None:
    assert successes(odd, pop) == set(READABLE)


@pytest.mark.skipif(ABI < 6, reason="the kernel lacks some walls, which the daemon tells")
def test_what_a_worker_can_do_is_known(odd: StartOdd, pop: Pop) -> None:
    """It asks databases by any driver and starts programs, so it keeps most rights, but none over other processes."""
    refused = {"signal the master", "queue a signal", "trace the master", "write the master's memory",
               "open the master's memory", "make a namespace", "load a program into the kernel"}
    needed = {"start a shell", "take any port", "eat memory in a file"}
    assert successes(odd, pop, refused | needed, blocking=True) == needed


def test_the_attacks_succeed_without_walls(odd: StartOdd, pop: Pop) -> None:
    harmless = ("signal the master", "fork", "overwrite the log", "take any port", "eat shared memory", "be dumped",
                "make a file in the run folder", "start a shell", "open many files",
                "talk to the kernel's network")
    assert successes(odd, pop, harmless, confinement="off") == set(harmless)


@pytest.mark.skipif(ABI < 6, reason="the kernel lacks some walls, which the daemon tells")
def test_light_walls_keep_files_ports_and_signals_in(odd: StartOdd, pop: Pop) -> None:
    kept = {"signal the master", "trace the master", "open the master's memory",
            "start a shell", "become a shell", "truncate the log by name", "open the log", "remove the log",
            "rename the log", "make a file in the run folder", "make a file in /tmp", "take a port", "open many files"}
    assert successes(odd, pop, {*kept, "fork", "overwrite the log"}, confinement="light") == {
        "fork", "overwrite the log"}


BUSY = {"NoNewPrivs": "1", "Seccomp": "2"}


def states_of(pid: int) -> dict[str, str]:
    """Return what the kernel tells of a process's walls."""
    return dict(re.findall(r"^(NoNewPrivs|Seccomp):\t(\d)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE))


def test_light_walls_are_told(odd: StartOdd) -> None:
    proxy = odd("return OK", confinement="light")
    for maxuse, told in (("1", "off, since confinement is light"), ("2", "on")):
        replies = tell(proxy, f"set maxuse {maxuse}", "show confinement")
        assert f"seccomp = {told}" in replies[1].lines or " walls_missing " in proxy.wait_log(" walls_")[0]


@pytest.mark.parametrize("program", ["pproxy", "pserv", "pcheckd"])
def test_every_daemon_tells_its_walls_and_no_master_is_filtered(system: dict[str, Daemon], program: str) -> None:
    daemon = system[program]
    [line] = daemon.wait_log(" walls_")
    assert states_of(daemon.pid) == {"NoNewPrivs": "1", "Seccomp": "0"}
    for pid in daemon.children():
        assert states_of(pid) == BUSY or " walls_missing " in line
        assert "Max core file size        0                    0" in Path(f"/proc/{pid}/limits").read_text()
    if program != "pcheckd":    # which has no control socket
        [reply] = tell(daemon, "show confinement")
        walls = dict(each.split(" = ", 1) for each in reply.lines)
        assert walls["no_new_privileges"] == "on"
        assert walls["descriptor_limit"] == "on"
        assert ("own_mailbox" in walls) is (program == "pserv")
        assert walls["landlock"] == f"on, ABI {ABI}" or ABI < landlock.LEAST_ABI


@pytest.mark.skipif(ABI < landlock.LEAST_ABI, reason="the kernel lacks this wall, which the daemon tells")
@pytest.mark.parametrize(("variables", "is_reached"), [
    pytest.param({}, False, id="classic"), pytest.param({"maxuse": 10}, True, id="pooled"),
    pytest.param({"confinement": "off"}, True, id="off")])
def test_a_session_of_pserv_reaches_its_own_mailbox_only(start: Start, spool: Path, variables: dict[str, object],
                                                         is_reached: bool) -> None:
    """After the login, another mailbox takes the place of its own; the message there is the same file."""
    for name in ("joe", "ann"):
        for folder in ("new", "cur", "tmp"):
            (spool / name / folder).mkdir(parents=True)
    (spool / "joe/new/1.x").write_text("mail\n")
    (spool / "ann/new/1.x").hardlink_to(spool / "joe/new/1.x")
    pserv = start("pserv", {"pserv": {"mailboxdir": spool, **variables},
                            "server": {"main": {"address": "127.0.0.1:0"}}})
    with PopClient(pserv.endpoint()) as client:
        assert client.xpop("joe").startswith(b"+OK 1 ")
        (spool / "joe").rename(spool / "aside")
        (spool / "ann").rename(spool / "joe")
        assert client.command("RETR 1").startswith(b"+OK" if is_reached else b"-ERR")
