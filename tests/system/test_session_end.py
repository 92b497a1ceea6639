"""Each session that has begun is summed up in the log once, whoever ends it: by its child, or else by the master."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.control import tell
from tests.harness.daemon import Daemon
from tests.harness.fake_backend import FakeBackend, ReadToEnd
from tests.harness.logs import Line, read_classic
from tests.harness.popclient import PopClient
from tests.harness.proxy import PASSWORD, XENIA, StartProxy, script_for, store
from tests.harness.pstatus import status
from tests.harness.system import is_alive, wait_for

Pop = Callable[..., PopClient]
End = Callable[[Daemon, Line], None]

NOWHERE = Endpoint("127.0.0.1", 1)
USES = [pytest.param(1, id="classic"), pytest.param(1000, id="pooled")]


def by_command(daemon: Daemon, start: Line) -> None:
    tell(daemon, f"session kill {start.session}")


def by_signal_to_master(number: signal.Signals) -> End:
    return lambda daemon, start: daemon.signal(number)


def by_signal_to_child(number: signal.Signals) -> End:
    return lambda daemon, start: os.kill(start.pid, number)


ENDS = [
    pytest.param(by_command, "session kill", 0, id="session kill"),
    pytest.param(by_signal_to_master(signal.SIGTERM), "shutdown all", 0, id="shutdown all"),
    pytest.param(by_signal_to_master(signal.SIGINT), "shutdown children", 0, id="shutdown children"),
    pytest.param(by_signal_to_child(signal.SIGTERM), "SIGTERM", 1, id="TERM to a child"),
    pytest.param(by_signal_to_child(signal.SIGKILL), "SIGKILL", 1, id="KILL of a child"),
    pytest.param(by_signal_to_child(signal.SIGSEGV), "SIGSEGV", 1, id="a crash"),
]


def events(daemon: Daemon, name: str) -> list[Line]:
    """Return the lines of one message."""
    return [read_classic(line) for line in daemon.log_lines(f" {name} ")]


def check_deaths(daemon: Daemon, wanted: int) -> None:
    """Make sure that deaths that nobody ordered are logged, and no others."""
    wait_for(lambda: len(events(daemon, "child_died")) >= wanted, 10.0, "the line about a death")
    assert len(events(daemon, "child_died")) == wanted


@pytest.fixture
def backend() -> Iterator[FakeBackend]:
    """A server that lets Xenia in and waits."""
    with FakeBackend(lambda number: script_for(XENIA, ReadToEnd())) as fake:
        yield fake


@pytest.mark.parametrize("maxuse", USES)
@pytest.mark.parametrize(("end", "how", "deaths"), ENDS)
def test_of_the_proxy(proxy: StartProxy, pop: Pop, backend: FakeBackend, end: End, how: str, deaths: int,
                      maxuse: int) -> None:
    daemon = proxy(store(backend), maxuse=maxuse)
    before, client = pop(daemon.endpoint()), pop(daemon.endpoint())
    before.greeting()
    before.ok("QUIT")
    daemon.wait_log(" session_end ")
    client.login(XENIA, PASSWORD)
    wait_for(lambda: any(slot["state"] == "relay" for slot in status(daemon, "-a")["slots"]), 10.0, "the relay")
    [start] = [line for line in events(daemon, "session_start") if line.session != events(
        daemon, "session_end")[0].session]
    end(daemon, start)
    assert client.rest() == b""
    daemon.wait_log(" session_end ", count=2)
    last = events(daemon, "session_end")[1]
    fields = last.fields
    assert last.session == start.session
    assert fields["client"] == start.fields["client"]
    assert (fields["vserv"], fields["namespace"], fields["user"], fields["backend"], fields["outcome"]) == (
        b"main", b"default", XENIA.encode(), b"store", f"cut off: {how}".encode())
    assert fields["bytes_in"] == len(f"USER {XENIA}\r\nPASS {PASSWORD}\r\n")
    assert fields["bytes_out"] > 0
    assert fields["seconds"] >= 0.0
    assert fields["times"].startswith(b"relay=")
    check_deaths(daemon, deaths)


@pytest.mark.parametrize("maxuse", USES)
def test_all_sessions_of_a_stop_are_summed_up_once(proxy: StartProxy, pop: Pop, backend: FakeBackend,
                                                   maxuse: int) -> None:
    daemon = proxy(store(backend), maxuse=maxuse)
    clients = [pop(daemon.endpoint()) for _ in range(20)]
    for client in clients:
        client.greeting()
    for client in clients[:5]:
        client.ok("QUIT")    # these are ending while the others are ended
    assert daemon.stop() == 0
    started, ended = ([line.session for line in events(daemon, name)] for name in ("session_start", "session_end"))
    assert len(set(started)) == 20
    assert sorted(ended) == sorted(started)


@pytest.mark.parametrize("maxuse", USES)
@pytest.mark.parametrize(("end", "how", "deaths"), ENDS[1:])
def test_of_the_server(start: Callable[..., Daemon], pop: Pop, make_mailbox: Callable[..., Path], spool: Path, end: End,
                       how: str, deaths: int, maxuse: int) -> None:
    make_mailbox("joe", new=[b"Hello.\r\n"])
    daemon = start("pserv", {"pserv": {"mailboxdir": spool, "maxuse": maxuse},
                             "server": {"main": {"address": "127.0.0.1:0"}}})
    client = pop(daemon.endpoint())
    assert client.xpop("joe", "test-7").startswith(b"+OK")
    [opened] = [read_classic(line) for line in daemon.wait_log(" mailbox_opened ")]
    client.ok("DELE 1")
    end(daemon, opened)
    assert client.rest() == b""
    [closed] = [read_classic(line) for line in daemon.wait_log(" mailbox_closed ")]
    assert closed.session == opened.session == "test-7"
    assert closed.fields["outcome"] == f"cut off: {how}".encode()
    assert (closed.fields["mailbox"], closed.fields["peer"], closed.fields["deleted"], closed.fields["retrieved"]) == (
        b"joe", opened.fields["peer"], 0, b"unknown")
    assert len(list((spool / "joe/new").iterdir())) == 1
    check_deaths(daemon, deaths)


def test_a_server_s_session_without_a_mailbox(start: Callable[..., Daemon], pop: Pop, spool: Path) -> None:
    daemon = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})
    client = pop(daemon.endpoint())
    [pid] = wait_for(lambda: [slot["pid"] for slot in status(daemon, "-a")["slots"] if slot["state"] == "preamble"])
    os.kill(pid, signal.SIGKILL)
    assert client.rest() == b""
    [line] = [read_classic(line) for line in daemon.wait_log(" no_preamble ")]
    assert line.fields["why"] == b"cut off: SIGKILL"


@pytest.mark.parametrize("maxuse", USES)
def test_who_has_said_goodbye_is_not_summed_up_twice(proxy: StartProxy, pop: Pop, maxuse: int) -> None:
    """The child has written its line and waits for the client to close when it is killed."""
    daemon = proxy(store(NOWHERE), maxuse=maxuse, maxerrors=1)
    client = pop(daemon.endpoint())
    client.greeting()
    client.err("BAD")
    [line] = [read_classic(line) for line in daemon.wait_log(" session_end ")]
    if is_alive(line.pid):
        os.kill(line.pid, signal.SIGKILL)
    wait_for(lambda: status(daemon)["sessions"]["now"] == 0, 10.0, "no session")
    assert len(events(daemon, "session_end")) == 1
