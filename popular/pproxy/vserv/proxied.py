"""Proxies in front of a virtual server that tell whom they serve: by a PROXY header, or by XCLIENT.

Runs in the children of pproxy, and reads headers in the process that screens clients; loaded only where a virtual
server has `trusted`.  Whoever is trusted may name any address, so nobody else is asked (proxy-protocol.txt section 5).
"""

import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from popular.addresses import Endpoint
from popular.daemon.child.session import Connection, note_limited
from popular.daemon.tls import IMPLICIT, Tls
from popular.errors import Gone
from popular.log.writer import Log
from popular.net.proxyheader import MAX_PROXY_HEADER, BadHeader, ClientOrigin, read_header
from popular.net.wire import Wire
from popular.networks import ClientAddress, Networks
from popular.pop3.authorization import MAX_XCLIENT
from popular.pop3.command import State, command
from popular.pop3.dialogue import Dialogue
from popular.pop3.xclient import parse_xclient
from popular.pproxy import messages

_CHECK_SECONDS = 10.0    # for which a health check may last
_CHECK_ERRORS = 3

_CHECK = ClientOrigin()


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies of one virtual server."""

    owner: str               # its id
    trusted: Networks
    has_header: bool         # each connection begins with a PROXY header; else XCLIENT is understood
    seconds: float = 5.0     # until when the header must be there
    maxline: int = MAX_XCLIENT    # octets of a line of a proxy, until it has said whom it serves

    def trusts(self, peer: Endpoint) -> bool:
        """Tell whether a peer may say whom it serves."""
        return ClientAddress.of(peer.host) in self.trusted

    def read_xclient(self, argument: bytes) -> ClientOrigin:
        """Return what XCLIENT says; raises CommandRefused."""
        return parse_xclient(argument)

    def admit(self, peer: Endpoint, log: Log, count: Callable[[str], None]) -> bool:
        """Tell whether a peer may send a header; count and log it if not."""
        if not self.trusts(peer):
            self.refuse(peer, "not trusted", log, count)
            return False
        return True

    def refuse(self, peer: Endpoint, why: str, log: Log, count: Callable[[str], None]) -> None:
        """Count and log a connection that has no good header."""
        count("proxies_refused")
        note_limited(log, peer.host, messages.PROXY_REFUSED, peer=str(peer), vserv=self.owner, why=why)

    def look(self, sock: socket.socket, peer: Endpoint, known: bytes = b"") -> tuple[ClientOrigin, int, bytes] | None:
        """Look at what has come after `known`, without reading it.

        Return what the header says, its length, and what was seen; while it is not whole, the length is 0.  Return None
        if nothing has come.  An ClientOrigin without a client is a health check.  Raises BadHeader.
        """
        try:
            seen = sock.recv(MAX_PROXY_HEADER - len(known), socket.MSG_PEEK)
        except BlockingIOError:
            return None
        except OSError:
            seen = b""
        if not seen and not known:    # who connects and says nothing looks whether the port is open
            return _CHECK, len(known), seen
        if not seen:
            raise BadHeader("cut off")
        found = read_header(known + seen)
        if found is None:
            return _CHECK, 0, seen
        origin, size = found
        # Version 1 of health checks names the balancer itself (section 2.1).
        return (_CHECK if origin.client == peer else origin), size, seen

    def receive(self, sock: socket.socket, peer: Endpoint) -> ClientOrigin:
        """Read the header, and not an octet more; raises BadHeader."""
        until = time.monotonic() + self.seconds
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        known = b""
        while True:
            looked = self.look(sock, peer, known)
            if looked is None:
                left = until - time.monotonic()
                if left <= 0 or not poll.poll(left * 1000):
                    raise BadHeader("late")
                continue
            origin, size, seen = looked
            taken = size - len(known) if size else len(seen)
            if taken and len(sock.recv(taken)) != taken:
                raise BadHeader("urgent data in it")
            if size or not seen:
                return origin
            known += seen

    def meet(self, connection: Connection, log: Log, count: Callable[[str], None], banner: str, tls: Tls | None,
             ) -> Connection | None:
        """Read the header; return the connection as one of the client whom it names.

        Return None if there is nothing more to do: a health check was answered, or there is no good header.
        """
        peer = connection.peer
        try:
            origin = self.receive(connection.sock, peer)
        except BadHeader as why:
            self.refuse(peer, str(why), log, count)
            return None
        if origin.client is None:
            count("health_checks")
            _answer(connection, banner, tls if tls is not None and tls.mode == IMPLICIT else None)
            return None
        return replace(connection, peer=origin.client, via=peer, origin=origin)


class _HealthCheck(State):
    """What a balancer may say that only looks whether we are here."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    @command("NOOP")
    def noop(self) -> None:
        """Do nothing."""
        self._wire.reply(True)

    @command("QUIT")
    def quit(self) -> None:
        """Say goodbye."""
        self._wire.reply(True, "bye", last=True)
        raise Gone("quit")


def _answer(connection: Connection, banner: str, tls: Tls | None) -> None:
    """Greet a health check, and hear what it says; it cannot log in."""
    wire = Wire(connection.sock, idle=_CHECK_SECONDS)
    wire.deadline = time.monotonic() + _CHECK_SECONDS
    try:
        if tls is not None:
            tls.secure(wire)
        if not connection.is_greeted:
            wire.reply(True, banner)
        Dialogue(wire, maxerrors=_CHECK_ERRORS).run(_HealthCheck(wire))
    except Gone:
        pass    # that they have is no news
    finally:
        wire.linger_close(0.0)
