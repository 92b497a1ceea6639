"""Which SASL mechanisms a virtual server offers, in which state: the key `saslmechanisms`, TLS, and what modules check.

`MECHANISMS` has a row for each.  An `Offer` is made in the master, which loads only the code of mechanisms that are
offered, and used in its children.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar

from popular.pdm.api import PROVEN
from popular.sasl.mechanism import Means, Mechanism


@dataclass(frozen=True, slots=True)
class MechanismRow:
    """One mechanism."""

    module: str              # below popular.sasl
    cls: str
    checks: str = ""         # what a database module must be able to check, as in pdm.api.Request; empty: passwords
    needs_tls: bool = False    # what it shows is secret: it is offered only where USER and PASS are accepted


MECHANISMS: Mapping[str, MechanismRow] = {
    "PLAIN": MechanismRow("plain", "PlainMechanism", needs_tls=True),
    "LOGIN": MechanismRow("plain", "LoginMechanism", needs_tls=True),
    "SCRAM-SHA-256": MechanismRow("scram", "ScramMechanism", "SCRAM-SHA-256"),
    "SCRAM-SHA-1": MechanismRow("scram", "ScramMechanism", "SCRAM-SHA-1"),
    "CRAM-MD5": MechanismRow("crammd5", "CramMd5Mechanism", "CRAM-MD5"),
    "APOP": MechanismRow("", "", "APOP"),
    "OAUTHBEARER": MechanismRow("oauth", "OAuthBearerMechanism", "OAUTHBEARER", needs_tls=True),
    "XOAUTH2": MechanismRow("oauth", "XOAuth2Mechanism", "XOAUTH2", needs_tls=True),
    "EXTERNAL": MechanismRow("external", "ExternalMechanism", PROVEN),
}
# The others may be refused for most users of a database, and some clients then try nothing else.
DEFAULT_MECHANISMS = ("PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2", "EXTERNAL")

_SIGN = re.compile(r"[!-,/:-?\[-^`{-~]", re.ASCII)    # printable ASCII without @ and what many names have


@dataclass(frozen=True, slots=True)
class MechanismList:
    """Kind of the setting: names of mechanisms, separated by commas or blanks."""

    name: ClassVar[str] = "Mechanisms"
    wanted: ClassVar[str] = f"names of {', '.join(MECHANISMS)}, separated by commas, or none"

    def parse(self, text: str) -> tuple[str, ...]:
        """Read the names; the word `none` is the empty list.  Raises ValueError."""
        names = tuple(dict.fromkeys(text.replace(",", " ").upper().split()))
        if names == ("NONE",):
            return ()
        if not names or not MECHANISMS.keys() >= set(names):
            raise ValueError(self.wanted)
        return names

    def show(self, value: tuple[str, ...]) -> str:
        """Return the names separated by commas."""
        return ",".join(value) or "none"


@dataclass(frozen=True, slots=True)
class Separator:
    """Kind of the setting: one sign."""

    name: ClassVar[str] = "Separator"
    wanted: ClassVar[str] = "one sign other than a letter, a digit, @, dot, dash or underscore"

    def parse(self, text: str) -> str:
        """Read the sign; raises ValueError."""
        if not _SIGN.fullmatch(text):
            raise ValueError(self.wanted)
        return text

    def show(self, value: str) -> str:
        """Return the sign."""
        return value


class Offer:
    """What one virtual server offers."""

    def __init__(self, names: Iterable[str], verifiable: frozenset[str]) -> None:
        """Offer those of `names` that only show passwords, or that `verifiable` has; loads their code."""
        rows = {name: MECHANISMS[name] for name in names}
        rows = {name: row for name, row in rows.items() if not row.checks or row.checks in verifiable}
        self.has_apop = rows.pop("APOP", None) is not None    # a command of its own, and no mechanism
        self._classes: dict[str, Callable[..., Mechanism]] = {
            name: getattr(import_module(f"popular.sasl.{row.module}"), row.cls) for name, row in rows.items()}
        self._usual = tuple(name for name in rows if name != PROVEN)
        self._in_clear = tuple(name for name in self._usual if not rows[name].needs_tls)
        if any(row.module == "scram" for row in rows.values()):
            from popular.pproxy.vserv import salts    # here, because few offer it

            salts.machine_key()    # children might not be able to read it
            self.made_up_salt = salts.made_up_salt

    def names(self, *, needs_tls: bool, is_certified: bool) -> tuple[str, ...]:
        """Return the mechanisms for a client; `needs_tls`: no password may be sent now.

        `is_certified`: TLS has shown who they are.
        """
        if needs_tls:
            return self._in_clear
        return tuple(self._classes) if is_certified else self._usual

    def begin(self, name: str, means: Means) -> Mechanism:
        """Begin an exchange of an offered mechanism."""
        return self._classes[name](name, means)
