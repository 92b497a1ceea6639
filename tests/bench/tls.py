"""What TLS is measured with: one certificate and one version and cipher for everybody, and tickets to resume with.

Runs in the benchmark, which makes the certificate, and in the load generator, which takes no other and
counts a session with another version or cipher as failed.
"""

import os
import socket
import ssl
from pathlib import Path

from popular.addresses import Endpoint
from tests.bench.foreground import find_program
from tests.bench.population import Store
from tests.harness.certificates import Authority

NAME = "localhost"
VERSION = "TLSv1.3"
CIPHER = "TLS_AES_256_GCM_SHA384"       # the first choice of OpenSSL, with which all of them work
CURVE = "prime256v1"                    # for the exchange of keys: Perdition knows no other, and would ask again

_PARTIAL_CHAIN = 0x80000                # X509_V_FLAG_PARTIAL_CHAIN: the certificate itself is trusted
_SECONDS = 10.0


def missing() -> str:
    """Return what is missing here for TLS, or an empty text."""
    return "" if find_program("openssl") else "openssl is not installed"


def certify(store: Store, owner: tuple[int, int]) -> None:
    """Make a key and its certificate (ECDSA, P-256), which `owner` (uid and gid) may read."""
    store.secrets.mkdir()
    store.secrets.chmod(0o755)
    pair = Authority.make(store.secrets).sign(NAME)
    for made, path in ((pair.certificate, store.certificate), (pair.key, store.key)):
        os.rename(made, path)
        os.chown(path, *owner)
        path.chmod(0o600 if path == store.key else 0o644)


def client_context(certificate: Path) -> ssl.SSLContext:
    """Return what the load generator connects with: it trusts this one certificate and speaks one version."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.set_ecdh_curve(CURVE)
    context.load_verify_locations(certificate)
    context.verify_flags |= ssl.VerifyFlags(_PARTIAL_CHAIN)
    return context


def tickets(context: ssl.SSLContext, endpoint: Endpoint, count: int) -> list[ssl.SSLSession]:
    """Return a ticket each from `count` sessions that do nothing else; raises OSError."""
    return [_ticket(context, endpoint) for _ in range(count)]


def _ticket(context: ssl.SSLContext, endpoint: Endpoint) -> ssl.SSLSession:
    with socket.create_connection((endpoint.host, endpoint.port), _SECONDS) as sock:
        with context.wrap_socket(sock, server_hostname=NAME) as tls:
            tls.recv(512)       # tickets come before the greeting
            tls.sendall(b"QUIT\r\n")
            tls.recv(512)
            ticket = tls.session
            _say_goodbye(tls)
            if ticket is None or not ticket.has_ticket:
                raise ConnectionError("no session ticket was given")
            return ticket


def _say_goodbye(tls: ssl.SSLSocket) -> None:
    """End TLS as it wants to be ended: OpenSSL resumes no session of which the end is missing."""
    try:
        tls.unwrap()
    except OSError:
        pass
