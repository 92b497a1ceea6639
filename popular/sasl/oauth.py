"""The mechanisms that show a bearer token: OAUTHBEARER (RFC 7628) and the older XOAUTH2 of Google and Microsoft.

Runs in the children of pproxy.  Raises CommandRefused.
"""

import re

from popular.errors import CommandRefused
from popular.sasl.mechanism import Credentials, Mechanism, sasl_name, user_name

_TOKEN = rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)"    # RFC 6750 section 2.1
_OAUTHBEARER = re.compile(rb"([ny]|p=[A-Za-z0-9.-]+),(?:a=([^,\x01]+))?,\x01(?:[A-Za-z]+=[^\x00\x01]*\x01)*?"
                          rb"auth=" + _TOKEN + rb"\x01(?:[A-Za-z]+=[^\x00\x01]*\x01)*\x01")
_XOAUTH2 = re.compile(rb"user=([^\x01]*)\x01auth=" + _TOKEN + rb"\x01\x01")


class OAuthBearerMechanism(Mechanism):
    """One message, with whose mailbox it is (if the client says so) and the token."""

    def step(self, response: bytes) -> Credentials:
        """Read the message."""
        match = _OAUTHBEARER.fullmatch(response)
        if match is None:
            raise CommandRefused("OAUTHBEARER needs a message with a bearer token")
        if match[1].startswith(b"p="):
            raise CommandRefused("no channel binding without a mechanism for it")
        return Credentials(sasl_name(match[2]) if match[2] else "", match[3], self.name)

    def refused(self) -> bytes:
        """Return what RFC 7628 section 3.2.2 wants to be said before."""
        return b'{"status":"invalid_token"}'


class XOAuth2Mechanism(Mechanism):
    """The same in other words."""

    def step(self, response: bytes) -> Credentials:
        """Read the message."""
        match = _XOAUTH2.fullmatch(response)
        if match is None:
            raise CommandRefused("XOAUTH2 needs a message with a bearer token")
        return Credentials(user_name(match[1]) if match[1] else "", match[2], self.name)

    def refused(self) -> bytes:
        """Return what clients of these services expect."""
        return b'{"status":"401","schemes":"Bearer"}'
