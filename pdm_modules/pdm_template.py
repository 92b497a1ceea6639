"""Database module `template`: a commented template for your own; it knows one user, given in its arguments.

    template USER PASSWORD BACKEND MAILBOX

To make a module, copy this file to `pdm_NAME.py` in the folder that `pdmdir` names, with NAME of `a-z`, `0-9`
and `_`.  The file and the folder must belong to root, or to the user that pproxy runs as, and be writable by
nobody else.  Configure it as `[pdm]` / `[[ID]]` / `module = NAME` / `args = …`, and test it with
`ptestpdm` before you use it in pproxy.

Import modules at the top of the file, not in a method: they are then loaded once in the master and not
in every session.  Do not import threading, logging or subprocess, directly or indirectly, because every
session would pay for it; import hmac, hashlib or ctypes only if you must, because they load libraries.
A module with `blocking = True` imports its driver, and all of these, in `open` instead: only PDM workers need them.
Of POPular, import only popular.pdm.api, and, if your database stores passwords or their hashes,
popular.pdm.secrets and popular.pdm.records; popular.pdm.options reads arguments KEY=VALUE by a table.
If your database has a record for each user, a class in popular.pdm.bases does the rest.
"""

from popular.pdm.api import UNKNOWN, Answer, Found, Outcome, PdmModule, Request
from popular.pdm.secrets import compare_digest


class Module(PdmModule):
    """The class must be called Module and derive from PdmModule."""

    # The version of popular.pdm.api that this file was written for.  POPular refuses a module with
    # another first number, or a higher second one.
    API = (1, 1)

    # True for a module that may wait for a network, a program or a lock.  It is then asked in PDM workers,
    # processes that answer one question at a time, and may keep connections between questions.  After an
    # exception it is closed, and opened again for the next question.
    blocking = False

    def __init__(self, ident: str, args: list[str]) -> None:
        """Check the arguments, and nothing else.

        This runs in the starter and in the master: open no file and connect to nothing here.  If the
        arguments are wrong, raise ValueError with what you want, for the administrator.  The loader has
        removed the word `namespace=NS` from `args`.
        """
        super().__init__(ident, args)
        if len(args) != 4:
            raise ValueError("wanted: template USER PASSWORD BACKEND MAILBOX")
        self.user, password, backend, mailbox = args
        self.backends = (backend,)    # --check-config tells those that are named here and not configured
        self.password = password.encode("utf-8", "surrogateescape")
        # What POPular needs to know about a user.  With protocol "pop3", give user and password instead
        # of the mailbox; without a protocol, that of the backend is used.  `verified` says that `check`
        # compares the password itself; with protocol "pop3", False would leave that to the backend.
        self.found = Found(backend=backend, mailbox=mailbox, verified=True)

    def open(self) -> None:
        """Open files and connections, in the process that asks, before its first query.

        Raise OSError or popular.pdm.api.PdmError if it fails; it is tried again at the next login.
        """

    def probe(self) -> None:
        """Test whether queries could be answered, for --check-config; raise what `open` raises if not.

        Here: open and close.  Change nothing, and do not count this as a login.
        """
        self.open()
        self.close()

    def close(self) -> None:
        """Close everything that `open` and queries opened; may be called after a failed `open`."""

    def describe(self) -> str:
        """Return the arguments as the administrator would write them, with secrets masked.

        The inherited method returns all of them unchanged; a password among them must be masked.
        """
        return f"{self.user} *** {self.found.backend} {self.found.mailbox}"

    def check(self, request: Request) -> Answer:
        """First pass: do you know this user, and is the password right?

        UNKNOWN  not one of yours: the next module is asked.
        DENIED   yours, but the password is wrong.  Give `found`, too, so that a master password can
                 open their mailbox.
        OK       yours, and the password is right: give `found`.
        FAILED   you cannot tell, because the database is damaged or missing.  Say why, for the log.  Do
                 not return UNKNOWN or DENIED: the client would tell its user that the password is wrong.

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

        Answer OK with `found`, or with one of your own, otherwise UNKNOWN.  Omit the method if you
        never vouch; a module needs `check`, `auth` or both.
        """
        return UNKNOWN

    def find(self, user: str, namespace: str) -> Found | None:
        """Return where a user's mail is, without a password, for `pcontrol -c 'user find USER'` and `pdeliver --user`.

        None means that they are not one of yours; raise OSError or PdmError if you cannot tell.  This gives nobody
        access.  Omit the method if you cannot look up users; API may then be (1, 0).
        """
        return self.found if user == self.user else None
