"""The datagrams of the MAILCHECK protocol (spec 8.2): text to octets and back, nothing else.

Pure functions, used in the children of pcheckd (requests in, answers out), in the children of
pproxy and in pcheck (the other way round).  A malformed datagram gives None, never an exception,
because anyone can send a datagram; a `-ERR` of the server is raised as MailcheckError.

Where the documents of the original disagree: the load is sent with its fraction (`+OK 3.23`,
protocol chapter; the man page cuts it at the point) and read in both forms.  State 0 is called
`no mail` as in the man pages (the protocol chapter has `no mails`), and only the digit of a state
is read.
"""

import re
from dataclasses import dataclass
from enum import IntEnum

from popular import names
from popular.errors import MailcheckError, NoMailbox

DEFAULT_PORT = 50110          # of pcheckd
MAX_DATAGRAM = 1024           # octets of a request; a mailbox name has at most names.MAX_MAILBOX
MAX_DATAGRAM_ANSWER = 1024    # octets of an answer that are looked at
NO_SUCH_MAILBOX_TEXT = "no such mailbox"

_STATE = re.compile(rb"\+OK ([0-3])(?:[ \r\n]|\Z)")
_LOAD = re.compile(rb"\+OK ([0-9]{1,9}(?:\.[0-9]{1,9})?)[ \r\n]*\Z")


class MailState(IntEnum):
    """The state of a mailbox that pcheckd reports; the value is the digit on the wire."""

    EMPTY = 0         # no mail at all
    OLD_MAIL = 1      # only mail that was read before
    NEW_MAIL = 2      # mail that nobody has read
    OVERLOADED = 3    # the load of the store is too high: show an empty mailbox


_STATES = {b"%d" % state: state for state in MailState}

_ANSWERS = {
    MailState.EMPTY: b"+OK 0 no mail\n",
    MailState.OLD_MAIL: b"+OK 1 mail\n",
    MailState.NEW_MAIL: b"+OK 2 new mail\n",
    MailState.OVERLOADED: b"+OK 3 load too high\n",
}


@dataclass(frozen=True, slots=True)
class MailcheckRequest:
    """One request as it came: the letter and what follows it, neither checked nor decoded."""

    letter: bytes       # "M", "L", or whatever else was sent; may be empty
    parameter: bytes    # for M the mailbox name


def mail_request(mailbox: str) -> bytes:
    """Return the request for `mailbox`; raises MailcheckError for a name that no mailbox can have."""
    if not names.is_mailbox(mailbox):
        raise MailcheckError("illegal mailbox name")
    return b"*M" + mailbox.encode("ascii")


def load_request() -> bytes:
    """Return the request for the load."""
    return b"*L"


def parse_mailcheck(datagram: bytes) -> MailcheckRequest:
    """Take a request apart (spec 8.2): one CR and one LF at the end are optional.

    A datagram without the leading `*` is the deprecated old form: a mailbox name and nothing else.
    """
    body = datagram.removesuffix(b"\n").removesuffix(b"\r")
    if body.startswith(b"*"):
        return MailcheckRequest(body[1:2], body[2:])
    return MailcheckRequest(b"M", body)


def is_answer(datagram: bytes) -> bool:
    """Tell whether this is a server's answer; no request looks like one, as no mailbox name has a space.

    A server that answered such a datagram could be made to talk to itself, or to another server,
    forever: one forged request with a server's address as its source would be enough.
    """
    return datagram.startswith((b"+OK ", b"-ERR "))


def mail_answer(state: MailState) -> bytes:
    """Return the answer to a request for a mailbox."""
    return _ANSWERS[state]


def load_answer(load: float) -> bytes:
    """Return the answer to a request for the load: the 1-minute load with two decimals."""
    return b"+OK %.2f\n" % load


def error_answer(text: str) -> bytes:
    """Return a refusal; `text` is one of our own, never a part of the request."""
    return b"-ERR %s\n" % text.encode("ascii")


def parse_mail_answer(datagram: bytes) -> MailState | None:
    """Return the state in an answer; None for anything else; raises MailcheckError for `-ERR`."""
    match = _STATE.match(datagram)
    if match is None:
        _raise_refusal(datagram)
        return None
    return _STATES[match[1]]


def parse_load_answer(datagram: bytes) -> float | None:
    """Return the load in an answer; None for anything else; raises MailcheckError for `-ERR`."""
    match = _LOAD.match(datagram)
    if match is None:
        _raise_refusal(datagram)
        return None
    return float(match[1])


def _raise_refusal(datagram: bytes) -> None:
    """Raise the server's refusal, made printable."""
    if datagram.startswith((b"-ERR ", b"-ERR\r", b"-ERR\n")) or datagram == b"-ERR":
        text = names.clean_line(datagram[4:].strip(), limit=200)
        error = NoMailbox if text == NO_SUCH_MAILBOX_TEXT else MailcheckError
        raise error(f"refused by the server: {text or 'no reason given'}")
