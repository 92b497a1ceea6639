"""One session of plmtpd over a socket pair: `python -m tests.faults.lmtp SPOOL [NAME=VALUE]…` prints the answers.

On standard input is all that the client says.  A process of its own, which no fault reaches, prints what it hears, so
it is seen which answers were given before a kill.  NAME is one of `_SETTINGS`, or `tls`, with the certificate for
STARTTLS.

It is what a child of plmtpd does, with its real session, but without databases and a log; each name is a user whose
mailbox has that name.  Exit code: 0 whatever was answered, 71 when the system refused something that ends a session,
such as memory.
"""

import os
import socket
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType

from popular.errors import Gone
from popular.net.wire import Wire
from popular.networks import Networks
from popular.plmtpd.session import LmtpSession
from popular.store import uidlist
from popular.store.quota import Quota
from tests.faults import BEGIN
from tests.harness.lmtpsession import LmtpFrame, session_of

_LOADED = (uidlist,)    # what a session would load behind the marker

_SETTINGS: Mapping[str, Callable[[str], object]] = MappingProxyType({
    "missing": str, "returnpath": bool, "deliveredto": bool, "takeover": lambda text: Networks.read([text]),
    "maxnum": lambda text: Quota(0, int(text)), "quotawarning": lambda text: (int(text),), "quotamessage": str})
_FIELDS = MappingProxyType({"maxnum": "quota"})    # of LmtpConfig, where they have another name


def serve(sock: socket.socket, spool: Path, words: list[str]) -> int:
    """Serve one session; returns the exit code."""
    given = dict(word.split("=", 1) for word in words)
    certificate = given.pop("tls", "")
    frame = LmtpFrame()
    frame.wire = Wire(sock, idle=10, maxline=2048)
    session = session_of(spool, frame, None, **{
        _FIELDS.get(name, name): _SETTINGS[name](value) for name, value in given.items()})
    if certificate:
        _offer_tls(session, certificate)
    os.path.lexists(BEGIN)
    try:
        session.run()
    except Gone:
        pass
    except (MemoryError, OSError):
        return 71
    return 0


def _offer_tls(session: LmtpSession, certificate: str) -> None:
    """Have the session offer STARTTLS; what that needs is loaded in few scenes."""
    from popular.daemon.tls import STARTTLS, Tls
    from popular.net.tls.context import KeyPair
    from popular.net.tls.stream import secure
    from popular.plmtpd.objects import LmtpServer
    from tests.harness.certificates import server_of

    context = server_of([KeyPair(certificate, certificate)])
    session.server = LmtpServer("main", tls=Tls(STARTTLS, partial(secure, context=context, server_side=True), (), ()))


def _said() -> bytes:
    """Read standard input.  How many calls that takes differs, so it is none of those that faults are counted by."""
    octets, piece = b"", bytearray(65536)
    while number := os.readv(0, [piece]):
        octets += piece[:number]
    return octets


def _hear(sock: socket.socket) -> None:
    """Print all that is said, until the end of the connection."""
    with suppress(OSError):    # something was left unread there
        while block := sock.recv(65536):
            os.write(1, block)


def _talk_in_tls(sock: socket.socket, octets: bytes) -> None:
    """Begin TLS, say everything, and print what is said."""
    import ssl

    heard = b""
    while b"\r\n220 2.0.0 " not in heard:
        block = sock.recv(65536)
        if not block:
            return
        heard += block
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError), context.wrap_socket(sock, suppress_ragged_eofs=True) as secured:
        secured.sendall(octets)
        _hear(secured)


def main(spool: str, *words: str) -> int:
    """Run both sides; returns the exit code of the server."""
    octets = _said()
    ours, theirs = socket.socketpair()
    has_tls = any(word.startswith("tls=") for word in words)
    theirs.sendall(b"LHLO mta\r\nSTARTTLS\r\n" if has_tls else octets)
    if os.fork() == 0:
        ours.close()
        _talk_in_tls(theirs, octets) if has_tls else _hear(theirs)
        os._exit(0)
    if not has_tls:
        theirs.shutdown(socket.SHUT_WR)
    theirs.close()
    return serve(ours, Path(spool), list(words))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
