"""What a record may say besides a password and the place of the mail: who may log in, from where, until when.

    passwords   more passwords, such as those of single devices: lines `LABEL:HASH`, at most MAX_PASSWORDS; the log
                names the label
    disabled    why the user cannot log in; empty, off, no, false or 0: they can
    until       the last moment at which they can: seconds since 1970, `2027-01-31` (to the end of that day, UTC) or
                `2027-01-31T12:00:00+01:00`
    networks    the networks from which they can, separated by commas or blanks; empty: from all
    vservs      the ids of the virtual servers at which they can, separated likewise; empty: at all
    softfail    on or off, instead of the backend's own setting
    sessions    how many sessions they may have at once; empty or 0: any number
    missing     empty, create or refuse, instead of pserv's own setting for users without a mailbox
    quota       how much the mailbox may hold, in units of 1024*1024 octets; for deliveries, as is the next
    maxnum      how many messages it may hold
    from        the id of the backend that the mailbox still moves from, and which serves the user until it has;
                none: nobody gets in meanwhile

The first five decide about a login (LoginRules); the others are part of the place (Found).
Used in the process that asks.  Raises ValueError for values that cannot be used: a rule that cannot be read must not
let anybody in.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from popular.pdm.api import MISSING, Request

RULES = ("passwords", "disabled", "until", "networks", "vservs", "softfail", "sessions", "missing", "quota", "maxnum",
         "from")
MAX_PASSWORDS = 20    # of each some may take long to check
MAX_LABEL = 64        # characters
_MAX_DIGITS = 9        # of a number

_SWITCH = {"": None, "on": True, "yes": True, "true": True, "1": True, "t": True,
           "off": False, "no": False, "false": False, "0": False, "f": False}
_NUMBERS = ("sessions", "quota", "maxnum")
_SEPARATORS = re.compile(r"[,\s]+")
_SECONDS_OF_DAY = 86_400


@dataclass(frozen=True, slots=True)
class LoginRules:
    """The rules of one user."""

    disabled: str = ""
    until: float = float("inf")      # seconds since 1970
    networks: tuple[Any, ...] = ()   # of ipaddress
    vservs: tuple[str, ...] = ()

    def objection(self, request: Request) -> str:
        """Return why the user cannot log in now and from there, for the log; empty: they can."""
        if self.disabled:
            return f"disabled: {self.disabled}"
        if time.time() > self.until:
            return "expired"
        if self.vservs and request.vserv not in self.vservs:
            return f"not allowed at virtual server {request.vserv}"
        if self.networks and not self._is_near(request.ip):
            return "not allowed from this address"
        return ""

    def _is_near(self, address: str) -> bool:
        from ipaddress import ip_address    # here and below, because few records name networks

        client = ip_address(address)
        return any(client in network for network in self.networks if network.version == client.version)


NO_RULES = LoginRules()


def login_rules(values: Mapping[str, str]) -> LoginRules:
    """Return the rules among the values of a record."""
    disabled, until, networks, vservs = (values.get(name, "") for name in ("disabled", "until", "networks", "vservs"))
    if _SWITCH.get(disabled.lower()) is False:    # a column of a type for yes and no
        disabled = ""
    if not (disabled or until or networks or vservs):
        return NO_RULES
    return LoginRules(disabled, _moment(until) if until else float("inf"), _networks(networks), _words(vservs))


def passwords_of(values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return labels and stored forms of the passwords in `passwords`."""
    found = []
    for line in filter(None, values.get("passwords", "").splitlines()):
        label, colon, stored = line.partition(":")
        if not (label and colon and stored) or len(label) > MAX_LABEL:
            raise ValueError(f"passwords: a line is not LABEL:HASH, with a label of at most {MAX_LABEL} characters")
        found.append((label, stored))
    if len(found) > MAX_PASSWORDS:
        raise ValueError(f"passwords: there are more than {MAX_PASSWORDS}")
    return tuple(found)


def place_rules(values: Mapping[str, str]) -> dict[str, Any]:
    """Return those rules among the values of a record that are fields of Found, by their names."""
    found: dict[str, Any] = {name: _number(name, values[name]) for name in _NUMBERS if values.get(name)}
    softfail, missing = values.get("softfail", "").lower(), values.get("missing", "")
    if softfail not in _SWITCH:
        raise ValueError("softfail: neither on nor off")
    if softfail:
        found["softfail"] = _SWITCH[softfail]
    if missing not in MISSING:
        raise ValueError(f"missing: not one of {', '.join(filter(None, MISSING))}")
    if missing:
        found["missing"] = missing
    if values.get("from"):
        found |= {"backend": values["from"], "protocol": "", "is_moving": True}
    return found


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
        raise ValueError(f"{name}: not a number of at most {_MAX_DIGITS} digits")
    return int(text)


def _words(text: str) -> tuple[str, ...]:
    return tuple(filter(None, _SEPARATORS.split(text)))


def _networks(text: str) -> tuple[Any, ...]:
    if not text:
        return ()
    from ipaddress import ip_network

    try:
        return tuple(ip_network(word, strict=False) for word in _words(text))
    except ValueError:
        raise ValueError("networks: not a list of networks such as 10.0.0.0/8, 2001:db8::/32") from None


def _moment(text: str) -> float:
    """Return seconds since 1970."""
    from datetime import UTC, datetime

    try:
        if text.isascii() and text.isdigit():
            return float(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("until: neither seconds since 1970 nor a date such as 2027-01-31") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    is_day = len(text) <= len("2027-01-31")
    return moment.timestamp() + (_SECONDS_OF_DAY if is_day else 0)
