"""Drafts: files in tmp/ of a mailbox, in which a mail is written before it gets its name in new/ (spec 9.1).

Used in pdeliver and in the children of plmtpd, by `store.delivery.deliver`.
"""

import errno
import os
import time

from popular.errors import MailboxError, StoreError
from popular.store.lineends import BLOCK
from popular.store.mailbox import Mailbox

MAX_TRIES = 100    # names tried


class MailDraft:
    """A file in tmp/ with the text of a mail."""

    def __init__(self, mailbox: Mailbox, head: bytes) -> None:
        """Create the file; raises StoreError, MailboxError for the folder."""
        self.path, self._file = _create(mailbox)
        self.size = 0    # of what is written
        self._head = head

    def write(self, block: bytes) -> None:
        """Add to the text; raises OSError."""
        if not self.size:
            block = self._head + block
        rest = memoryview(block)
        while rest:
            count = os.write(self._file, rest)    # may be short on a full disk; the next write fails with the reason
            rest = rest[count:]
        self.size += len(block)

    def copy(self, other: "MailDraft") -> None:
        """Add the text of another file, without its head; raises OSError."""
        with open(other.path, "rb", buffering=0) as source:
            source.seek(len(other._head))
            left = max(0, other.size - len(other._head))
            while left and (block := source.read(min(left, BLOCK))):    # behind it may be part of a failed block
                self.write(block)
                left -= len(block)
        if left:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def seal(self) -> None:
        """Have the text on disk and close the file; raises OSError."""
        file, self._file = self._file, -1
        try:
            os.fsync(file)
        finally:
            os.close(file)

    def forget(self) -> None:
        """Close and remove the file; if that fails, pclean removes it later.  May be called twice."""
        try:
            if self._file >= 0:
                file, self._file = self._file, -1
                os.close(file)
        except OSError:
            pass
        try:
            if self.path:
                path, self.path = self.path, ""
                os.unlink(path)
        except OSError:
            pass


def _create(mailbox: Mailbox) -> tuple[str, int]:
    """Create a file in tmp/; return its path and descriptor."""
    for _ in range(MAX_TRIES):
        seconds, microseconds = now()
        path = os.path.join(mailbox.tmp, f"{seconds}.{os.getpid()}.M{microseconds:06d}")
        try:
            return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        except OSError as why:
            raise MailboxError(mailbox.tmp, why.errno or errno.EIO) from why
    raise StoreError(f"{mailbox.tmp}: no name is free")


def now() -> tuple[int, int]:
    """Return the UNIX time as seconds and microseconds."""
    return divmod(time.time_ns() // 1000, 1_000_000)
