"""A good client gets in while many connections do their worst, and nothing is left of them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.certificates import Authority
from tests.harness.daemon import Daemon
from tests.harness.hostile import end_hostile, start_hostile
from tests.harness.metrics import scrape, where
from tests.harness.popclient import PopClient
from tests.harness.proxy import EMPTY, PASSWORD, XENIA, start_proxy, store
from tests.harness.system import wait_for

NOWHERE = Endpoint("127.0.0.1", 1)
GOOD = "127.200.0.1"
SESSIONS, CONNECTIONS, TRIES = 20, 150, 10
LONG_SESSIONS, LONG_CONNECTIONS, LONG_TRIES = 200, 5000, 200


@pytest.fixture
def daemon(start: Callable[..., Daemon], rundir: Path, authority: Authority,
           pytestconfig: pytest.Config) -> Iterator[Daemon]:
    """A pproxy that exempts nobody, with a second virtual server for TLS."""
    pair = authority.sign("mail.example.org")
    maxsession = LONG_SESSIONS if pytestconfig.getoption("--long") else SESSIONS
    yield start_proxy(start, rundir, store(NOWHERE), exempt="none", maxsession=maxsession, metrics="127.0.0.1:0",
                      more_vservs={"tls": {"address": "127.0.0.1:0", "tls": "implicit", "certificate": pair.certificate,
                                           "key": pair.key}})


def log_in(daemon: Daemon) -> float:
    """Log in and quit as a good client; returns the seconds until the answer to PASS."""
    began = time.monotonic()
    with PopClient(daemon.endpoint("main"), source=GOOD) as client:
        assert client.login(XENIA, PASSWORD).startswith(EMPTY)
        seconds = time.monotonic() - began
        client.ok("QUIT")
    return seconds


@pytest.mark.limit(600)
@pytest.mark.parametrize("share", [1, 20, 1000], ids=["one-address", "some-addresses", "many-addresses"])
def test_a_good_client_gets_in(daemon: Daemon, share: int, pytestconfig: pytest.Config,
                               record_property: Callable[[str, object], None]) -> None:
    """`share`: of a thousand connections, so many come from addresses of their own."""
    is_long = pytestconfig.getoption("--long")
    connections, tries = (LONG_CONNECTIONS, LONG_TRIES) if is_long else (CONNECTIONS, TRIES)
    crowd = start_hostile(daemon.endpoint("main"), connections, max(1, connections * share // 1000),
                          daemon.endpoint("tls"))
    try:
        seconds = sorted(log_in(daemon) for _ in range(tries))
        screening = scrape(where(daemon)).get("screening", program="pproxy")
    finally:
        end_hostile(crowd)
    record_property("seconds", seconds)
    print(f"median {seconds[tries // 2]:.3f} s, all but one in a hundred within {seconds[-1 - tries // 100]:.3f} s")
    assert bool(screening) is (share > 1), "one address alone is refused by its own limits"
    wait_for(lambda: sum(scrape(where(daemon)).by("sessions_active", "state").values()) == 0, 5.0, "the end of all")
    assert log_in(daemon) < 20.0
    assert daemon.bugs() == []
