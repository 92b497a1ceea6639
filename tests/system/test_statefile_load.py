"""The state files of real daemons under load, and their totals against the log."""

import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.statefile.reader import NotAStateFile, Row
from popular.tools.pstatus.snapshot import take
from tests.harness.daemon import ROOT, Daemon
from tests.harness.fake_backend import FakeBackend
from tests.harness.fake_pcheckd import FakePcheckd, Reply, always
from tests.harness.popclient import PopClient
from tests.harness.proxy import CASPER, LOST, PASSWORD, PAUL, XENIA, StartProxy, script_for, store
from tests.harness.pstatus import pstatus, rows, state_file, status, wait_slot
from tests.harness.system import wait_for

READS, LONG_READS = 500, 10_000
NOWHERE = Endpoint("127.0.0.1", 1)    # a port on which nobody listens
NO_MAIL = always(Reply(b"+OK 0 no mail\n"))

Pop = Callable[..., PopClient]
MakeMailbox = Callable[..., Path]


@pytest.fixture
def pserv(start: Callable[..., Daemon], spool: Path) -> Daemon:
    """A running pserv."""
    return start("pserv", {
        "pserv": {"mailboxdir": spool, "missing": "refuse"}, "server": {"main": {"address": "127.0.0.1:0"}}})


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
def test_reads_under_load_give_no_torn_row(proxy: StartProxy, maxuse: int, pytestconfig: pytest.Config) -> None:
    reads = LONG_READS if pytestconfig.getoption("--long") else READS
    with FakePcheckd(NO_MAIL) as pcheckd:
        daemon = proxy(store(NOWHERE, pcheckd.endpoint), maxuse=maxuse)
        path = state_file(daemon)
        seen: Counter[str] = Counter()

        def read() -> bool:
            for row in rows(path):
                check(row)
                seen[row.state] += 1
            return {"idle", "greeting", "auth", "empty"} <= set(seen)

        with crowd(daemon):
            wait_for(lambda: take(str(path)).totals["sessions"] > 10, 20.0, "the crowd")
            before = take(str(path)).totals["sessions"]
            for _ in range(reads):
                read()
            wait_for(lambda: read() and take(str(path)).totals["sessions"] > before + 100, 20.0, "all states")


def test_copies_under_load_are_whole_or_say_what_is_not(proxy: StartProxy, tmp_path: Path) -> None:
    with FakePcheckd(NO_MAIL) as pcheckd:
        daemon = proxy(store(NOWHERE, pcheckd.endpoint), maxuse=50, sessionlimit=100, maxsession=100)
        copy = tmp_path / "copy"
        with crowd(daemon):
            whole = 0
            for _ in range(200):
                shutil.copyfile(state_file(daemon), copy)
                try:
                    copied = take(str(copy)).rows
                except NotAStateFile as why:
                    assert "being written" in str(why)    # of the header, as rows are None
                    continue
                for row in copied:
                    if row is not None:
                        check(row)
                whole += 1
                if whole == 100:
                    break
            assert whole == 100
        done = pstatus("-f", copy)
        assert (done.returncode, done.stderr) == (0, "")
        assert "(a copy of the file)" in done.stdout


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
        client.ok("USER joe")    # once the pool was full, only clients that talk get a slot
        assert wait_slot(daemon, "auth")["number"] == number
        client.ok("QUIT")
        client.close()
        assert wait_slot(daemon, "idle")["number"] == number
    assert threading.active_count() == 1
