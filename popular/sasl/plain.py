"""The mechanisms that show a password: PLAIN (RFC 4616) and the older LOGIN (draft-murchison-sasl-login).

Runs in the children of pproxy.  Raises CommandRefused.
"""

from popular.errors import CommandRefused
from popular.sasl.mechanism import Credentials, Means, Mechanism, password_of, user_name


class PlainMechanism(Mechanism):
    """All in one message: whose mailbox (if it is another's), user and password, separated by NUL."""

    def step(self, response: bytes) -> Credentials:
        """Read the message."""
        parts = response.split(b"\0")
        if len(parts) != 3:
            raise CommandRefused("PLAIN needs two NUL")
        wanted, own, password = parts
        user = user_name(own)
        if wanted in (b"", own):
            return Credentials(user, password_of(password))
        return Credentials(user_name(wanted), password_of(password), master=user)


class LoginMechanism(Mechanism):
    """Name and password, each after a challenge; a client may send the name at once."""

    challenge = b"Username:"

    def __init__(self, name: str, means: Means) -> None:
        """Begin an exchange."""
        super().__init__(name, means)
        self._user = ""

    def step(self, response: bytes) -> bytes | Credentials:
        """Read the name, then the password."""
        if self._user:
            return Credentials(self._user, password_of(response))
        self._user = user_name(response)
        return b"Password:"
