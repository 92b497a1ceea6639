"""A load balancer that speaks the PROXY protocol to ports which do not: one clear line, and no answer goes astray."""

from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.log.limit import FROM_ONE
from tests.harness.certificates import Authority
from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient
from tests.harness.proxy import StartProxy, store

NOWHERE = Endpoint("127.0.0.1", 1)    # a port on which nobody listens
V1 = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 110\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c" + bytes((192, 0, 2, 1, 198, 51, 100, 1)) + b"\xdc\x04\x00\x6e"
SESSION = b"USER joe\r\nPASS x\r\nLIST\r\nQUIT\r\n"    # what the balancer's client has sent ahead

Pop = Callable[..., PopClient]


@pytest.fixture(params=["clear", "implicit", "pserv"])
def port(request: pytest.FixtureRequest, start: Callable[..., Daemon], proxy: StartProxy, spool: Path,
         authority: Authority) -> tuple[Daemon, bytes]:
    """A daemon that knows no PROXY protocol, and all that it may say."""
    if request.param == "pserv":
        return start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}}), b""
    if request.param == "clear":
        return proxy(store(NOWHERE)), b"+OK POPular ready\r\n"
    pair = authority.sign("pop.example.org")
    return proxy(store(NOWHERE), vserv={"tls": "implicit", "certificate": pair.certificate, "key": pair.key}), b""


@pytest.mark.parametrize("header", [V1, V2, V1.lower()], ids=["version 1", "version 2", "lower case"])
def test_a_header_ends_the_connection_with_one_clear_line(port: tuple[Daemon, bytes], pop: Pop, header: bytes) -> None:
    daemon, greeting = port
    client = pop(daemon.endpoint())
    client.send(header + SESSION)
    assert client.rest() == greeting
    (line,) = daemon.wait_log(" ADM 021d proxy_header ")
    assert "peer='127.0.0.1:" in line and "owner='main'" in line
    for other in (" ERR ", "null_byte_in_input", "no_preamble", "preamble_refused"):
        assert not daemon.log_lines(other)


def test_what_a_peer_can_cause_at_will_is_limited_in_the_log(port: tuple[Daemon, bytes], pop: Pop) -> None:
    daemon, _ = port
    for _ in range(3 * FROM_ONE):
        client = pop(daemon.endpoint())
        client.send(b"\0" * 20)
        client.rest()
    daemon.wait_log(" ADM 021f lines_left_out ")
    written = daemon.log_lines("null_byte_in_input") + daemon.log_lines("tls_failed")
    assert FROM_ONE <= len(written) <= 2 * FROM_ONE    # where a new period has begun meanwhile
