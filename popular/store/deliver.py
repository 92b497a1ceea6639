"""One mail into a mailbox (spec 9.1): whole and on disk, or not there at all.

Used in pdeliver.  Raises StoreError; MailboxError where a folder is at fault.

    1. tmp/NAME is made, never an existing file, and the mail is written there, each write checked
    2. fsync and close, both checked: the text is on disk
    3. link(2) gives it its name in new/; it never overwrites (rename would).  From here on the mail is delivered
    4. the name in tmp/ goes, and new/ is synced: the name is on disk.  If that cannot be done the message is taken back

Whatever ends the delivery before 3, a raised error or a signal made into an exception, removes the file in tmp/.

Names must not come again, not even after their message was removed, or a client that keeps mail on the server
takes the new message for the old one.  A process id does come again, at once where each delivery has a process id
namespace of its own.  And names are all that tells in which order messages were delivered.  So `TIME.PID_SIZE` is taken
only if new/ has not changed since TIME began: nothing came there, and nothing left; nor cur/, where any move to it
shows, and which is touched when something in new/ is removed.  Else the name has the microseconds too.
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
_MARGIN_SECONDS = 0.1    # the times of folders come from a clock that lags a tick behind

_Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was delivered."""

    name: str    # the file in new/
    size: int    # octets, as POP3 will announce them


def deliver(mailbox: Mailbox, source: ByteSource, form: MailForm, step: _Step = lambda name: None) -> Delivered:
    """Read one mail from `source` and deliver it; memory is bounded whatever its size and the length of its lines.

    `step` is called with the name of what comes next: "write", "sync", "link", "unlink", "settle".  An exception
    that it raises up to and including "link" undoes the delivery.

    Raises MailboxError, or StoreError, with the mail not delivered; only if new/ cannot be synced, and the
    message not be removed either, it is there nevertheless: a retry that brings it twice is better than a loss.
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
    """Make a new file in tmp/ and return its path and descriptor."""
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
            count = os.write(file, rest)    # may be short on a full disk; the next then tells why
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
    """Remove a message that is not sure to be on disk.  Raises StoreError if it stays."""
    try:
        os.unlink(os.path.join(mailbox.new, name))
    except OSError as why:
        raise StoreError(f"{mailbox.new}/{name}: neither brought to disk nor taken back, so it comes twice: "
                         f"{why.strerror}") from why


def _now() -> tuple[int, int]:
    """Return the UNIX time as seconds and microseconds."""
    return divmod(time.time_ns() // 1000, 1_000_000)


def _forget(path: str) -> None:
    """Take a name out of tmp/; where that fails it is left for the periodic cleaning."""
    try:
        os.unlink(path)
    except OSError:
        pass
