"""The AUTHORIZATION state (RFC 1939 section 4): who is the client, and what is their password?

Used in the children of pproxy.  The state only collects the two, by USER and PASS or by AUTH (RFC 5034).  The caller
checks them and answers PASS or AUTH; it also does the handshake after STLS.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from popular.errors import CommandRefused, Leave, ProxyHeader
from popular.net.wire import Wire
from popular.pop3 import capability
from popular.pop3.command import command
from popular.pop3.exchange import MAX_SASL_LINE, SaslExchange
from popular.pop3.languages import SpeakingState
from popular.sasl.mechanism import Credentials, Mechanism, user_name

if TYPE_CHECKING:
    from popular.net.proxyheader import ClientOrigin

MAX_XCLIENT = 1024    # octets of this command
_MAX_USER = 255       # octets of a user name

_DIGEST = re.compile(rb"[0-9a-f]{32}")


class StartTls:
    """The client wants TLS, and was told to begin (RFC 2595 section 4)."""


@dataclass(frozen=True, slots=True)
class Named:
    """A proxy has named the client whom it serves."""

    origin: "ClientOrigin"


class AuthorizationState(SpeakingState):
    """One attempt to log in.

    It ends with Credentials after PASS or AUTH, unanswered, or with None after QUIT, answered.

    After a refusal the caller answers and runs a new state, so that the client must send USER again
    (RFC 1939 section 7: both commands are repeated).  After STLS it ends with StartTls, answered: the
    caller does the handshake and runs a new state, since what was sent in clear no longer counts.  After
    XCLIENT it ends with Named, unanswered.
    """

    def __init__(self, wire: Wire, caps: Sequence[str] = capability.AUTHORIZATION, *,
                 offers_tls: bool = False, needs_tls: bool = False, mechanisms: Sequence[str] = (),
                 has_more_in_tls: bool = False,
                 begin: Callable[[str], Mechanism] | None = None, timestamp: str = "",
                 read_xclient: "Callable[[bytes], ClientOrigin] | None" = None,
                 prepare: Callable[[bytes], bytes] | None = None) -> None:
        """Answer CAPA with `caps`; `offers_tls`: STLS exists; `needs_tls`: no password is accepted before STLS.

        AUTH exists if there are `mechanisms`, which `begin` makes by their names, or will be after STLS
        (`has_more_in_tls`), APOP if the greeting had a `timestamp`, and XCLIENT with `read_xclient`, which understands
        its argument.  LANG and UTF8 exist if `caps` tells them.  `prepare` makes what USER, PASS and APOP say uniform,
        or raises ValueError.
        """
        self._wire = wire
        self._caps = caps
        self._offers_tls = offers_tls
        self._needs_tls = needs_tls
        self._mechanisms = mechanisms
        self._has_more_in_tls = has_more_in_tls
        self._begin = begin
        self._timestamp = timestamp
        self._read_xclient = read_xclient
        self._prepare = prepare
        self._has_lang = "LANG" in caps
        self._has_utf8 = "UTF8" in caps or "UTF8 USER" in caps
        self._user: str | None = None
        self.exchange: SaslExchange | None = None    # that has led to the credentials; None: USER and PASS have

    @command("STLS", when=lambda state: state._offers_tls)
    def stls(self) -> None:
        """Answer, discard what was sent ahead in clear, and leave for the handshake."""
        self._wire.reply(True, "begin TLS now")
        self._wire.discard_buffered()
        self._wire.language = None    # chosen in clear
        raise Leave(StartTls())

    @command("XCLIENT", (1, 1), raw=True, usage="needs ADDR=", maxline=MAX_XCLIENT,
             when=lambda state: state._read_xclient is not None)
    def xclient(self, argument: bytes) -> None:
        """Leave, unanswered, with the client that a proxy names (popular.pop3.xclient)."""
        assert self._read_xclient is not None    # else the command does not exist
        raise Leave(Named(self._read_xclient(argument)))

    @command("USER", (1, 1), raw=True, usage="needs a user name")
    def user(self, argument: bytes) -> None:
        """Note the name; blanks inside it are kept, those around it are removed.

        The answer is the same for all names, so that nobody learns which users exist.
        """
        if self._needs_tls:
            raise CommandRefused("no password without TLS")
        name = self._prepared(argument.strip())
        if not name:
            raise CommandRefused("USER needs a user name")
        self._user = user_name(name, _MAX_USER)
        self._wire.reply(True, "password please")

    @command("PASS", (1, 1), raw=True, secret=True, usage="needs a password")
    def password(self, argument: bytes) -> None:
        """Leave with the credentials; every octet after the one space is the password (RFC 1939 section 7)."""
        if self._user is None:
            raise CommandRefused("USER first")
        raise Leave(Credentials(self._user, self._prepared(argument)))

    def _prepared(self, argument: bytes) -> bytes:
        if self._prepare is None or argument.isascii():
            return argument
        try:
            return self._prepare(argument)
        except ValueError:
            raise CommandRefused("not UTF-8, or with characters that may not be used") from None

    @command("AUTH", (0, 2), secret=True, maxline=MAX_SASL_LINE, usage="needs a mechanism",
             when=lambda state: state._mechanisms or state._has_more_in_tls)
    def auth(self, name: bytes = b"", initial: bytes | None = None) -> None:
        """Leave with what an exchange of the mechanism has shown.

        Without a name, list the mechanisms, which is older than CAPA and still done by some clients.
        """
        if not name and self._mechanisms:
            self._wire.send(capability.render(self._mechanisms, self._wire.said(capability.HEAD)))
            return
        wanted = name.decode("ascii", "replace").upper()
        if self._begin is None or wanted not in self._mechanisms:
            raise CommandRefused("no such mechanism without TLS" if self._has_more_in_tls else "no such mechanism")
        exchange = SaslExchange(self._wire, self._begin(wanted))
        credentials = exchange.run(initial)
        self.exchange = exchange
        raise Leave(replace(credentials, how=wanted))

    @command("APOP", (1, 1), raw=True, secret=True, usage="needs a user name and a digest",
             when=lambda state: state._timestamp)
    def apop(self, argument: bytes) -> None:
        """Leave with a name, and the digest of the password and of the greeting's timestamp (RFC 1939 section 7)."""
        name, _, digest = argument.rpartition(b" ")
        if not _DIGEST.fullmatch(digest):
            raise CommandRefused("APOP needs a user name and a digest")
        user = user_name(self._prepared(name.strip()))
        raise Leave(Credentials(user, digest + b" " + self._timestamp.encode(), "APOP", how="APOP"))

    @command("CAPA")
    def capa(self) -> None:
        """List what this server can do (RFC 2449)."""
        self._wire.send(capability.render(self._caps, self._wire.said(capability.HEAD)))

    @command("UTF8", when=lambda state: state._has_utf8)
    def utf8(self) -> None:
        """Agree (RFC 6856); messages are sent as they lie in any case, and our own texts are ASCII."""
        self._wire.reply(True, "UTF-8 it is")

    @command("NOOP")
    def noop(self) -> None:
        """Do nothing; RFC 1939 allows NOOP only after the login, but some clients send it before."""
        self._wire.reply(True)

    @command("PROXY", (0, 1), raw=True)
    def proxy(self, header: bytes = b"") -> None:
        """Leave without an answer: a load balancer would pass it on as the answer to its client's next command."""
        raise ProxyHeader

    @command("QUIT")
    def quit(self) -> None:
        """Say goodbye and leave without credentials."""
        self._wire.reply(True, "bye", last=True)
        raise Leave(None)
