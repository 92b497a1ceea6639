"""The interface for database modules (PDMs): the question, the answers, and their base class.

A module is a file `pdm_NAME.py` that exports one class `Module`; start from the commented
`pdm_modules/pdm_template.py`.  It imports only its driver, this module, `popular.pdm.bases` (for databases with a
record of each user), `secrets`, `records`, `options`, `pattern`, `drivers`, `timelimit`, and what several of ours
share, such as `sql`.  The constructor runs in the master (and in the starter, when the configuration is checked)
and may only look at its arguments; `open`, `check`, `auth`, `find`, `token` and `close` run in the child (or PDM
worker) that asks.

A module that cannot tell answers FAILED, or raises PdmError with a text for the log.  Any other
exception also counts as FAILED, but then the log shows only its type and place, as its text may hold
secrets.  An OSError is logged with its reason and file name.
"""

import shlex
from dataclasses import dataclass, field
from enum import Enum

from popular.errors import PdmError

__all__ = ["API", "CHALLENGES", "HELD", "PROVEN", "UNKNOWN",
           "Answer", "CannotFind", "Found", "NoConsent", "Outcome", "PdmError", "PdmModule", "Request"]

MISSING = ("", "empty", "create", "refuse")    # what becomes of a user without mailbox

# A module must have the same major and no newer minor.  1.1 added `find` and `verified`, 1.2 `mechanisms` and `token`.
API = (1, 2)

# As `Request.mechanism`: the password is a proof that fits a stored password, see popular.pdm.proofs.
CHALLENGES = frozenset(("SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5", "APOP"))

HELD = "none"    # in place of the backend that a mailbox moves from: meanwhile nobody gets in

PROVEN = "EXTERNAL"    # as `Request.mechanism`: who the user is has been proven already, and the password is empty


class Outcome(Enum):
    """What a module knows of a user."""

    UNKNOWN = "unknown"    # not in this database: ask the next module
    DENIED = "denied"      # known, but the password is wrong or the account is closed
    OK = "ok"              # known, and the password is right, or the backend will check it (see Found.verified)
    FAILED = "failed"      # the module cannot tell: its database is broken or unavailable


@dataclass(frozen=True, slots=True)
class Request:
    """One login: what the proxy passes to the modules (spec 7.1)."""

    user: str                              # as the client sent it; octets that are not UTF-8 are surrogates
    password: bytes = field(repr=False)    # as sent; no charset is assumed
    ip: str                                # the client's address, dotted quad or IPv6 without brackets
    protocol: str                          # the client's protocol: "pop3"
    namespace: str                         # of the virtual server to which the client has connected
    deadline: float = float("inf")         # when the answer is due, in seconds of time.monotonic()
    vserv: str = ""                        # API 1.1: id of the virtual server
    # API 1.2: what the password is: a password (""), a bearer token ("OAUTHBEARER", "XOAUTH2"), a proof
    # (CHALLENGES), or PROVEN.  With a
    # token, the user is empty if the client has not said who they are.
    mechanism: str = ""
    # API 1.2: the master user who wants the mailbox of `user`, and whose password it is; see PdmModule.names_masters.
    master: str = ""

    def until(self, deadline: float) -> "Request":
        """Return the same question with a deadline."""
        if deadline == self.deadline:
            return self
        return Request(self.user, self.password, self.ip, self.protocol, self.namespace, deadline, self.vserv,
                       self.mechanism, self.master)


@dataclass(frozen=True, slots=True)
class Found:
    """Where a user's mail is (spec 7.2)."""

    backend: str                           # id of a configured backend
    protocol: str = ""                     # cxpop, xpop or pop3; empty: the backend's own
    mailbox: str = ""                      # for cxpop and xpop
    user: str = ""                         # for pop3: login at the backend
    password: bytes = field(default=b"", repr=False)    # for pop3
    master: bool = False                   # a master session: becomes the XPOP flag M
    # API 1.1.  With OK and pop3: whether the module has checked the client's password.  False leaves that to the
    # backend, and the client gets no +OK before the backend has done so.  None, for modules that do not say, means
    # True, unless the backend gets the client's own password.  It does not count when two places are compared.
    verified: bool | None = field(default=None, compare=False)
    # API 1.1
    softfail: bool | None = None           # instead of the backend's setting; None: that counts
    missing: str = ""                      # of MISSING, instead of the variable of pserv; empty: that counts
    sessions: int = 0                      # the most at once; 0: any number
    quota: int | None = None               # of the mailbox, in units of 1024*1024 octets; 0: none; None: not said
    maxnum: int | None = None              # messages that the mailbox may hold, likewise
    # API 1.2: `backend` is the one that the mailbox still moves from, or HELD; all else is that of the new one
    is_moving: bool = False
    label: str = field(default="", compare=False)    # of the password that was right, if there are several; for the log


@dataclass(frozen=True, slots=True)
class Answer:
    """A module's answer; DENIED should also have `found`, for a module that vouches in the second pass."""

    outcome: Outcome
    found: Found | None = None
    why: str = ""                          # for the log, never for the client; no secrets
    # API 1.1: how long an OK is true, in seconds since 1970; it is cached no longer
    until: float = field(default=float("inf"), compare=False)
    # API 1.2: with OK, the name of the user in what was checked, such as a token.  The chain refuses any other user.
    # `found` may then be None: the modules that take PROVEN are asked where this user's mail is.
    user: str = ""
    # API 1.2: what the server has to say in the mechanism of the request.
    proof: bytes = field(default=b"", repr=False, compare=False)


UNKNOWN = Answer(Outcome.UNKNOWN)


class CannotFind(PdmError):
    """The module cannot look up users without a password."""

    def __init__(self) -> None:
        super().__init__("it cannot look up users without a password")


class NoConsent(PdmError):
    """The owner of a mailbox has not allowed access to it, or has withdrawn that; trying again does not help."""


class PdmModule:
    """A database module.  Override `check`, `auth`, `token` or several, and whatever else you need."""

    API: tuple[int, int] = (1, 0)
    # API 1.2: what `check` and `auth` take beside passwords, of the values of `Request.mechanism`.  With PROVEN they
    # answer as if the password were right.  They are not asked anything with another mechanism.
    mechanisms: frozenset[str] = frozenset()
    # API 1.2: True if it knows master users, who may open the mailboxes of others.  It is then asked in the second pass
    # about requests with a `master`, who must not be confused with the user.  Other modules never get such requests.
    names_masters: bool = False
    gives_tokens: bool = False    # API 1.2: True if `token` may be asked
    blocking: bool = False    # True: may wait on a network or a lock, and must run in a PDM worker

    # Folders in which the process that asks must make, change or remove files, set by the constructor, such as that of
    # a database with a lock file.  Elsewhere it can write nothing (`confinement` of pproxy), unless `blocking` is true.
    writes: tuple[str, ...] = ()

    # Ids of backends that the arguments name, set by the constructor; `--check-config` tells those not configured.
    backends: tuple[str, ...] = ()

    # Set by the loader after the constructor; a module need not set them.
    ident: str = ""                               # its id in the configuration
    name: str = ""                                # the NAME of pdm_NAME.py
    namespaces: frozenset[str] = frozenset()      # asked only for these; empty: for all
    digest: int = 0                               # of code and arguments, comparable within one daemon

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the words of `pdm add ID MODULE ARGS…` that follow MODULE; raises ValueError for wrong ones.

        Runs in the master: it must not open files or connections.  A word `namespace=NS[,NS…]` was
        removed before.
        """
        self.ident = ident
        self.args = args

    def open(self) -> None:
        """Open files and connections; called in the process that asks, before its first question."""

    def probe(self) -> None:
        """Test whether questions could be answered, for `--check-config`; raises an exception that says why not.

        Called after the constructor by a process that has the rights of the service user and asks nothing else.  By
        default it opens and closes.  It must not change anything, nor count as a login.
        """
        self.open()
        self.close()

    def close(self) -> None:
        """Release what `open` and the questions have opened."""

    def describe(self) -> str:
        """Return the words that make this module again (`pdm_args`), quoted as for a shell, secrets masked."""
        return shlex.join(self.args)

    def check(self, request: Request) -> Answer:
        """First pass: is this user known here, and is the password right?"""
        return UNKNOWN

    def auth(self, request: Request, found: Found) -> Answer:
        """Second pass, after a module has denied a user that it knows: does this module vouch for them?"""
        return UNKNOWN

    def find(self, user: str, namespace: str) -> Found | None:
        """Return where a user's mail is, without a password; None: the user is not known here.

        Optional, since API 1.1: for administrators (`user find`), never called for a login.  The answer lets nobody
        in, so `Found.password` may be empty.  Raises as `check` does if it cannot tell.
        """
        raise CannotFind

    def token(self, user: str, backend: str, deadline: float, refused: str) -> str:
        """Return an access token with which `user` can log in at the backend with the id `backend`.

        Optional, since API 1.2: asked if `gives_tokens` is true, whatever `namespaces` says, once the login has been
        allowed.  `user` is Found.user, the name at that backend.  Due at `deadline`, in seconds of time.monotonic().
        `refused` is a token that the backend has just refused, empty if there was none: another one is tried once, the
        same one means that there is no better one.
        Raises NoConsent if there is no token for this user, PdmError if there is none at the moment, for example
        because the provider does not answer; both with a text for the log.
        """
        raise PdmError("it gives no tokens")
