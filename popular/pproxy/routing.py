"""From a database module's verdict to where the mail is.

Used in the children of pproxy.  Records come from databases and may name what does not exist; that is
the administrator's to mend, so the client hears [SYS/TEMP] and the log tells what is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from popular.errors import PopularError
from popular.names import is_mailbox
from popular.pdm.api import Found
from popular.pproxy.objects import PROTOCOLS, Backend


class NoRoute(PopularError):
    """An authenticated user's record leads nowhere; the text says why."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where one user's mail is and how to get there."""

    backend: Backend
    protocol: str                                       # the record's, else the backend's own
    mailbox: str                                        # cxpop and xpop
    user: str                                           # pop3
    password: bytes = field(repr=False)                 # pop3
    master: bool
    is_vouched: bool = True                             # the client's password was checked, or nobody wants to

    @property
    def where(self) -> str:
        """The mailbox or, with pop3, the user at the backend, for the log."""
        return self.mailbox if self.protocol != "pop3" else self.user


def find_route(backends: Mapping[str, Backend], found: Found, given: bytes = b"") -> Route:
    """Return the route to what a database module `found` for a client who gave a password; raises NoRoute."""
    backend = backends.get(found.backend)
    if backend is None:
        raise NoRoute(f"no backend {found.backend!r} is configured")
    protocol = found.protocol or backend.protocol
    if protocol not in PROTOCOLS:
        raise NoRoute(f"no protocol {protocol!r} is known")
    if protocol == "pop3":
        if not found.user:
            raise NoRoute("protocol pop3 needs a user for the backend, and the record has none")
    elif not is_mailbox(found.mailbox):
        raise NoRoute(f"mailbox {found.mailbox!r} is not well-formed")
    return Route(backend, protocol, found.mailbox, found.user, found.password, found.master,
                 protocol != "pop3" or _is_vouched(found, given))


def _is_vouched(found: Found, given: bytes) -> bool:
    """Tell whether the module that `found` has checked the password that was given, before the backend does.

    One that does not say has done so if the backend gets another password: then nobody else could.
    """
    return found.password != given if found.verified is None else found.verified
