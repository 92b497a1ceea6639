"""The state files of real daemons: every state held and seen, no torn row under load, killed children, totals."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from popular.addresses import Endpoint
from popular.proc.board_view import Row
from popular.tools.pstatus_snapshot import take
from tests.harness.daemon import ROOT, Daemon
from tests.harness.fake_backend import Expect, FakeBackend, Hold, ReadToEnd, Say
from tests.harness.fake_pcheckd import FakePcheckd, Reply, always
from tests.harness.popclient import PopClient
from tests.harness.proxy import (
    CASPER, FIRST_LINE, LOST, PASSWORD, PAUL, XENIA, StartProxy, script_for, start_proxy, store)
from tests.harness.pstatus import pstatus, status, wait_slot
from tests.harness.system import is_alive, state_of, wait_for

NOWHERE = Endpoint("127.0.0.1", 1)    # a port on which nobody listens
NO_MAIL = always(Reply(b"+OK 0 no mail\n"))

Pop = Callable[..., PopClient]
MakeMailbox = Callable[..., Path]


@pytest.fixture
def proxy(start: Callable[..., Daemon], rundir: Path) -> StartProxy:
    """A function (backends, vserv=…, **variables) that starts a pproxy."""
    return partial(start_proxy, start, rundir)


@pytest.fixture
def pserv(start: Callable[..., Daemon], spool: Path) -> Daemon:
    """A running pserv."""
    return start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})


def state_file(daemon: Daemon) -> Path:
    return daemon.rundir / f"{daemon.program}.state"


def rows(path: Path) -> list[Row]:
    """Return all slots; every one of them must be at rest."""
    found = take(str(path)).rows
    whole = [row for row in found if row is not None]
    assert len(whole) == len(found)
    return whole


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
        daemon = proxy(store(NOWHERE, check.endpoint))
        client = pop(daemon.endpoint())
        client.login(CASPER, PASSWORD)
        assert wait_slot(daemon, "empty")["user"] == CASPER
        client.ok("QUIT")    # and stays
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
    client.ok("QUIT")    # and stays
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


# Under load

CROWD = """if True:
    import sys
    sys.path.insert(0, sys.argv[1])
    from popular.addresses import Endpoint
    from tests.harness.popclient import PopClient
    users = ["%s", "nobody", "walter" * 33]
    number = 0
    while True:
        number += 1
        client = PopClient(Endpoint("127.0.0.1", int(sys.argv[2])))
        client.login(users[number %% 3], "%s")
        client.command("STAT")
        client.close()
""" % (CASPER, PASSWORD)
NAMES = {"", CASPER, "nobody", "walter" * 33}
SID = re.compile(r"px-[0-9]{12}-([0-9]+)(?:\.([0-9]+))?")


@contextmanager
def crowd(daemon: Daemon, size: int = 3) -> Iterator[None]:
    """Keep a daemon busy with short sessions."""
    command = [sys.executable, "-c", CROWD, str(ROOT), str(daemon.endpoint().port)]
    processes = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(size)]
    try:
        yield
        assert all(process.poll() is None for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def check(row: Row) -> None:
    """Fail when parts of a row belong to different moments."""
    if row.state == "free":
        assert row == Row(row.slot)
        return
    assert row.pid > 0 and row.user in NAMES
    if row.state == "idle":
        assert row.user == row.backend == ""    # the rest may be there already: a session begins
        return
    found = SID.fullmatch(row.sid)
    assert found is not None
    assert (int(found[1]), int(found[2] or 1)) == (row.pid, row.sessions)
    assert row.owner == "main" and row.client is not None and row.client.host == "127.0.0.1"
    assert row.started <= row.entered and row.started <= row.activity
    if row.state in ("mailcheck", "empty"):
        assert (row.user, row.backend) == (CASPER, "store")
    if row.state == "greeting":
        assert (row.user, row.bytes_in) == ("", 0)


@pytest.mark.limit(180)
@pytest.mark.parametrize("maxuse", [1, 50])
def test_ten_thousand_reads_under_load_give_no_torn_row(proxy: StartProxy, maxuse: int) -> None:
    with FakePcheckd(NO_MAIL) as pcheckd:
        daemon = proxy(store(NOWHERE, pcheckd.endpoint), maxuse=maxuse)
        path = state_file(daemon)
        seen: Counter[str] = Counter()
        with crowd(daemon):
            wait_for(lambda: take(str(path)).totals["sessions"] > 10, 20.0, "the crowd")
            before = take(str(path)).totals["sessions"]
            for _ in range(10_000):
                for row in rows(path):
                    check(row)
                    seen[row.state] += 1
            assert take(str(path)).totals["sessions"] > before + 100
    assert {"idle", "greeting", "auth", "empty"} <= set(seen)


def test_copies_under_load_are_whole_or_say_what_is_not(proxy: StartProxy, tmp_path: Path) -> None:
    with FakePcheckd(NO_MAIL) as pcheckd:
        daemon = proxy(store(NOWHERE, pcheckd.endpoint), maxuse=50, sessionlimit=100, maxsession=100)
        copy = tmp_path / "copy"
        with crowd(daemon):
            for _ in range(100):
                shutil.copyfile(state_file(daemon), copy)
                for row in take(str(copy)).rows:
                    if row is not None:
                        check(row)
        done = pstatus("-f", copy)
        assert (done.returncode, done.stderr) == (0, "")
        assert "(a copy of the file)" in done.stdout


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


# Totals and the log

def fields(line: str) -> dict[str, str]:
    """Return the parameters of a log line."""
    return {name: quoted or bare for name, quoted, bare in re.findall(r" (\w+)=(?:'([^']*)'|(\S*))", line)}


def test_totals_of_pproxy_agree_with_its_log(proxy: StartProxy, pop: Pop) -> None:
    with FakeBackend(lambda number: script_for(XENIA)) as fake, FakePcheckd(NO_MAIL) as pcheckd:
        backends = {**store(fake, pcheckd.endpoint), "other": {"protocol": "xpop", "address": NOWHERE}}
        daemon = proxy(backends)

        def session(user: str, password: str, *words: str) -> None:
            client = pop(daemon.endpoint())
            client.login(user, password)
            for word in words:
                client.command(word)
            client.close()

        for _ in range(3):
            session(CASPER, PASSWORD, "STAT", "WHAT", "QUIT")
            session(XENIA, PASSWORD, "STAT", "QUIT")
        session(CASPER, "wrong", "QUIT")
        session(LOST, PASSWORD, "QUIT")
        session("nobody", "x")
        session(CASPER, PASSWORD)                  # leaves without QUIT
        session(PAUL, PASSWORD, "QUIT")            # the script of the backend is not his: out of reach
        pop(daemon.endpoint()).close()
        ends = [fields(line) for line in daemon.wait_log(" session_end ", count=12)]
        assert len(ends) == 12
        found = wait_for(lambda: found if (found := status(daemon))["sessions"]["now"] == 0 else {}, 10.0)
        totals = found["totals"]
        outcomes = Counter(end["outcome"].partition(":")[0].replace(" ", "_") for end in ends)
        assert {name: totals[name] for name in outcomes} == outcomes
        assert set(outcomes) == {"empty", "relayed", "quit", "no_login", "refused", "soft_failure"}
        assert totals["sessions"] == sum(outcomes.values()) == 12
        for name in ("bytes_in", "bytes_out"):
            assert totals[name] == sum(int(end[name]) for end in ends)
        events = {"logins": "login", "logins_refused": "login_refused", "logins_failed": "route_unusable",
                  "checks_empty": "mailbox_empty", "soft_failure": "soft_failure"}
        for name, event in events.items():
            assert totals[name] == len(daemon.log_lines(f" {event} ")) > 0
        assert totals["check_microseconds"] > 0
        assert found["per"]["vserv"] == {"main": 12}
        assert found["per"]["backend"] == {**Counter(end["backend"] for end in ends if end["backend"]), "other": 0}
        assert found["others"] == 0


def test_totals_of_pserv_agree_with_its_log(pserv: Daemon, pop: Pop, make_mailbox: MakeMailbox) -> None:
    make_mailbox("joe", [b"x" * 100] * 5)

    def session(mailbox: str, *words: str) -> None:
        client = pop(pserv.endpoint())
        client.xpop(mailbox)
        for word in words:
            client.multi(word) if word.startswith("RETR") else client.command(word)
        client.close()

    session("joe", "RETR 1", "RETR 2", "DELE 1", "QUIT")
    session("joe", "RETR 1", "TOP 2 0", "QUIT")
    session("joe", "DELE 1")                  # leaves without QUIT
    session("missing")
    session("../joe")
    pop(pserv.endpoint()).close()
    ends = [fields(line) for line in pserv.wait_log(" mailbox_closed ", count=3)]
    found = wait_for(lambda: found if (found := status(pserv))["sessions"]["now"] == 0 else {}, 10.0)
    totals = found["totals"]
    assert {name: totals[name] for name in ("sessions", "quit", "broken_off", "refused", "no_preamble")} == {
        "sessions": 6, "quit": 2, "broken_off": 1, "refused": 2, "no_preamble": 1}
    for name, field in (("retrieved", "retrieved"), ("octets", "octets"), ("deleted", "deleted")):
        assert totals[name] == sum(int(end[field]) for end in ends) > 0
    assert totals["bytes_out"] > sum(int(end["bytes_out"]) for end in ends)    # the refusals too
    assert found["per"] == {"server": {"main": 6}}


def test_children_are_counted(proxy: StartProxy, pop: Pop) -> None:
    with FakePcheckd(NO_MAIL) as pcheckd:
        daemon = proxy(store(NOWHERE, pcheckd.endpoint), minspare=2, maxspare=2)
        for _ in range(5):
            client = pop(daemon.endpoint())
            client.login(CASPER, PASSWORD)
            client.ok("QUIT")
            client.close()
        daemon.wait_log(" session_end ", count=5)
        wait_for(lambda: status(daemon)["totals"]["forks"] == 7, 10.0, "seven children")
        assert status(daemon)["totals"]["children_died"] == 0


def test_a_child_that_serves_many_counts_its_sessions(proxy: StartProxy, pop: Pop) -> None:
    daemon = proxy(store(NOWHERE), minspare=1, maxspare=1, maxsession=1, maxuse=10)
    for number in (1, 2, 3):
        client = pop(daemon.endpoint())
        client.greeting()
        assert wait_slot(daemon, "greeting")["number"] == number
        client.ok("QUIT")
        client.close()
        assert wait_slot(daemon, "idle")["number"] == number
    assert threading.active_count() == 1
