"""What all SASL mechanisms have in common, and the credentials that they end with.

A mechanism reads what one client says in one exchange; it knows neither wires nor databases.  Runs in the children of
pproxy.  Raises CommandRefused for what a client must not send.
"""

import re
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from popular.errors import CommandRefused

MAX_LOGIN = 250    # octets of a name or password: what USER and PASS have room for in a line of the usual length

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_ESCAPED = re.compile(rb"=(2C|3D)?")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a client says they are, and what shall prove it."""

    user: str                                # UTF-8; invalid octets are kept as surrogates (PEP 383)
    password: bytes = field(repr=False)      # as sent, with all blanks; with a `mechanism`, what that has made of it
    mechanism: str = ""                      # as in pdm.api.Request: empty means a password
    master: str = ""                         # the master user who wants the mailbox of `user`; usually empty
    how: str = "USER"                        # the name of what the client has used, for the log


class Means(Protocol):
    """What mechanisms need of whoever serves the client."""

    def salt(self, credentials: Credentials) -> bytes:
        """Return `ITERATIONS,SALT` for a user, the salt in base64; made up for one who has none."""
        ...

    def certified_user(self) -> str:
        """Return the user whom the client's certificate names; empty: none."""
        ...

    def stamp(self) -> str:
        """Return a text that no client has seen before, in the form of a message id."""
        ...


class Mechanism:
    """One exchange.  `step` gets each response of the client, until it returns credentials."""

    # The first challenge, if the client does not begin.
    challenge: bytes = b""
    # Whether the client may begin, by an initial response in the command (RFC 4422 section 3.3).
    client_begins: ClassVar[bool] = True

    def __init__(self, name: str, means: Means) -> None:
        """Begin an exchange of the mechanism `name`."""
        self.name = name
        self.means = means

    def step(self, response: bytes) -> bytes | Credentials:
        """Return the next challenge, or what is to be checked; raises CommandRefused."""
        raise NotImplementedError

    def accepted(self, proof: bytes) -> bytes:
        """Return what the client must be told before it is let in, and only acknowledges; empty: nothing.

        `proof` comes from whoever has checked the credentials.
        """
        return b""

    def refused(self) -> bytes:
        """Return what the client must be told before it hears that it is refused; empty: nothing."""
        return b""


def user_name(octets: bytes, most: int = MAX_LOGIN) -> str:
    """Return the name of a user; raises CommandRefused for one that nobody has, or of more than `most` octets."""
    if not octets:
        raise CommandRefused("no user name")
    if len(octets) > most:
        raise CommandRefused("user name too long")
    if _CONTROL.search(octets):
        raise CommandRefused("control character in user name")
    return octets.decode("utf-8", "surrogateescape")


def sasl_name(octets: bytes) -> str:
    """Return the name of a user in which = and , are escaped (RFC 5802 section 5.1); raises CommandRefused."""
    try:
        plain = _ESCAPED.sub(lambda sign: {b"2C": b",", b"3D": b"="}[sign[1]], octets)
    except KeyError:
        raise CommandRefused("user name with a bare =") from None
    return user_name(plain)


def password_of(octets: bytes) -> bytes:
    """Return a password; raises CommandRefused for one that PASS could not send either."""
    if not octets:
        raise CommandRefused("no password")
    if len(octets) > MAX_LOGIN:
        raise CommandRefused("password too long")
    if any(octet in octets for octet in b"\0\r\n"):
        raise CommandRefused("line end or NUL in password")
    return octets
