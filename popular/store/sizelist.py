"""What was learned about files of other Maildir programs, in a file of the mailbox beside new/, cur/ and tmp/.

Their names must stay as they are (Dovecot identifies a message by its name up to the colon), so their sizes are listed
here, as in Courier's `courierpop3dsizelist`: no file is read twice to count it.  The list also preserves the unique ids
of twins, which are messages with the same base as another message.

Used in the children of pserv.  Reading raises nothing: a file that is missing, truncated or wrong counts as empty.
It holds lines, all of decimal numbers: `S INODE MTIME_NS OCTETS SIZE` gives the size on the wire of a file with OCTETS
on disk that was last changed then; `T INODE MARK TURN` makes the `twin_base` of INODE + TURN the unique id of the name
of that file whose base has this mark.  The last line counts the others.
"""

import os
import re
import time
from io import FileIO
from stat import S_ISREG

from popular.store.listing import Twin
from popular.store.mailbox import Mailbox

SIZES_NAME = ".popular-sizes"    # in the folder of the mailbox; no Maildir program takes a dot file for its own
MAX_LINES = 100_000        # of each kind
MAX_OCTETS = 16 << 20      # of a file that is read

_HEAD = b"popular-sizes 1\n"
_SIZE = re.compile(rb"^S ([0-9]{1,20}) ([0-9]{1,20}) ([0-9]{1,18}) ([0-9]{1,18})$", re.MULTILINE)
_TWIN = re.compile(rb"^T ([0-9]{1,20}) ([0-9]{1,10}) ([0-9]{1,9})$", re.MULTILINE)
_END = re.compile(rb"^end ([0-9]{1,9})\n\Z", re.MULTILINE)

_Key = tuple[int, int, int]    # inode, time of change in nanoseconds, octets on disk


class SizeList:
    """The list of one mailbox; its file is read at the first query."""

    __slots__ = ("_mailbox", "_known", "_used", "_twins", "_is_loaded", "_is_changed")

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._known: dict[_Key, int] = {}
        self._used: dict[_Key, int] = {}    # of files that exist
        self._twins: dict[Twin, int] = {}
        self._is_loaded = False
        self._is_changed = False

    @property
    def is_changed(self) -> bool:
        """Tell whether there is something new to be saved."""
        return self._is_changed

    def twins(self) -> dict[Twin, int]:
        """Return the turns of twins."""
        self._load()
        return self._twins

    def keep_twins(self, twins: dict[Twin, int]) -> None:
        """Take note of the twins that exist now."""
        self._is_changed |= twins != self._twins
        self._twins = twins

    def size(self, status: os.stat_result) -> int | None:
        """Return the size on the wire of the file with this status, or None."""
        self._load()
        key = _key(status)
        size = self._known.get(key)
        if size is not None:
            self._used[key] = size
        return size

    def add(self, status: os.stat_result, size: int) -> None:
        """Take note of a size that was counted."""
        self._used[_key(status)] = size
        self._is_changed = True

    def save(self) -> None:
        """Write what is known about files that exist; the old list is replaced in one step.  Raises OSError."""
        sizes = [b"S %d %d %d %d\n" % (*key, size) for key, size in list(self._used.items())[:MAX_LINES]]
        twins = [b"T %d %d %d\n" % (*twin, turn) for twin, turn in list(self._twins.items())[:MAX_LINES]]
        text = b"".join([_HEAD, *sizes, *twins, b"end %d\n" % (len(sizes) + len(twins))])
        path = f"{self._mailbox.tmp}/popular-sizes.{os.getpid()}.{time.time_ns()}"
        try:
            with open(path, "xb", opener=_make) as file:
                file.write(text)
            os.rename(path, f"{self._mailbox.path}/{SIZES_NAME}")
        except OSError:
            _forget(path)
            raise
        self._is_changed = False
        _touch(self._mailbox.cur)

    def _load(self) -> None:
        """Read the file once."""
        if self._is_loaded:
            return
        self._is_loaded = True
        text = _read(f"{self._mailbox.path}/{SIZES_NAME}")
        end = _END.search(text[-32:])
        lines = text.count(b"\n") - 2
        if not text.startswith(_HEAD) or end is None or int(end[1]) != lines or lines > 2 * MAX_LINES:
            return    # the numbers of more lines than we write would take half a GB
        self._known = {(int(inode), int(changed), int(octets)): int(size)
                       for inode, changed, octets, size in _SIZE.findall(text)}
        self._twins = {(int(inode), int(mark)): int(turn) for inode, mark, turn in _TWIN.findall(text)}


def _key(status: os.stat_result) -> _Key:
    return status.st_ino, status.st_mtime_ns, status.st_size


def _read(path: str) -> bytes:
    """Return what a file holds; nothing if it cannot be read, is too large, or is not a regular file."""
    try:
        with FileIO(path, opener=_open) as file:
            status = os.fstat(file.fileno())
            if S_ISREG(status.st_mode) and status.st_size <= MAX_OCTETS:
                return file.read(MAX_OCTETS) or b""
    except OSError:
        pass
    return b""


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _make(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:    # never made; else pclean removes it
        pass


def _touch(cur: str) -> None:
    """Touch cur/: the new name has changed the mailbox's folder, and a delivery expects a later change of cur/.

    The clock of folders lags, so both might get the same time; one microsecond more shows even in a float.
    """
    now = time.time_ns() + 1000
    try:
        os.utime(cur, ns=(now, now))
    except OSError:    # not there, so nothing was ever moved
        pass
