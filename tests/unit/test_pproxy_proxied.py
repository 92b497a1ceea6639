"""popular.pproxy.vserv.proxied: a header is read, and not an octet more; what XCLIENT says is understood."""

import socket
import threading
from dataclasses import replace

import pytest

from popular.addresses import Endpoint
from popular.errors import CommandRefused
from popular.net.proxyheader import BadHeader, build_header
from popular.networks import Networks
from popular.pop3.xclient import build_xclient, parse_xclient
from popular.pproxy.vserv.proxied import Proxies

PEER = Endpoint("127.0.0.1", 40000)
CLIENT, LOCAL = Endpoint("192.0.2.1", 50123), Endpoint("198.51.100.1", 110)
HEADERS = {
    "version 1": b"PROXY TCP4 192.0.2.1 198.51.100.1 50123 110\r\n", "version 2": build_header(CLIENT, LOCAL, "x")}
NEAR = Proxies("main", Networks.read(["127.0.0.0/8"]), has_header=True, seconds=30.0)


# From the balancer

@pytest.mark.parametrize("size", [1, 5, 11, 100])
@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_not_an_octet_more_is_read(header: bytes, size: int) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)

    def send() -> None:
        for start in range(0, len(header), size):
            theirs.send(header[start:start + size])
        theirs.send(b"\x16\x03rest")

    with ours, theirs:
        sender = threading.Thread(target=send)
        sender.start()
        assert NEAR.receive(ours, PEER).client == CLIENT
        sender.join()
        assert ours.recv(100) == b"\x16\x03rest"


@pytest.mark.parametrize("octets, is_over, why", [
    (HEADERS["version 2"][:-1], True, "cut off"), (b"", False, "late"), (HEADERS["version 1"][:30], False, "late"),
    (b"USER joe\r\n", False, "no PROXY header")])
def test_what_does_not_come(octets: bytes, is_over: bool, why: str) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        theirs.send(octets)
        if is_over:
            theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(BadHeader, match=why):
            replace(NEAR, seconds=0.01).receive(ours, PEER)


# XCLIENT

@pytest.mark.parametrize("client, local", [(CLIENT, LOCAL), (Endpoint("2001:db8::1", 5), Endpoint("2001:db8::2", 995))])
@pytest.mark.parametrize("is_secure", [True, False])
def test_what_is_said_is_understood(client: Endpoint, local: Endpoint, is_secure: bool) -> None:
    line = build_xclient(client, local, "px-1", 4, is_secure=is_secure)
    origin = parse_xclient(line.removeprefix(b"XCLIENT ").removesuffix(b"\r\n"))
    assert (origin.client, origin.local, origin.ident, origin.ttl) == (client, local, "px-1", 4)
    assert bool(origin.tls) is is_secure


def test_what_nobody_knows_is_ignored() -> None:
    origin = parse_xclient(b"addr=192.0.2.1 FUTURE=\xff DESTNAME=pop.example.org")
    assert (origin.client, origin.local, origin.authority) == (Endpoint("192.0.2.1", 0), None, "pop.example.org")
    with pytest.raises(CommandRefused):
        parse_xclient(b"ADDR=192.0.2.1 DESTADDR=pop.example.org")


@pytest.mark.parametrize("said, host", [
    ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:DB8:0::1", "2001:db8::1"), ("0::0", ""), ("::ffff:0.0.0.0", "")])
def test_an_address_has_one_form(said: str, host: str) -> None:
    """Else a list of networks, or a limit, does not know the client; a header is read in the same way."""
    if not host:
        with pytest.raises(CommandRefused):
            parse_xclient(f"ADDR={said}".encode())
    else:
        assert parse_xclient(f"ADDR={said}".encode()).client == Endpoint(host, 0)
