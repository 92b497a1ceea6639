"""SASL mechanisms from the client's side (RFC 4422): how the proxy logs in at a POP3 server.

A mechanism knows neither wires nor settings; what it says may hold secrets.  Runs in the children of pproxy, loaded in
the master if a backend needs it.  Raises ServerFault.
"""

from popular.errors import PopularError
from popular.sasl.mechanism import Credentials


class ServerFault(PopularError):
    """The server has said what the mechanism does not allow, or what cannot be true."""


class ClientMechanism:
    """One exchange.  The client begins with `initial`, and `step` answers each challenge."""

    is_proven = True    # by SCRAM only: whether the server has shown that it knows the password; +OK counts only then

    def __init__(self, name: str, credentials: Credentials) -> None:
        """Begin an exchange of the mechanism `name`; a `master` of the credentials logs in for their `user`."""
        self.name = name
        self.user = credentials.user.encode("utf-8", "surrogateescape")
        self.own = credentials.master.encode("utf-8", "surrogateescape") or self.user    # whose secret it is
        self.wanted = self.user if credentials.master else b""    # the authorization id, if it is somebody else
        self.secret = credentials.password

    def initial(self) -> bytes:
        """Return the first message."""
        raise NotImplementedError

    def step(self, challenge: bytes) -> bytes:
        """Return the answer to a challenge; raises ServerFault."""
        raise ServerFault("it asks for more than the mechanism has")


class PlainClient(ClientMechanism):
    """PLAIN (RFC 4616)."""

    def initial(self) -> bytes:
        """Return whose mailbox, user and password."""
        return b"\0".join((self.wanted, self.own, self.secret))


class ExternalClient(ClientMechanism):
    """EXTERNAL: the certificate that we have shown says who we are."""

    def initial(self) -> bytes:
        """Return whose mailbox we want."""
        return self.user


class TokenClient(ClientMechanism):
    """XOAUTH2 and OAUTHBEARER (RFC 7628): a bearer token; a refusal comes as a challenge first."""

    def initial(self) -> bytes:
        """Return user and token."""
        token = b"auth=Bearer " + self.secret
        if self.name == "XOAUTH2":
            return b"\1".join((b"user=" + self.user, token, b"", b""))
        return b"\1".join((b"n,a=" + escaped(self.user) + b",", token, b"", b""))

    def step(self, challenge: bytes) -> bytes:
        """Acknowledge the reason for a refusal, so that the server can refuse."""
        return b"" if self.name == "XOAUTH2" else b"\1"


def escaped(name: bytes) -> bytes:
    """Return a user's name for messages in which a comma ends it (RFC 5802 section 5.1)."""
    return name.replace(b"=", b"=3D").replace(b",", b"=2C")
