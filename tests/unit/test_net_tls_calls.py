"""How often a TLS stream asks its socket in a handshake: each call, and each packet, is paid for in every session."""

import contextlib
import select
import socket
import ssl
import threading
from typing import Any

import pytest

from popular.net.tls.context import KeyPair
from popular.net.tls.stream import TlsStream
from popular.net.transport import Octets
from tests.harness.certificates import Authority, context_of, server_of

SECONDS = 40.0


class Noting:
    """A socket that notes what is asked of it: r for a recv that brought something, R for one in vain, s for a send."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.calls = ""
        sock.setblocking(False)

    def recv(self, size: int, /) -> bytes:
        """Receive, and note it."""
        try:
            block = self._sock.recv(size)
        except BlockingIOError:
            self.calls += "R"
            raise
        self.calls += "r"
        return block

    def send(self, data: Octets, flags: int = 0, /) -> int:
        """Send, and note it."""
        self.calls += "s"
        return self._sock.send(data, flags)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@pytest.fixture(scope="module")
def pair(authority: Authority) -> KeyPair:
    return authority.sign("mail.example.org")


@pytest.mark.parametrize("version, first, wanted", [
    ("TLSv1_3", "server", "rsr" "s"),      # the ticket goes with the greeting
    ("TLSv1_3", "client", "rsr" "sRrs"),   # and by itself where the client speaks first
    ("TLSv1_2", "server", "rsrs" "s"),     # whose client waits for the end of the handshake
])
def test_a_handshake_takes_no_call_too_many(authority: Authority, pair: KeyPair, version: str, first: str,
                                            wanted: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), SECONDS)
        server, _ = listener.accept()
    may_speak = threading.Event()
    has_ticket: list[bool] = []

    def talk() -> None:
        context = context_of(authority)
        context.maximum_version = ssl.TLSVersion[version]
        with contextlib.suppress(OSError), client, context.wrap_socket(client) as tls:
            if first == "client":
                assert may_speak.wait(SECONDS)
                tls.sendall(b"x")
            tls.recv(1)
            has_ticket.append(tls.session is not None and tls.session.has_ticket)

    thread = threading.Thread(target=talk, daemon=True)
    thread.start()
    with server:
        noting = Noting(server)
        stream = TlsStream(noting, server_of([pair]), server_side=True)
        for _ in range(2):
            assert select.select([server], [], [], SECONDS)[0]
            with contextlib.suppress(BlockingIOError):
                stream.handshake()
        if first == "client":
            with pytest.raises(BlockingIOError):
                stream.recv(1)
            may_speak.set()
            assert select.select([server], [], [], SECONDS)[0]
            assert stream.recv(1) == b"x"
        stream.send(b"y")
        thread.join(SECONDS)
    assert has_ticket == [True]
    assert noting.calls == wanted


def test_one_ticket_in_a_session(pair: KeyPair) -> None:
    assert server_of([pair]).num_tickets == 1
