"""Database module `poauth`: access tokens for mailboxes at providers that take no passwords (OAuth).

    poauth provider=google|microsoft|custom backends=ID[,ID…] clientid=ID [secretfile=FILE] [KEY=VALUE]…

It knows no users and checks no passwords: other modules do.  It gives what pproxy logs in with at a backend that has
`auth = xoauth2` or `oauthbearer`, for the login that the other module has told.  The tool poauth asks the owners of
mailboxes for their consent, and stores it; `popular.pdm.oauth.gateway` has all keys.

Tokens are refreshed when they are about to expire, or when a backend has refused one, by one worker at a time.
"""

from typing import cast

from popular.pdm.api import Found, NoConsent, PdmModule
from popular.pdm.oauth.gateway import GATEWAY_OPTIONS, Gateway, prove_gateway, provider_of
from popular.pdm.options import Values

OPTIONS = GATEWAY_OPTIONS


class Module(PdmModule):
    """The consents of users of one provider."""

    API = (1, 2)
    blocking = True
    gives_tokens = True

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the words described above; raises ValueError."""
        super().__init__(ident, args)
        self.values: Values = OPTIONS.parse(args)
        self.provider = provider_of(self.values)
        self.backends = cast(tuple[str, ...], self.values["backends"])
        self._gateway: Gateway | None = None

    def open(self) -> None:
        """Load the drivers, open the store and read the secret; connections are made by the questions."""
        self._gateway = Gateway(self.ident, self.values, self.provider)

    def probe(self) -> None:
        """Read the key and, if it is there, the store; the provider is not asked."""
        prove_gateway(self.ident, self.values, self.provider)

    def close(self) -> None:
        """Close the store."""
        gateway, self._gateway = self._gateway, None
        if gateway is not None:
            gateway.close()

    def describe(self) -> str:
        """Return the arguments; a secret that was given directly is masked."""
        return OPTIONS.describe(self.args)

    def find(self, user: str, namespace: str) -> Found | None:
        """Know nobody."""
        return None

    def token(self, user: str, backend: str, deadline: float, refused: str) -> str:
        """Return an access token, from the store or fresh."""
        if backend not in self.backends:
            raise NoConsent(f"backend {backend!a} is not among backends=")
        assert self._gateway is not None, "open was not called"
        return self._gateway.token(user, deadline, refused)
