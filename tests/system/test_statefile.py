"""The state files of real daemons: every state held and seen, killed children, and the file itself."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.fake_backend import Expect, FakeBackend, Hold, ReadToEnd, Say
from tests.harness.fake_pcheckd import FakePcheckd, Reply, always
from tests.harness.popclient import PopClient
from tests.harness.proxy import (
    CASPER, FIRST_LINE, PASSWORD, PAUL, XENIA, StartProxy, script_for, store)
from tests.harness.pstatus import pstatus, rows, state_file, status, wait_slot
from tests.harness.system import is_alive, state_of, wait_for

NOWHERE = Endpoint("127.0.0.1", 1)    # a port on which nobody listens
NO_MAIL = always(Reply(b"+OK 0 no mail\n"))

Pop = Callable[..., PopClient]
MakeMailbox = Callable[..., Path]


@pytest.fixture
def pserv(start: Callable[..., Daemon], spool: Path) -> Daemon:
    """A running pserv."""
    return start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})


def port_of(client: PopClient) -> str:
    return f"127.0.0.1:{client.sock.getsockname()[1]}"


# Every state, held

def test_idle(proxy: StartProxy) -> None:
    daemon = proxy(store(NOWHERE), minspare=2, maxspare=2)
    wait_for(lambda: status(daemon)["idle"] == 2, 10.0, "two idle children")
    slots = status(daemon)["slots"]
    assert [slot["state"] for slot in slots] == ["idle", "idle"]
    assert sorted(slot["pid"] for slot in slots) == daemon.children()
    assert all(slot["client"] == slot["user"] == slot["sid"] == "" for slot in slots)


def test_greeting_and_auth(proxy: StartProxy, pop: Pop) -> None:
    daemon = proxy(store(NOWHERE))
    client = pop(daemon.endpoint())
    client.greeting()
    slot = wait_slot(daemon, "greeting")
    assert (slot["client"], slot["vserv"], slot["user"], slot["backend"]) == (port_of(client), "main", "", "")
    assert slot["sid"].startswith("px-") and slot["sid"].endswith(f"-{slot['pid']}")
    client.ok("NOOP")
    slot = wait_slot(daemon, "auth")
    assert (slot["bytes_in"], slot["number"]) == (6, 1)
    client.ok("USER nobody")
    client.err("PASS wrong")
    wait_for(lambda: wait_slot(daemon, "auth")["user"] == "nobody", 10.0, "the user")


def test_mailcheck(proxy: StartProxy, pop: Pop) -> None:
    with FakePcheckd(always()) as check:
        daemon = proxy(store(NOWHERE, check.endpoint), checktimeout="1m")
        client = pop(daemon.endpoint())
        client.greeting()
        client.send(f"USER {CASPER}\r\nPASS {PASSWORD}\r\n".encode())
        slot = wait_slot(daemon, "mailcheck")
        assert (slot["user"], slot["backend"]) == (CASPER, "store")


def test_empty_and_closing(proxy: StartProxy, pop: Pop) -> None:
    with FakePcheckd(NO_MAIL) as check:
        daemon = proxy(store(NOWHERE, check.endpoint), maxerrors=1)
        client = pop(daemon.endpoint())
        client.login(CASPER, PASSWORD)
        assert wait_slot(daemon, "empty")["user"] == CASPER
        client.err("NONSENSE")    # one too much, and stays: the proxy lingers
        assert wait_slot(daemon, "closing")["user"] == CASPER


@pytest.mark.parametrize("user", [CASPER, XENIA, PAUL])
def test_connecting_and_relay(proxy: StartProxy, pop: Pop, user: str) -> None:
    login = script_for(user)[:-5]
    script = (*login[:-1], Hold(), login[-1], Expect(b"STAT\r\n"), Say(b"+OK 1 17\r\n"), ReadToEnd())
    with FakeBackend(script) as fake, FakePcheckd(always(Reply(b"+OK 2 new mail\n"))) as check:
        daemon = proxy(store(fake, check.endpoint))
        client = pop(daemon.endpoint())
        client.greeting()
        client.send(f"USER {user}\r\nPASS {PASSWORD}\r\n".encode())
        assert wait_slot(daemon, "connecting")["user"] == user
        fake.release()
        client.line()
        assert client.line() == FIRST_LINE
        before = wait_slot(daemon, "relay")
        assert (before["user"], before["backend"], before["vserv"]) == (user, "store", "main")
        assert client.command("STAT") == b"+OK 1 17"
        wait_for(lambda: wait_slot(daemon, "relay")["bytes_out"] > before["bytes_out"], 10.0, "the answer's octets")
        after = wait_slot(daemon, "relay")
        assert (after["bytes_in"], after["bytes_out"]) == (before["bytes_in"] + 6, before["bytes_out"] + 10)
        assert after["activity"] > before["activity"] and after["entered"] == before["entered"]


def test_preamble_and_transaction(pserv: Daemon, pop: Pop, make_mailbox: MakeMailbox) -> None:
    make_mailbox("3/2d/joe", [b"x" * 1000])
    client = pop(pserv.endpoint())
    slot = wait_slot(pserv, "preamble")
    assert (slot["client"], slot["server"], slot["mailbox"], slot["sid"]) == (port_of(client), "main", "", "")
    client.xpop("3/2d/joe", "px-1")
    slot = wait_slot(pserv, "transaction")
    assert (slot["mailbox"], slot["sid"]) == ("3/2d/joe", "px-1")
    client.message(1)
    wait_for(lambda: wait_slot(pserv, "transaction")["bytes_out"] > 1000, 10.0, "the octets of the message")
    for _ in range(25):    # the last is one too much; the client stays, and pserv lingers
        client.err("NONSENSE")
    assert wait_slot(pserv, "closing")["mailbox"] == "3/2d/joe"


@contextmanager
def stopped_in(daemon: Daemon, state: str, begin: Callable[[], None]) -> Iterator[dict[str, Any]]:
    """Stop the child that does what `begin` asks for while it is in a state that passes; yields its slot."""
    for _ in range(20):
        begin()
        pid = wait_for(lambda: next((row.pid for row in rows(state_file(daemon)) if row.state == state), 0), 10.0,
                       f"a session in state {state}")
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(lambda: state_of(pid) in ("T", ""), 5.0, "the child to stop")
            slots = [slot for slot in status(daemon)["slots"] if slot["pid"] == pid and slot["state"] == state]
            if slots:
                yield slots[0]
                return
        finally:
            if state_of(pid):
                os.kill(pid, signal.SIGCONT)
    raise AssertionError(f"no child was quick enough to be stopped in state {state}")


def test_opening(pserv: Daemon, pop: Pop, spool: Path, make_mailbox: MakeMailbox) -> None:
    folder = make_mailbox("joe") / "new"
    for number in range(5000):
        (folder / f"{number}.foreign").touch()    # without a size in the name: listing looks at each

    def begin() -> None:
        pop(pserv.endpoint()).send(b"joe\r\nsid-1\r\n\r\n")

    with stopped_in(pserv, "opening", begin) as slot:
        assert (slot["mailbox"], slot["sid"]) == ("joe", "sid-1")


def test_update(pserv: Daemon, pop: Pop, make_mailbox: MakeMailbox) -> None:
    count = 3000
    make_mailbox("joe", [b"x"] * count)

    def begin() -> None:
        client = pop(pserv.endpoint())
        client.xpop("joe")
        client.send(b"".join(b"DELE %d\r\n" % (number + 1) for number in range(count)))
        for _ in range(count):
            client.line()
        client.send(b"QUIT\r\n")

    with stopped_in(pserv, "update", begin) as slot:
        assert slot["mailbox"] == "joe"
    wait_for(lambda: status(pserv)["totals"]["deleted"] == count, 10.0, "the end of the update")


# Those who die

def test_killed_children_leave_no_busy_slot(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(lambda number: script_for(XENIA, ReadToEnd())) as fake:
        daemon = proxy(store(fake))
        clients = [pop(daemon.endpoint()) for _ in range(3)]
        assert clients[0].login(XENIA, PASSWORD) == FIRST_LINE
        for client in clients[1:]:
            client.greeting()
        found = wait_for(lambda: found if (found := status(daemon, "-a"))["sessions"]["now"] == 3 else {}, 10.0)
        for slot in found["slots"]:
            os.kill(slot["pid"], signal.SIGKILL)
        wait_for(lambda: status(daemon)["sessions"]["now"] == 0, 10.0, "no session")
        wait_for(lambda: status(daemon)["idle"] == 4, 10.0, "new children")
        totals = status(daemon)["totals"]
        assert (totals["children_died"], totals["sessions"], totals["relayed"]) == (3, 3, 0)


def test_a_crashed_session_is_seen_no_more(pserv: Daemon, pop: Pop, make_mailbox: MakeMailbox) -> None:
    make_mailbox("joe")
    client = pop(pserv.endpoint())
    client.xpop("joe")
    os.kill(wait_slot(pserv, "transaction")["pid"], signal.SIGSEGV)
    wait_for(lambda: status(pserv, "-a")["slots"] == [], 10.0, "no busy slot")
    assert pserv.wait_log("child_died")


def test_a_master_killed_leaves_a_file_that_the_next_replaces(proxy: StartProxy) -> None:
    daemon = proxy(store(NOWHERE))
    children = daemon.children()
    daemon.kill()
    found = status(daemon)
    assert (found["running"], found["pid"]) == (False, daemon.pid)
    wait_for(lambda: not any(is_alive(pid) for pid in children), 10.0, "the end of the children")
    with state_file(daemon).open("rb") as old:
        second = proxy(store(NOWHERE))
        assert status(second)["pid"] == second.pid
        assert os.fstat(old.fileno()).st_nlink == 0


@pytest.mark.parametrize("number, stays", [(signal.SIGTERM, False), (signal.SIGPWR, False), (signal.SIGQUIT, True)])
def test_the_file_goes_with_the_last_child(proxy: StartProxy, pop: Pop, number: signal.Signals, stays: bool) -> None:
    daemon = proxy(store(NOWHERE))
    client = pop(daemon.endpoint())
    client.greeting()
    pid = wait_slot(daemon, "greeting")["pid"]
    daemon.signal(number)
    if number == signal.SIGPWR:
        client.ok("QUIT")
    daemon.wait()
    assert state_file(daemon).exists() is stays
    if stays:
        assert [slot["pid"] for slot in status(daemon, "-a")["slots"]] == [pid]
        client.ok("QUIT")
        wait_for(lambda: not is_alive(pid), 10.0, "the end of the child")


def test_without_a_state_file_mail_is_served(proxy: StartProxy, pop: Pop, rundir: Path) -> None:
    (rundir / "pproxy.state").mkdir()
    daemon = proxy(store(NOWHERE))
    pop(daemon.endpoint()).greeting()
    [line] = daemon.log_lines("state_file_failed")
    assert "ADM 020d" in line and "Is a directory" in line
    assert pstatus("-R", rundir).returncode == 65
