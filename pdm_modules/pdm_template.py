"""Database module `template`: a commented start for your own; it knows one user, named in its arguments.

    template USER PASSWORD BACKEND MAILBOX

How to make a module: copy this file to `pdm_NAME.py` in the same folder, NAME of `a-z`, `0-9` and `_`.
The file and the folder must belong to root, or to the user that pproxy runs as, and be writable by
nobody else.  Configure it as `[pdm]` / `[[ID]]` / `module = NAME` / `args = …`, and try it with
`ptestpdm` before pproxy has it.

Import what you need at the top of the file, not in a method: it is then loaded once in the master and
not in every session.  Do not import threading, logging or subprocess, or what imports them: every
session would pay for it; nor hmac, hashlib or ctypes for less than a need, as they bring libraries along.
Import nothing of POPular but popular.pdm.api, and if your database stores passwords or their hashes,
popular.pdm.secrets and popular.pdm.records.
"""

from popular.pdm.api import UNKNOWN, Answer, Found, Outcome, PdmModule, Request
from popular.pdm.secrets import compare_digest


class Module(PdmModule):
    """The class must be called Module and derive from PdmModule."""

    # The version of popular.pdm.api that this file was written for.  POPular refuses a module of
    # another first number, or of a higher second one.
    API = (1, 1)

    # True for a module that may wait for a network or a lock.  This version of POPular refuses such
    # modules, as each waiting one would hold up a session.
    blocking = False

    def __init__(self, ident: str, args: list[str]) -> None:
        """Look at the arguments, and at nothing else.

        This runs in the starter and in the master: open no file and connect to nothing here.  Raise
        ValueError with what you want when the arguments are wrong; the administrator reads it.  The
        word `namespace=NS` is not among `args`: the loader took it out.
        """
        super().__init__(ident, args)
        if len(args) != 4:
            raise ValueError("wanted: template USER PASSWORD BACKEND MAILBOX")
        self.user, password, backend, mailbox = args
        self.password = password.encode("utf-8", "surrogateescape")
        # What POPular needs to know of a user.  With protocol "pop3", give user and password instead
        # of the mailbox; without a protocol it is the one that the backend is configured with.
        # `verified` says that `check` compares the password itself; with protocol "pop3", False would leave
        # that to the backend.
        self.found = Found(backend=backend, mailbox=mailbox, verified=True)

    def open(self) -> None:
        """Open files and connections, in the process that asks, before its first question.

        If it fails, raise OSError or popular.pdm.api.PdmError; it is tried again at the next login.
        """

    def probe(self) -> None:
        """Try whether questions could be answered, for --check-config; raise what `open` raises if not.

        Here: open and close.  Change nothing, and do not count it as a login.
        """
        self.open()
        self.close()

    def close(self) -> None:
        """Let go of what `open` and the questions opened; it may be called after an `open` that failed."""

    def describe(self) -> str:
        """Return the arguments as the administrator would write them, secrets masked.

        The inherited one returns all of them as they are; a password among them must be hidden.
        """
        return f"{self.user} *** {self.found.backend} {self.found.mailbox}"

    def check(self, request: Request) -> Answer:
        """First pass: do you know this user, and is the password right?

        UNKNOWN  not one of yours: the next module is asked.
        DENIED   yours, but the password is wrong.  Give `found` too, so that a master password can
                 open their mailbox.
        OK       yours, and the password is right: give `found`.
        FAILED   you cannot tell, for the database is broken or away.  Say why, for the log.  Never
                 say UNKNOWN or DENIED then: the client would tell its user that the password is wrong.

        Compare secrets with popular.pdm.secrets.compare_digest or verify, which take the same time whatever
        is wrong.  Do not wait beyond request.deadline (of time.monotonic()).
        """
        if request.user != self.user:
            return UNKNOWN
        if not compare_digest(self.password, request.password):
            return Answer(Outcome.DENIED, self.found, "wrong password")
        return Answer(Outcome.OK, self.found)

    def auth(self, request: Request, found: Found) -> Answer:
        """Second pass: some module denied a user whose mail is at `found`; do you vouch for them?

        Answer OK with `found`, or with one of your own, else UNKNOWN.  Leave the method out if you
        never do; a module needs `check`, `auth` or both.
        """
        return UNKNOWN

    def find(self, user: str, namespace: str) -> Found | None:
        """Tell where a user's mail is without a password, for administrators (`pcontrol -c 'user find USER'`).

        None means that they are not one of yours; raise OSError or PdmError when you cannot tell.  Nobody is let in by
        it.  Leave the method out if you cannot look users up; then API may be (1, 0).
        """
        return self.found if user == self.user else None
