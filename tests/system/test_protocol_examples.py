"""The octets in popular-protocols(7), said to the real daemons: they answer as the page shows."""

import array
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import ROOT, Daemon
from tests.harness.manpages import examples_of, octets_of
from tests.harness.network import own_network
from tests.harness.pairs import PATIENCE, read_all
from tests.harness.site import deliver

Start = Callable[..., Daemon]
MAIL = b"Subject: hello\n\nHow are you?\n"    # 32 octets with CRLF line ends
OCTETS = {example.words[0]: octets_of(example) for example in examples_of(ROOT / "man/popular-protocols.7")}


@pytest.fixture
def pserv(start: Start, spool: Path) -> Daemon:
    """A storage server."""
    return start("pserv", {
        "pserv": {"mailboxdir": spool, "missing": "refuse"}, "server": {"main": {"address": "127.0.0.1:0"}}})


@pytest.fixture
def pcheckd(start: Start, spool: Path) -> Daemon:
    """What tells of mail."""
    return start("pcheckd", {"pcheckd": {
        "mailboxdir": spool, "missing": "refuse", "host": "127.0.0.1", "port": 0}})


def say(endpoint: Endpoint, octets: bytes) -> bytes:
    """Send all octets at once, and return what comes until the other side ends."""
    with socket.create_connection((endpoint.host, endpoint.port), PATIENCE) as sock:
        sock.sendall(octets)
        return read_all(sock)


def ask(endpoint: Endpoint, octets: bytes) -> bytes:
    """Send a datagram, and return the answer."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE)
        sock.connect((endpoint.host, endpoint.port))
        sock.send(octets)
        return sock.recv(2048)


@pytest.mark.parametrize(("preamble", "folder"), [("xpop-preamble-plain", "cur"), ("xpop-preamble", "new")])
def test_spec_8_1_xpop(pserv: Daemon, spool: Path, preamble: str, folder: str) -> None:
    deliver(spool, "3/2d/joe.doe", MAIL)
    answers = say(pserv.endpoint(), OCTETS[preamble] + b"RETR 1\r\nQUIT\r\n")
    assert answers.startswith(OCTETS["xpop-accepted"] + b"+OK")
    [message] = spool.glob("3/2d/joe.doe/*/*_32")
    assert message.parent.name == folder    # M, and only M, leaves it new
    assert "p1-040821121929-4711" in pserv.wait_log("mailbox_closed")[0]


def test_spec_8_1_xpop_refusal(pserv: Daemon) -> None:
    assert say(pserv.endpoint(), OCTETS["xpop-preamble"]) == OCTETS["xpop-refused"]


def test_spec_8_2_mailcheck(pcheckd: Daemon, spool: Path) -> None:
    assert ask(pcheckd.endpoint(), OCTETS["mailcheck-mailbox"]) == OCTETS["mailcheck-refused"]
    deliver(spool, "3/2d/joe.doe", MAIL)
    for end in (b"", b"\n", b"\r\n"):
        assert ask(pcheckd.endpoint(), OCTETS["mailcheck-mailbox"] + end) == OCTETS["mailcheck-new-mail"]
    assert ask(pcheckd.endpoint(), OCTETS["mailcheck-mailbox"][2:]) == OCTETS["mailcheck-new-mail"]    # the old form
    assert float(ask(pcheckd.endpoint(), OCTETS["mailcheck-load"]).removeprefix(b"+OK ")) >= 0


@pytest.fixture
def low_ports() -> Iterator[None]:
    """A network in which every low port is free."""
    if os.geteuid() != 0:
        pytest.skip("only root has low ports")
    with own_network():
        yield


def test_spec_8_3_ringd(low_ports: None, start: Start, rundir: Path) -> None:
    start("ringd", {"ringd": {"ports": "110, 995"}})
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.settimeout(PATIENCE)
        sock.connect(str(rundir / "ringd.sock"))
        sock.send(OCTETS["ringd-bind"])
        answer, controls, _, _ = sock.recvmsg(512, socket.CMSG_SPACE(4))
        [(level, kind, data)] = controls
        with socket.socket(fileno=array.array("i", data)[0]) as listener:
            assert (answer, level, kind) == (OCTETS["ringd-done"], socket.SOL_SOCKET, socket.SCM_RIGHTS)
            assert listener.getsockname() == ("127.0.0.1", 110)
            assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        sock.send(OCTETS["ringd-release"])
        assert sock.recv(512) == OCTETS["ringd-done"].replace(b"7", b"8")
        sock.send(OCTETS["ringd-bind"].replace(b"7", b"9", 1).replace(b"110", b"25"))
        assert sock.recv(512) == OCTETS["ringd-refused"]
