"""Database module `route`: says where users' mail is by rules, and leaves their passwords to a backend.

    route backends=ID[*WEIGHT][,…] [users=GLOB|/REGEX/] [by=PATTERN] [user=PATTERN]
    route backends=ID[*WEIGHT][,…] protocol=cxpop|xpop mailbox=PATTERN …

It is for backends that check passwords themselves, by pop3: users are on one of several, and no database says
on which.  Each such module is a rule, and the first whose `users` fits the user's name counts; all others do
not know the user.  GLOB must fit the whole name, REGEX a part of it (`^` and `$` are the ends); both see
capital letters as different.

Of several backends, the name itself chooses one, each as likely as its WEIGHT (1 to 1000, default 1) says
(rendezvous hashing): the one with the highest score, which is minus WEIGHT divided by the logarithm of a number
between 0 and 1, made from the first 52 bits of the MD5 sum of `ID:NAME`.  So a backend that is added or removed
moves only the users that it gets or had.  NAME is `by` filled in, the user's name by default; with `by=%d` all
users of a domain stay together.  Patterns are those of `popular.pdm.pattern`.

With cxpop and xpop nobody checks the password, as with the module any.  Users are compared and hashed as the
client has sent them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import translate
from math import log
from typing import ClassVar, cast

from popular.pdm import records
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome, PdmModule, Request
from popular.pdm.options import Choice, Id, Int, Options, Setting, String
from popular.pdm.pattern import Pattern

BITS = 52    # of a digest, so that the number made of them is less than 1


@dataclass(frozen=True, slots=True)
class Users:
    """Which names a rule is for."""

    name: ClassVar[str] = "Users"
    wanted: ClassVar[str] = "a pattern such as *@example.org, or a valid regular expression between slashes"

    def parse(self, text: str) -> re.Pattern[str]:
        """Read a pattern of the shell, or `/REGEX/`."""
        is_regex = len(text) > 2 and text[0] == text[-1] == "/"
        try:
            return re.compile(text[1:-1] if is_regex else rf"\A{translate(text)}", re.DOTALL)
        except re.error:
            raise ValueError(self.wanted) from None

    def show(self, value: re.Pattern[str]) -> str:
        """Return a regular expression."""
        return f"/{value.pattern}/"


@dataclass(frozen=True, slots=True)
class Shares:
    """Backends, each with its weight."""

    name: ClassVar[str] = "Shares"
    wanted: ClassVar[str] = "a list of ids of backends such as store1,store2*3, each once"

    def parse(self, text: str) -> tuple[tuple[str, int], ...]:
        """Read `ID[*WEIGHT],…`."""
        pairs = [word.partition("*") for word in text.split(",")]
        try:
            shares = tuple((Id().parse(ident), Int(1, 1000).parse(weight) if star else 1)
                           for ident, star, weight in pairs)
        except ValueError:
            raise ValueError(self.wanted) from None
        if len({ident for ident, _ in shares}) != len(shares):
            raise ValueError(self.wanted)
        return shares

    def show(self, value: tuple[tuple[str, int], ...]) -> str:
        """Return the list."""
        return ",".join(ident if weight == 1 else f"{ident}*{weight}" for ident, weight in value)


OPTIONS = Options(
    Setting("backends", Shares(), None, "The backend, or several with their weights: store1,store2*3 gives store2 "
            "three users in four.", required=True),
    Setting("users", Users(), None, "The users that the rule is for, by a pattern such as *@example.org or "
            "a regular expression between slashes.  By default all."),
    Setting("by", String(), "%u", "What chooses among several backends."),
    Setting("protocol", Choice("pop3", "cxpop", "xpop"), "pop3", "How to speak to the backend."),
    Setting("user", String(), "%u", "The user's name at a backend with pop3."),
    Setting("mailbox", String(), None, "The mailbox, with cxpop or xpop, which check no password."),
)


class Module(PdmModule):
    """One rule."""

    API = (1, 1)

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the words described above; raises ValueError."""
        super().__init__(ident, args)
        values = OPTIONS.parse(args)
        self.shares = cast(tuple[tuple[str, int], ...], values["backends"])
        self.backends = tuple(backend for backend, _ in self.shares)
        self._users = cast(re.Pattern[str] | None, values["users"])
        self._protocol, mailbox = values.text("protocol"), values.optional_text("mailbox")
        if (self._protocol == "pop3") is (mailbox is not None):
            raise ValueError("cxpop and xpop need a mailbox, and pop3 has none")
        self._by, self._user = Pattern(values.text("by")), Pattern(values.text("user"))
        self._mailbox = Pattern(mailbox) if mailbox is not None else None
        self._score: Callable[[str, int, str], float] = _scoring() if len(self.shares) > 1 else lambda *_: 0.0

    def check(self, request: Request) -> Answer:
        """Accept every user that the rule is for."""
        found = self._place(request.user, request.namespace, request.password)
        return UNKNOWN if found is None else Answer(Outcome.OK, found)

    def find(self, user: str, namespace: str) -> Found | None:
        """Return where the mail of a user is that the rule is for."""
        return self._place(user, namespace, b"")

    def _place(self, user: str, namespace: str, password: bytes) -> Found | None:
        if not user or records.user_octets(user) is None:
            return None
        if self._users is not None and self._users.search(user) is None:
            return None
        if self._mailbox is None:
            login, mailbox = self._user.fill(user, namespace), ""
        else:
            login, mailbox = "", self._mailbox.mailbox(user, namespace) or ""
        if not (login or mailbox):
            return None
        name = self._by.fill(user, namespace)
        backend, _ = max(self.shares, key=lambda share: self._score(share[0], share[1], name))
        if mailbox:
            return Found(backend, self._protocol, mailbox)
        return Found(backend, "pop3", "", login, password, verified=False)


def _scoring() -> Callable[[str, int, str], float]:
    """Return the function that tells how much a backend with its weight wants a name."""
    # Imported here because hashlib loads OpenSSL, whose memory mappings every fork of a master has to copy.
    from hashlib import md5

    def score(backend: str, weight: int, name: str) -> float:
        digest = md5(f"{backend}:{name}".encode("utf-8", "surrogateescape"), usedforsecurity=False).digest()
        number = int.from_bytes(digest[:8], "big") >> (64 - BITS)
        return -weight / log((number + 0.5) / (1 << BITS))
    return score
