"""Whether the answer of a database module can be used.

Pure functions, called by the chain for every answer.  People and programs that fill databases make
mistakes, and the content goes into file names and into dialogues with backends.
"""

import re
from typing import Any

from popular.names import is_id, is_mailbox
from popular.pdm.api import MISSING, Answer, Found, Outcome

_PROTOCOLS = ("", "cxpop", "xpop", "pop3")    # empty: the backend's own
# Octets of a user name or password for a backend: what a line of `maxline`, 255 by default, holds behind PASS and a
# space.  RFC 2449 section 4 counts the line end, too, but whatever a client may send us is to reach the backend.
_MAX_LOGIN = 250
_MAX_NAME = 255    # characters of a user's name

_TYPES: tuple[tuple[str, type], ...] = (
    ("backend", str), ("protocol", str), ("mailbox", str), ("user", str), ("password", bytes), ("master", bool),
    ("is_moving", bool), ("label", str), ("missing", str), ("sessions", int))
_UNSENDABLE = re.compile(rb"[\r\n\0]")
_TOKEN = re.compile(r"[!-~]+")
_MAX_TOKEN = 1 << 15    # octets; those of the big providers have at most 4096


def fault_of(answer: Any) -> str:
    """Return what is wrong with a module's answer, or an empty string; the text holds no secrets.

    No type is assumed, since modules are foreign code that need not be typed.
    """
    if not isinstance(answer, Answer) or not isinstance(answer.outcome, Outcome):
        return f"answered {type(answer).__name__}, not an Answer with an Outcome"
    why: Any = answer.why
    found: Any = answer.found
    if not isinstance(why, str):
        return "its reason is not a str"
    until: Any = answer.until
    if not isinstance(until, int | float) or until != until:
        return "until is not a moment"
    user: Any = answer.user
    if not isinstance(user, str) or len(user) > _MAX_NAME or not user.isprintable():
        return "the name of the user is not printable"
    proof: Any = answer.proof
    if not isinstance(proof, bytes):
        return "its proof is not bytes"
    if found is None:
        return "answered OK, but not where the mail is" if answer.outcome is Outcome.OK and not user else ""
    if not isinstance(found, Found):
        return f"its place is {type(found).__name__}, not a Found"
    for name, kind in _TYPES:
        if not isinstance(getattr(found, name), kind):
            return f"{name} is {type(getattr(found, name)).__name__}, not {kind.__name__}"
    for name in ("verified", "softfail"):
        flag: Any = getattr(found, name)
        if not (flag is None or isinstance(flag, bool)):
            return f"{name} is {type(flag).__name__}, not bool or None"
    for name in ("quota", "maxnum"):
        number: Any = getattr(found, name)
        if not (number is None or isinstance(number, int) and number >= 0):
            return f"{name} is neither a number nor None"
    if found.missing not in MISSING or found.sessions < 0:
        return "missing or sessions has no meaning"
    if fault := _fault_of_place(found):
        return fault
    # nobody is logged in after a refusal: what the client has sent in vain may be in its place
    return _fault_of_login(found) if answer.outcome is Outcome.OK and (found.user or found.password) else ""


def fault_of_token(token: Any) -> str:
    """Return what is wrong with an access token of a module, or an empty string; the text does not hold it."""
    if not isinstance(token, str):
        return f"the token is {type(token).__name__}, not str"
    if len(token) > _MAX_TOKEN:
        return f"the token has more than {_MAX_TOKEN} octets"
    return "" if _TOKEN.fullmatch(token) else "the token is empty, or has other characters than printable ASCII"


def _fault_of_place(found: Found) -> str:
    if not is_id(found.backend):
        return f"backend {found.backend!a} is not an id" if found.backend else "no backend"
    if found.protocol not in _PROTOCOLS:
        return f"protocol {found.protocol!a} is not cxpop, xpop, pop3 or empty"
    if found.mailbox and not is_mailbox(found.mailbox):
        return (f"mailbox {found.mailbox!a} is not well-formed: it must have letters, digits and . _ - + / = % only, "
                "no / in front and no ..")
    if found.protocol in ("cxpop", "xpop") and not found.mailbox:
        return f"protocol {found.protocol} needs a mailbox"
    if found.protocol == "pop3" and not found.user:
        return "protocol pop3 needs a user for the backend"
    if not (found.mailbox or found.user):
        return "neither a mailbox nor a user for the backend"
    return ""


def _fault_of_login(found: Found) -> str:
    try:
        user = found.user.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return "the user for the backend cannot be sent"
    for what, octets in (("user", user), ("password", found.password)):
        if len(octets) > _MAX_LOGIN:
            return f"the {what} for the backend has more than {_MAX_LOGIN} octets"
        if _UNSENDABLE.search(octets):
            return f"the {what} for the backend holds CR, LF or NUL"
    return ""
