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


def given_uids(folder: str) -> dict[str, str]:
    """Return the unique id of each listed base, in the order of the list, for the mailbox in `folder`.

    Raises MailboxError if there is a list that cannot be used: with other ids, clients would fetch all mail again.
    """
    try:
        file = _open(f"{folder}/{UIDS_NAME}", os.O_RDONLY)
        try:
            return _parsed(_text(file))
        finally:
            os.close(file)
    except FileNotFoundError:
        return {}
    except OSError as why:
        raise _error(folder, why) from why


def give_uids(folder: str, wanted: Sequence[tuple[str, str]]) -> list[str]:
    """List pairs of unique id and base, synced to disk; return the base that counts for each id.

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
            bases = _listed(folder, file, wanted)
        sync_folder(folder)
    except OSError as why:
        raise _error(folder, why) from why
    return [bases[uid] for uid, _ in wanted]


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


def _listed(folder: str, file: int, wanted: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Add what is not listed yet; return the bases by unique id.  Raises StoreError and OSError."""
    text = _text(file)
    uids = {} if len(wanted) == 1 and _is_new(text, *wanted[0]) else _parsed(text)
    bases = {uid: base for base, uid in uids.items()}
    lines = [] if text.endswith(b"\n") else [_SPOILER]
    for uid, base in wanted:
        if uid in bases:
            continue
        if base in uids:
            raise StoreError(f"{folder}/{UIDS_NAME}: {base!a} has another id")
        uids[base], bases[uid] = uid, base
        lines.append(_line(uid, base))
    more = b"".join(lines)
    if len(text) + len(more) > MAX_UID_OCTETS or text.count(b"\n") + len(lines) > MAX_UID_LINES:
        raise StoreError(f"{folder}/{UIDS_NAME}: full")
    _write(file, more)
    os.fsync(file)    # also if nothing was added: another process may have written, but not synced yet
    return bases


def _line(uid: str, base: str) -> bytes:
    return f"{uid} ".encode("ascii") + os.fsencode(base) + b"\n"


def _is_new(text: bytes, uid: str, base: str) -> bool:
    """Tell whether neither is in a list, certainly; a look at the text is much cheaper than `_parsed`."""
    return b"\n%s " % uid.encode("ascii") not in text and b" %s\n" % os.fsencode(base) not in text


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


def _text(file: int) -> bytes:
    """Return what a list holds.  Raises OSError if it is none, or has more lines or octets than we write."""
    status = os.fstat(file)
    if not S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a file")
    if status.st_size > MAX_UID_OCTETS:
        raise OSError(errno.EFBIG, "too large")
    text = FileIO(file, closefd=False).readall()
    if not text.startswith(_HEAD):
        raise OSError(errno.EINVAL, "not a list")
    if text.count(b"\n") > MAX_UID_LINES:
        raise OSError(errno.EFBIG, "too many lines")
    return text


def _parsed(text: bytes) -> dict[str, str]:
    """Return the unique id of each base, in order."""
    pairs = _LINE.findall(os.fsdecode(text))[1:]    # without the first line, which has the same form
    uids = {base: uid for uid, base in pairs}
    if len(uids) == len(pairs) == len(set(uids.values())):
        return uids
    uids, taken = {}, set[str]()
    for uid, base in pairs:
        if base not in uids and uid not in taken:
            uids[base] = uid
            taken.add(uid)
    return uids


def _error(folder: str, why: OSError) -> MailboxError:
    return MailboxError(f"{folder}/{UIDS_NAME}", why.errno or errno.EIO)
