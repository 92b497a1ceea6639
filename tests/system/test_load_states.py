"""Session and load states of real daemons (spec 5.3): logged, shown by pstatus, and refusing where they should."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.daemon import Daemon
from tests.harness.loaded import set_load, start_loaded
from tests.harness.popclient import PopClient
from tests.harness.pstatus import status
from tests.harness.system import wait_for

REFUSAL = b"-ERR [SYS/TEMP] system load too high, please try again later"
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "pproxy": {"vserv": {"main": {"address": "127.0.0.1:0"}}},
    "pserv": {"server": {"main": {"address": "127.0.0.1:0"}}},
}
PREAMBLE = b"joe\r\nsid-1\r\n\r\n"

Pop = Callable[..., PopClient]
StartWith = Callable[..., Daemon]


@pytest.fixture
def start_with(start: Callable[..., Daemon], rundir: Path, spool: Path,
               make_mailbox: Callable[..., Path]) -> StartWith:
    """A function (program, **variables) that starts a daemon whose load is 0 and which has a mailbox joe."""
    make_mailbox("joe")

    def start_one(program: str, **variables: object) -> Daemon:
        set_load(rundir, 0)
        more = {"mailboxdir": spool} if program == "pserv" else {}
        return start_loaded(start, rundir, program, {program: {**more, **variables}, **SETTINGS[program]})

    return start_one


def states(daemon: Daemon, event: str) -> list[str]:
    """Return the states that were logged, in their order."""
    return [line.split("state='")[1].split("'")[0] for line in daemon.log_lines(f" {event} ")]


def wait_load(daemon: Daemon, *wanted: str) -> None:
    wait_for(lambda: states(daemon, "load_state") == list(wanted), 10.0, f"load states {wanted}")


def say_hello(client: PopClient, program: str) -> None:
    """Be a client of the proxy, or a proxy that speaks first."""
    if program == "pserv":
        client.send(PREAMBLE)


@pytest.mark.parametrize("program", ["pproxy", "pserv"])
def test_spec_5_3_load_state_max_refuses_until_warn(start_with: StartWith, pop: Pop, rundir: Path,
                                                    program: str) -> None:
    daemon = start_with(program, maxlocalload=10)
    early = pop(daemon.endpoint())
    say_hello(early, program)
    assert early.line().startswith(b"+OK")
    set_load(rundir, 9)
    wait_load(daemon, "WARN")
    client = pop(daemon.endpoint())
    say_hello(client, program)
    assert client.line().startswith(b"+OK")
    set_load(rundir, 10)
    wait_load(daemon, "WARN", "MAX")
    for _ in range(2):
        refused = pop(daemon.endpoint())
        say_hello(refused, program)
        assert refused.line() == REFUSAL
        assert refused.rest() == b""
    early.ok("NOOP")    # those inside stay
    found = status(daemon)
    assert (found["totals"]["load_refused"], found["totals"]["sessions"]) == (2, 2)
    assert found["load"] == {"now": 10.0, "limit": 10.0, "state": "MAX"}
    set_load(rundir, 9)
    wait_for(lambda: status(daemon)["load"]["now"] == 9.0, 10.0, "a load of 9")
    assert states(daemon, "load_state") == ["WARN", "MAX"]
    set_load(rundir, 8.99)
    wait_load(daemon, "WARN", "MAX", "WARN")
    client = pop(daemon.endpoint())
    say_hello(client, program)
    assert client.line().startswith(b"+OK")
    set_load(rundir, 7.99)
    wait_load(daemon, "WARN", "MAX", "WARN", "OK")
    [line] = daemon.log_lines("state='MAX'")
    assert line.split(" ", 6)[6] == "ADM 0172 load_state state='MAX' load=10.000 limit=10"


def test_a_load_above_the_limit_at_the_start(start_with: StartWith, pop: Pop, rundir: Path) -> None:
    daemon = start_with("pproxy", maxlocalload=1)
    set_load(rundir, 50)
    wait_load(daemon, "WARN", "MAX")
    assert pop(daemon.endpoint()).line() == REFUSAL


def test_without_maxlocalload_no_load_refuses(start_with: StartWith, pop: Pop, rundir: Path) -> None:
    daemon = start_with("pproxy")
    set_load(rundir, 1000)
    assert pop(daemon.endpoint()).line().startswith(b"+OK")
    assert states(daemon, "load_state") == []


@pytest.mark.parametrize("maxuse", [1, 10])
def test_a_refusal_costs_no_child(start_with: StartWith, pop: Pop, rundir: Path, maxuse: int) -> None:
    daemon = start_with("pproxy", maxlocalload=1, maxuse=maxuse, minspare=1, maxspare=1)
    set_load(rundir, 2)
    wait_load(daemon, "WARN", "MAX")
    children = daemon.children()
    for _ in range(20):
        with pop(daemon.endpoint()).sock as sock:
            assert sock.recv(100).startswith(REFUSAL)
    assert daemon.children() == children
    wait_for(lambda: status(daemon)["totals"]["load_refused"] == 20, 5.0, "20 refusals")


def test_a_client_who_does_not_leave_holds_a_refusal_for_a_second(start_with: StartWith, pop: Pop,
                                                                  rundir: Path) -> None:
    daemon = start_with("pproxy", maxlocalload=1, minspare=1, maxspare=1)
    set_load(rundir, 2)
    wait_load(daemon, "WARN", "MAX")
    staying, other = pop(daemon.endpoint()), pop(daemon.endpoint())
    before = time.monotonic()
    assert staying.line() == other.line() == REFUSAL
    assert time.monotonic() - before < 5.0


def test_spec_5_3_session_state_is_logged_and_refuses_nobody(start_with: StartWith, pop: Pop) -> None:
    daemon = start_with("pproxy", maxsession=10, minspare=1, maxspare=1)
    clients = []
    for number in range(1, 11):
        clients.append(pop(daemon.endpoint()))
        clients[-1].greeting()
        wanted = ["WARN"] * (number >= 9) + ["MAX"] * (number == 10)
        wait_for(lambda: states(daemon, "session_state") == wanted, 10.0, f"{wanted} with {number} sessions")
    assert status(daemon)["sessions"] == {"now": 10, "limit": 10, "state": "MAX"}
    late = pop(daemon.endpoint())    # waits, is not refused
    clients.pop().ok("QUIT")
    late.greeting()
    for client in clients[:3]:
        client.ok("QUIT")
    late.ok("QUIT")
    wait_for(lambda: states(daemon, "session_state")[-1] == "OK", 10.0, "session state OK")
    assert [line.split(" ", 6)[6] for line in daemon.log_lines(" session_state ")][:2] == [
        "ADM 0170 session_state state='WARN' sessions=9 limit=10",
        "ADM 0170 session_state state='MAX' sessions=10 limit=10"]


def test_spec_1_2_sessionlimit_bounds_maxsession_and_sizes_the_file(start_with: StartWith, pop: Pop) -> None:
    daemon = start_with("pproxy", maxsession=100, sessionlimit=3, minspare=4)
    found = status(daemon)
    assert found["sessions"]["limit"] == 3
    wait_for(lambda: len(daemon.children()) == 3, 5.0, "three children")
    small = (daemon.rundir / "pproxy.state").stat().st_size
    daemon.stop()
    assert start_with("pproxy").rundir == daemon.rundir
    assert small < 120_000 < (daemon.rundir / "pproxy.state").stat().st_size
