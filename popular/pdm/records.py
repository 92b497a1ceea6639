"""The record of one user, as the modules passwd, cdb, db and sqlite keep it, and the answer it gives.

    HASH:BACKEND:PROTOCOL:MAILBOX            for cxpop and xpop, or with PROTOCOL empty for any backend
    HASH:BACKEND:PROTOCOL:MAILBOX:USER:PASS  also the login at a backend that speaks pop3

HASH is a form that `popular.pdm.secrets` knows, PROTOCOL may be empty for the backend's own, and
PASS, being the last, may hold colons.  In the passwd text the user's name stands before it; in cdb
and db the name is the key and the rest the value.  Octets that are not UTF-8 come through unchanged.

Runs in the process that asks.  Raises ValueError for arguments and records that cannot be used;
the text never holds a hash or password.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from popular.pdm import secrets
from popular.pdm.api import Answer, Found, Outcome, Request

MAX_KEY = 255         # octets of a user's name: no client can send more
MAX_RECORD = 4096     # octets of a record, the name included

_KEY = re.compile(rb"[^#:\n\r\0][^:\n\r\0]*")    # a name that a database can have


@dataclass(frozen=True, slots=True)
class Record:
    """What a database says of one user."""

    stored: str = field(repr=False)    # the hash, in a form of popular.pdm.secrets
    found: Found                       # of somebody whose password was checked, once it was


def file_argument(args: Sequence[str], usage: str) -> str:
    """Return the one argument of a module that wants a file with its whole path; raises ValueError.

    Daemons run in another folder than the one that an administrator was in, hence the whole path.
    """
    if len(args) != 1 or not args[0]:
        raise ValueError(f"wanted: {usage}")
    if not os.path.isabs(args[0]):
        raise ValueError(f"{args[0]} is no whole path; wanted: {usage}, FILE beginning with /")
    return args[0]


def key_of(user: str) -> bytes | None:
    """Return the key under which a user is looked up, or None if no database can have him."""
    try:
        key = user.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None
    return None if len(key) > MAX_KEY or _KEY.fullmatch(key) is None else key


def parse_record(raw: bytes) -> Record:
    """Read `HASH:BACKEND:PROTOCOL:MAILBOX[:USER:PASS]`; raises ValueError."""
    if len(raw) > MAX_RECORD:
        raise ValueError(f"the record has more than {MAX_RECORD} octets")
    return make_record(raw.decode("utf-8", "surrogateescape").split(":", 5))


def make_record(fields: Sequence[str]) -> Record:
    """Make a record of its 4 or 6 fields; raises ValueError."""
    if len(fields) not in (4, 6):
        raise ValueError(f"the record has {len(fields)} fields, wanted 4 or 6")
    stored, backend, protocol, mailbox, user, password = [*fields, "", ""][:6]
    if not stored:
        raise ValueError("the record has no password")
    return Record(stored, Found(backend, protocol, mailbox, user, password.encode("utf-8", "surrogateescape"),
                                verified=True))


def answer_to(request: Request, record: Record) -> Answer:
    """Return OK or DENIED, both with the place of the mail, or FAILED when the hash cannot be used."""
    try:
        is_right = secrets.verify(record.stored, request.password)
    except ValueError as why:
        return Answer(Outcome.FAILED, why=str(why))
    return Answer(Outcome.OK, record.found) if is_right else Answer(Outcome.DENIED, record.found, "wrong password")


def answer_from(request: Request, raw: bytes) -> Answer:
    """Return the answer that a record as it stands in a database gives; FAILED when it is damaged."""
    try:
        return answer_to(request, parse_record(raw))
    except ValueError as why:
        return Answer(Outcome.FAILED, why=str(why))
