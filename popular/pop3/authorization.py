"""The AUTHORIZATION state (RFC 1939 section 4): who is the client, and what is their password?

Used in the children of pproxy.  The state only collects: whether the two are right, and the
answer to PASS, is the caller's business, and so is the handshake after STLS.  AUTH is a row to be added.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from popular.errors import CommandRefused, Leave, ProxyHeader
from popular.net.wire import Wire
from popular.pop3 import capability
from popular.pop3.command import State, command

_MAX_USER = 255    # octets of a user name

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client says about themselves."""

    user: str                                # UTF-8; octets that are not stay as surrogates (PEP 383)
    password: bytes = field(repr=False)      # as sent, blanks and all


class StartTls:
    """The client wants TLS, and has been told to begin (RFC 2595 section 4)."""


class AuthorizationState(State):
    """One try to log in: left with Credentials, unanswered, after PASS; with None, answered, after QUIT.

    After a refusal the caller answers and runs a new one, so that USER has to come again
    (RFC 1939 section 7: both commands are repeated).  Left with StartTls, answered, after STLS: the
    caller does the handshake and runs a new one, for what was said in clear counts no more.
    """

    def __init__(self, wire: Wire, caps: Sequence[str] = capability.AUTHORIZATION, *,
                 offers_tls: bool = False, needs_tls: bool = False) -> None:
        """Answer CAPA with `caps`; `offers_tls`: there is STLS; `needs_tls`: no password is taken before it."""
        self._wire = wire
        self._caps = caps
        self._offers_tls = offers_tls
        self._needs_tls = needs_tls
        self._user: str | None = None

    @command("STLS", when=lambda state: state._offers_tls)
    def stls(self) -> None:
        """Answer, forget what was sent ahead in clear, and leave for the handshake."""
        self._wire.reply(True, "begin TLS now")
        self._wire.discard_buffered()
        raise Leave(StartTls())

    @command("USER", (1, 1), raw=True, usage="needs a user name")
    def user(self, argument: bytes) -> None:
        """Note the name; blanks inside are kept, those around it are not.

        The answer is the same for everyone: who exists is not to be learned here.
        """
        if self._needs_tls:
            raise CommandRefused("no password without TLS")
        name = argument.strip()
        if not name:
            raise CommandRefused("USER needs a user name")
        if len(name) > _MAX_USER:
            raise CommandRefused("user name too long")
        if _CONTROL.search(name):
            raise CommandRefused("control character in user name")
        self._user = name.decode("utf-8", "surrogateescape")
        self._wire.reply(True, "password please")

    @command("PASS", (1, 1), raw=True, secret=True, usage="needs a password")
    def password(self, argument: bytes) -> None:
        """Leave with the credentials; every octet behind the one space is the password (RFC 1939 section 7)."""
        if self._user is None:
            raise CommandRefused("USER first")
        raise Leave(Credentials(self._user, argument))

    @command("CAPA")
    def capa(self) -> None:
        """List what this server can do (RFC 2449)."""
        self._wire.send(capability.render(self._caps))

    @command("NOOP")
    def noop(self) -> None:
        """Do nothing; RFC 1939 has it after login only, some clients send it before."""
        self._wire.reply(True)

    @command("PROXY", (0, 1), raw=True)
    def proxy(self, header: bytes = b"") -> None:
        """Leave without a word: a load balancer speaks, and takes an answer for that to its client's next command."""
        raise ProxyHeader

    @command("QUIT")
    def quit(self) -> None:
        """Say goodbye and leave without credentials."""
        self._wire.reply(True, "bye", last=True)
        raise Leave(None)
