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
from typing import TYPE_CHECKING

from popular.daemon.tls import IMPLICIT, STARTTLS
from popular.errors import BackendError, CommandRefused, Gone
from popular.names import MAX_RESPONSE, clean_line
from popular.net.dial import dial
from popular.net.wire import Wire
from popular.pop3.response import Response, parse_response
from popular.pop3.xpop import preamble_lines
from popular.pproxy.backends.routing import Route
from popular.pproxy.objects import Backend

if TYPE_CHECKING:
    from popular.pproxy.backends.announce import Announcement

_MAX_CAPABILITIES = 100                    # lines
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
             alive: Callable[[], None] = lambda: None, answer_by: float = math.inf,
             announcement: "Announcement | None" = None) -> "BackendLink":
        """Connect and log in; `place` puts the socket where the relay wants it; an `announcement` tells whom we serve.

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
            if announcement is not None:
                if route.protocol != "pop3":    # the record's protocol, as below
                    raise BackendError(f"protocol {route.protocol} has no place for the client's address")
                if announcement.header:
                    send_step(wire, announcement.header, "the PROXY header")
            if backend.tls == IMPLICIT:
                _secure(wire, backend)
            elif backend.tls == STARTTLS and route.protocol != "pop3":    # the record's protocol, not the backend's
                raise BackendError(f"protocol {route.protocol} has no STLS", "tls")
            link = cls(wire, _log_in_pop3(wire, route, has_answered, announcement) if route.protocol == "pop3"
                       else _log_in_xpop(wire, route, sid, has_answered))
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
    lines = preamble_lines(route.mailbox, sid, route.master, route.missing, route.language)
    send_step(wire, lines, "the XPOP preamble")
    try:
        line = accepting_line(wire, "the XPOP preamble")
        alive()
        return line
    except BackendRefused:
        alive()
        raise
    except BackendError as why:
        if why.kind == "timeout":
            why.kind = "silence"
        raise


def _log_in_pop3(wire: Wire, route: Route, alive: Callable[[], None], announcement: "Announcement | None") -> bytes:
    """POP3: wait for the greeting, then log in as the database module and the backend's settings have it."""
    greeting = _answer(wire, "the greeting")
    if not greeting.ok:
        raise BackendError(f"its greeting is {greeting}")
    alive()
    if route.backend.tls == STARTTLS:
        _start_tls(wire, route.backend)
    _want_no_more(wire, "its greeting")
    if announcement is not None and announcement.command:
        _name_client(wire, announcement, is_offered=greeting.code == "XCLIENT")
    login = route.backend.login
    line = (show_password(wire, route.user, route.password) if login is None
            else login.log_in(wire, greeting, route.user, route.password))
    return clean_line(line).encode("ascii")


def show_password(wire: Wire, name: str, password: bytes) -> bytes:
    """Say USER and PASS; return the line that accepts them.  Raises BackendRefused, Unanswered and BackendError."""
    send_step(wire, b"USER " + name.encode("utf-8", "surrogateescape") + b"\r\n", "USER")
    accepting_line(wire, "USER")
    _want_no_more(wire, "its answer to USER")
    return final_answer(wire, b"PASS " + password + b"\r\n", "PASS", password)


def final_answer(wire: Wire, line: bytes, step: str, secret: bytes) -> bytes:
    """Send what may let a user in; return the line that accepts it.  Raises BackendRefused and Unanswered."""
    try:
        send_step(wire, line, step)
        return accepting_line(wire, step, secret)
    except BackendRefused:
        raise
    except BackendError as why:
        raise unanswered(why) from why.__cause__


def unanswered(why: BackendError) -> "Unanswered":
    """Return the error for a login that a backend has neither accepted nor refused."""
    return Unanswered(str(why), "silence" if why.kind == "timeout" else why.kind)


def _name_client(wire: Wire, announcement: "Announcement", *, is_offered: bool) -> None:
    """Say XCLIENT if it is offered, in the greeting or by CAPA; the login goes on without it."""
    if not (is_offered or b"XCLIENT" in backend_capabilities(wire)):
        announcement.complain("it does not offer XCLIENT to us")
        return
    send_step(wire, announcement.command, "XCLIENT")
    response = _answer(wire, "XCLIENT")
    if not response.ok:
        announcement.complain(f"its answer to XCLIENT is {response}")
    _want_no_more(wire, "its answer to XCLIENT")


def _want_no_more(wire: Wire, step: str) -> None:
    """Raise BackendError if unexpected data came: it would be taken for the answer to PASS or to a later command."""
    try:
        more = wire.take_buffered() or wire.sock.recv(1)
    except OSError:    # nothing has come; a lost connection will show later
        return
    if more:
        raise BackendError(f"it sent more after {step}")


def backend_capabilities(wire: Wire) -> list[bytes]:
    """Return the lines of the answer to CAPA, in capitals; none if it is refused.  Raises BackendError."""
    send_step(wire, b"CAPA\r\n", "CAPA")
    response = _answer(wire, "CAPA")
    found: list[bytes] = []
    while response.ok and (line := line_for(wire, "CAPA")) != b".":
        found.append(line.strip().upper())
        if len(found) > _MAX_CAPABILITIES:
            raise BackendError("its answer to CAPA has no end")
    return found


def _start_tls(wire: Wire, backend: Backend) -> None:
    """Ask for TLS by STLS (RFC 2595 section 4), and put the wire under it; raises BackendError."""
    send_step(wire, b"STLS\r\n", "STLS")
    response = _answer(wire, "STLS")
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


def accepting_line(wire: Wire, step: str, secret: bytes = b"") -> bytes:
    """Return the +OK line for `step`; raises BackendRefused for -ERR, and BackendError for what is neither.

    The text of a line with `secret` is replaced.
    """
    return judged(line_for(wire, step), step, secret)


def judged(line: bytes, step: str, secret: bytes) -> bytes:
    """Do the same with a line that was read already."""
    response = _response(line, step)
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


def line_for(wire: Wire, step: str) -> bytes:
    """Return the next line of the backend; raises BackendError if there is none."""
    try:
        return wire.readline()
    except Gone as why:
        raise BackendError(f"{why} while its answer to {step} was awaited", _KINDS.get(str(why), "protocol")) from why
    except CommandRefused as why:
        raise BackendError(f"its answer to {step} is not POP3: {why}") from why


def _answer(wire: Wire, step: str) -> Response:
    return _response(line_for(wire, step), step)


def _response(line: bytes, step: str) -> Response:
    try:
        return parse_response(line)
    except ValueError as why:
        raise BackendError(f"its answer to {step} is not POP3: {why}") from why


def send_step(wire: Wire, data: bytes, step: str) -> None:
    """Send something to the backend; raises BackendError."""
    try:
        wire.send(data)
    except Gone as why:
        raise BackendError(f"{why} while {step} was sent", _KINDS.get(str(why), "protocol")) from why
