"""Hundreds of commands while sessions come: none fails, and none sees half of a change."""

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.control.client import ControlClient
from tests.harness.control import control
from tests.harness.daemon import Daemon
from tests.harness.pacedcrowd import end_crowd, start_crowd
from tests.harness.system import wait_for

RATE, LONG_RATE = 20.0, 40.0    # sessions a second of each of the two crowds
ROUNDS, LONG_ROUNDS = 16, 200   # of five commands each

START = re.compile(r" (\S+) INF 0241 session_start client='127\.0\.0\.1:(\d+)'")
LOGIN = re.compile(r" (\S+) INF 0242 login user='joe' namespace='(\S+)' .* mailbox='(\S+)'")


def commands(number: int) -> tuple[str, ...]:
    """Five commands, of which the first changes two things that belong together."""
    return (
        f"vserv set main banner=n{number} namespace=n{number}",
        f"set maxerrors {number % 900 + 10}",
        f"backend add extra{number % 3} xpop 127.0.0.1:{number + 1}",
        f"vserv add extra{number % 3} 127.0.0.1:0 banner=n{number}",
        f"pdm add other{number % 3} any store {number}/%u namespace=nowhere",
    )


def storm(client: ControlClient, proxy: Daemon, rounds: int) -> None:
    """Give all commands, one after the other, and let sessions come in between on a fast machine, too."""
    for number in range(rounds):
        for line in commands(number):
            reply = client.ask(line)
            assert reply.ok, (line, reply)
        if number % (rounds // 4) == 0:
            proxy.wait_log(f" namespace='n{number}' ")
    assert client.ask("sync").ok


def logins(proxy: Daemon) -> Counter[tuple[str, str, str]]:
    """Return client port, namespace and mailbox of all sessions, from the log; ports come again."""
    found: Counter[tuple[str, str, str]] = Counter()
    ports: dict[str, str] = {}
    for line in proxy.log_lines():
        if match := START.search(line):
            ports[match[1]] = match[2]
        elif match := LOGIN.search(line):
            found[ports[match[1]], match[2], match[3]] += 1
    return found


@pytest.mark.limit(300)
@pytest.mark.parametrize("maxuse", [1, 20], ids=["classic", "pooled"])
def test_many_commands_while_sessions_come(start: Callable[..., Daemon], maxuse: int, spool: Path,
                                           make_mailbox: Callable[..., Path], pytestconfig: pytest.Config) -> None:
    rounds, rate = (LONG_ROUNDS, LONG_RATE) if pytestconfig.getoption("--long") else (ROUNDS, RATE)
    pcheckd = start("pcheckd", {"pcheckd": {"mailboxdir": spool, "host": "127.0.0.1", "port": 0}})
    for number in range(rounds):
        make_mailbox(f"n{number}/joe")
    make_mailbox("first/joe")
    proxy = start("pproxy", {
        "pproxy": {"maxuse": maxuse, "maxsession": 200},
        "vserv": {"main": {"address": "127.0.0.1:0", "banner": "first", "namespace": "first"}},
        "backend": {"store": {"protocol": "cxpop", "address": "127.0.0.1:9", "checkport": pcheckd.endpoint().port}},
        "pdm": {"users": {"module": "any", "args": "store %n/%u"}},
    })
    crowds = [start_crowd(proxy.endpoint("main"), rate, "joe", "pw") for _ in range(2)]
    try:
        wait_for(lambda: len(proxy.log_lines("session_end")) > 20, 30.0, "sessions")
        with control(proxy) as client:
            storm(client, proxy, rounds)
    finally:
        seen = [session for crowd in crowds for session in end_crowd(crowd)]
    assert len(seen) > 20
    halves = Counter((port, banner, f"{banner}/joe") for port, banner in seen) - logins(proxy)
    assert not halves
    assert len({banner for _, banner in seen}) > max(4, rounds // 20), "the changes came while sessions ran"
