"""Clients whom a load balancer or another proxy names: their address counts everywhere, and nobody else's word does."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from popular.addresses import Endpoint
from popular.net.proxyheader import build_header, crc32c
from tests.harness.certificates import Authority, context_of
from tests.harness.daemon import Daemon, Section, Settings, StartFailed
from tests.harness.metrics import scrape, where
from tests.harness.popclient import PopClient
from tests.harness.proxy import EMPTY, PASSWORD, XENIA, StartProxy, start_proxy, store
from tests.harness.pstatus import status
from tests.harness.system import wait_for
from tests.system.test_proxy_protocol import V1, V2

NOWHERE = Endpoint("127.0.0.1", 1)    # so that all users see an empty mailbox
PORT = Endpoint("198.51.100.1", 110)
UNKNOWN = b"PROXY UNKNOWN\r\n"
LOCAL = V2[:12] + b"\x20\x00\x00\x00"

Pop = Callable[..., PopClient]
Numbers = Callable[[str], float]


@pytest.fixture(scope="module")
def daemon(module_rundir: Path, authority: Authority) -> Iterator[Daemon]:
    """A pproxy with virtual servers that believe their neighbours, and with one that does not."""
    pair = authority.sign("pop.example.org")
    near: Section = {"address": "127.0.0.1:0", "trusted": "127.0.0.0/8, 203.0.113.0/24"}
    header = {**near, "proxyprotocol": "on"}
    vservs = {
        "strange": {**header, "trusted": "192.0.2.0/24"}, "named": near, "careful": {**near, "plaintextauth": "off"},
        "tls": {**header, "tls": "implicit", "certificate": pair.certificate, "key": pair.key},
        "local": {**header, "plaintextauth": "local"}}

    def start(program: str, settings: Settings, **more: Any) -> Daemon:
        return Daemon.start(program, settings, module_rundir, **more)

    with start_proxy(start, module_rundir, store(NOWHERE), vserv={**header, "plaintextauth": "off"},
                     more_vservs=vservs, exempt="none", addresssessions=2, networksessions=0, maxauthtries=100,
                     metrics="127.0.0.1:0", peerlines=0) as running:
        yield running


@pytest.fixture
def numbers(daemon: Daemon) -> Numbers:
    """How much a metric has grown."""
    before = scrape(where(daemon))
    return lambda name: scrape(where(daemon)).get(name, program="pproxy") - before.get(name, program="pproxy")


def told(client: str, tls: str = "", ident: str = "") -> bytes:
    """Return the header of a client."""
    return build_header(Endpoint(client, 50123), PORT, ident, tls)


# Headers

@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("header, client", [(V1, "192.0.2.1:56324"), (V2, "192.0.2.1:56324")], ids=["v1", "v2"])
def test_the_client_whom_a_header_names(daemon: Daemon, pop: Pop, header: bytes, client: str, size: int) -> None:
    count = len(daemon.log_lines("session_end"))
    connection = pop(daemon.endpoint("local"))
    octets = header + b"USER xenia\r\nQUIT\r\n"
    for start in range(0, len(octets), size):
        connection.send(octets[start:start + size])
    assert connection.rest().split(b"\r\n")[1].startswith(b"-ERR no password without TLS"), "the client is not local"
    last = daemon.wait_log("session_end", count=count + 1)[-1]
    assert f"client='{client}'" in last
    assert f"client='{client}' proxy='127.0.0.1:" in daemon.log_lines("client_named")[-1]


def test_a_client_on_this_host_is_local_behind_a_proxy_on_this_host(daemon: Daemon, pop: Pop) -> None:
    connection = pop(daemon.endpoint("local"))
    connection.send(told("127.0.0.1"))
    assert connection.login(XENIA, PASSWORD).startswith(EMPTY)


def test_what_a_balancer_says_of_tls(daemon: Daemon, pop: Pop) -> None:
    connection = pop(daemon.endpoint())
    connection.send(told("2001:db8::7", "TLSv1.3", "lb-42"))
    assert connection.login(XENIA, PASSWORD).startswith(EMPTY), "it counts as TLS"
    [line] = daemon.wait_log("proxy='127.0.0.1:", count=1) and [
        line for line in daemon.log_lines("client_named") if "2001:db8::7" in line]
    assert " id='lb-42' tls='TLSv1.3' " in line
    [slot] = [slot for slot in status(daemon)["slots"] if slot["state"] == "empty"]
    assert slot["client"] == "[2001:db8::7]:50123"
    connection.ok("QUIT")
    connection = pop(daemon.endpoint())
    connection.send(told("2001:db8::7"))
    connection.greeting()
    assert "USER" not in map(bytes.decode, connection.multi("CAPA"))
    connection.err(f"USER {XENIA}")


def test_limits_count_the_client_and_not_the_balancer(daemon: Daemon, pop: Pop) -> None:
    def come(client: str) -> bytes:
        connection = pop(daemon.endpoint())
        connection.send(told(client))
        return bytes(connection.line())

    assert [come("192.0.2.7").startswith(b"+OK") for _ in range(3)] == [True, True, False]
    assert come("192.0.2.8").startswith(b"+OK")
    assert "client='192.0.2.7:50123' vserv='main' why='address'" in daemon.wait_log("client_limited")[-1]


def test_tls_begins_behind_the_header(daemon: Daemon, pop: Pop, authority: Authority) -> None:
    connection = pop(daemon.endpoint("tls"))
    connection.send(told("192.0.2.9"))
    connection.sock = context_of(authority).wrap_socket(connection.sock, server_hostname="pop.example.org")
    assert connection.login(XENIA, PASSWORD).startswith(EMPTY)
    assert daemon.log_lines("tls_started peer='192.0.2.9:50123'")


def own_address(connection: PopClient) -> str:
    """Return where a connection comes from, as the log has it: other sessions may still write their last lines."""
    return f"'127.0.0.1:{connection.sock.getsockname()[1]}'"


@pytest.mark.parametrize("header", [
    b"USER joe\r\n", b"\x16\x03\x01\x00\x05hello", V1.replace(b"192.0.2.1 ", b"192.0.2.256 "), V2[:20] + b"\xff",
    b"PROXY " + b"x" * 102, V2.replace(b"\x21\x11", b"\x31\x11"), V2.replace(b"\x21\x11", b"\x21\x12")])
def test_a_bad_header_ends_the_connection(daemon: Daemon, pop: Pop, numbers: Numbers, header: bytes) -> None:
    count = len(daemon.log_lines())
    connection = pop(daemon.endpoint())
    connection.send(header)
    if header == V2[:20] + b"\xff":
        connection.sock.shutdown(1)    # or it would be late
    peer = own_address(connection)
    assert connection.rest() == b""
    [line] = wait_for(lambda: [line for line in daemon.log_lines()[count:] if peer in line], 10.0, "the client's line")
    assert f" ERR 0257 proxy_refused peer={peer} " in line and "vserv='main'" in line
    assert numbers("proxies_refused_total") == 1 and numbers("sessions_total") == 0


def test_only_who_is_trusted_is_heard(daemon: Daemon, pop: Pop, numbers: Numbers) -> None:
    connection = pop(daemon.endpoint("strange"))
    with suppress(OSError):
        connection.send(V2)
    assert b"+OK" not in connection.rest()
    assert "vserv='strange' why='not trusted'" in daemon.wait_log("proxy_refused")[-1]
    assert numbers("proxies_refused_total") == 1


@pytest.mark.parametrize("words", [b"", LOCAL, UNKNOWN, LOCAL + b"QUIT\r\n", UNKNOWN + b"NOOP\r\nQUIT\r\n", b"self"])
def test_a_health_check_is_greeted_and_makes_no_noise(daemon: Daemon, pop: Pop, numbers: Numbers, words: bytes) -> None:
    count = len(daemon.log_lines())
    connection = pop(daemon.endpoint())
    peer = own_address(connection)
    if words == b"self":    # version 1 of HAProxy
        words = b"PROXY TCP4 127.0.0.1 127.0.0.1 %d 110\r\n" % connection.sock.getsockname()[1]
    connection.send(words)
    if words:
        assert connection.greeting() == b" POPular ready"[1:]
    connection.sock.shutdown(1)
    assert connection.rest().count(b"+OK") <= words.count(b"NOOP") + words.count(b"QUIT") + (not words)
    assert numbers("health_checks_total") == 1
    assert numbers("sessions_total") == 0
    assert not [line for line in daemon.log_lines()[count:] if peer in line]


def test_a_health_check_cannot_log_in(daemon: Daemon, pop: Pop) -> None:
    connection = pop(daemon.endpoint("local"))
    connection.send(LOCAL)
    connection.greeting()
    connection.err("USER xenia")
    connection.ok("QUIT")


def test_a_health_check_under_tls(daemon: Daemon, pop: Pop, authority: Authority, numbers: Numbers) -> None:
    connection = pop(daemon.endpoint("tls"))
    connection.send(LOCAL)
    connection.sock = context_of(authority).wrap_socket(connection.sock, server_hostname="pop.example.org")
    connection.greeting()
    connection.ok("QUIT")
    with suppress(ssl.SSLError):
        connection.rest()
    assert numbers("health_checks_total") == 1


def test_a_second_header_is_no_command(daemon: Daemon, pop: Pop) -> None:
    connection = pop(daemon.endpoint())
    connection.send(told("192.0.2.10") + V1)
    connection.greeting()
    assert connection.rest() == b""
    assert "proxy_header peer='192.0.2.10:50123'" in daemon.wait_log("proxy_header")[-1]


def test_a_full_pool(proxy: StartProxy, pop: Pop) -> None:
    """The process that screens clients reads the header first, and the child once more."""
    daemon = proxy(store(NOWHERE), vserv={"proxyprotocol": "on", "trusted": "127.0.0.1"}, maxsession=1, minspare=1,
                   maxspare=1, networksessions=0)
    first, second = (pop(daemon.endpoint()) for _ in range(2))
    first.send(told("192.0.2.50"))
    first.greeting()
    daemon.wait_log("screen_started")
    second.send(told("192.0.2.51"))
    assert second.login(XENIA, PASSWORD).startswith(EMPTY)
    assert daemon.log_lines("client='192.0.2.51:50123' vserv='main'")
    assert first.rest() == b"", "it has made way"


# XCLIENT

def test_a_trusted_proxy_names_its_client(daemon: Daemon, pop: Pop) -> None:
    connection = pop(daemon.endpoint("named"))
    assert connection.greeting().startswith(b"[XCLIENT] ")
    assert "XCLIENT" in map(bytes.decode, connection.multi("CAPA"))
    words = "XCLIENT ADDR=192.0.2.20 PORT=50123 SESSION=abc/1 TTL=4 FORWARD=" + "x" * 300
    connection.ok(words)
    assert "XCLIENT" not in map(bytes.decode, connection.multi("CAPA"))
    connection.err(words[:100])
    connection.ok(f"USER {XENIA}")
    assert connection.command("PASS wrong").startswith(b"-ERR [AUTH]")
    assert "client='192.0.2.20:50123'" in daemon.wait_log("login_refused")[-1], "fail2ban finds the client"
    [slot] = [slot for slot in status(daemon)["slots"] if slot["client"] == "192.0.2.20:50123"]
    assert slot["state"] == "auth"
    assert "client='192.0.2.20:50123' proxy='127.0.0.1:" in daemon.log_lines(" id='abc/1' ")[-1]


def test_what_dovecot_sends_at_once(daemon: Daemon, pop: Pop) -> None:
    connection = pop(daemon.endpoint("careful"))
    connection.greeting()
    connection.send(b"XCLIENT ADDR=2001:db8::1 PORT=1 SESSION=x TTL=1 CLIENT-TRANSPORT=TLS\r\nUSER xenia\r\n")
    assert [connection.line()[:3], connection.line()[:3]] == [b"+OK", b"+OK"], "the client's TLS counts"
    assert connection.command(f"PASS {PASSWORD}").startswith(EMPTY)


def test_limits_count_whom_a_proxy_names(daemon: Daemon, pop: Pop) -> None:
    connections = [pop(daemon.endpoint("named")) for _ in range(4)]
    for connection in connections:
        connection.greeting()    # the proxy itself has no limit
    answers = [connection.command("XCLIENT ADDR=192.0.2.30") for connection in connections]
    assert [answer[:3] for answer in answers] == [b"+OK", b"+OK", b"-ER", b"-ER"]
    assert connections[3].rest() == b""


@pytest.mark.parametrize("words", [
    "XCLIENT", "XCLIENT PORT=1", "XCLIENT ADDR=", "XCLIENT ADDR=joe", "XCLIENT ADDR=192.0.2.1 PORT=65536",
    "XCLIENT ADDR=192.0.2.1 ADDR=192.0.2.2", "XCLIENT ADDR=192.0.2.1 TTL=-1", "XCLIENT ADDR=fe80::1%eth0",
    "XCLIENT ADDR=192.0.2.1 X", "XCLIENT ADDR=0.0.0.0"])
def test_a_malformed_xclient(daemon: Daemon, pop: Pop, words: str) -> None:
    connection = pop(daemon.endpoint("named"))
    connection.greeting()
    connection.err(words)
    connection.ok("XCLIENT ADDR=192.0.2.31")


def test_nobody_else_says_xclient(daemon: Daemon, pop: Pop) -> None:
    """A client is who the header says: not trusted, though the balancer is."""
    connection = pop(daemon.endpoint())
    connection.send(told("192.0.2.40"))
    assert connection.greeting() == b"POPular ready"
    assert "XCLIENT" not in map(bytes.decode, connection.multi("CAPA"))
    assert connection.err("XCLIENT ADDR=192.0.2.41") == b"unknown command"
    behind = pop(daemon.endpoint())
    behind.send(told("203.0.113.1"))
    assert behind.greeting().startswith(b"[XCLIENT]"), "but a trusted proxy may stand behind a balancer"


# Settings

def test_whom_to_trust_must_be_said(proxy: StartProxy) -> None:
    with pytest.raises(StartFailed) as failed:
        proxy(store(NOWHERE, clientaddress="proxy"), vserv={"proxyprotocol": "on"})
    assert failed.value.code == 78
    assert "[vserv] main: proxyprotocol: needs 'trusted'" in failed.value.stderr
    assert "[backend] store: clientaddress: needs protocol = pop3" in failed.value.stderr


def test_a_checksum_of_the_balancer_is_checked(daemon: Daemon, pop: Pop) -> None:
    octets = V2[:14] + b"\x00\x13" + V2[16:] + b"\x03\x00\x04" + bytes(4)
    good = octets[:-4] + crc32c(octets).to_bytes(4, "big")
    for header, is_good in ((good, True), (octets, False)):
        connection = pop(daemon.endpoint("local"))
        connection.send(header + b"QUIT\r\n")
        assert connection.rest().startswith(b"+OK") is is_good
