"""TLS streams against Python's own TLS over real sockets, and against peers that break off or talk nonsense."""

import contextlib
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from popular.errors import Gone, NoTls
from popular.net.relay.pair import relay
from popular.net.tls.context import KeyPair, client_context
from popular.net.tls.stream import TLS_BLOCK, TlsStream, secure
from popular.net.transport import FilePart
from popular.net.wire import Wire
from tests.harness.certificates import Authority, server_of
from tests.harness.pairs import packets_from

Do = Callable[[Any], object]

NAME = "mail.example.org"
SECONDS = 40.0
MUCH = bytes(range(256)) * 8192    # 2 MiB, more than all buffers on the way


@pytest.fixture(scope="module")
def pair(authority: Authority) -> KeyPair:
    return authority.sign(NAME)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The two ends of a TCP connection; the first one blocks for a while."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), SECONDS)
        server, _ = listener.accept()
    with client, server:
        yield client, server


class Client(threading.Thread):
    """What a TLS client does, beside the test; `with` waits for its end."""

    def __init__(self, sock: socket.socket, cafile: str, do: Do, session: ssl.SSLSession | None = None,
                 context: ssl.SSLContext | None = None, *, is_plain: bool = False, **options: object) -> None:
        super().__init__(daemon=True)
        self.error: Exception | None = None
        self.result: object = None
        self._sock, self._do, self._is_plain = sock, do, is_plain
        self.context = context or ssl.create_default_context(cafile=cafile)
        self._session = session
        for name, value in options.items():
            setattr(self.context, name, value)

    def run(self) -> None:
        try:
            if self._is_plain:
                with self._sock as plain:
                    self.result = self._do(plain)
                return
            with self.context.wrap_socket(self._sock, server_hostname=NAME, session=self._session) as tls:
                self.result = self._do(tls)
        except Exception as why:    # seen by the test
            self.error = why

    def __enter__(self) -> "Client":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join(SECONDS)
        assert not self.is_alive()


def wire_of(server: socket.socket, pair: KeyPair, tlsmin: str = "1.2") -> Wire:
    """Return a wire under TLS, as the server."""
    wire = Wire(server, idle=SECONDS)
    wire.deadline = time.monotonic() + SECONDS
    secure(wire, server_of([pair], tlsmin), server_side=True)
    return wire


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_lines_both_ways(ends, authority: Authority, pair: KeyPair, version: str) -> None:
    client, server = ends

    def talk(tls: ssl.SSLSocket) -> tuple[bytes, str | None]:
        tls.sendall(b"USER joe\r\nPASS x\r\n")
        answer = tls.recv(100)
        version = tls.version()
        tls.unwrap().close()
        return answer, version

    with Client(client, authority.cafile, talk, maximum_version=ssl.TLSVersion[version]) as peer:
        wire = wire_of(server, pair)
        assert wire.readline() == b"USER joe"
        assert wire.readline() == b"PASS x"
        wire.reply(True, "welcome")
        with pytest.raises(Gone, match="closed"):
            wire.readline()
        wire.linger_close()
    assert peer.error is None
    assert peer.result == (b"+OK welcome\r\n", version.replace("_", "."))


def test_much_is_sent_to_a_slow_reader(ends, authority: Authority, pair: KeyPair, tmp_path: Path) -> None:
    client, server = ends
    (tmp_path / "message").write_bytes(MUCH)

    def read(tls: ssl.SSLSocket) -> bytes:
        time.sleep(0.05)    # so that the sender meets full buffers
        return b"".join(iter(lambda: tls.recv(65536), b""))

    with Client(client, authority.cafile, read) as peer, (tmp_path / "message").open("rb") as file:
        wire = wire_of(server, pair)
        wire.send(MUCH)
        wire.send_parts([b"begin", FilePart(file.fileno(), 0, len(MUCH)), b"end"])
        assert wire.bytes_out == 2 * len(MUCH) + 8
        wire.linger_close()
    assert peer.result == MUCH + b"begin" + MUCH + b"end"


@pytest.mark.parametrize("octets, reason", [
    (b"USER joe\r\n", "http request|wrong version number|packet length too long"),
    (b"GET / HTTP/1.0\r\n\r\n", "http request"),
    (b"\x16\x03\x01\x00\x05\x00\x00\x00\x00\x00", "."),
    (b"\x80" * 100, "."),
])
def test_no_tls_at_all(ends, pair: KeyPair, octets: bytes, reason: str) -> None:
    client, server = ends
    client.sendall(octets)
    with pytest.raises(Gone, match=reason):
        wire = Wire(server, idle=0.2)
        secure(wire, server_of([pair]), server_side=True)


def test_a_handshake_cut_anywhere_ends(authority: Authority, pair: KeyPair) -> None:
    """The octets of a whole handshake are known; a client sends the first n and leaves."""
    hello = _hello(authority)
    for cut in [0, 1, 4, 5, 6, 100, len(hello) - 1]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname(), SECONDS)
            server, _ = listener.accept()
        with server:
            client.sendall(hello[:cut])
            client.close()
            with pytest.raises(Gone, match="closed|reset"):
                secure(Wire(server, idle=SECONDS), server_of([pair]), server_side=True)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize("records", range(5))
def test_a_handshake_cut_behind_any_record_ends(ends, authority: Authority, pair: KeyPair, version: str,
                                                records: int) -> None:
    client, server = ends
    context = ssl.create_default_context(cafile=authority.cafile)
    context.maximum_version = ssl.TLSVersion[version]
    thread = threading.Thread(target=_shake_hands, args=(client, context, records))
    thread.start()
    try:
        with pytest.raises(Gone, match="closed|reset"):
            wire_of(server, pair).readline()
    finally:
        thread.join(SECONDS)


def _shake_hands(sock: socket.socket, context: ssl.SSLContext, records: int) -> None:
    """Send so many records of a handshake, then leave."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=NAME)
    is_done = False
    with sock:
        while not is_done:
            try:
                tls.do_handshake()
                is_done = True
            except ssl.SSLWantReadError:
                pass
            data = outgoing.read()
            while data:
                if not records:
                    return
                size = 5 + int.from_bytes(data[3:5], "big")
                sock.sendall(data[:size])
                data, records = data[size:], records - 1
            if not is_done:
                incoming.write(sock.recv(65536))


def test_a_client_that_never_reads_does_not_hold_us_for_ever(ends, authority: Authority, pair: KeyPair) -> None:
    client, server = ends
    is_over = threading.Event()
    with Client(client, authority.cafile, lambda tls: is_over.wait(SECONDS)):
        wire = wire_of(server, pair)
        wire.deadline, wire.idle = None, 0.2
        try:
            with pytest.raises(Gone, match="timeout"):
                for _ in range(100):
                    wire.send(MUCH)
        finally:
            is_over.set()
        wire.linger_close(0.0)


def test_a_client_that_says_nothing_has_until_the_deadline(ends, pair: KeyPair) -> None:
    _, server = ends
    wire = Wire(server, idle=SECONDS)
    wire.deadline = time.monotonic() + 0.1
    with pytest.raises(Gone, match="timeout"):
        secure(wire, server_of([pair]), server_side=True)


def test_old_versions_are_refused(ends, authority: Authority, pair: KeyPair) -> None:
    client, server = ends
    with Client(client, authority.cafile, lambda tls: None, maximum_version=ssl.TLSVersion.TLSv1_2) as peer:
        with pytest.raises(NoTls, match="unsupported protocol"):
            wire_of(server, pair, "1.3")
        server.close()
    assert isinstance(peer.error, ssl.SSLError)


@pytest.mark.parametrize("cipher, kind", [("ECDHE-RSA-AES128-GCM-SHA256", "rsa"),
                                          ("ECDHE-ECDSA-AES128-GCM-SHA256", "ecdsa")])
def test_keys_of_two_kinds(ends, authority: Authority, pair: KeyPair, cipher: str, kind: str) -> None:
    client, server = ends
    context = server_of([pair, authority.sign(NAME, kind="rsa")])
    peer = Client(client, authority.cafile, lambda tls: tls.cipher(), maximum_version=ssl.TLSVersion.TLSv1_2)
    peer.context.set_ciphers(cipher)
    with peer:
        assert secure(Wire(server, idle=SECONDS), context, server_side=True).cipher == cipher
    assert peer.error is None


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_sessions_are_resumed_with_another_stream_of_the_context(
        authority: Authority, pair: KeyPair, version: str) -> None:
    context = server_of([pair])
    client = ssl.create_default_context(cafile=authority.cafile)
    client.maximum_version = ssl.TLSVersion[version]
    session: Any = None
    resumed = []
    for _ in range(3):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            raw = socket.create_connection(listener.getsockname(), SECONDS)
            server, _ = listener.accept()
        with server, Client(raw, authority.cafile, lambda tls: (tls.recv(1), tls.session)[1], session, client) as peer:
            wire = Wire(server, idle=SECONDS)
            stream = secure(wire, context, server_side=True)
            wire.send(b"x")
            wire.linger_close()
        assert peer.error is None
        session = peer.result
        resumed.append(stream.is_resumed)
    assert resumed == [False, True, True]


def test_a_backend_is_verified(ends, authority: Authority, pair: KeyPair) -> None:
    for cafile, name, verify, reason in [
            (authority.cafile, NAME, True, ""), (authority.cafile, "other.example", True, "Hostname mismatch"),
            ("", NAME, True, "unable to get local issuer"), ("", "other.example", False, "")]:
        assert _connect(pair, client_context("1.2", cafile, verify=verify), name, reason)


def test_a_peer_without_a_certificate_is_refused_where_one_is_wanted(authority: Authority, pair: KeyPair) -> None:
    own = authority.sign("proxy.example.org")
    assert _connect(pair, client_context("1.2", authority.cafile, pair=own), NAME, "", authority.cafile)
    assert _connect(pair, client_context("1.2", authority.cafile), NAME, "certificate required|closed|reset",
                    authority.cafile)


@pytest.mark.parametrize("direction", ["up", "down", "both"])
def test_a_relay_under_tls(authority: Authority, pair: KeyPair, direction: str) -> None:
    """A client under TLS, a plain backend; the other way round; and TLS on both sides."""
    with contextlib.ExitStack() as stack:
        ends = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                ends.append((stack.enter_context(socket.create_connection(listener.getsockname(), SECONDS)),
                             stack.enter_context(listener.accept()[0])))
        (client, ours), (backend, theirs) = ends
        client_tls, backend_tls = direction in ("up", "both"), direction in ("down", "both")

        def send_and_read(sock: socket.socket) -> bytes:
            sock.sendall(MUCH)
            sock.sendall(b"!")
            return b"".join(iter(lambda: sock.recv(65536), b""))

        def echo(sock: socket.socket) -> None:
            got = b""
            while not got.endswith(b"!"):
                got += sock.recv(65536)
            sock.sendall(got)

        first = Client(client, authority.cafile, send_and_read, is_plain=not client_tls)
        second = Client(theirs, authority.cafile, echo, is_plain=not backend_tls)
        with first, second:
            sides = []
            for sock, is_tls in ((ours, client_tls), (backend, backend_tls)):
                wire = Wire(sock, idle=SECONDS)
                sides.append(secure(wire, server_of([pair]), server_side=True) if is_tls else sock)
            end = relay(*sides, idle=SECONDS)
            for side in sides:
                side.close()
        assert first.error is second.error is None
        assert first.result == MUCH + b"!"
        assert (end.to_server, end.to_client, end.reason) == (len(MUCH) + 1, len(MUCH) + 1, "server closed")


def _hello(authority: Authority) -> bytes:
    """Return a client's first flight."""
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context(cafile=authority.cafile).wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=NAME)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def _connect(pair: KeyPair, context: ssl.SSLContext, name: str, reason: str, clients: str = "") -> bool:
    """Tell whether a wire as client gets to the server, or fails for `reason`."""
    server_side = server_of([pair], clientca=clients)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        raw = socket.create_connection(listener.getsockname(), SECONDS)
        server, _ = listener.accept()
    server.settimeout(SECONDS)

    def serve() -> None:
        with contextlib.suppress(OSError), server_side.wrap_socket(server, server_side=True) as tls:
            tls.sendall(b"+OK\r\n")
            tls.recv(1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    wire = Wire(raw, idle=SECONDS)
    try:
        secure(wire, context, server_side=False, server_hostname=name)
        found = wire.readline() == b"+OK" and not reason
    except Gone as why:
        found = bool(reason) and re.search(reason, str(why)) is not None
        assert found, (reason, str(why))
    finally:
        wire.close()
        thread.join(SECONDS)
        server.close()
    return found


def test_a_stream_tells_when_it_has_more_than_the_socket(ends, authority: Authority, pair: KeyPair) -> None:
    client, server = ends
    with Client(client, authority.cafile, lambda tls: (tls.sendall(b"x" * TLS_BLOCK), tls.recv(1))):
        wire = wire_of(server, pair)
        stream = wire.sock
        got = 0
        while got < TLS_BLOCK:
            assert isinstance(stream, TlsStream)
            if not stream.pending:
                assert select.select([stream], [], [], SECONDS)[0]
            with contextlib.suppress(BlockingIOError):
                got += len(stream.recv(1000))
        assert got == TLS_BLOCK
        wire.send(b"x")


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_last_reply_and_the_end_of_tls_go_in_one_packet(ends, authority: Authority, pair: KeyPair,
                                                          version: str) -> None:
    client, server = ends

    may_end = threading.Event()

    def talk(tls: ssl.SSLSocket) -> tuple[bytes, bytes, int]:
        tls.recv(100)
        before = packets_from(tls)
        may_end.set()
        answers = tls.recv(100), tls.recv(100)
        end = select.poll()
        end.register(tls, select.POLLRDHUP)
        assert end.poll(SECONDS * 1000)
        return *answers, packets_from(tls) - before

    with Client(client, authority.cafile, talk, maximum_version=ssl.TLSVersion[version]) as peer:
        wire = wire_of(server, pair)
        wire.reply(True, "welcome")
        assert may_end.wait(SECONDS)
        wire.reply(True, "bye", last=True)
        wire.linger_close(0.0)
    assert peer.error is None
    assert peer.result == (b"+OK bye\r\n", b"", 1)
