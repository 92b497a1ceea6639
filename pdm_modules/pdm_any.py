"""Database module `any`: accepts everyone, with any password.

    any BACKEND PATTERN [protocol=cxpop|xpop]      the mailbox is PATTERN
    any BACKEND [PATTERN] protocol=pop3            the backend checks user and password itself

In PATTERN `%u` is the user's name, `%l` its part before the last `@`, `%d` the part after it, `%n`
the namespace, `%1h` to `%8h` the next digits of a hash of the user's name, as in pmailbox, and `%%` a
percent sign; case is kept as the client sent it.  For a mailbox, a part that is empty, begins with a
dot or contains anything but `A-Z a-z 0-9 . _ - + = %` makes the user unknown, so that nobody can name
the folder of another user.  With protocol=pop3 the backend gets user and password unchanged; PATTERN,
if given, makes the user's name there.  In this case nobody sees an empty mailbox in place of a backend
that has not checked the password.

The module is meant for tests and for a single backend that checks passwords itself.  In a chain it also
accepts users whom earlier modules refused: leave it out, or give it its own `namespace=`.
"""

from popular.pdm.api import UNKNOWN, Answer, Found, Outcome, PdmModule, Request
from popular.pdm.pattern import Pattern

USAGE = "any BACKEND PATTERN [protocol=cxpop|xpop|pop3]"


class Module(PdmModule):
    """A mailbox for everyone, by a pattern."""

    API = (1, 1)

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take BACKEND, PATTERN and the protocol; raises ValueError."""
        super().__init__(ident, args)
        options = [word for word in args if word.startswith("protocol=")]
        words = [word for word in args if not word.startswith("protocol=")]
        self.protocol = options[0].partition("=")[2] if options else ""
        if len(options) > 1 or self.protocol not in ("", "cxpop", "xpop", "pop3"):
            raise ValueError(f"wanted: {USAGE}")
        if len(words) == 1 and self.protocol == "pop3":
            words.append("%u")
        if len(words) != 2 or not all(words):
            raise ValueError(f"wanted: {USAGE}")
        self.backend = words[0]
        self.backends = (self.backend,)
        self.pattern = Pattern(words[1])

    def check(self, request: Request) -> Answer:
        """Accept everyone with a well-formed name."""
        found = self._place(request.user, request.namespace, request.password)
        return UNKNOWN if found is None else Answer(Outcome.OK, found)

    def find(self, user: str, namespace: str) -> Found | None:
        """Return where the mail of a user with a well-formed name would be."""
        return self._place(user, namespace, b"")

    def _place(self, user: str, namespace: str, password: bytes) -> Found | None:
        if self.protocol == "pop3":
            name = self.pattern.fill(user, namespace)
            return Found(self.backend, "pop3", "", name, password, verified=False) if name else None
        mailbox = self.pattern.mailbox(user, namespace)
        if mailbox is None:
            return None
        if self.protocol:
            return Found(self.backend, self.protocol, mailbox)
        # the backend's own protocol decides whether the mailbox or the user is used
        return Found(self.backend, "", mailbox, user, password, verified=False)
