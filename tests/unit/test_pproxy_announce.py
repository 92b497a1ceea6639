"""popular.pproxy.backends.announce: backends learn whom we serve, by a PROXY header or by XCLIENT."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from popular.addresses import Endpoint
from popular.errors import BackendError
from popular.net.proxyheader import build_header
from popular.pop3.xclient import build_xclient
from popular.pproxy.backends.announce import Announcement
from popular.pproxy.backends.link import BackendLink
from popular.pproxy.backends.routing import Route
from tests.harness.fake_backend import Expect, FakeBackend, Say, Step
from tests.unit.test_pproxy_routing import backend

CLIENT, LOCAL = Endpoint("192.0.2.1", 50123), Endpoint("198.51.100.1", 110)
GREETING = Say(b"+OK ready\r\n")
LOGIN = Expect(b"USER joe\r\n"), Say(b"+OK\r\n"), Expect(b"PASS pw\r\n"), Say(b"+OK\r\n")
OFFER = Say(b"+OK [XCLIENT] ready\r\n")
COMMAND = Expect(build_xclient(CLIENT, LOCAL, "px-1", 4, is_secure=True))


def open_link(script: Sequence[Step], how: str, protocol: str = "pop3", ttl: int = 0) -> tuple[bytes, list[str]]:
    """Log in at a backend; return what it received, and what there was to complain about."""
    complaints: list[str] = []
    with FakeBackend(script) as fake:
        store = replace(backend("pop3"), address=fake.endpoint, announce=partial(Announcement, how))
        route = Route(store, protocol, "box", "joe", b"pw", False)
        assert store.announce is not None
        announcement = store.announce(CLIENT, LOCAL, "TLSv1.3", ttl, "px-1", complaints.append)
        BackendLink.open(route, "px-1", lambda sock: sock, announcement=announcement).close()
        return fake.result(), complaints


def test_a_header_comes_before_anything_else() -> None:
    header = build_header(CLIENT, LOCAL, "px-1", "TLSv1.3")
    received, complaints = open_link((Expect(header), GREETING, *LOGIN), "proxy")
    assert received.startswith(header) and not complaints


@pytest.mark.parametrize("script, complaint", [
    ((OFFER, COMMAND, Say(b"+OK\r\n")), None),
    ((GREETING, Expect(b"CAPA\r\n"), Say(b"+OK\r\nTOP\r\nXClient\r\n.\r\n"), COMMAND, Say(b"+OK\r\n")), None),
    ((GREETING, Expect(b"CAPA\r\n"), Say(b"+OK\r\nTOP\r\n.\r\n")), "it does not offer XCLIENT to us"),
    ((GREETING, Expect(b"CAPA\r\n"), Say(b"-ERR what?\r\n")), "it does not offer XCLIENT to us"),
    ((OFFER, COMMAND, Say(b"-ERR no\r\n")), "its answer to XCLIENT is -ERR no")])
def test_xclient_is_said_where_it_is_offered(script: Sequence[Step], complaint: str | None) -> None:
    _, complaints = open_link((*script, *LOGIN), "xclient")
    assert complaints == ([complaint] if complaint else [])


@pytest.mark.parametrize("script", [
    (GREETING, Expect(b"CAPA\r\n"), Say(b"+OK\r\n" + b"TOP\r\n" * 200)),
    (OFFER, COMMAND, Say(b"+OK\r\n+OK\r\n")), (OFFER, COMMAND, Say(b"what?\r\n"))])
def test_a_backend_that_is_not_one(script: Sequence[Step]) -> None:
    with pytest.raises(BackendError):
        open_link(script, "xclient")


def test_hops_are_counted() -> None:
    last = Expect(build_xclient(CLIENT, LOCAL, "px-1", 1, is_secure=True))
    open_link((OFFER, last, Say(b"+OK\r\n"), *LOGIN), "xclient", ttl=2)
    with pytest.raises(BackendError, match="loop"):
        open_link((OFFER,), "xclient", ttl=1)


def test_pserv_is_told_nothing() -> None:
    with pytest.raises(BackendError, match="no place for the client's address"):
        open_link((), "proxy", protocol="xpop")
