"""Certificates and the contexts that TLS streams begin with.

Made in the master, with the rights of the service user, before it forks: one child can resume sessions of
another, because all have the ticket keys of the context.  Raises StartError with the file and
OpenSSL's reason; never shows the content of a key.
"""

import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from popular.errors import StartError
from popular.net.tls.stream import reason_of

VERSIONS: Mapping[str, ssl.TLSVersion] = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"    # of TLS 1.2 (RFC 9325 section 4.2); those of 1.3 are all good

_PARTIAL_CHAIN = 0x80000      # X509_V_FLAG_PARTIAL_CHAIN: the certificate itself is trusted
_ANY_TIME = 0x200000          # X509_V_FLAG_NO_CHECK_TIME: also when it has expired
_TICKETS = 1                  # of TLS 1.3; OpenSSL would send two, for clients that open several connections at once
_MAX_PEM = 1 << 20            # octets of a file that are searched for mistakes
_STEPS = 10                   # of a handshake in memory, which takes four


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Files of one certificate: its chain, the server's own first, and its key, which may be in the same file."""

    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Certificate:
    """A pair whose key fits, and the content of the certificate."""

    pair: KeyPair
    names: tuple[str, ...]    # DNS names, lower case, `*.` before some; IP addresses
    until: float              # seconds since 1970
    since: float = 0.0        # the same

    @property
    def path(self) -> str:
        """The certificate's file."""
        return self.pair.certificate

    def days_left(self, now: float | None = None) -> int:
        """Return the whole days until it expires, negative when it has expired."""
        return int((self.until - (time.time() if now is None else now)) // 86400)


def server_context(certificates: Sequence[Certificate], tlsmin: str, ciphers: str = CIPHERS,
                   clientca: str = "", *, demands: bool = True) -> ssl.SSLContext:
    """Return a context for a server with these certificates, at least one; raises StartError.

    The first is for clients that name no host, or a host that no certificate has.  Certificates with the same
    names and keys of different kinds (ECDSA, RSA) are offered together.  With `clientca`
    only peers with a certificate of an authority in that file are accepted, or, unless it `demands` one, none.
    """
    groups: dict[tuple[str, ...], ssl.SSLContext] = {}
    by_name: dict[str, ssl.SSLContext] = {}
    for certificate in certificates:
        context = groups.get(certificate.names)
        if context is None:
            context = groups[certificate.names] = _context(ssl.PROTOCOL_TLS_SERVER, tlsmin, ciphers)
            context.num_tickets = _TICKETS
            if clientca:    # of each context, because a context chosen by name must know the authorities
                _trust(context, clientca)
                context.verify_mode = ssl.CERT_REQUIRED if demands else ssl.CERT_OPTIONAL
        _load(context, certificate.pair)
        for name in certificate.names:
            by_name.setdefault(name, context)
    first = next(iter(groups.values()))
    if len(groups) > 1:
        first.sni_callback = _Chooser(by_name).choose
    return first


def client_context(tlsmin: str, cafile: str = "", *, verify: bool = True,
                   pair: KeyPair | None = None) -> ssl.SSLContext:
    """Return a context toward a backend; without `cafile` the system's authorities apply; raises StartError."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, tlsmin, CIPHERS)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif cafile:
        _trust(context, cafile)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if pair is not None:
        _load(context, pair)
    return context


def read_certificate(pair: KeyPair) -> Certificate:
    """Return what the certificate says, and prove that the key fits; raises StartError.

    This needs a handshake in memory with a client that trusts this certificate: the library shows the content of
    verified certificates only.
    """
    server = _context(ssl.PROTOCOL_TLS_SERVER, "1.2", "DEFAULT")
    _load(server, pair)
    client = _context(ssl.PROTOCOL_TLS_CLIENT, "1.2", "DEFAULT")
    client.check_hostname = False
    _trust(client, pair.certificate)
    client.verify_flags |= ssl.VerifyFlags(_PARTIAL_CHAIN) | ssl.VerifyFlags(_ANY_TIME)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True))
    for number in range(_STEPS):
        end = ends[number % 2]
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLError as why:
            raise StartError(f"{pair.certificate}: {reason_of(why)}") from why
        if end is ends[0]:
            break
    found = ends[0].getpeercert()
    assert found is not None    # it was demanded
    return Certificate(pair, _names(found), ssl.cert_time_to_seconds(str(found["notAfter"])),
                       ssl.cert_time_to_seconds(str(found["notBefore"])))


class _Chooser:
    """Finds the context of the certificate for the name that a client asks for (SNI, RFC 6066 section 3)."""

    def __init__(self, by_name: Mapping[str, ssl.SSLContext]) -> None:
        self._by_name = by_name

    def choose(self, tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, first: ssl.SSLContext) -> None:
        """Change the context of a handshake under way; an unknown name leaves the first."""
        wanted = (name or "").lower()
        found = self._by_name.get(wanted) or self._by_name.get(f"*.{wanted.partition('.')[2]}")
        if found is not None:
            tls.context = found


def _context(protocol: int, tlsmin: str, ciphers: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = VERSIONS[tlsmin]
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION
    try:
        context.set_ciphers(ciphers)
    except ssl.SSLError as why:
        raise StartError(f"ciphers {ciphers}: {reason_of(why)}") from why
    return context


def _load(context: ssl.SSLContext, pair: KeyPair) -> None:
    try:
        # A key with a passphrase must not ask for it on a terminal.
        context.load_cert_chain(pair.certificate, pair.key, password=lambda: b"")
    except ssl.SSLError as why:
        if why.reason == "KEY_VALUES_MISMATCH":
            raise StartError(f"key {pair.key} does not belong to certificate {pair.certificate}") from why
        raise StartError(_unusable(pair) or f"{pair.certificate}, {pair.key}: {reason_of(why)}") from why
    except OSError as why:
        raise StartError(f"{_unreadable(pair)}: {why.strerror}") from why


def _unusable(pair: KeyPair) -> str:
    """Return which file is wrong, and why, where OpenSSL only says `pem lib`; empty if unknown."""
    for path, kind in ((pair.certificate, "CERTIFICATE"), (pair.key, "PRIVATE KEY")):
        with open(path, "rb") as file:
            text = file.read(_MAX_PEM)
        if f"{kind}-----".encode() not in text:
            return f"{path}: it contains no {kind.lower()} in PEM format"
    if b"ENCRYPTED" in text:
        return f"key {pair.key}: it must not have a passphrase"
    return ""


def _unreadable(pair: KeyPair) -> str:
    """Return which of the two files cannot be read; OpenSSL does not say."""
    for path in (pair.certificate, pair.key):
        try:
            with open(path, "rb"):
                pass
        except OSError:
            return path
    return pair.certificate


def _trust(context: ssl.SSLContext, cafile: str) -> None:
    try:
        context.load_verify_locations(cafile)
    except ssl.SSLError as why:
        raise StartError(f"{cafile}: {reason_of(why)}") from why
    except OSError as why:
        raise StartError(f"{cafile}: {why.strerror}") from why


def _names(found: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names in `subjectAltName`, or else the common name, sorted."""
    alternatives = found.get("subjectAltName")
    names = [value.lower() for kind, value in (alternatives if isinstance(alternatives, tuple) else ())
             if kind in ("DNS", "IP Address")]
    subject = found.get("subject")
    common = [value.lower() for part in (subject if isinstance(subject, tuple) else ()) for kind, value in part
              if kind == "commonName"]
    return tuple(sorted(set(names or common)))
