"""Hundreds of sessions, some cut at random points: nothing may leak and no slot may be lost."""

import json
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack

import pytest

from tests.harness.daemon import ROOT, Daemon
from tests.harness.popclient import PopClient
from tests.harness.site import MailSite, record
from tests.harness.system import descriptors_of, wait_for, zombies_of

SESSIONS, LONG_SESSIONS = 240, 10_000
CROWDS = 4             # processes at once
MAXSESSION = 30
MESSAGE = b"Subject: one\r\n\r\n" + b"A line of an ordinary length, stuffed with nothing at all.\r\n" * 400
USERS = [record("empty", "pw", "cxpop", "box/empty"), record("full", "pw", "cxpop", "box/full")]
LIMITS: dict[str, object] = {"maxsession": MAXSESSION}


@pytest.fixture
def site(rundir, spool, make_mailbox):
    """The system, with one mailbox that is empty and one that is not."""
    make_mailbox("box/empty")
    make_mailbox("box/full", new=[MESSAGE])
    variables = {"pproxy": {**LIMITS, "authdelay": "1ms", "usersessions": 0}, "pserv": LIMITS}
    with MailSite(rundir, spool, USERS, variables=variables) as running:
        yield running


@pytest.mark.limit(300)
def test_many_sessions(site, pytestconfig):
    sessions = LONG_SESSIONS if pytestconfig.getoption("--long") else SESSIONS
    run_crowds(site, 40)          # so that everything that is opened late is open
    settle(site)
    before = [descriptors(site.pproxy), descriptors(site.pserv)]
    outcomes = run_crowds(site, sessions)
    assert outcomes.total() == sessions
    assert outcomes["bad"] == 0
    assert min(outcomes[name] for name in ("empty", "full", "wrong", "cut")) > sessions // 100
    settle(site)
    assert [descriptors(site.pproxy), descriptors(site.pserv)] == before
    every_slot_is_free(site)
    assert site.pproxy.bugs() + site.pserv.bugs() == []


def run_crowds(site: MailSite, sessions: int) -> "Counter[str]":
    """Play sessions in several processes at once; returns how they ended."""
    endpoint = site.pproxy.endpoint()
    with ExitStack() as stack:
        crowds = [stack.enter_context(subprocess.Popen(
            [sys.executable, "-m", "tests.harness.crowd", endpoint.host, str(endpoint.port),
             str(sessions // CROWDS), str(seed)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
            for seed in range(CROWDS)]
        for crowd in crowds:
            stack.callback(crowd.kill)      # before it is waited for, also when this test is interrupted
        outcomes: Counter[str] = Counter()
        for crowd in crowds:
            told, complaints = crowd.communicate(timeout=280)
            assert crowd.returncode == 0, complaints.decode()[-3000:] + site.report()[-3000:]
            outcomes.update(json.loads(told))
    return outcomes


def settle(site: MailSite) -> None:
    """Wait until all sessions are over: only spare children are left, and no zombie."""
    for daemon in (site.pproxy, site.pserv):
        wait_for(lambda: not zombies_of(daemon.pid) and 4 <= len(daemon.children()) <= 8, 20.0,
                 f"quiet in {daemon.program}")


def descriptors(daemon: Daemon) -> int:
    """Return how many descriptors the master has open."""
    return len(descriptors_of(daemon.pid))


def every_slot_is_free(site: MailSite) -> None:
    """Prove that as many clients as there are slots can be served at once, at the proxy and at the server."""
    with ExitStack() as stack:
        clients = [stack.enter_context(PopClient(site.pproxy.endpoint())) for _ in range(MAXSESSION)]
        for client in clients:
            assert client.login("full", "pw").startswith(b"+OK")
        for client in clients:
            client.ok("QUIT")
