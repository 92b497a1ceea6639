"""Database module `pam`: users that PAM knows; a pattern makes the place of their mail.

    pam backend=store1 mailbox=%1h/%u

PAM checks the password and whether the account may be used: one that is locked or expired is DENIED.  No session is
opened and no credentials are set.  OPTIONS has all arguments; patterns are those of `popular.pdm.pattern`, and get the
user's name as PAM's modules have left it.

PAM runs with the rights of the worker.  It cannot tell where users are without their password, so there is no `find`;
and it cannot be interrupted: a worker that it keeps beyond the deadline is ended.

Runs in a PDM worker.
"""

import re

from popular.pdm import records
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome, PdmModule, Request
from popular.pdm.options import Choice, File, Id, Options, Setting, String
from popular.pdm.pattern import Pattern

OPTIONS = Options(
    Setting("service", Id(), "popular", "The service of PAM: the name of a file in /etc/pam.d."),
    Setting("confdir", File(), None, "A folder with the file instead."),
    Setting("backend", Id(), None, "The id of the backend.", required=True),
    Setting("protocol", Choice("cxpop", "xpop", "pop3"), None, "Without it, the backend's own."),
    Setting("mailbox", String(), "%u", "The mailbox, as a pattern."),
    Setting("buser", String(), "%u", "The user's name at a backend with pop3, as a pattern.  The password there is "
            "the client's own."),
)

_CONTROL = re.compile(rb"[\0-\x1f\x7f]")


class Module(PdmModule):
    """The users of one PAM service."""

    API = (1, 1)
    blocking = True

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the arguments; raises ValueError."""
        super().__init__(ident, args)
        self.options = OPTIONS.parse(args)
        self.backends = (self.options.text("backend"),)
        self.mailbox, self.buser = Pattern(self.options.text("mailbox")), Pattern(self.options.text("buser"))

    def describe(self) -> str:
        """Return the arguments."""
        return OPTIONS.describe(self.args)

    def open(self) -> None:
        """Load the library; raises PdmError, also if there is no such service."""
        from popular.pdm.databases import libpam    # here, because the master must not load it

        self.libpam = libpam
        self.pam = libpam.Pam(self.options.text("service"), self.options.optional_text("confdir") or "")

    def probe(self) -> None:
        """Let PAM read the service, without a login."""
        self.open()
        self.pam.probe()

    def check(self, request: Request) -> Answer:
        """Ask PAM."""
        user, password = records.user_octets(request.user), request.password
        if not user or _CONTROL.search(user) or (found := self._place(request, request.user)) is None:
            return UNKNOWN
        if not password or b"\0" in password or len(password) > self.libpam.MAX_PAM_PASSWORD:
            return Answer(Outcome.DENIED, found, "wrong password")
        answer = self.pam.check(user, password, request.ip)
        if answer.user != user:    # PAM's modules may change it, for example to lower case
            found = self._place(request, answer.user.decode("utf-8", "surrogateescape"))
        if answer.code == self.libpam.SUCCESS:
            if found is None:
                return Answer(Outcome.FAILED, why=f"no mailbox is called as user {answer.user!a}")
            return Answer(Outcome.OK, found)
        if answer.code == self.libpam.USER_UNKNOWN and not answer.is_account:
            return UNKNOWN
        if answer.code in self.libpam.REFUSALS:
            return Answer(Outcome.DENIED, found, answer.why)
        return Answer(Outcome.FAILED, why=f"PAM says: {answer.why}")

    def _place(self, request: Request, user: str) -> Found | None:
        """Return where the mail of `user` is, who has sent `request`; None if no mailbox can have such a name."""
        backend, protocol = self.options.text("backend"), self.options.optional_text("protocol") or ""
        mailbox = "" if protocol == "pop3" else self.mailbox.mailbox(user, request.namespace)
        if mailbox is None:
            return None
        if protocol in ("cxpop", "xpop"):
            return Found(backend, protocol, mailbox, verified=True)
        # without a protocol that of the backend decides what is used
        login = self.buser.fill(user, request.namespace)
        return Found(backend, protocol, mailbox, login, request.password, verified=True)
