"""The folders of a mailbox: listed without a stat for each file, made, and synced to disk.

Used in the children of pserv and pcheckd, and in pdeliver.  Raises MailboxError where a folder cannot be used.
"""

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from popular.errors import MailboxError

_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


class File(NamedTuple):
    """One file of a folder as readdir(3) gives it."""

    name: str
    inode: int


def files_in(folder: str) -> Iterator[File]:
    """Yield the regular files of a folder, without dot files; symbolic links are not followed.

    Raises MailboxError: SYS/PERM where the folder is missing, else SYS/TEMP.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name[0] != "." and entry.is_file(follow_symlinks=False):
                    yield File(entry.name, entry.inode())
    except OSError as why:
        raise folder_error(folder, why) from why


def all_names_in(folder: str) -> list[str]:
    """Return all names in a folder, of files or not: the quickest way to list it.  Raises MailboxError as above."""
    try:
        return os.listdir(folder)
    except OSError as why:
        raise folder_error(folder, why) from why


def names_in(folder: str) -> list[str]:
    """Return the names of what `files_in` yields.  Raises MailboxError as it does."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.name[0] != "." and entry.is_file(follow_symlinks=False)]
    except OSError as why:
        raise folder_error(folder, why) from why


def has_file(folder: str) -> bool:
    """Tell whether `files_in` would yield something; stops at the first.  Raises MailboxError as it does."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name[0] != "." and entry.is_file(follow_symlinks=False):
                    return True
    except OSError as why:
        raise folder_error(folder, why) from why
    return False


def folder_error(folder: str, why: OSError) -> MailboxError:
    """Return the error that tells of a folder; only a missing one is told for good (SYS/PERM)."""
    number = why.errno or errno.EIO
    return MailboxError(folder, number, "SYS/PERM" if number in _MISSING else "SYS/TEMP")


def is_missing(why: MailboxError) -> bool:
    """Tell whether the folder is simply not there."""
    return why.number == errno.ENOENT


def make_folder(path: str) -> bool:
    """Make one folder for us alone, lasting on disk; False if it is there already.  Raises OSError."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return False
    sync_folder(os.path.dirname(path))
    return True


def sync_folder(path: str) -> None:
    """Have the names in a folder written to disk.  Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def move(source: str, target: str) -> None:
    """Give a file another name, and never overwrite one (rename(2) would).  Raises OSError.

    Where `target` is this very file already, a move that was cut off is completed.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        if not os.path.samestat(os.lstat(source), os.lstat(target)):
            raise
    os.unlink(source)
