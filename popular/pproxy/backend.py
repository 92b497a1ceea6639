"""The proxy's connection to a backend, from dialling to the answer that ends the login.

Runs in the children of pproxy.  Backends are not trusted: their answers must be short lines that come within the login
timeout, or the backend counts as unreachable (BackendError).  After a password was sent to a backend that checks it,
silence and garbage do not count as that, but as Unanswered: nobody may be let in then.  A password is never shown, even
if a backend repeats it.
"""

import binascii
import math
import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from popular.daemon.tls import IMPLICIT, STARTTLS
from popular.errors import BackendError, CommandRefused, Gone
from popular.names import MAX_RESPONSE, clean_line
from popular.net.dial import dial
from popular.net.wire import Wire
from popular.pop3.response import Response, parse_response
from popular.pop3.xpop import preamble_lines
from popular.pproxy.objects import Backend
from popular.pproxy.routing import Route

MIN_PART = 6                               # octets of a password that are no coincidence in an answer
WITHHELD = "(text of the backend withheld)"
_OTHER_REASONS = frozenset(("IN-USE", "LOGIN-DELAY", "SYS/TEMP", "SYS/PERM"))    # RFC 2449, RFC 3206
_KINDS = {"timeout": "timeout", "closed": "closed", "reset": "closed"}           # of failures, by what a wire says


class BackendRefused(BackendError):
    """The backend refused the login; `answer` is for the client."""

    def __init__(self, answer: Response) -> None:
        super().__init__(str(answer))
        self.answer = answer

    @property
    def is_guess(self) -> bool:
        """Tell whether user or password may be wrong, since the backend gives no other reason."""
        return self.answer.code.upper() not in _OTHER_REASONS


class Unanswered(BackendError):
    """A backend that checks passwords got one, and did not say whether it is right."""


@dataclass(frozen=True, slots=True)
class BackendLink:
    """A connected backend that accepted the login."""

    wire: Wire
    first_line: bytes    # its answer to the login, without CRLF, for the client

    @classmethod
    def open(cls, route: Route, sid: str, place: Callable[[socket.socket], socket.socket],
             alive: Callable[[], None] = lambda: None, answer_by: float = math.inf) -> "BackendLink":
        """Connect and log in; `place` puts the socket where the relay wants it.

        Calls `alive` when the backend has shown that it works: when it has greeted or answered the preamble.  This must
        be before `answer_by`, a time of time.monotonic(); checking a password may take longer.
        Raises BackendRefused if the backend refuses, Unanswered if it got a password and neither accepts nor refuses
        it, and BackendError if it is unreachable.
        """
        backend = route.backend
        sock = place(dial(backend.address, min(backend.connecttimeout, answer_by - time.monotonic()), backend.source))
        wire = Wire(sock, idle=backend.logintimeout, maxline=MAX_RESPONSE)
        deadline = time.monotonic() + backend.logintimeout
        wire.deadline = min(deadline, answer_by)

        def has_answered() -> None:
            wire.deadline = deadline
            alive()

        try:
            if backend.tls == IMPLICIT:
                _secure(wire, backend)
            elif backend.tls == STARTTLS and route.protocol != "pop3":    # the record's protocol, not the backend's
                raise BackendError(f"protocol {route.protocol} has no STLS", "tls")
            login = _log_in_pop3 if route.protocol == "pop3" else _log_in_xpop
            link = cls(wire, login(wire, route, sid, has_answered))
        except BaseException:
            wire.close()
            raise
        wire.deadline = None
        return link

    def close(self) -> None:
        """Close the connection; the backend sees its end."""
        self.wire.close()


def _log_in_xpop(wire: Wire, route: Route, sid: str, alive: Callable[[], None]) -> bytes:
    """XPOP (spec 8.1): three lines, no greeting, one answer."""
    _send(wire, preamble_lines(route.mailbox, sid, route.master, route.missing), "the XPOP preamble")
    try:
        line = _accepted(wire, "the XPOP preamble")
        alive()
        return line
    except BackendRefused:
        alive()
        raise
    except BackendError as why:
        if why.kind == "timeout":
            why.kind = "silence"
        raise


def _log_in_pop3(wire: Wire, route: Route, sid: str, alive: Callable[[], None]) -> bytes:
    """POP3: wait for the greeting, then USER and PASS as the database module returned them."""
    _, greeting = _answer(wire, "the greeting")
    if not greeting.ok:
        raise BackendError(f"its greeting is {greeting}")
    alive()
    if route.backend.tls == STARTTLS:
        _start_tls(wire, route.backend)
    _want_no_more(wire, "its greeting")
    _send(wire, b"USER " + route.user.encode("utf-8", "surrogateescape") + b"\r\n", "USER")
    _accepted(wire, "USER")
    _want_no_more(wire, "its answer to USER")
    try:
        _send(wire, b"PASS " + route.password + b"\r\n", "PASS")
        return clean_line(_accepted(wire, "PASS", route.password)).encode("ascii")
    except BackendRefused:
        raise
    except BackendError as why:
        raise Unanswered(str(why), "silence" if why.kind == "timeout" else why.kind) from why.__cause__


def _want_no_more(wire: Wire, step: str) -> None:
    """Raise BackendError if unexpected data came: it would be taken for the answer to PASS or to a later command."""
    try:
        more = wire.take_buffered() or wire.sock.recv(1)
    except OSError:    # nothing has come; a lost connection will show later
        return
    if more:
        raise BackendError(f"it sent more after {step}")


def _start_tls(wire: Wire, backend: Backend) -> None:
    """Ask for TLS by STLS (RFC 2595 section 4), and put the wire under it; raises BackendError."""
    _send(wire, b"STLS\r\n", "STLS")
    _, response = _answer(wire, "STLS")
    if not response.ok:
        raise BackendError(f"its answer to STLS is {response}", "tls")
    if wire.take_buffered():    # sent in clear, perhaps by an attacker
        raise BackendError("it sent more after its answer to STLS", "tls")
    _secure(wire, backend)


def _secure(wire: Wire, backend: Backend) -> None:
    assert backend.secure is not None    # set unless tls is off
    try:
        backend.secure(wire)
    except Gone as why:
        raise BackendError(f"TLS: {why}", "timeout" if str(why) == "timeout" else "tls") from why


def _accepted(wire: Wire, step: str, secret: bytes = b"") -> bytes:
    """Return the +OK line for `step`; raises BackendRefused for -ERR.  The text of a line with `secret` is replaced.
    """
    line, response = _answer(wire, step)
    if repeats(line.partition(b" ")[2], secret):
        code = response.code if response.code.upper() in {"AUTH", *_OTHER_REASONS} else ""
        response = Response(response.ok, code, WITHHELD)
        line = str(response).encode("ascii")
    if not response.ok:
        raise BackendRefused(response)
    return line


def repeats(line: bytes, secret: bytes) -> bool:
    """Tell whether a line has `secret` or `MIN_PART` successive octets of it: as is, in other case or encoded."""
    if not secret:
        return False
    lower, low_secret = line.lower(), secret.lower()
    size = min(MIN_PART, len(secret))
    if any(low_secret[at:at + size] in lower for at in range(len(secret) - size + 1)):
        return True
    # Of base64 only the part that adjacent octets cannot change: the secret may start at any of 3 places in a group.
    codes = [binascii.b2a_base64(bytes(lead) + secret)[-(-lead * 8 // 6):(lead + len(secret)) * 8 // 6]
             for lead in range(3)]
    if any(len(code) >= size and code in line for code in codes):
        return True
    quoted = re.sub(rb"%([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), lower)
    return low_secret in quoted or secret.hex().encode() in lower


def _answer(wire: Wire, step: str) -> tuple[bytes, Response]:
    try:
        line = wire.readline()
        return line, parse_response(line)
    except Gone as why:
        raise BackendError(f"{why} while its answer to {step} was awaited", _KINDS.get(str(why), "protocol")) from why
    except (CommandRefused, ValueError) as why:
        raise BackendError(f"its answer to {step} is not POP3: {why}") from why


def _send(wire: Wire, data: bytes, step: str) -> None:
    try:
        wire.send(data)
    except Gone as why:
        raise BackendError(f"{why} while {step} was sent", _KINDS.get(str(why), "protocol")) from why
