"""What a database module (PDM) sees: the question, the answers, and the class it derives from.

`pdm_modules/*` import only this module, `popular.pdm.secrets`, `records`, `cdbfile` and `pattern`, and
their driver.  A module is a file `pdm_NAME.py` that exports one class `Module`;
`pdm_modules/pdm_template.py` is a commented start.  The constructor runs in the master (and in the
starter, when the configuration is checked) and may only look at its arguments; `open`, `check`,
`auth`, `find` and `close` run in the child (or PDM worker) that asks.

A module that cannot tell answers FAILED, or raises PdmError with a text for the log; any other
exception is FAILED too, but the log then shows its type and place only, as its text may hold
secrets.  An OSError is logged with its reason and file name.
"""

import shlex
from dataclasses import dataclass, field
from enum import Enum

from popular.errors import PdmError

__all__ = ["API", "UNKNOWN", "Answer", "CannotFind", "Found", "Outcome", "PdmError", "PdmModule", "Request"]

API = (1, 1)    # major must match a module's, a module's minor may not be newer; 1.1 brought `find` and `verified`


class Outcome(Enum):
    """What a module knows of a user."""

    UNKNOWN = "unknown"    # not one of mine: ask the next module
    DENIED = "denied"      # mine, but the password is wrong or the account is closed
    OK = "ok"              # mine, and the password is right, or the backend will check it (see Found.verified)
    FAILED = "failed"      # I cannot tell: the database is broken or away


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks: what the proxy offers to the modules (spec 7.1)."""

    user: str                              # as the client sent it; octets that are not UTF-8 are surrogates
    password: bytes = field(repr=False)    # octets to the end: no charset is assumed
    ip: str                                # the client's address, dotted quad or IPv6 without brackets
    protocol: str                          # the client's protocol: "pop3"
    namespace: str                         # of the virtual server that the client came in on
    deadline: float = float("inf")         # the answer is wanted by then, in seconds of time.monotonic()

    def until(self, deadline: float) -> "Request":
        """Return the same question with a deadline."""
        return Request(self.user, self.password, self.ip, self.protocol, self.namespace, deadline)


@dataclass(frozen=True, slots=True)
class Found:
    """Where a user's mail is (spec 7.2)."""

    backend: str                           # id of a configured backend
    protocol: str = ""                     # cxpop, xpop or pop3; empty: the backend's own
    mailbox: str = ""                      # for cxpop and xpop
    user: str = ""                         # for pop3: login at the backend
    password: bytes = field(default=b"", repr=False)    # for pop3
    master: bool = False                   # a master session: becomes the XPOP flag M
    # API 1.1.  With OK and pop3, whether the module has checked the client's password: False leaves that to the
    # backend, and until it has done so nobody hears +OK.  None, as of modules that do not say: it has, unless what the
    # backend gets is the client's own password.  Two places are equal whoever has checked it.
    verified: bool | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """A module's answer; DENIED should carry `found` too, for a module that vouches in the second pass."""

    outcome: Outcome
    found: Found | None = None
    why: str = ""                          # for the log, never for the client; no secrets


UNKNOWN = Answer(Outcome.UNKNOWN)


class CannotFind(PdmError):
    """A module looks nobody up without a password."""

    def __init__(self) -> None:
        super().__init__("it looks nobody up without a password")


class PdmModule:
    """A database module.  Override `check`, `auth` or both, and what else you need."""

    API: tuple[int, int] = (1, 0)
    blocking: bool = False    # True: may wait on a network or a lock, and must run in a PDM worker

    # Ids of backends that the arguments name, set by the constructor; `--check-config` tells those not configured.
    backends: tuple[str, ...] = ()

    # Set by the loader after the constructor; a module need not care.
    ident: str = ""                               # its id in the configuration
    name: str = ""                                # the NAME of pdm_NAME.py
    namespaces: frozenset[str] = frozenset()      # asked for these only; empty: for all

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the words of `pdm add ID MODULE ARGS…` that follow MODULE; raises ValueError for wrong ones.

        Runs in the master: no file is opened, nothing is connected.  A word `namespace=NS[,NS…]` is
        taken out before and never seen here.
        """
        self.ident = ident
        self.args = args

    def open(self) -> None:
        """Open files and connections, in the process that asks, before its first question."""

    def probe(self) -> None:
        """Try whether questions could be answered, for `--check-config`; raises what says why not.

        Called after the constructor by a process that has the rights of the service user and asks nothing else.  By
        default it opens and closes.  It must not change anything, nor count as a login.
        """
        self.open()
        self.close()

    def close(self) -> None:
        """Let go of what `open` and the questions opened."""

    def describe(self) -> str:
        """Return words that make this module anew (`pdm_args`), quoted as for a shell, secrets masked."""
        return shlex.join(self.args)

    def check(self, request: Request) -> Answer:
        """First pass: is this user mine, and is the password right?"""
        return UNKNOWN

    def auth(self, request: Request, found: Found) -> Answer:
        """Second pass, after some module denied a user that it knows: may I vouch for them?"""
        return UNKNOWN

    def find(self, user: str, namespace: str) -> Found | None:
        """Return where a user's mail is, whatever the password; None: not one of mine.

        Optional, since API 1.1: for administrators (`user find`), never asked for a login.  Nobody is let in by the
        answer, so `Found.password` may be empty.  Raises as `check` does when it cannot tell.
        """
        raise CannotFind
