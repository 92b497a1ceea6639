"""The record of one user, as the modules passwd, cdb, db and sqlite store it, and the answer made from it.

    HASH:BACKEND:PROTOCOL:MAILBOX            for cxpop and xpop, or with PROTOCOL empty for any backend
    HASH:BACKEND:PROTOCOL:MAILBOX:USER:PASS  also the login at a backend that speaks pop3

HASH is in a form that `popular.pdm.secrets` knows, PROTOCOL may be empty for the backend's own, and
PASS, being the last field, may hold colons.  In the passwd text the user's name stands before the
record; in cdb and db the name is the key and the record the value.  Octets that are not UTF-8 are
kept unchanged.  {BACKEND} in place of HASH leaves the check of the password to a backend that speaks pop3.

Runs in the process that asks.  Raises ValueError for arguments and records that cannot be used; its
text never holds a hash or password.
"""

import os
import pwd
import re
import shlex
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from popular.pdm import secrets
from popular.pdm.api import PROVEN, Answer, Found, Outcome, PdmError, Request
from popular.pdm.rules import NO_RULES, LoginRules, login_rules, passwords_of, place_rules

MAX_KEY = 255         # octets of a user's name: no client can send more
MAX_RECORD = 4096     # octets of a record, the name included
PROBE_SECONDS = 10.0  # for a server to answer the question of a probe

RECORD_FIELDS = ("password", "backend", "protocol", "mailbox", "buser", "bpass")    # names of a record's fields

WRONG_PASSWORD = "wrong password"    # why a password is refused, if no rule says more

_ONLY_OTHERS = "*"    # stands for a missing hash
_BY_BACKEND = "{BACKEND}"
_NOBODY = Request("-popular-check-", b"", "127.0.0.1", "pop3", "default")

_KEY = re.compile(rb"[^#:\n\r\0][^:\n\r\0]*")    # a name that a database can have
_UNSENDABLE = re.compile(rb"[\n\r\0]")


@dataclass(frozen=True, slots=True)
class Record:
    """What a database knows about one user."""

    stored: str = field(repr=False)    # the hash, in a form of popular.pdm.secrets; empty: only `others` count
    found: Found                       # the place of the mail, valid once the password was checked
    others: tuple[tuple[str, str], ...] = field(default=(), repr=False)    # labels and hashes of more passwords
    rules: LoginRules = NO_RULES
    is_backends: bool = False    # the backend checks the password


def file_argument(args: Sequence[str], usage: str, what: str = "a file") -> str:
    """Return the only argument of a module, `what`: a file with its full path; raises ValueError.

    It must be a full path because daemons do not run in the administrator's working directory.
    """
    if not args or not args[0]:
        raise ValueError(f"'args' is missing: {what}")
    if len(args) != 1:
        raise ValueError(f"give one file, not {len(args)} words: {usage}")
    if not os.path.isabs(args[0]):
        raise ValueError(f"{args[0]} does not begin with /: {usage}")
    return args[0]


def probe(path: str, check: Callable[[Request], Answer]) -> None:
    """Check that a module's file is readable and not writable by everybody, and that `check` works; raises PdmError."""
    prove_file(path)
    answer = check(_NOBODY)
    if answer.outcome is Outcome.FAILED:
        raise PdmError(f"{path}: {answer.why}")


def probe_server(check: Callable[[Request], Answer]) -> None:
    """Raise PdmError if `check` cannot tell that a user does not exist."""
    answer = check(_NOBODY.until(time.monotonic() + PROBE_SECONDS))
    if answer.outcome is Outcome.FAILED:
        raise PdmError(answer.why)


def prove_file(path: str) -> None:
    """Raise PdmError if this process cannot read the file `path`, or if everybody can write it."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
    except PermissionError:
        raise PdmError(f"{path}: user {_own_name()!r} cannot read it") from None
    except OSError as why:
        raise PdmError(f"{path}: {why.strerror}") from None
    if not stat.S_ISREG(mode):
        raise PdmError(f"{path}: not a regular file")
    if mode & stat.S_IWOTH:
        raise PdmError(f"{path}: can be written by everybody: chmod o-w {shlex.quote(path)}")
    folder = os.path.dirname(os.path.realpath(path))
    if os.stat(folder).st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
        raise PdmError(f"{folder}: can be written by everybody: chmod o-w {shlex.quote(folder)}")


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def key_of(user: str) -> bytes | None:
    """Return the key under which a user is looked up; None if no database can have such a key."""
    key = user_octets(user)
    return None if key is None or _KEY.fullmatch(key) is None else key


def user_octets(user: str) -> bytes | None:
    """Return a user's name in octets; None for one longer than MAX_KEY, or with a NUL or line end."""
    try:
        octets = user.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None
    return None if len(octets) > MAX_KEY or _UNSENDABLE.search(octets) else octets


def parse_record(raw: bytes) -> Record:
    """Read `HASH:BACKEND:PROTOCOL:MAILBOX[:USER:PASS]`; raises ValueError."""
    if len(raw) > MAX_RECORD:
        raise ValueError(f"the record has more than {MAX_RECORD} octets")
    return make_record(raw.decode("utf-8", "surrogateescape").split(":", 5))


def make_record(fields: Sequence[str]) -> Record:
    """Make a record of its 4 or 6 fields; raises ValueError."""
    if len(fields) not in (4, 6):
        raise ValueError(f"the record has {len(fields)} fields, but must have 4 or 6")
    stored, backend, protocol, mailbox, user, password = [*fields, "", ""][:6]
    if not stored:
        raise ValueError("the record has no password")
    if stored.upper() == _BY_BACKEND:
        if protocol not in ("", "pop3") or password:
            raise ValueError(f"{_BY_BACKEND} is for the protocol pop3, and with no password for the backend")
        return Record("", Found(backend, "pop3", mailbox, user, verified=False), is_backends=True)
    return Record(stored, Found(backend, protocol, mailbox, user, password.encode("utf-8", "surrogateescape"),
                                verified=True))


def record_of(values: Mapping[str, str]) -> Record:
    """Make a record of what a database knows, by the names in RECORD_FIELDS and RULES.

    Missing ones are empty, other names are ignored.  Raises ValueError.
    """
    others = passwords_of(values)
    stored, *rest = (values.get(name, "") for name in RECORD_FIELDS)
    record = make_record([stored or others and _ONLY_OTHERS or "", *rest])
    place = place_rules(values)
    if record.is_backends:
        if others:
            raise ValueError(f"{_BY_BACKEND} is for the only password of a user")
        place["protocol"] = "pop3"    # also where the mailbox moves from: no other protocol checks passwords
    found = replace(record.found, **place) if place else record.found
    return replace(record, found=found, others=others, rules=login_rules(values))


def answer_to(request: Request, record: Record) -> Answer:
    """Return OK or DENIED, both with the place of the mail, or FAILED if a hash cannot be used.

    With PROVEN there is no password to compare; only the rules of the record count.
    """
    if request.mechanism == PROVEN:
        return accepted(request, record)
    if request.mechanism:
        return _answer_to_proof(request, record)
    if record.is_backends:
        return accepted(request, record)
    try:
        if record.stored and secrets.verify(record.stored, request.password):
            return accepted(request, record)
        for label, stored in record.others:
            if secrets.verify(stored, request.password):
                return accepted(request, record, label)
    except ValueError as why:
        return Answer(Outcome.FAILED, why=str(why))
    return Answer(Outcome.DENIED, place_of(record, request), WRONG_PASSWORD)


def _answer_to_proof(request: Request, record: Record) -> Answer:
    """Return OK or DENIED for what shows that a client knows the password, or DENIED with what they need for that."""
    forms = [("", record.stored), *record.others] if record.stored else record.others
    try:
        judgement = secrets.DRIVERS.get("popular.pdm.proofs").judge(request.mechanism, request.password, forms)
    except ValueError as why:
        return Answer(Outcome.FAILED, why=str(why))
    if not judgement.is_right:
        return Answer(Outcome.DENIED, place_of(record, request), judgement.why, proof=judgement.proof)
    answer = accepted(request, record, judgement.label)
    return replace(answer, proof=judgement.proof) if answer.outcome is Outcome.OK else answer


def accepted(request: Request, record: Record, label: str = "") -> Answer:
    """Return the answer for a user whose password was right: OK, unless a rule of the record forbids the login.

    `label` is that of the password, if it is one of several.
    """
    objection = record.rules.objection(request)
    if objection:
        return Answer(Outcome.DENIED, place_of(record, request), objection)
    found = place_of(record, request)
    return Answer(Outcome.OK, replace(found, label=label) if label else found, until=record.rules.until)


def place_of(record: Record, request: Request) -> Found:
    """Return the place of the mail; a server that it moves from gets the client's name, unless the record has one.

    So does a backend that checks the password.  With the name it gets the password, if that is what the client has
    sent.
    """
    found = record.found
    if not record.is_backends and (found.user or not found.is_moving):
        return found
    return replace(found, user=found.user or request.user, password=b"" if request.mechanism else request.password)
