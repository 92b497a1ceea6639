"""Unique ids that messages got elsewhere, in the file `.popular-uidls` of the mailbox, beside new/, cur/ and tmp/.

A site that comes from another server keeps the ids by which its clients know what they have fetched.  The names of the
messages stay as they are, so that server can go on, or come back.  After the line `popular-uidls 1` the file holds a
line `UIDL BASE` for each message.  The first line that names a UIDL or a base counts.  What has another form is
ignored, and so is a last line without an end: a crash has cut it off, and its message never got a name.

Read in the children of pserv and in pclean; written by what takes mail over, before the message gets its name.  pserv
never writes it, and a line stays when its message is removed.  Lines are only added, under flock(2), so it can be read
without a lock.
"""

import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from stat import S_ISREG

from popular.errors import MailboxError, StoreError
from popular.store.filename import MAX_UID
from popular.store.folders import add_name, sync_folder

UIDS_NAME = ".popular-uidls"
MAX_UID_LINES = 200_000
MAX_UID_OCTETS = 32 << 20

_HEAD = b"popular-uidls 1\n"
_SPOILER = b"/\n"    # ends a line that a crash has cut off, so that it counts for no message: no base has a slash
_UID = re.compile(r"[\x21-\x7e]{1,%d}" % MAX_UID)
_BASE = re.compile(r"[^\n/,:]+")
_LINE = re.compile(rf"^({_UID.pattern}) ({_BASE.pattern})\n", re.MULTILINE)


class KnownUids:
    """What a writer has read of a list, so that next time it reads only what has been added since.

    Any list may come next: another one is read from its start.
    """

    __slots__ = ("uids", "bases", "lines", "size", "has_torn_end", "_identity", "_last")

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Know nothing."""
        self.uids: dict[str, str] = {}     # by base, in the order of the list
        self.bases: dict[str, str] = {}    # by unique id
        self.lines = 0                     # that end, also those that do not count
        self.size = 0                      # octets up to the end of the last one
        self.has_torn_end = False          # behind that, a crash has left part of a line
        self._identity = (0, 0)
        self._last = b""                   # line: the number of a removed file may be that of a new one

    def read(self, file: int) -> None:
        """Read what is new in an open list.  Raises OSError if it is none, or has more lines or octets than we write.
        """
        status = os.fstat(file)
        if not S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a file")
        if status.st_size > MAX_UID_OCTETS:
            raise OSError(errno.EFBIG, "too large")
        if self._identity != (status.st_dev, status.st_ino):
            self.forget()
        text = _text(file, self.size - len(self._last))
        if not text.startswith(self._last):
            self.forget()
            text = _text(file, 0)
        if not self.size and not text.startswith(_HEAD):
            raise OSError(errno.EINVAL, "not a list")
        self._identity = status.st_dev, status.st_ino
        self._add(text[len(self._last):])
        if self.lines > MAX_UID_LINES:
            raise OSError(errno.EFBIG, "too many lines")

    def _add(self, text: bytes) -> None:
        """Take over text that follows what is known."""
        whole, end, _ = text.rpartition(b"\n")
        self.has_torn_end = not text.endswith(b"\n") and bool(text)
        if not end:
            return
        pairs = _LINE.findall(os.fsdecode(whole + end))
        if not self.size:
            del pairs[0]    # the first line of a list has the same form
        uids, bases = {base: uid for uid, base in pairs}, dict(pairs)
        if not self.uids and len(uids) == len(bases) == len(pairs):
            self.uids, self.bases = uids, bases
            pairs = []
        for uid, base in pairs:
            if base not in self.uids and uid not in self.bases:
                self.uids[base] = uid
                self.bases[uid] = base
        self.lines += whole.count(end) + 1
        self.size += len(whole) + 1
        self._last = whole.rpartition(end)[2] + end


def given_uids(folder: str) -> dict[str, str]:
    """Return the unique id of each listed base, in the order of the list, for the mailbox in `folder`.

    Raises MailboxError if there is a list that cannot be used: with other ids, clients would fetch all mail again.
    """
    try:
        file = _open(f"{folder}/{UIDS_NAME}", os.O_RDONLY)
        try:
            known = KnownUids()
            known.read(file)
            return known.uids
        finally:
            os.close(file)
    except FileNotFoundError:
        return {}
    except OSError as why:
        raise _error(folder, why) from why


def give_uids(folder: str, wanted: Sequence[tuple[str, str]], known: KnownUids | None = None) -> list[str]:
    """List pairs of unique id and base, synced to disk; return the base that counts for each id.

    `known` is for who comes more than once, since reading a list for each message takes time with their square.

    That is the wanted one, unless the id is listed already: then a message was taken over before, or a crash came
    before it got its name, which must have the listed base.  To be called before messages get their names; a name of
    our form also needs something behind its base, such as `,U`, because the list is not read if all names are plain.
    Raises ValueError for what cannot be listed, StoreError if a base has another id or the list is full, and
    MailboxError.
    """
    for uid, base in wanted:
        if not _UID.fullmatch(uid) or not _BASE.fullmatch(base):
            raise ValueError(f"cannot be listed: {uid!a} {base!a}")
    try:
        with _locked(folder) as file:
            bases = _listed(folder, file, wanted, KnownUids() if known is None else known)
        sync_folder(folder)
    except OSError as why:
        raise _error(folder, why) from why
    return bases


def remove_list(folder: str, before: float, remove: Callable[[str], None]) -> None:
    """Call `remove` with the path of the list if nothing was added to it since the UNIX time `before`.

    Meanwhile nothing is added.  Raises OSError.
    """
    path = f"{folder}/{UIDS_NAME}"
    file = _open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_mtime < before:
            remove(path)
    finally:
        os.close(file)


def _listed(folder: str, file: int, wanted: Sequence[tuple[str, str]], known: KnownUids) -> list[str]:
    """Add what is not listed yet; return the base of each unique id.  Raises StoreError and OSError."""
    known.read(file)
    more: dict[str, str] = {}    # bases by unique id
    taken = set[str]()
    for uid, base in wanted:
        if uid in known.bases or uid in more:
            continue
        if base in known.uids or base in taken:
            raise StoreError(f"{folder}/{UIDS_NAME}: {base!a} has another id")
        more[uid] = base
        taken.add(base)
    text = b"".join(([_SPOILER] if known.has_torn_end else []) + [_line(uid, base) for uid, base in more.items()])
    lines = known.lines + text.count(b"\n")
    if os.fstat(file).st_size + len(text) > MAX_UID_OCTETS or lines > MAX_UID_LINES:
        raise StoreError(f"{folder}/{UIDS_NAME}: full")
    _write(file, text)
    os.fsync(file)    # also if nothing was added: another process may have written, but not synced yet
    return [more.get(uid) or known.bases[uid] for uid, _ in wanted]


def _line(uid: str, base: str) -> bytes:
    return f"{uid} ".encode("ascii") + os.fsencode(base) + b"\n"


@contextmanager
def _locked(folder: str) -> Iterator[int]:
    """Open the list for adding lines, made if it is missing, and lock it.  Raises OSError."""
    path = f"{folder}/{UIDS_NAME}"
    while True:
        try:
            file = _open(path, os.O_RDWR | os.O_APPEND)
        except FileNotFoundError:
            _make(folder, path)
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_nlink:    # else removed before it was locked
                yield file
                return
        finally:
            os.close(file)


def _make(folder: str, path: str) -> None:
    """Make an empty list, whole at once and never over another one.  Raises OSError."""
    draft = f"{folder}/tmp/popular-uidls.{os.getpid()}.{time.time_ns()}"
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        try:
            _write(file, _HEAD)
            os.fsync(file)
        finally:
            os.close(file)
        try:
            add_name(draft, path)
        except FileExistsError:
            pass    # made by another process
    finally:
        try:
            os.unlink(draft)
        except FileNotFoundError:    # renamed, since links are refused
            pass


def _write(file: int, octets: bytes) -> None:
    """Write everything; if that fails, the next writer spoils what is there of the last line.  Raises OSError."""
    rest = memoryview(octets)
    while rest:
        rest = rest[os.write(file, rest):]


def _open(path: str, flags: int) -> int:
    """Open without following a link or waiting for a pipe.  Raises OSError."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _text(file: int, start: int) -> bytes:
    """Return what a list holds from an offset on.  Raises OSError."""
    os.lseek(file, start, os.SEEK_SET)
    return FileIO(file, closefd=False).readall()


def _error(folder: str, why: OSError) -> MailboxError:
    return MailboxError(f"{folder}/{UIDS_NAME}", why.errno or errno.EIO)
