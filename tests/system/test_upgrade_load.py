"""Upgrades in a row of a whole system while sessions come: nobody notices."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.control import control
from tests.harness.daemon import Daemon
from tests.harness.pacedcrowd import end_crowd, start_crowd
from tests.harness.popclient import PopClient
from tests.harness.proxy import CASPER, PASSWORD, XENIA
from tests.harness.system import descendants_of, title_of, wait_for

UPGRADES = {1: 2, 20: 2}            # by maxuse
LONG_UPGRADES = {1: 20, 20: 10}
RATE, LONG_RATE = 2.5, 60.0        # sessions a second of each of the four crowds, where the machine is quick enough
RELAYS = 5        # sessions that are open from the first to the last upgrade

MAIL = b"Subject: x\r\n\r\n" + b"text\r\n" * 5000


def upgrade_all(system: dict[str, Daemon]) -> None:
    """Upgrade all three daemons at once, and wait until they are."""
    before = {name: daemon.master for name, daemon in system.items()}
    os.kill(before["pcheckd"], signal.SIGUSR2)
    with control(system["pproxy"]) as proxy, control(system["pserv"]) as pserv:
        proxy.send("upgrade")
        pserv.send("upgrade")
        for client in (proxy, pserv):
            reply = client.receive()
            assert reply.ok, reply
    wait_for(lambda: all(daemon.master != before[name] for name, daemon in system.items()), 30.0, "the new masters")


@pytest.mark.limit(600)
@pytest.mark.parametrize("maxuse", [1, 20], ids=["classic", "pooled"])
def test_upgrades_in_a_row_under_load(system: dict[str, Daemon], maxuse: int, make_mailbox: Callable[..., Path],
                                      pytestconfig: pytest.Config) -> None:
    is_long = pytestconfig.getoption("--long")
    upgrades, rate = (LONG_UPGRADES[maxuse], LONG_RATE) if is_long else (UPGRADES[maxuse], RATE)
    make_mailbox("c/casper")
    make_mailbox("x/xenia", cur=[MAIL])
    endpoint = system["pproxy"].endpoint()
    for program in ("pproxy", "pserv"):
        with control(system[program]) as client:
            assert client.ask(f"set maxuse {maxuse}").ok and client.ask("sync").ok
    relays = [PopClient(endpoint, timeout=60.0) for _ in range(RELAYS)]
    crowds = []
    try:
        for relay in relays:
            relay.login(XENIA, PASSWORD)
        crowds = [start_crowd(endpoint, rate, user, PASSWORD) for user in (CASPER, XENIA) * 2]
        wait_for(lambda: len(system["pproxy"].log_lines("session_end")) > 20, 30.0, "sessions")
        for number in range(upgrades):
            upgrade_all(system)
            relay = relays[number % RELAYS]
            assert relay.ok("STAT") == b"1 %d" % len(MAIL)
        for relay in relays:
            assert relay.message(1) == MAIL
            relay.ok("QUIT")
            assert relay.rest() == b""
    finally:
        seen = [session for crowd in crowds for session in end_crowd(crowd)]
        for relay in relays:
            relay.close()
    ended = system["pproxy"].log_lines("session_end")
    assert len(ended) >= len(seen) + RELAYS > 10 * upgrades
    for daemon in system.values():
        assert len(daemon.log_lines("took_over")) == upgrades and not daemon.log_lines("upgrade_failed")
    wait_for(lambda: not [pid for pid in descendants_of(os.getpid()) if "replaced" in title_of(pid)], 15.0,
             "the old masters to leave")
