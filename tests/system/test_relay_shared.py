"""Sessions in relay processes (`relay = shared`), whatever happens to them, their child, relay or master."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.control import control, tell
from tests.harness.daemon import Daemon
from tests.harness.logs import Line, read_classic, times_of
from tests.harness.popclient import PopClient
from tests.harness.proxy import PASSWORD, XENIA, StartProxy, store
from tests.harness.pstatus import status
from tests.harness.stubstore import MESSAGE, StubStore
from tests.harness.certificates import Authority, context_of
from tests.harness.system import children_of, descriptors_of, is_alive, title_of, wait_for
from tests.harness.upgrades import upgrade

Pop = Callable[..., PopClient]
USES = [pytest.param(1, id="classic"), pytest.param(1000, id="pooled")]


@pytest.fixture
def stub() -> Iterator[StubStore]:
    with StubStore() as found:
        yield found


def relays(daemon: Daemon, count: int = 1) -> list[int]:
    """Return the relay processes of the present master, when they have begun."""
    return wait_for(lambda: found if len(found := [pid for pid in children_of(daemon.master)
                                                   if title_of(pid) == "pproxy: relay"]) == count else [],
                    10.0, "relay processes")


def relayed(daemon: Daemon) -> list[dict[str, object]]:
    """Return the rows of relayed sessions."""
    return [row for row in status(daemon, "-a")["slots"] if row["slot"] >= 10_000]


def events(daemon: Daemon, name: str) -> list[Line]:
    """Return the lines of one message."""
    return [read_classic(line) for line in daemon.log_lines(f" {name} ")]


def log_in(pop: Pop, daemon: Daemon, count: int) -> list[PopClient]:
    """Return clients whose sessions relay processes have."""
    clients = [pop(daemon.endpoint()) for _ in range(count)]
    for client in clients:
        assert client.login(XENIA, PASSWORD).startswith(b"+OK")
    wait_for(lambda: len(relayed(daemon)) == count, 10.0, "all sessions in relay processes")
    return clients


@pytest.mark.parametrize("maxuse", USES)
def test_a_session_goes_on_without_its_child(proxy: StartProxy, pop: Pop, stub: StubStore, maxuse: int) -> None:
    daemon = proxy(store(stub.endpoint), maxuse=maxuse, relay="shared")
    [client] = log_in(pop, daemon, 1)
    [start] = events(daemon, "session_start")
    [row] = relayed(daemon)
    assert row["pid"] in relays(daemon, 2)
    assert {name: row[name] for name in ("sid", "client", "vserv", "backend", "user", "state")} == {
        "sid": start.session, "client": start.fields["client"].decode(), "vserv": "main", "backend": "store",
        "user": XENIA, "state": "relay"}
    if maxuse == 1:
        wait_for(lambda: not is_alive(start.pid), 10.0, "the child's end")
    found = status(daemon)
    assert (found["sessions"]["now"], found["relayed"]) == (0, {"now": 1, "limit": 10_000})
    finish(client)
    [end] = [read_classic(line) for line in daemon.wait_log(" session_end ")]
    assert end.session == start.session and end.pid == row["pid"]
    wait_for(lambda: not relayed(daemon), 10.0, "no row")


def test_the_last_line_is_that_of_a_child(proxy: StartProxy, pop: Pop, stub: StubStore) -> None:
    found = []
    for relay in ("child", "shared"):
        daemon = proxy(store(stub.endpoint), relay=relay, name=relay, sidprefix=relay)
        client = pop(daemon.endpoint())
        client.greeting()
        client.ok(f"USER {XENIA}")
        client.send(f"PASS {PASSWORD}\r\nSTAT\r\n".encode())    # STAT goes up before the relay begins
        assert client.line().startswith(b"+OK 1 message")
        assert client.line().startswith(b"+OK 1 ")
        assert client.message(1) == MESSAGE
        finish(client)
        [end] = [read_classic(line) for line in daemon.wait_log(" session_end ")]
        wait_for(lambda: status(daemon)["totals"]["relayed"], 10.0, "its counter")
        totals = status(daemon)["totals"]
        found.append(({**end.fields, "client": b"", "seconds": 0, "times": list(times_of(end))},
                      {name: totals[name] for name in ("sessions", "bytes_in", "bytes_out", "relayed", "logins")}))
    assert found[0] == found[1]
    assert found[0][1]["bytes_out"] > len(MESSAGE)


def test_it_is_ended_by_command_and_listed(proxy: StartProxy, pop: Pop, stub: StubStore) -> None:
    daemon = proxy(store(stub.endpoint), relay="shared", relays=2)
    first, second, third = log_in(pop, daemon, 3)
    assert {row["pid"] for row in relayed(daemon)} <= set(relays(daemon, 2))
    [listed] = tell(daemon, "session list")
    assert len(listed.lines) == 3 and all("state='relay'" in line for line in listed.lines)
    rows = sorted(relayed(daemon), key=lambda row: int(str(row["client"]).rpartition(":")[2]))
    by_port = {sock.sock.getsockname()[1]: sock for sock in (first, second, third)}
    victim = rows[0]
    tell(daemon, f"session kill {victim['sid']}")
    assert by_port[int(str(victim["client"]).rpartition(":")[2])].rest() == b""
    [end] = [read_classic(line) for line in daemon.wait_log(" session_end ")]
    assert (end.session, end.fields["outcome"]) == (victim["sid"], b"cut off: session kill")
    tell(daemon, f"session kill user={XENIA}")
    assert not any(client.rest() for client in (first, second, third))
    daemon.wait_log(" session_end ", count=3)
    wait_for(lambda: status(daemon)["totals"]["cut_off"] == 3, 10.0, "all counted")
    assert len(relays(daemon, 2)) == 2 and not daemon.log_lines(" relay_died ")


def test_nothing_moves_for_the_idle_time(proxy: StartProxy, pop: Pop, stub: StubStore) -> None:
    daemon = proxy(store(stub.endpoint), relay="shared", idletimeout="3s")
    silent, flooded = log_in(pop, daemon, 2)
    flooded.send(b"FLOOD\r\n")    # and does not read
    assert silent.rest() == b""
    ends = [read_classic(line) for line in daemon.wait_log(" session_end ", count=2)]
    assert [end.fields["outcome"] for end in ends] == [b"relayed: idle"] * 2
    assert sorted(bool(end.fields["bytes_out"] > 100_000) for end in ends) == [False, True]


@pytest.mark.parametrize("usersessions, backendsessions, answer", [
    pytest.param(2, 0, b"-ERR [IN-USE]", id="of a user"), pytest.param(0, 2, b"-ERR [SYS/TEMP]", id="of a backend")])
def test_limits_count_sessions_wherever_they_are(proxy: StartProxy, pop: Pop, stub: StubStore, usersessions: int,
                                                 backendsessions: int, answer: bytes) -> None:
    daemon = proxy(store(stub.endpoint, backendsessions=backendsessions, softfail="off"), relay="shared", maxuse=100,
                   usersessions=usersessions)
    clients = log_in(pop, daemon, 2)
    third = pop(daemon.endpoint())
    assert third.login(XENIA, PASSWORD).startswith(answer)
    finish(clients[0])
    wait_for(lambda: len(relayed(daemon)) == 1, 10.0, "one less")
    third.ok(f"USER {XENIA}")
    assert third.command(f"PASS {PASSWORD}").startswith(b"+OK")


@pytest.mark.parametrize("number, how", [(signal.SIGTERM, "shutdown all"), (signal.SIGINT, "shutdown children")])
def test_orders_to_end_all_sessions(proxy: StartProxy, pop: Pop, stub: StubStore, number: signal.Signals,
                                    how: str) -> None:
    daemon = proxy(store(stub.endpoint), relay="shared")
    clients, before = log_in(pop, daemon, 3), relays(daemon, 2)
    daemon.signal(number)
    assert [client.rest() for client in clients] == [b""] * 3
    ends = [read_classic(line) for line in daemon.wait_log(" session_end ", count=3)]
    assert {end.fields["outcome"] for end in ends} == {f"cut off: {how}".encode()}
    assert len({end.session for end in ends}) == 3
    if number == signal.SIGTERM:
        assert daemon.wait() == 0
    else:
        wait_for(lambda: not set(before) & set(relays(daemon, 2)), 10.0, "other relay processes")
        finish(log_in(pop, daemon, 1)[0])
    assert not daemon.log_lines(" relay_died ")


def test_a_delayed_shutdown_waits_for_them(proxy: StartProxy, pop: Pop, stub: StubStore) -> None:
    daemon = proxy(store(stub.endpoint), relay="shared")
    [client] = log_in(pop, daemon, 1)
    tell(daemon, "shutdown delayed")
    wait_for(lambda: len(children_of(daemon.pid)) == 1, 10.0, "only the relay process with the session")
    finish(client)
    assert daemon.wait() == 0
    assert len(events(daemon, "session_end")) == 1


def test_a_killed_relay_loses_its_own_sessions_only(proxy: StartProxy, pop: Pop, stub: StubStore) -> None:
    daemon = proxy(store(stub.endpoint), relay="shared", relays=2)
    clients = {client.sock.getsockname()[1]: client for client in log_in(pop, daemon, 6)}
    victim = relays(daemon, 2)[0]
    lost = {row["sid"]: clients.pop(int(str(row["client"]).rpartition(":")[2]))
            for row in relayed(daemon) if row["pid"] == victim}
    assert lost and len(lost) + len(clients) == 6
    os.kill(victim, signal.SIGKILL)
    assert [client.rest() for client in lost.values()] == [b""] * len(lost)
    ends = [read_classic(line) for line in daemon.wait_log(" session_end ", count=len(lost))]
    assert {end.session for end in ends} == set(lost)
    assert {end.fields["outcome"] for end in ends} == {b"cut off: SIGKILL"}
    assert {end.fields["user"] for end in ends} == {XENIA.encode()}
    [died] = [read_classic(line) for line in daemon.wait_log(" relay_died ")]
    assert died.fields["sessions"] == len(lost)
    assert victim not in relays(daemon, 2)
    wait_for(lambda: len(relayed(daemon)) == len(clients), 10.0, "the rows of the others")
    for client in clients.values():
        finish(client)
    wait_for(lambda: not relayed(daemon), 10.0, "no row")
    for client in log_in(pop, daemon, 2):
        finish(client)
    daemon.wait_log(" session_end ", count=8)
    assert len({end.session for end in events(daemon, "session_end")}) == 8


def test_a_session_stays_with_its_child_if_no_relay_takes_it(proxy: StartProxy, pop: Pop, stub: StubStore) -> None:
    daemon = proxy(store(stub.endpoint), relay="shared", relays=1, maxrelayed=1)
    [first] = log_in(pop, daemon, 1)
    second = pop(daemon.endpoint())
    second.login(XENIA, PASSWORD)
    wait_for(lambda: status(daemon)["sessions"]["now"] == 1, 10.0, "one in a child")
    finish(first)
    finish(second)
    pids = {end.pid for end in map(read_classic, daemon.wait_log(" session_end ", count=2))}
    [relay] = relays(daemon)
    assert relay in pids and len(pids) == 2


def test_a_relay_that_does_not_answer_gets_nothing(proxy: StartProxy, pop: Pop, stub: StubStore) -> None:
    daemon = proxy(store(stub.endpoint), relay="shared", relays=1)
    [relay] = relays(daemon)
    os.kill(relay, signal.SIGSTOP)
    try:
        client = pop(daemon.endpoint())
        client.login(XENIA, PASSWORD)
        client.ok("NOOP")    # the child has waited, and relays
    finally:
        os.kill(relay, signal.SIGCONT)
    [row] = [row for row in status(daemon, "-a")["slots"]]
    assert row["pid"] != relay
    finish(client)
    [end] = [read_classic(line) for line in daemon.wait_log(" session_end ")]
    assert end.pid == row["pid"]
    finish(log_in(pop, daemon, 1)[0])


def test_an_upgrade_loses_none(proxy: StartProxy, pop: Pop, stub: StubStore) -> None:
    daemon = proxy(store(stub.endpoint), relay="shared", relays=1)
    old_master, old = daemon.pid, relays(daemon)
    [client, other] = log_in(pop, daemon, 2)
    upgrade(daemon)
    with pop(daemon.endpoint()) as another:    # whichever master's child has accepted it
        another.login(XENIA, PASSWORD)
        finish(another)
    assert relays(daemon) != old and all(is_alive(pid) for pid in old)
    [replaced] = status(daemon)["replaced"]
    assert (replaced["pid"], replaced["sessions"]) == (old_master, 2)
    assert client.message(1) == MESSAGE
    finish(client)
    finish(other)
    assert daemon.wait() == 0    # the old master
    wait_for(lambda: not any(map(is_alive, old)), 10.0, "the end of its relay process")
    assert len(events(daemon, "session_end")) == 3
    assert {end.fields["outcome"] for end in events(daemon, "session_end")} == {b"relayed: server closed"}


def test_a_dead_master_s_relay_finishes_its_sessions(proxy: StartProxy, pop: Pop, stub: StubStore) -> None:
    daemon = proxy(store(stub.endpoint), relay="shared", relays=1)
    [relay] = relays(daemon)
    [client] = log_in(pop, daemon, 1)
    daemon.kill()
    finish(client)
    wait_for(lambda: not is_alive(relay), 10.0, "its end")
    assert len(events(daemon, "session_end")) == 1


def test_it_writes_to_a_log_that_was_opened_anew(proxy: StartProxy, pop: Pop, stub: StubStore) -> None:
    daemon = proxy(store(stub.endpoint), relay="shared", relays=1)
    [client] = log_in(pop, daemon, 1)
    daemon.logfile.rename(daemon.logfile.with_suffix(".old"))
    tell(daemon, "reopen")
    wait_for(lambda: daemon.log_lines(" log_reopened"), 10.0, "a new log")
    finish(client)
    daemon.wait_log(" session_end ")


def test_it_hears_of_a_new_log_late_rather_than_never(proxy: StartProxy, pop: Pop, stub: StubStore) -> None:
    daemon = proxy(store(stub.endpoint), relay="shared", relays=1)
    [victim, client] = log_in(pop, daemon, 2)
    [relay] = relays(daemon)
    port = victim.sock.getsockname()[1]
    [sid] = [row["sid"] for row in status(daemon, "-a")["slots"] if str(row["client"]).endswith(f":{port}")]
    daemon.logfile.rename(daemon.logfile.with_suffix(".old"))
    os.kill(relay, signal.SIGSTOP)
    try:
        with control(daemon) as master:
            while master.ask(f"session kill {sid}").ok:    # until the process's queue is full
                pass
            assert master.ask("reopen").ok and master.ask("version").ok    # the master has tried by then
    finally:
        os.kill(relay, signal.SIGCONT)
    wait_for(lambda: str(daemon.logfile) in descriptors_of(relay).values(), 10.0, "its new log")
    finish(client)
    daemon.wait_log(" session_end ")


def test_under_tls_the_child_keeps_it(proxy: StartProxy, pop: Pop, stub: StubStore, authority: Authority) -> None:
    pair = authority.sign("localhost")
    daemon = proxy(store(stub.endpoint), relay="shared", vserv={
        "tls": "starttls", "certificate": pair.certificate, "key": pair.key})
    client = pop(daemon.endpoint())
    client.greeting()
    client.ok("STLS")
    client.sock = context_of(authority).wrap_socket(client.sock, server_hostname="localhost")
    client.ok(f"USER {XENIA}")
    client.ok(f"PASS {PASSWORD}")
    client.ok("NOOP")
    [row] = status(daemon, "-a")["slots"]
    assert row["slot"] < 10_000 and row["pid"] not in relays(daemon, 2)
    client.ok("QUIT")
    client.close()


def test_walls_of_a_relay_process(proxy: StartProxy, stub: StubStore) -> None:
    daemon = proxy(store(stub.endpoint), relay="shared", relays=1, confinement="light")
    [relay] = relays(daemon)
    text = Path(f"/proc/{relay}/status").read_text()
    assert "\nSeccomp:\t2\n" in text and "\nNoNewPrivs:\t1\n" in text


def finish(client: PopClient) -> None:
    """Do what is left of a session."""
    client.ok("QUIT")
    assert client.rest() == b""
