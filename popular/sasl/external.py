"""EXTERNAL (RFC 4422 appendix A): TLS has shown who the client is, by a certificate.

Runs in the children of pproxy.  Raises CommandRefused.
"""

from popular.sasl.mechanism import Credentials, Mechanism, user_name


class ExternalMechanism(Mechanism):
    """One message: whose mailbox the client wants; empty: their own."""

    def step(self, response: bytes) -> Credentials:
        """Read the message."""
        own = self.means.certified_user().encode("utf-8", "surrogateescape")
        user = user_name(own)
        if response in (b"", own):
            return Credentials(user, b"", self.name)
        return Credentials(user_name(response), b"", self.name, user)
