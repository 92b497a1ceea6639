"""Backends that hang, refuse or have too much to do: what their users hear, and that others do not notice (design 7.1).
"""

import os
import signal
import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from pathlib import Path

import pytest

from popular.tools.pstatus.snapshot import take
from tests.harness.daemon import Daemon, Section
from tests.harness.fake_backend import Close, Expect, FakeBackend, Hold, ReadLines, Say, Step
from tests.harness.loginstream import Kind, LoginStream
from tests.harness.metrics import scrape, where
from tests.harness.popclient import PopClient
from tests.harness.ports import free_endpoint
from tests.harness.pstatus import state_file, status
from tests.harness.system import descendants_of, wait_for

Pop = Callable[..., PopClient]
Start = Callable[..., Daemon]

RATE = 8          # logins a second at each store
COUNT, LONG_COUNT = 12, 80
PATIENCE = 2.0    # seconds after which everybody has an answer, once the store is known not to give one
RECOVERY = 5.0    # seconds
FAILED = b"-ERR [SYS/TEMP]"
MESSAGE = b"Subject: x\r\n\r\nx\r\n"
HELLO = b"+OK hello"
GOODBYE: Sequence[Step] = (Expect(b"QUIT\r\n"), Say(b"+OK\r\n"), Close())
XPOP: Sequence[Step] = (ReadLines(3), Say(HELLO + b"\r\n"), *GOODBYE)
UP_TO_PASS: Sequence[Step] = (
    Say(b"+OK\r\n"), Expect(b"USER u\r\n"), Say(b"+OK\r\n"), Expect(b"PASS p\r\n"))


def proxy_for(start: Start, rundir: Path, backends: dict[str, Section], **variables: object) -> Daemon:
    """Start a pproxy with a user for each backend, who has its name, and the password and mailbox `p`."""
    users = rundir / "users"
    users.write_text("".join(f"{ident}:{{PLAIN}}p:{ident}::p{':u:p' * (values['protocol'] == 'pop3')}\n"
                             for ident, values in sorted(backends.items())))
    return start("pproxy", {
        "pproxy": {"authdelay": 0, "softfail": "off", "metrics": "127.0.0.1:0", "usersessions": 0, **variables},
        "vserv": {"main": {"address": "127.0.0.1:0"}}, "backend": backends,
        "pdm": {"users": {"module": "passwd", "args": users}}})


def log_in(pop: Pop, proxy: Daemon, user: str) -> bytes:
    """Return the answer to a login; a session that has begun is ended."""
    client = pop(proxy.endpoint("main"))
    answer = client.login(user, "p")
    if answer.startswith(b"+OK"):
        client.send(b"QUIT\r\n")
    client.close()
    return answer


def state_of(proxy: Daemon, backend: str) -> str:
    """Return the state of a backend."""
    return take(str(state_file(proxy))).backends[backend].state


def seconds_connecting(proxy: Daemon) -> float:
    """Return for how long a session has been connecting to a backend."""
    found = status(proxy)
    return max((found["time"] - slot["entered"] for slot in found["slots"] if slot["state"] == "connecting"), default=0)


# Stores that hang

@contextmanager
def frozen(daemons: Sequence[Daemon]) -> Iterator[None]:
    """Stop all processes of some daemons, masters first, since they would fork."""
    stopped: list[int] = []
    try:
        for daemon in daemons:
            os.kill(daemon.pid, signal.SIGSTOP)
            stopped.append(daemon.pid)
        while moving := {pid for daemon in daemons for pid in descendants_of(daemon.pid)}.difference(stopped):
            for pid in moving:    # again until there are no others, since a fork may have been on its way
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
        yield
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):    # a child that was about to end
                os.kill(pid, signal.SIGCONT)


@pytest.fixture
def stores(start: Start, spool: Path, make_mailbox: Callable[..., Path]) -> dict[str, list[Daemon]]:
    """Two stores, each a pserv and a pcheckd, over one spool with one mailbox, which has mail."""
    make_mailbox("p", cur=[MESSAGE])
    spare = {"mailboxdir": spool, "minspare": 2, "maxspare": 2}
    return {name: [
        start("pserv", {"pserv": spare, "server": {"main": {"address": "127.0.0.1:0"}}}, name=f"pserv-{name}"),
        start("pcheckd", {"pcheckd": {"mailboxdir": spool, "host": "127.0.0.1", "port": 0}}, name=f"pcheckd-{name}"),
    ] for name in ("ill", "well")}


def wait_state(proxy: Daemon, *, is_up: bool, seconds: float) -> None:
    """Wait until the proxy takes the ill store to be up, or not to be up."""
    wait_for(lambda: (state_of(proxy, "ill") == "up") is is_up, seconds, f"a store that is up: {is_up}")


@pytest.mark.limit(180)
@pytest.mark.parametrize("parts", [pytest.param(2, id="all"), pytest.param(1, id="pserv alone")])
def test_logins_while_a_store_is_frozen(start: Start, rundir: Path, stores: dict[str, list[Daemon]], parts: int,
                                        pytestconfig: pytest.Config) -> None:
    is_long = pytestconfig.getoption("--long")    # so that only a probe finds out that the store is back
    count, logintimeout = (LONG_COUNT, "3s") if is_long else (COUNT, "30s")
    proxy = proxy_for(start, rundir, {
        name: {"protocol": "cxpop", "address": pserv.endpoint(), "checkport": pcheckd.endpoint().port}
        for name, (pserv, pcheckd) in stores.items()}, logintimeout=logintimeout)
    kinds = [Kind(name, proxy.endpoint("main"), name, "p") for name in stores]
    with LoginStream(kinds, RATE * len(kinds)) as stream:
        stream.play(2)
        before = stream.play(count)
        with frozen(stores["ill"][:parts]):
            stream.play_during(lambda: wait_state(proxy, is_up=False, seconds=PATIENCE))
            during = deepcopy(stream.play(count))    # a probe is answered later
        thawed = time.monotonic()
        stream.play_during(lambda: wait_state(proxy, is_up=True, seconds=RECOVERY))
        recovery = time.monotonic() - thawed
        after = stream.play(2)
        stream.finish()
    assert (before.heard("ill"), during.heard("ill"), after.heard("ill")) == ({"+OK"}, {"[SYS/TEMP]"}, {"+OK"})
    assert {answer for part in stream.parts for answer in part.heard("well")} == {"+OK"}
    slack = max(during.waits["well"])    # which tells how busy the machine is
    assert max(during.waits["ill"]) < PATIENCE + slack
    assert statistics.median(during.waits["ill"]) < statistics.median(before.waits["ill"]) + slack, "most at once"
    assert statistics.median(during.waits["well"]) < 2 * statistics.median(before.waits["well"]) + 0.1
    assert recovery < RECOVERY + slack
    skipped = scrape(where(proxy)).by("mail_checks_total", "result")["skipped"]
    assert skipped > 0 if parts == 2 else skipped == 0
    [first, *_] = proxy.log_lines("backend_trouble")
    assert f"backend='ill' what='{'mail checks' if parts == 2 else 'logins'}' state='slow' was='up'" in first
    assert proxy.log_lines("backend='ill' what='logins' was='")[-1].split()[8] == "backend_up"


def test_a_pop3_backend_that_does_not_greet(start: Start, rundir: Path, pop: Pop) -> None:
    def script(number: int) -> Sequence[Step]:
        return (*((Hold(),) * (number == 0)), *UP_TO_PASS, Say(HELLO + b"\r\n"), *GOODBYE)

    with FakeBackend(script) as fake:
        proxy = proxy_for(start, rundir, {"dove": {"protocol": "pop3", "address": fake.endpoint}}, slowtime="300ms")
        first = pop(proxy.endpoint("main"))
        first.send(b"USER dove\r\nPASS p\r\n")
        wait_for(lambda: seconds_connecting(proxy) > 0.4, 5.0, "a backend that is slow")
        assert log_in(pop, proxy, "dove").startswith(FAILED)
        assert state_of(proxy, "dove") == "slow"
        fake.release()
        assert [first.line() for _ in range(3)][-1] == HELLO
        first.ok("QUIT")
        assert state_of(proxy, "dove") == "up"


def test_a_backend_that_delays_its_answer_to_a_password_is_not_slow(start: Start, rundir: Path, pop: Pop) -> None:
    with FakeBackend([*UP_TO_PASS, Hold(), Close()]) as fake:
        proxy = proxy_for(start, rundir, {"dove": {"protocol": "pop3", "address": fake.endpoint}}, downtries=2,
                          slowtime="100ms", logintimeout="300ms")
        for number in range(4):
            assert log_in(pop, proxy, "dove").startswith(FAILED)
            fake.release(number)
            fake.result(number)
        assert state_of(proxy, "dove") == "up"
        assert not proxy.log_lines("backend_trouble")


# Backends that refuse

def test_a_backend_that_refuses_is_left_alone_until_it_is_back(start: Start, rundir: Path, pop: Pop) -> None:
    endpoint = free_endpoint()
    proxy = proxy_for(start, rundir, {"store": {"protocol": "xpop", "address": endpoint}}, probetime="300ms")
    for _ in range(3):
        assert log_in(pop, proxy, "store").startswith(FAILED)
    assert state_of(proxy, "store") == "down"
    assert scrape(where(proxy)).by("backend_state", "state") == {
        "up": 0, "slow": 0, "down": 1, "drained": 0, "disabled": 0}
    wait_for(lambda: log_in(pop, proxy, "store") and proxy.log_lines("it is down, and it is not yet time"), 5.0)
    assert status(proxy)["failures"]["store"]["down"] > 0
    with FakeBackend(XPOP, port=endpoint.port):
        wait_for(lambda: log_in(pop, proxy, "store") == HELLO, RECOVERY, "a probe")
    assert state_of(proxy, "store") == "up"
    [trouble] = proxy.log_lines("backend_trouble")
    assert "what='logins' state='down' was='up' why='3 failures in a row: cannot connect to " in trouble
    assert len(proxy.log_lines("backend_up")) == 1


# Backends with enough to do

def test_logins_and_sessions_beyond_the_limits_are_refused(start: Start, rundir: Path, pop: Pop) -> None:
    def script(number: int) -> Sequence[Step]:
        return (ReadLines(3), *((Hold(),) * (number == 0)), Say(HELLO + b"\r\n"), *GOODBYE)

    with FakeBackend(script) as fake:
        proxy = proxy_for(start, rundir, {"store": {"protocol": "xpop", "address": fake.endpoint}}, backendlogins=1,
                          backendsessions=1)
        first = pop(proxy.endpoint("main"))
        first.send(b"USER store\r\nPASS p\r\n")
        fake.wait_received(b"\n")
        assert log_in(pop, proxy, "store").startswith(FAILED)
        assert "why='it has 1 logins under way'" in proxy.wait_log("backend_failed")[-1]
        fake.release()
        assert [first.line() for _ in range(3)][-1] == HELLO
        wait_for(lambda: "relay" in [slot["state"] for slot in status(proxy)["slots"]], 5.0, "its child's own state")
        assert log_in(pop, proxy, "store").startswith(FAILED)
        assert "why='it has 1 sessions'" in proxy.wait_log("backend_failed", count=2)[-1]
        first.ok("QUIT")
        fake.result()
        wait_for(lambda: log_in(pop, proxy, "store") == HELLO, 5.0, "room for another session")
        assert status(proxy)["failures"]["store"]["busy"] >= 2 and state_of(proxy, "store") == "up"


# Replicas

@pytest.fixture
def refusing() -> Iterator[str]:
    """An address that is ours and refuses connections."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{reserved.getsockname()[1]}"


def test_the_limits_of_a_replica_count_who_is_there(start: Start, rundir: Path, pop: Pop, refusing: str) -> None:
    with FakeBackend(XPOP) as fake:
        proxy = proxy_for(start, rundir, {
            "store": {"protocol": "xpop", "address": refusing, "replica": "spare", "backendsessions": 1},
            "spare": {"protocol": "xpop", "address": fake.endpoint, "backendlogins": 1, "backendsessions": 1},
        }, downtries=0)
        first = pop(proxy.endpoint("main"))
        assert first.login("store", "p") == HELLO
        assert [slot["backend"] for slot in status(proxy)["slots"] if slot["state"] == "relay"] == ["spare"]
        assert log_in(pop, proxy, "spare").startswith(FAILED)
        assert log_in(pop, proxy, "store").startswith(FAILED)
        assert all("backend='spare'" in line and "why='it has 1 sessions'" in line
                   for line in proxy.wait_log("backend_failed", count=2))
        first.ok("QUIT")
        fake.result()
        wait_for(lambda: log_in(pop, proxy, "store") == HELLO, 5.0, "room for another session")


def test_what_a_replica_is_used_for(start: Start, rundir: Path, pop: Pop, refusing: str) -> None:
    with (FakeBackend(XPOP) as spare, FakeBackend(()) as unused,
          FakeBackend([*UP_TO_PASS, Close()]) as silent, FakeBackend([*UP_TO_PASS, Say(b"-ERR no\r\n")]) as strict):
        xpop, pop3 = {"protocol": "xpop", "replica": "spare"}, {"protocol": "pop3", "replica": "unused"}
        proxy = proxy_for(start, rundir, {
            "refusing": {**xpop, "address": refusing},
            "drained": {**xpop, "address": unused.endpoint, "drain": "on"},
            "disabled": {**xpop, "address": unused.endpoint, "enabled": "off"},
            "chain": {**xpop, "address": refusing, "replica": "refusing"},
            "silent": {**pop3, "address": silent.endpoint},
            "strict": {**pop3, "address": strict.endpoint},
            "spare": {"protocol": "xpop", "address": spare.endpoint},
            "unused": {"protocol": "pop3", "address": unused.endpoint},
        }, downtries=2)
        assert [log_in(pop, proxy, "refusing") for _ in range(4)] == [HELLO] * 4
        assert state_of(proxy, "refusing") == "down"
        assert log_in(pop, proxy, "drained") == HELLO
        assert log_in(pop, proxy, "disabled").startswith(b"+OK 0 ")
        assert log_in(pop, proxy, "silent").startswith(FAILED)
        assert log_in(pop, proxy, "strict") == b"-ERR no"
        assert log_in(pop, proxy, "chain").startswith(FAILED)
        assert unused.sessions == []
        assert scrape(where(proxy)).get("replica_logins_total", program="pproxy") == 6
        assert "backend='drained' replica='spare' mailbox='p' why='it is drained'" in proxy.wait_log(
            "replica_used", count=6)[4]
        ends = proxy.wait_log("session_end", count=9)
        assert sum("backend='spare'" in line for line in ends) == 5
        assert "backend='refusing'" in proxy.log_lines("backend_failed")[-1], "of the chain: one replica and no more"
