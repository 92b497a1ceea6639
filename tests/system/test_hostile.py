"""A good client gets in while many connections do their worst, and nothing is left of them."""

import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.certificates import Authority, context_of
from tests.harness.daemon import Daemon
from tests.harness.hostile import end_hostile, start_hostile
from tests.harness.metrics import scrape, where
from tests.harness.popclient import PopClient
from tests.harness.proxy import EMPTY, PASSWORD, XENIA, start_proxy, store
from tests.harness.system import descriptors_of, wait_for

NOWHERE = Endpoint("127.0.0.1", 1)
NAME = "mail.example.org"
GOOD = "127.200.{}.1"    # as many as there are tries: one address alone would reach `addressrate`
FEW = 2    # descriptors
SESSIONS, CONNECTIONS, TRIES = 20, 150, 4
LONG_SESSIONS, LONG_CONNECTIONS, LONG_TRIES = 200, 5000, 200


WAYS = ("clear", "implicit", "starttls")


@pytest.fixture
def daemon(start: Callable[..., Daemon], rundir: Path, authority: Authority,
           pytestconfig: pytest.Config) -> Iterator[Daemon]:
    """A pproxy that exempts nobody, with STLS at one port and TLS from the first octet at the other."""
    pair = authority.sign(NAME)
    keys = {"certificate": pair.certificate, "key": pair.key}
    maxsession = LONG_SESSIONS if pytestconfig.getoption("--long") else SESSIONS
    yield start_proxy(start, rundir, store(NOWHERE), exempt="none", maxsession=maxsession, metrics="127.0.0.1:0",
                      vserv={"tls": "starttls", **keys},
                      more_vservs={"tls": {"address": "127.0.0.1:0", "tls": "implicit", **keys}})


def log_in(daemon: Daemon, way: str, context: ssl.SSLContext, number: int = 0) -> float:
    """Log in and quit as a good client; returns the seconds until the answer to PASS."""
    began = time.monotonic()
    with PopClient(daemon.endpoint("tls" if way == "implicit" else "main"), source=GOOD.format(number)) as client:
        if way == "starttls":
            client.greeting()
            client.ok("STLS")
        if way != "clear":
            client.sock = context.wrap_socket(client.sock, server_hostname=NAME)
        if way == "starttls":
            client.ok(f"USER {XENIA}")
            answer = client.command(f"PASS {PASSWORD}")
        else:
            answer = client.login(XENIA, PASSWORD)
        seconds = time.monotonic() - began
        assert answer.startswith(EMPTY)
        client.ok("QUIT")
    return seconds


@pytest.mark.limit(900)
@pytest.mark.parametrize("share", [1, 20, 1000], ids=["one-address", "some-addresses", "many-addresses"])
def test_a_good_client_gets_in(daemon: Daemon, share: int, authority: Authority, pytestconfig: pytest.Config,
                               record_property: Callable[[str, object], None]) -> None:
    """`share`: of a thousand connections, so many come from addresses of their own."""
    is_long = pytestconfig.getoption("--long")
    connections, tries = (LONG_CONNECTIONS, LONG_TRIES) if is_long else (CONNECTIONS, TRIES)
    context = context_of(authority)
    descriptors = len(descriptors_of(daemon.master))
    crowd = start_hostile(daemon.endpoint("main"), connections, max(1, connections * share // 1000),
                          daemon.endpoint("tls"))
    try:
        tried = [(way, log_in(daemon, way, context, number)) for number in range(tries) for way in WAYS]
        screening = scrape(where(daemon)).get("screening", program="pproxy")
    finally:
        end_hostile(crowd)
    for way in WAYS:
        seconds = sorted(took for its, took in tried if its == way)
        record_property(f"seconds_{way}", seconds)
        print(f"{way}: median {seconds[tries // 2]:.3f} s, 99 of 100 within {seconds[-1 - tries // 100]:.3f} s")
        assert not is_long or seconds[-1 - tries // 100] < 1.0
    assert bool(screening) is (share > 1), "one address alone is refused by its own limits"
    wait_for(lambda: sum(scrape(where(daemon)).by("sessions_active", "state").values()) == 0, 5.0, "the end of all")
    wait_for(lambda: len(descriptors_of(daemon.master)) <= descriptors + FEW, 5.0, "the master's descriptors")
    assert log_in(daemon, "clear", context) < 20.0
    assert daemon.bugs() == []
