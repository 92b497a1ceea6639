"""Database module `any`: accepts everyone, with any password.

    any BACKEND PATTERN [protocol=cxpop|xpop]      the mailbox is PATTERN
    any BACKEND [PATTERN] protocol=pop3            the backend checks user and password itself

In PATTERN `%u` is the user's name, `%l` its part before the last `@`, `%d` the part behind it, `%n`
the namespace and `%%` a percent sign; upper and lower case stay as the client wrote them.  For a
mailbox, a part that is empty, begins with a dot or holds anything but `A-Z a-z 0-9 . _ - + = %`
makes the user unknown, so that nobody can name another's folder.  With protocol=pop3 the user and
his password go to the backend as they came; PATTERN, if given, makes the user's name there.

It is meant for tests and for a single backend that checks passwords itself.  In a chain it accepts
also those whom the modules before it refused: leave it out, or give it a `namespace=` of its own.
"""

import re

from popular.pdm.api import UNKNOWN, Answer, Found, Outcome, PdmModule, Request

USAGE = "any BACKEND PATTERN [protocol=cxpop|xpop|pop3]"

_PART = re.compile(r"[A-Za-z0-9_+=%-][A-Za-z0-9._+=%-]*", re.ASCII)
_MARK = re.compile("%(.?)", re.DOTALL)


class Module(PdmModule):
    """Everyone's mailbox by a pattern."""

    API = (1, 0)

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
        self.backend, self.pattern = words
        if unknown := sorted({mark for mark in _MARK.findall(self.pattern) if mark not in {*"unld%"}}):
            raise ValueError(f"%{unknown[0]} means nothing in {self.pattern}; wanted %u, %l, %d, %n or %%")

    def check(self, request: Request) -> Answer:
        """Accept whoever has a well-formed name."""
        local, _, domain = request.user.rpartition("@")
        parts = {"u": request.user, "n": request.namespace, "l": local or request.user, "d": domain if local else ""}
        if self.protocol != "pop3" and any(_PART.fullmatch(parts[mark]) is None
                                           for mark in _MARK.findall(self.pattern) if mark != "%"):
            return UNKNOWN
        name = _MARK.sub(lambda mark: parts.get(mark[1], "%"), self.pattern)
        if not name or (self.protocol != "pop3" and (".." in name or name.startswith("/"))):
            return UNKNOWN
        if self.protocol == "pop3":
            return Answer(Outcome.OK, Found(self.backend, "pop3", "", name, request.password))
        if self.protocol:
            return Answer(Outcome.OK, Found(self.backend, self.protocol, name))
        # the backend's own protocol decides which of the two is used
        return Answer(Outcome.OK, Found(self.backend, "", name, request.user, request.password))
