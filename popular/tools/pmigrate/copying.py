"""Bringing the messages of a source to a target: only those that it does not have, in order, each with its unique id.

Part of pmigrate.  Raises SourceError, and Cut when another attempt may bring more; StoreError.
"""

import re
import time
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import mktime_tz, parsedate_tz
from typing import BinaryIO

from popular.errors import StoreError
from popular.store.filename import MAX_UID
from popular.store.lineends import ByteSource, wire_blocks
from popular.tools.pmigrate.reading import Meter, Measured
from popular.tools.pmigrate.sources.source import MAX_MESSAGES, Cut, SourceMessage, MailSource, SourceError
from popular.tools.pmigrate.targets.target import MoveDraft, Incoming, Target
from popular.tools.printing import harmless

_UID = re.compile(r"[\x21-\x7e]{1,%d}" % MAX_UID)
_FOLDED = re.compile(rb"\r?\n[ \t]+")
_ZONE = re.compile(r":[0-9]{2} +(?:[-+][0-9]{4}|[A-Z]{1,5})\b", re.ASCII)    # behind the time
_EARLIEST = 315532800    # 1980: a date before that is a mistake
_A_DAY = 86400


@dataclass(slots=True)
class Tally:
    """What was done so far with one mailbox, over all attempts."""

    found: int = 0
    brought: int = 0
    octets: int = 0
    removed: int = 0
    unnamed: int = 0   # messages to which their server has not given an id yet
    failed: int = 0    # messages
    passed: int = 0    # messages that were looked at in this attempt
    on_step: Callable[[], None] = lambda: None    # called after each
    remarks: list[str] = field(default_factory=list)

    def begin(self) -> None:
        """Forget what an earlier attempt has found, and will be found again."""
        self.remarks.clear()
        self.failed = self.passed = 0

    def step(self) -> None:
        """Count a message that was looked at."""
        self.passed += 1
        self.on_step()


class Identities:
    """The unique ids of a source's messages: those it tells, where they are good, else ids made of the content."""

    def __init__(self, remark: Callable[[str], None]) -> None:
        self._remark = remark
        self._taken: set[str] = set()

    def told(self, message: SourceMessage) -> str | None:
        """Return the id that the source tells, or None if a client cannot have told two messages apart by it."""
        uid = message.uid
        if uid is None:
            return None
        if not _UID.fullmatch(uid):
            self._remark(f"message {message.place}: {harmless(uid[:MAX_UID])!r} is no unique id: gets another one")
            return None
        if uid in self._taken:
            self._remark(f"message {message.place}: an earlier message has its unique id {uid}: gets another one")
            return None
        self._taken.add(uid)
        return uid

    def made(self, read: Measured) -> str:
        """Return an id for a message without: the same in each run, and another one for each further copy of it."""
        uid, turn = read.digest, 1
        while uid in self._taken:
            turn += 1
            uid = f"{read.digest[:60]}.{turn}"
        self._taken.add(uid)
        return uid

    @property
    def all(self) -> frozenset[str]:
        """Return all ids so far."""
        return frozenset(self._taken)


def foretell(source: MailSource, known: Set[str], tally: Tally) -> None:
    """Count what would be brought to a target where these unique ids are known."""
    tally.begin()
    messages = listed_messages(source, Identities(tally.remarks.append))
    coming = [message for uid, message in messages if uid not in known]
    tally.found, tally.brought, tally.unnamed = len(messages), len(coming), unnamed(messages)
    tally.octets = sum(message.size or 0 for message in coming)
    tally.remarks.extend(source.remarks())


def copy(source: MailSource, target: Target, tally: Tally, *, removes: bool = False) -> None:
    """Bring what the target does not have; with `removes`, remove what was brought and the source no longer has.

    A message that cannot be read is told in the remarks and left out; messages are never removed then.
    """
    tally.begin()
    identities = Identities(tally.remarks.append)
    messages = listed_messages(source, identities)
    tally.found, tally.unnamed = len(messages), unnamed(messages)
    target.begin(messages)
    try:
        for index, (uid, message) in enumerate(messages, 1):
            if uid is None or not target.has(uid):
                _bring(source, target, identities, tally, index, uid, message)
            tally.step()
    except (SourceError, StoreError):
        with suppress(StoreError):    # what is brought already need not be brought again
            target.commit()
        raise
    target.commit()
    if removes and not tally.failed:
        tally.removed = target.remove(target.brought() - identities.all)
    tally.remarks.extend(source.remarks())


def listed_messages(source: MailSource, identities: Identities) -> list[tuple[str | None, SourceMessage]]:
    """Return all messages of a source with their ids as told; raises SourceError if there are too many."""
    found: list[tuple[str | None, SourceMessage]] = []
    for message in source.messages():
        if len(found) == MAX_MESSAGES:
            raise SourceError(f"there are more than {MAX_MESSAGES} messages")
        found.append((identities.told(message), message))
    return found


def unnamed(messages: Sequence[tuple[str | None, SourceMessage]]) -> int:
    """Return how many messages have an id by their name alone, until their server gives them another one."""
    return sum(uid is not None and not message.is_given for uid, message in messages)


def read_through(source: MailSource, message: SourceMessage) -> Measured:
    """Return what is known of a message after it was read, with the line ends that a client gets."""
    meter = Meter()
    with source.open(message) as octets:
        for block in wire_blocks(octets):
            meter.take(block)
    return meter.result()


def _bring(source: MailSource, target: Target, identities: Identities, tally: Tally, index: int, uid: str | None,
           message: SourceMessage) -> None:
    """Bring one message, or tell why it cannot be read.  Raises Cut and StoreError."""
    if uid is not None and target.link(Incoming(message, uid, message.size or 0, message.received or 0, index)):
        tally.brought += 1
        return
    draft = target.draft()
    try:
        read = _pour(source, message, draft, as_it_is=target.keeps_octets(message, uid))
        uid = uid or identities.made(read)
        if target.has(uid):
            draft.forget()
            return
        target.keep(draft, Incoming(message, uid, read.size, _received(message, read.head), index))
    except OSError as why:
        draft.forget()
        raise StoreError(f"message {message.place}: {why.strerror}") from why
    except SourceError as why:
        draft.forget()
        if isinstance(why, Cut):
            raise
        tally.failed += 1
        tally.remarks.append(f"message {message.place}: {why}")
        return
    except BaseException:
        draft.forget()
        raise
    tally.brought += 1
    tally.octets += read.size


def _pour(source: MailSource, message: SourceMessage, draft: MoveDraft, *, as_it_is: bool) -> Measured:
    """Write a message to a draft, with the line ends that a client gets unless `as_it_is`; return what is known."""
    meter = Meter()
    with source.open(message) as octets:
        for block in wire_blocks(_Tee(octets, draft.file) if as_it_is else octets):
            meter.take(block)
            if not as_it_is:
                draft.file.write(block)
    draft.file.flush()
    return meter.result()


class _Tee:
    """A reader that also writes what it has read to a file."""

    def __init__(self, source: ByteSource, file: BinaryIO) -> None:
        self._source = source
        self._file = file

    def read(self, size: int, /) -> bytes:
        """Return up to `size` octets; none at the end."""
        block = self._source.read(size) or b""
        self._file.write(block)
        return block


def date_of(head: bytes, now: Callable[[], float] = time.time) -> int:
    """Return when a message with this beginning was received, as a UNIX time: by the topmost Received, else by Date.

    A date without a zone, or one that cannot be, does not count, nor do two of Date; then it is now.
    """
    header = _FOLDED.sub(b" ", head.partition(b"\r\n\r\n")[0].partition(b"\n\n")[0]).decode("latin-1")
    fields = [line.partition(":") for line in header.splitlines()]
    received = [value.rpartition(";")[2] for name, _, value in fields if name.strip().lower() == "received"][:1]
    dates = [value for name, _, value in fields if name.strip().lower() == "date"]
    for text in [*received, *(dates if len(dates) == 1 else [])]:
        moment = _moment(text)
        if moment is not None and _is_plausible(moment, now()):
            return moment
    return int(now())


def _received(message: SourceMessage, head: bytes) -> int:
    """Return when a message was received, as the source says, unless it cannot be so."""
    told = message.received
    return told if told is not None and _is_plausible(told, time.time()) else date_of(head)


def _is_plausible(moment: int, now: float) -> bool:
    return _EARLIEST <= moment <= now + _A_DAY


def _moment(text: str) -> int | None:
    """Return the UNIX time of a date with a zone, or None."""
    try:
        parts = parsedate_tz(text) if _ZONE.search(text) else None
        return None if parts is None else int(mktime_tz(parts))
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
