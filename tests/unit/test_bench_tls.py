"""The load generator over TLS: whole handshakes and resumed ones, many records, and what must not be counted."""

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.net.tls.context import KeyPair
from tests.bench.load import LoadResult, Plan, run_load
from tests.bench.population import Store
from tests.bench.scripts import Step
from tests.bench.tls import certify, client_context, tickets
from tests.bench.tlsload import OverTls
from tests.harness.certificates import Authority, server_of

MUCH = b"x" * 300_000        # of an answer: more than the buffer and many records
SCRIPT = (Step(b"", b"+OK"), Step(b"STAT\r\n", b"+OK 1 "), Step(b"RETR 1\r\n", b"+OK", True, len(MUCH)),
          Step(b"QUIT\r\n", b"+OK"))
ANSWERS = {b"STAT": b"+OK 1 17\r\n", b"RETR": b"+OK\r\n" + MUCH + b"\r\n.\r\n", b"QUIT": b"+OK\r\n"}
SECONDS = 40.0


class Server:
    """Serves one connection after the other; notes who resumed."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.resumed: list[bool] = []
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint("127.0.0.1", self._sock.getsockname()[1])
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._sock.accept()
            except OSError:
                return
            client.settimeout(SECONDS)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(OSError), client, self._context.wrap_socket(client, server_side=True) as under_tls:
                self.resumed.append(bool(under_tls.session_reused))
                under_tls.sendall(b"+OK ready\r\n")
                while command := under_tls.recv(512):
                    under_tls.sendall(ANSWERS[command.split()[0]])


@pytest.fixture(scope="module")
def pair_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store in which there is a certificate and nothing else."""
    store = Store(tmp_path_factory.mktemp("store"))
    certify(store, (os.geteuid(), os.getegid()))
    return store


@pytest.fixture
def server(pair_store: Store) -> Iterator[Server]:
    """A server with the certificate of the store."""
    with Server(context_of(pair_store)) as server:
        yield server


def context_of(store: Store) -> ssl.SSLContext:
    """Return the context of a server with the certificate of the store."""
    return server_of([KeyPair(str(store.certificate), str(store.key))])


def play(server: Server, over: OverTls) -> LoadResult:
    """Play sessions for a moment, two at once in one process."""
    return run_load(Plan([server.endpoint], [SCRIPT], 2, 0.5, 1, SECONDS, over.make))


def test_whole_handshakes_and_answers_of_many_records(server: Server, pair_store: Store) -> None:
    result = play(server, OverTls(client_context(pair_store.certificate)))
    assert result.failed == {}
    assert result.sessions > 2
    octets = len(b"+OK ready\r\n") + sum(map(len, ANSWERS.values()))
    assert result.octets == octets * result.sessions
    assert server.resumed == [False] * result.sessions


def test_every_session_is_resumed_where_there_are_tickets(server: Server, pair_store: Store) -> None:
    context = client_context(pair_store.certificate)
    result = play(server, OverTls(context, tickets(context, server.endpoint, 2)))
    assert result.failed == {}
    assert result.sessions > 2
    assert server.resumed == [False, False] + [True] * result.sessions


def test_a_session_that_is_not_resumed_has_failed(server: Server, pair_store: Store) -> None:
    context = client_context(pair_store.certificate)
    with Server(context_of(pair_store)) as other:    # with ticket keys of its own
        strange = tickets(context, other.endpoint, 2)
    result = play(server, OverTls(context, strange))
    assert result.sessions == 0
    assert set(result.failed) <= {"not resumed (greeting)", "given up"}
    assert result.failed.total() > 0


def test_no_ticket_no_measuring(pair_store: Store) -> None:
    context = context_of(pair_store)
    context.num_tickets = 0
    with Server(context) as server, pytest.raises(ConnectionError, match="no session ticket"):
        tickets(client_context(pair_store.certificate), server.endpoint, 1)


def test_another_certificate_is_not_taken(tmp_path: Path, pair_store: Store) -> None:
    with Server(server_of([Authority.make(tmp_path).sign("localhost")])) as other:
        result = play(other, OverTls(client_context(pair_store.certificate)))
    assert result.sessions == 0
    assert "TLS: CERTIFICATE_VERIFY_FAILED (greeting)" in result.failed


def test_another_version_is_not_taken(pair_store: Store) -> None:
    context = context_of(pair_store)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Server(context) as old:
        result = play(old, OverTls(client_context(pair_store.certificate)))
    assert result.sessions == 0
    assert result.failed.total() > 0


def test_another_cipher_is_not_taken(server: Server, pair_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.bench.tlsload.CIPHER", "TLS_AES_128_GCM_SHA256")
    result = play(server, OverTls(client_context(pair_store.certificate)))
    assert result.sessions == 0
    assert "under TLSv1.3 with TLS_AES_256_GCM_SHA384 (greeting)" in result.failed


def test_a_server_that_leaves_in_the_handshake_is_a_failure(pair_store: Store) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        thread = threading.Thread(target=lambda: sock.accept()[0].close())
        thread.start()
        endpoint = Endpoint("127.0.0.1", sock.getsockname()[1])
        plan = Plan([endpoint], [SCRIPT], 1, 0.5, 1, 0.1, OverTls(client_context(pair_store.certificate)).make)
        result = run_load(plan)
        thread.join(SECONDS)
    assert result.sessions == 0 and result.failed.total() > 0


def test_the_key_is_for_its_owner_only(pair_store: Store) -> None:
    assert pair_store.key.stat().st_mode & 0o777 == 0o600
    assert pair_store.certificate.stat().st_mode & 0o777 == 0o644
