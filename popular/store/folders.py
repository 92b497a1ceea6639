"""The folders of a mailbox: listed without a stat for each file, made, and synced to disk.

Used in the children of pserv, pcheckd and plmtpd, and in pdeliver.  Raises MailboxError where a folder cannot be used.
"""

import errno
import os
from collections.abc import Iterator

from popular.errors import MailboxError

# linux/fcntl.h and linux/fs.h
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1

_LINK_REFUSED = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_MISSING = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP)


def files_in(folder: str) -> Iterator[tuple[str, int]]:
    """Yield name and inode of the regular files of a folder, without dot files; symbolic links are not followed.

    Raises MailboxError, `no_such_mailbox` where the folder is missing.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name[0] != "." and entry.is_file(follow_symlinks=False):
                    yield entry.name, entry.inode()
    except OSError as why:
        raise folder_error(folder, why) from why


def names_in(folder: str, strange: list[str]) -> list[str]:
    """Return the names of what `files_in` yields; those of anything else except dot files are added to `strange`.

    This is the fastest listing that tells files from other entries: the kernel gives the type with each name.  Raises
    MailboxError as `files_in` does.
    """
    names: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name[0] != ".":
                    (names if entry.is_file(follow_symlinks=False) else strange).append(name)
    except OSError as why:
        raise folder_error(folder, why) from why
    return names


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
    """Return the error for a folder, `no_such_mailbox` if it is missing."""
    number = why.errno or errno.EIO
    return MailboxError(folder, number, no_such_mailbox=number in _MISSING)


def make_folder(path: str) -> bool:
    """Make one folder for our user only and sync it to disk; False if it exists already.  Raises OSError."""
    made = make_name(path)
    sync_name(path)
    return made


def make_name(path: str) -> bool:
    """Make one folder for our user only; False if it exists already.  `sync_name` must follow.  Raises OSError."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return False
    return True


def sync_name(path: str) -> None:
    """Have the name of a folder written to disk, in case its maker has not done so yet.  Raises OSError.

    If its parent can be neither read nor written, no process with our rights made it: it is the administrator's.
    """
    parent = os.path.dirname(path)
    try:
        sync_folder(parent)
    except PermissionError:
        if os.access(parent, os.W_OK, effective_ids=True):
            raise


def sync_folder(path: str) -> None:
    """Have the names in a folder written to disk.  Raises OSError."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def add_name(source: str, target: str) -> bool:
    """Give a file the name `target` as well, never overwriting a file (rename(2) would); True: it has both names.

    If links are refused, the file is renamed and the result is False; that does not overwrite either.  The kernel
    refuses links to files of other users (fs.protected_hardlinks), and some file systems have none.  If `target` is
    already the same file, a move was interrupted, and the result is True.  Raises OSError.
    """
    try:
        os.link(source, target)    # link(2) follows no symbolic link
    except FileExistsError:
        if not os.path.samestat(os.lstat(source), os.lstat(target)):
            raise
    except OSError as why:
        if why.errno not in _LINK_REFUSED or not _renamed(source, target):
            raise
        return False
    return True


def is_link_refused(why: OSError) -> bool:
    """Tell whether link(2) failed because this file, or a file of that folder, cannot get another name here."""
    return why.errno in _LINK_REFUSED or why.errno == errno.EXDEV


def _renamed(source: str, target: str) -> bool:
    """Rename a file unless `target` exists; False if the system cannot do that.  Raises OSError."""
    import ctypes    # not needed by each process that lists a mailbox

    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(number, os.strerror(number), source, None, target)
