"""Delivery of one mail into mailboxes (spec 9.1): into each of them whole and on disk, or not at all.

Used in pdeliver and in the children of plmtpd.  Raises StoreError; MailboxError where a folder is at fault.

    1. a file tmp/NAME is created in one of the mailboxes, never an existing one opened, and the mail is written there;
       each write is checked
    2. fsync and close, both checked: the text is on disk
    3. link(2) gives the file its name in new/ of each mailbox; it never overwrites (rename would).  Now the mail is
       delivered
    4. the name in tmp/ is removed and each new/ is synced: the names are on disk.  If that fails for a mailbox, its
       message is removed again

A mailbox for which the text begins with other lines, or which is on another disk, gets a copy in its own tmp/ before
step 2.  The same mailbox given twice gets one message.  What fails in one mailbox does not concern the others; if it is
the one where the text is being written, the text moves on to a mailbox on another disk.

A message that another store had before keeps its unique id, time and place.  The id is listed before the message gets
its name (`store.uidlist`); if it is listed already, the message gets the listed name, or has it: it is not doubled.

If an error, or a signal turned into an exception, ends the delivery before step 3, the files in tmp/ are removed.

A name must never be used again, not even after its message was removed: a client that keeps mail on the server would
take the new message for the old one.  Process ids are reused, and at once where each delivery has its own process id
namespace.  Besides, names alone tell in which order messages were delivered.  So `TIME.PID_SIZE` is used only if
neither new/ nor cur/ has changed since TIME began.  A change of new/ shows what came or left; a change of cur/ shows
each move to it, and cur/ is touched when a message in new/ is removed.  Otherwise the name has the microseconds, too.
"""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from popular.errors import MailboxError, StoreError
from popular.lean import TYPE_CHECKING
from popular.store.delivery.draft import MAX_TRIES, MailDraft, now
from popular.store.folders import add_name, is_link_refused, make_folder, sync_folder
from popular.store.lineends import ByteSource, message_blocks
from popular.store.mailbox import Mailbox
from popular.store.plainname import base_of, new_name

if TYPE_CHECKING:
    from popular.store.uidlist import KnownUids

_MARGIN_SECONDS = 0.1    # the times of folders come from a clock that lags by a tick

_MARK = ",U"    # behind a base that is listed with its unique id, so that the list is read

_Step = Callable[[str], None]


class Delivered:
    """What was delivered."""

    __slots__ = ("name", "size")

    def __init__(self, name: str, size: int) -> None:
        self.name = name    # the file in new/
        self.size = size    # octets, as POP3 will announce them

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Delivered) and (self.name, self.size) == (other.name, other.size)

    def __hash__(self) -> int:
        return hash((self.name, self.size))


class Destination:
    """Where a mail is to be delivered."""

    __slots__ = ("mailbox", "head", "uidl", "received", "is_read", "known")

    def __init__(self, mailbox: Mailbox, head: bytes = b"", uidl: str = "", received: int | None = None,
                 is_read: bool = False, known: "KnownUids | None" = None) -> None:
        self.mailbox = mailbox
        self.head = head    # lines before the text, such as Return-Path; each ends in CRLF
        # Of a message that another store had before:
        self.uidl = uidl            # its unique id there, 1 to 70 of 0x21 to 0x7E; empty: that of its name
        self.received = received    # UNIX time of its delivery; None: now
        self.is_read = is_read      # it belongs into cur/
        self.known = known          # what is known of the mailbox's list of unique ids

    @property
    def is_taken_over(self) -> bool:
        """Tell whether the message comes from another store."""
        return bool(self.uidl) or self.received is not None or self.is_read

    @property
    def folder(self) -> str:
        """Where the message gets its name."""
        return self.mailbox.cur if self.is_read else self.mailbox.new


def deliver(mailbox: Mailbox, source: ByteSource, form: str, step: _Step = lambda name: None, *,
            head: bytes = b"") -> Delivered:
    """Read one mail from `source` and deliver it; memory is bounded whatever its size and the length of its lines.

    `step` is called before each step with its name: "write", "sync", "link", "unlink", "settle".  An exception
    that it raises up to and including "link" undoes the delivery.  The lines in `head` precede the text.

    Raises MailboxError, or StoreError; then the mail is not delivered.  There is one exception: if new/
    cannot be synced, and the message not be removed again, it stays.  To deliver it twice is better than to lose it.
    """
    with MailDelivery([Destination(mailbox, head)], step) as delivery:
        step("write")
        try:
            if delivery.is_possible:
                for block in message_blocks(source, form):
                    delivery.write(block)
        except OSError as why:
            raise StoreError(f"{mailbox.name}: {why.strerror}") from why
        [result] = delivery.finish()
    if isinstance(result, Exception):
        raise result
    return result


class MailDelivery:
    """One mail on its way into mailboxes; as a context manager, it removes at its end what is left in tmp/."""

    def __init__(self, destinations: Sequence[Destination], step: _Step = lambda name: None) -> None:
        """Begin the mail; `step` is as in `deliver`."""
        self._step = step
        self._courses = [_Course(destination) for destination in destinations]
        self._carrier: _Course | None = None    # in whose tmp/ the text is
        known: dict[tuple[int, int], _Course] = {}
        for course in self._courses:
            course.look(known)
        self._find_carrier(None)

    @property
    def is_possible(self) -> bool:
        """Tell whether there is still a mailbox that may get the mail."""
        return self._carrier is not None

    def write(self, block: bytes) -> None:
        """Add a block to the text, whose lines end in CRLF; what fails is told by `finish`."""
        while self._carrier is not None and self._carrier.draft is not None:
            draft = self._carrier.draft
            try:
                draft.write(block)
                return
            except OSError as why:
                self._carrier.fail(why)
                self._fail_disk(self._carrier.device, why)
                self._find_carrier(draft)
                draft.forget()

    def finish(self) -> "list[Delivered | Exception]":
        """Deliver; return for each destination what was delivered, or why nothing was, in their order.

        A reason is a StoreError unless there was no memory, or our bug.
        """
        self._step("sync")
        self._complete_drafts()
        self._step("link")
        carrier = self._carrier
        for course in self._open():
            if course is not carrier:
                self._publish(course)
        if carrier is not None and carrier.failure is None:    # last: where links are refused, its file is renamed
            self._publish(carrier)
        self._step("unlink")
        self.close()
        self._step("settle")
        for course in self._open():
            try:
                sync_folder(course.destination.folder)
            except Exception as why:
                course.take_back(why)
        return [course.result() for course in self._courses]

    def __enter__(self) -> "MailDelivery":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Remove what is left in tmp/; may be called twice."""
        for course in self._courses:
            if course.draft is not None:
                course.draft.forget()

    def _open(self) -> "Iterator[_Course]":
        """Yield the courses on which nothing has failed yet; none for a mailbox that was given before."""
        return (course for course in self._courses if course.failure is None and course.twin is None)

    def _find_carrier(self, former: MailDraft | None) -> None:
        """Begin in the tmp/ of the first mailbox that can take the text; go on with that of the former file."""
        self._carrier = None
        for course in self._open():
            try:
                course.make_draft(former)
            except StoreError as why:
                course.failure = why
            except OSError as why:
                course.fail(why)
                self._fail_disk(course.device, why)
            else:
                self._carrier = course
                break

    def _fail_disk(self, device: int, why: OSError) -> None:
        """Note that a disk takes no text, so that the copy is not begun there again for each mailbox."""
        for course in self._open():
            if course.device == device:
                course.fail(why)

    def _complete_drafts(self) -> None:
        """Make the files that cannot be shared, and have all files on disk."""
        carrier = self._carrier
        if carrier is None or carrier.draft is None:
            return
        for course in self._open():
            if not course.may_share(carrier):
                course.has_copy(carrier.draft)
        for course in self._open():
            course.seal()
        if carrier.failure is not None:
            for course in self._open():
                if course.draft is None:
                    course.failure = carrier.failure

    def _publish(self, course: "_Course") -> None:
        """Give a message its name in new/."""
        carrier = self._carrier
        assert carrier is not None and carrier.draft is not None
        try:
            if course.draft is None:
                try:
                    course.publish(carrier.draft, os.link)
                    return
                except OSError as why:
                    if not is_link_refused(why):
                        raise
                if not course.has_copy(carrier.draft) or not course.seal():
                    return
            if course.draft is not None:
                course.publish(course.draft, add_name)
        except StoreError as why:
            course.failure = why
        except OSError as why:
            course.fail(why)


class _Course:
    """The delivery into one mailbox, as far as it has come."""

    __slots__ = ("destination", "mailbox", "device", "twin", "draft", "name", "size", "is_old", "failure")

    def __init__(self, destination: Destination) -> None:
        self.destination = destination
        self.mailbox = destination.mailbox
        self.device = 0
        self.twin: _Course | None = None      # the same mailbox, given before
        self.draft: MailDraft | None = None   # its own file
        self.name = ""                        # in new/
        self.size = 0
        self.is_old = False                   # it was there already
        self.failure: Exception | None = None

    def look(self, known: "dict[tuple[int, int], _Course]") -> None:
        """Find out whether the mailbox exists, and whether it is one of the `known`, to which it is added."""
        try:
            try:
                status = os.stat(self.mailbox.new)
            except OSError:
                self.mailbox.check()
                status = os.stat(self.mailbox.new)
        except StoreError as why:
            self.failure = why
        except OSError as why:
            self.failure = MailboxError(self.mailbox.new, why.errno or errno.EIO)
        else:
            self.device = status.st_dev
            first = known.setdefault((status.st_dev, status.st_ino), self)
            self.twin = None if first is self else first

    def may_share(self, carrier: "_Course") -> bool:
        """Tell whether the file of the carrier may be that of this mailbox, too."""
        return self is carrier or (self.device == carrier.device
                                   and self.destination.head == carrier.destination.head)

    def make_draft(self, former: MailDraft | None) -> None:
        """Begin a file of its own, with the text of the former one; raises StoreError and OSError."""
        self.draft = MailDraft(self.mailbox, self.destination.head)
        if former is not None:
            self.draft.copy(former)

    def has_copy(self, other: MailDraft) -> bool:
        """Make a file of its own with the text of another one; return whether that went well."""
        try:
            self.make_draft(other)
        except StoreError as why:
            self.failure = why
        except OSError as why:
            self.fail(why)
        return self.failure is None

    def seal(self) -> bool:
        """Have its own file on disk, if there is one; return whether that went well."""
        try:
            if self.draft is not None:
                self.draft.seal()
        except OSError as why:
            self.fail(why)
        return self.failure is None

    def publish(self, draft: MailDraft, add: Callable[[str, str], object]) -> None:
        """Give a file a name that no message has or had; raises OSError, and StoreError for the list of unique ids."""
        self.size = draft.size
        if self.destination.is_taken_over:
            self._publish_again(draft, add)
            return
        for turn in range(MAX_TRIES):
            seconds, microseconds = now()
            is_plain = turn == 0 and not _has_changed(self.mailbox, seconds)
            name = new_name(seconds, os.getpid(), draft.size, None if is_plain else microseconds)
            try:
                add(draft.path, os.path.join(self.mailbox.new, name))
            except FileExistsError:
                continue
            self.name = name
            return
        raise FileExistsError(errno.EEXIST, "no name is free")

    def _publish_again(self, draft: MailDraft, add: Callable[[str, str], object]) -> None:
        """Do that for a message that another store had, unless an earlier attempt has succeeded.

        Its name has the whole present time in microseconds, since the time of its delivery may be that of many.
        """
        to = self.destination
        seconds, microseconds = now()
        name = new_name(seconds if to.received is None else to.received, os.getpid(), draft.size,
                        seconds * 1_000_000 + microseconds)
        if to.is_read and not os.path.isdir(to.folder):
            make_folder(to.folder)
        if to.uidl:
            from popular.store.uidlist import give_uids    # most mails need no list

            [base] = give_uids(self.mailbox.path, [(to.uidl, name)], to.known)
            self.name = _named(self.mailbox, base) if base != name else ""
            self.is_old = bool(self.name)
            name = base + _MARK
        if not self.is_old:
            add(draft.path, os.path.join(to.folder, name))
            self.name = name

    def take_back(self, why: Exception) -> None:
        """Remove the message, as it may not be on disk; note `why`, or that it stays."""
        folder = self.destination.folder
        try:
            if not self.is_old:
                os.unlink(os.path.join(folder, self.name))
        except OSError as other:
            why = StoreError(f"{folder}/{self.name}: neither synced to disk nor removed again, so it comes twice: "
                             f"{other.strerror}")
        self.failure = MailboxError(folder, why.errno or errno.EIO) if isinstance(why, OSError) else why

    def fail(self, why: OSError) -> None:
        """Note that the system refused something."""
        self.failure = StoreError(f"{self.mailbox.name}: {why.strerror}")
        self.failure.__cause__ = why

    def result(self) -> Delivered | Exception:
        """Return what came of it."""
        if self.twin is not None:
            return self.twin.result()
        return Delivered(self.name, self.size) if self.failure is None else self.failure


def _named(mailbox: Mailbox, base: str) -> str:
    """Return the name of the message with a base; empty if there is none.  Raises OSError."""
    for folder in (mailbox.new, mailbox.cur):
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            continue    # without cur/ nothing was ever moved
        for name in names:
            if base_of(name) == base:
                return name
    return ""


def _has_changed(mailbox: Mailbox, seconds: int) -> bool:
    """Tell whether a message came to new/ or left it since the UNIX time `seconds`.  Raises OSError."""
    for folder in (mailbox.new, mailbox.cur):
        try:
            if os.stat(folder).st_mtime >= seconds - _MARGIN_SECONDS:
                return True
        except FileNotFoundError:
            continue    # without cur/ nothing was ever moved
    return False
