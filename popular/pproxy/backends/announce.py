"""How a backend learns whom we serve: by a PROXY header before anything else, or by XCLIENT before the login.

Used in the children of pproxy and in ptestpdm; loaded only where a backend has `clientaddress`.
"""

from collections.abc import Callable
from dataclasses import dataclass

from popular.addresses import Endpoint
from popular.errors import BackendError
from popular.net import proxyheader
from popular.pop3.xclient import HOPS, build_xclient
from popular.pproxy.objects import BY_HEADER, BY_XCLIENT


@dataclass(frozen=True, slots=True)
class Announcement:
    """What one backend is told of one client."""

    how: str
    client: Endpoint
    local: Endpoint          # where the client has connected to
    tls: str                 # version of the client's TLS; empty: none
    ttl: int                 # over how many proxies the session may still go; 0: not said
    sid: str
    complain: Callable[[str], None]    # called with the reason if the backend does not want to know

    @property
    def header(self) -> bytes:
        """What comes before anything else; may be empty."""
        if self.how != BY_HEADER:
            return b""
        return proxyheader.build_header(self.client, self.local, self.sid, self.tls)

    @property
    def command(self) -> bytes:
        """The command that comes before the login, empty for none; raises BackendError at the end of too many proxies.
        """
        if self.how != BY_XCLIENT:
            return b""
        ttl = (self.ttl or HOPS) - 1
        if ttl < 1:
            raise BackendError("the session came over too many proxies; is there a loop?", "protocol")
        return build_xclient(self.client, self.local, self.sid, ttl, is_secure=bool(self.tls))
