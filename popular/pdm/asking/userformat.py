"""How the names that users give are made uniform before the database modules see them: the key `userformat`.

    lower            fold case: Joe is joe
    separators=%#    each of these characters stands for @ in a name without one
    detail=+         what follows this character, up to the @, is removed: joe+lists@example.org is joe@example.org
    swap=OLD:NEW     the domain OLD is replaced by NEW; may be given several times
    strip=DOMAIN     the domain is removed, if it is this one; may be given several times; `strip` removes any
    domain=DOMAIN    a name without a domain gets this one

The words are separated by blanks, and the steps are done in this order, whatever the order of the words.  So
`lower separators=% domain=example.org` makes joe, JOE, Joe%example.org and joe@EXAMPLE.ORG one user.

`UserFormat` is the kind of the setting; `NameForm.applied` runs in children, for each login or recipient, and wherever
else a user is named: in the master for commands, and in tools.
"""

import re
from dataclasses import dataclass
from typing import ClassVar

_DOMAIN = re.compile(r"[A-Za-z0-9._-]{1,255}", re.ASCII)
_MARKS = re.compile(r"[!-/:-?\[-`{-~]{1,16}", re.ASCII)    # signs, without @


@dataclass(frozen=True, slots=True)
class NameForm:
    """What is done to a name; the default leaves it alone."""

    text: str = ""
    lower: bool = False
    separators: str = ""
    detail: str = ""
    swaps: tuple[tuple[str, str], ...] = ()    # domains, the old ones folded
    strips: frozenset[str] = frozenset()       # domains, folded
    strips_all: bool = False
    domain: str = ""

    def applied(self, user: str) -> str:
        """Return the name that the modules are asked for."""
        if not self.text:
            return user
        name = user.lower() if self.lower else user
        if "@" not in name:
            for mark in self.separators:
                if mark in name:
                    name = "@".join(name.rsplit(mark, 1))
                    break
        local, at, domain = name.rpartition("@")
        if not at:
            local, domain = name, ""
        if self.detail:
            local = local.split(self.detail, 1)[0] or local
        domain = next((new for old, new in self.swaps if old == domain.lower()), domain)
        if self.strips_all or domain.lower() in self.strips:
            domain = ""
        domain = domain or self.domain
        return f"{local}@{domain}" if domain else local


@dataclass(frozen=True, slots=True)
class UserFormat:
    """Kind of the setting."""

    name: ClassVar[str] = "UserFormat"
    wanted: ClassVar[str] = ("words of lower, separators=CHARACTERS, detail=CHARACTER, swap=OLD:NEW, strip, "
                             "strip=DOMAIN and domain=DOMAIN")

    def parse(self, text: str) -> NameForm:
        """Read the words; raises ValueError."""
        found: dict[str, list[str]] = {}
        for word in text.split():
            key, _, value = word.partition("=")
            found.setdefault(key, []).append(value)
        once = {"lower", "separators", "detail", "domain"}
        if found.keys() - once - {"swap", "strip"} or any(len(found.get(key, ())) > 1 for key in once):
            raise ValueError(self.wanted)
        separators, detail, domain = (found.get(key, [""])[0] for key in ("separators", "detail", "domain"))
        swaps = dict(pair.split(":", 1) for pair in found.get("swap", []) if pair.count(":") == 1)
        strips = found.get("strip", [])
        names = [*swaps.keys(), *swaps.values(), *filter(None, strips), *([domain] if "domain" in found else [])]
        marks = [mark for key, mark in (("separators", separators), ("detail", detail)) if key in found]
        is_right = (found.get("lower", [""]) == [""] and len(swaps) == len(found.get("swap", []))
                    and all(map(_DOMAIN.fullmatch, names)) and all(map(_MARKS.fullmatch, marks)) and len(detail) < 2
                    and not (detail and detail in separators))
        if not is_right:
            raise ValueError(self.wanted)
        return NameForm(" ".join(text.split()), "lower" in found, separators, detail,
                        tuple((old.lower(), new) for old, new in swaps.items()),
                        frozenset(domain.lower() for domain in strips if domain), "" in strips, domain)

    def show(self, value: NameForm) -> str:
        """Return the words."""
        return value.text
