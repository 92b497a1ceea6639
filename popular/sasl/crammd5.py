"""CRAM-MD5 (RFC 2195): a digest of the password and of what the server has just said.

It protects nothing but the password on the wire, and needs it in clear in the database: for old clients.  Runs in the
children of pproxy.  Raises CommandRefused.
"""

import re

from popular.errors import CommandRefused
from popular.sasl.mechanism import Credentials, Means, Mechanism, user_name

_RESPONSE = re.compile(rb"(.+) ([0-9a-f]{32})", re.DOTALL)


class CramMd5Mechanism(Mechanism):
    """One exchange, which the server begins."""

    client_begins = False

    def __init__(self, name: str, means: Means) -> None:
        """Begin an exchange."""
        super().__init__(name, means)
        self.challenge = means.stamp().encode()

    def step(self, response: bytes) -> Credentials:
        """Read the name and the digest."""
        match = _RESPONSE.fullmatch(response)
        if match is None:
            raise CommandRefused("CRAM-MD5 needs a name and a digest")
        return Credentials(user_name(match[1]), match[2] + b" " + self.challenge, self.name)
