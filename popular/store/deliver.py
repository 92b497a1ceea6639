"""Delivery of one mail into a mailbox (spec 9.1): whole and on disk, or not at all.

Used in pdeliver.  Raises StoreError; MailboxError where a folder is at fault.

    1. the file tmp/NAME is created, never an existing one opened, and the mail is written there; each write is checked
    2. fsync and close, both checked: the text is on disk
    3. link(2) gives the file its name in new/; it never overwrites (rename would).  Now the mail is delivered
    4. the name in tmp/ is removed and new/ is synced: the name is on disk.  If that fails, the message is removed again

If an error, or a signal turned into an exception, ends the delivery before step 3, the file in tmp/ is removed.

A name must never be used again, not even after its message was removed: a client that keeps mail on the server would
take the new message for the old one.  Process ids are reused, and at once where each delivery has its own process id
namespace.  Besides, names alone tell in which order messages were delivered.  So `TIME.PID_SIZE` is used only if
neither new/ nor cur/ has changed since TIME began.  A change of new/ shows what came or left; a change of cur/ shows
each move to it, and cur/ is touched when a message in new/ is removed.  Otherwise the name has the microseconds, too.
"""

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from popular.errors import MailboxError, StoreError
from popular.store.filename import new_name
from popular.store.folders import add_name, sync_folder
from popular.store.lineends import ByteSource, MailForm, message_blocks
from popular.store.mailbox import Mailbox

_MAX_TRIES = 100         # names tried
_MARGIN_SECONDS = 0.1    # the times of folders come from a clock that lags by a tick

_Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was delivered."""

    name: str    # the file in new/
    size: int    # octets, as POP3 will announce them


def deliver(mailbox: Mailbox, source: ByteSource, form: MailForm, step: _Step = lambda name: None) -> Delivered:
    """Read one mail from `source` and deliver it; memory is bounded whatever its size and the length of its lines.

    `step` is called before each step with its name: "write", "sync", "link", "unlink", "settle".  An exception
    that it raises up to and including "link" undoes the delivery.

    Raises MailboxError, or StoreError; then the mail is not delivered.  There is one exception: if new/
    cannot be synced, and the message not be removed again, it stays.  To deliver it twice is better than to lose it.
    """
    mailbox.check()
    path, file = _make_draft(mailbox)
    try:
        try:
            step("write")
            size = _write(file, source, form)
            step("sync")
            os.fsync(file)
        finally:
            os.close(file)
        step("link")
        name = _publish(mailbox, path, size)
        step("unlink")
    except OSError as why:
        raise StoreError(f"{mailbox.name}: {why.strerror}") from why
    finally:
        _forget(path)
    step("settle")
    try:
        sync_folder(mailbox.new)
    except Exception as why:
        _take_back(mailbox, name)
        if not isinstance(why, OSError):
            raise
        raise MailboxError(mailbox.new, why.errno or errno.EIO) from why
    return Delivered(name, size)


def _make_draft(mailbox: Mailbox) -> tuple[str, int]:
    """Create a file in tmp/; return its path and descriptor."""
    for _ in range(_MAX_TRIES):
        seconds, microseconds = _now()
        path = os.path.join(mailbox.tmp, f"{seconds}.{os.getpid()}.M{microseconds:06d}")
        try:
            return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        except OSError as why:
            raise MailboxError(mailbox.tmp, why.errno or errno.EIO) from why
    raise StoreError(f"{mailbox.tmp}: no name is free")


def _write(file: int, source: ByteSource, form: MailForm) -> int:
    """Write the mail as it is to be stored; return its size.  Raises OSError."""
    size = 0
    for block in message_blocks(source, form):
        rest = memoryview(block)
        while rest:
            count = os.write(file, rest)    # may be short on a full disk; the next write then fails with the reason
            rest = rest[count:]
        size += len(block)
    return size


def _publish(mailbox: Mailbox, path: str, size: int) -> str:
    """Give the written file a name in new/ that no message has or had; return the name.  Raises OSError."""
    for turn in range(_MAX_TRIES):
        seconds, microseconds = _now()
        is_plain = turn == 0 and not _has_changed(mailbox, seconds)
        name = new_name(seconds, os.getpid(), size, None if is_plain else microseconds)
        try:
            add_name(path, os.path.join(mailbox.new, name))
        except FileExistsError:
            continue
        return name
    raise FileExistsError(errno.EEXIST, "no name is free")


def _has_changed(mailbox: Mailbox, seconds: int) -> bool:
    """Tell whether a message came to new/ or left it since the UNIX time `seconds`.  Raises OSError."""
    for folder in (mailbox.new, mailbox.cur):
        try:
            if os.stat(folder).st_mtime >= seconds - _MARGIN_SECONDS:
                return True
        except FileNotFoundError:
            continue    # without cur/ nothing was ever moved
    return False


def _take_back(mailbox: Mailbox, name: str) -> None:
    """Remove a message that may not be on disk.  Raises StoreError if it stays."""
    try:
        os.unlink(os.path.join(mailbox.new, name))
    except OSError as why:
        raise StoreError(f"{mailbox.new}/{name}: neither synced to disk nor removed again, so it comes twice: "
                         f"{why.strerror}") from why


def _now() -> tuple[int, int]:
    """Return the UNIX time as seconds and microseconds."""
    return divmod(time.time_ns() // 1000, 1_000_000)


def _forget(path: str) -> None:
    """Remove a file from tmp/; if that fails, pclean removes it later."""
    try:
        os.unlink(path)
    except OSError:
        pass
