"""Mailboxes that are marked as removed: taken out of service as a whole, then deleted.

Used in pclean.  Raises StoreError where the system refuses something; what was begun is finished by a later run.

Who removes a user first sees to it that no mail is sent to the mailbox any more, and then puts an empty file
`.removed` into its folder.  Later, for a mailbox that is due:

    1. the folder is renamed to `:removed:NAME`, and that is brought to disk.  No mailbox can have this name, for `:` is
       none of the letters of mailbox names: from here on it is neither served nor delivered to, at whatever moment
       anything breaks off
    2. tmp/ goes.  A delivery that has a file there fails, and the MTA tries again
    3. only now nothing can come any more, not even from a program that has its working directory here, and new/ tells
       whether something came since the mark was set.  If so, the folder gets its name back: accepted mail is not lost
    4. new/, cur/ and other files go, then the mark, then the folder; each is brought to disk before the next

A mailbox that is a symbolic link goes with the folder behind it: this is renamed where it lies, and the link, which
leads nowhere then, goes last.
"""

import errno
import os
import stat
from dataclasses import dataclass

from popular.errors import StoreError
from popular.store.folders import make_folder, sync_folder
from popular.store.quota import message_octets

MARKER = ".removed"     # a regular file in the folder of a mailbox
ASIDE = ":removed:"     # stands before the name of a folder that is being deleted
OWN_FOLDERS = ("new", "cur", "tmp")
_MAX_TRIES = 10          # against deliveries that come while tmp/ is emptied


@dataclass(slots=True)
class Removal:
    """What became of a marked mailbox."""

    obstacle: str = ""    # why the mailbox is kept; empty: it is gone
    mails: int = 0        # files of new/ and cur/ that were deleted
    octets: int = 0       # their sizes


def marked_at(path: str) -> float | None:
    """Return when the mailbox's folder was marked, as UNIX time; None if it is not.  Raises StoreError."""
    try:
        status = os.lstat(os.path.join(path, MARKER))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as why:
        raise _error(path, why) from why
    return status.st_mtime if stat.S_ISREG(status.st_mode) else None


def obstacle(path: str) -> str:
    """Return why a mailbox must not be removed whatever its mark says, or an empty string.  Raises StoreError."""
    marked = marked_at(path)
    try:
        with os.scandir(path) as entries:
            folders = [entry.name for entry in entries if entry.is_dir() and entry.name not in OWN_FOLDERS]
        if folders:
            return f"it holds the folder {min(folders)}"
        if marked is None:
            return "it is no longer marked" if os.path.lexists(os.path.join(path, "new")) else ""
        late = _mail_since(os.path.join(path, "new"), marked)
    except OSError as why:
        raise _error(path, why) from why
    return f"mail came after it was marked: {late}" if late else ""


def remove_mailbox(path: str) -> Removal:
    """Remove a marked mailbox, unless there is an obstacle.  Raises StoreError."""
    found = obstacle(path)
    if found:
        return Removal(found)
    aside = aside_of(path)
    try:
        if os.path.lexists(aside):    # an earlier one with this name, cut off
            earlier = _finish(aside)
            if earlier.obstacle:
                return earlier
        os.rename(os.path.realpath(path), aside)
        sync_folder(os.path.dirname(aside))
        return _finish(aside, path)
    except OSError as why:
        raise _error(path, why) from why


def finish_removal(path: str) -> Removal:
    """Finish what was cut off; `path` is a folder set aside, or a link that lead to it.  Raises StoreError."""
    try:
        if os.path.basename(path).startswith(ASIDE):
            return _finish(path)
        return _finish(aside_of(path), path)
    except OSError as why:
        raise _error(path, why) from why


def aside_of(path: str) -> str:
    """Return where the folder of a mailbox is put before it is deleted: beside itself, links followed."""
    folder, name = os.path.split(os.path.realpath(path))
    return os.path.join(folder, ASIDE + name)


def _finish(aside: str, link: str = "") -> Removal:
    """Delete a folder that was set aside, or give it its name back.  Raises OSError and StoreError."""
    tmp = os.path.join(aside, "tmp")
    _empty_and_remove(tmp)
    found = obstacle(aside)
    if found:
        return Removal(f"{found}{_put_back(aside)}")
    removal = Removal()
    for name in ("new", "cur"):
        _empty_and_remove(os.path.join(aside, name), removal)
    with os.scandir(aside) as entries:
        for entry in entries:
            if entry.name != MARKER:
                os.unlink(entry.path)
    sync_folder(aside)    # what is still there without the mark counts as a mailbox
    _unlink_if_there(os.path.join(aside, MARKER))
    os.rmdir(aside)
    sync_folder(os.path.dirname(aside))
    if link and os.path.islink(link) and not os.path.exists(link):
        os.unlink(link)
        sync_folder(os.path.dirname(link))
    return removal


def _put_back(aside: str) -> str:
    """Give a folder its name back; returns what is to be said if that name is taken.  Raises OSError."""
    folder, name = os.path.split(aside)
    make_folder(os.path.join(aside, "tmp"))
    try:
        os.rename(aside, os.path.join(folder, name.removeprefix(ASIDE)))
    except OSError as why:
        if why.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        return f"; its name is in use again, so it stays in {aside}"
    sync_folder(folder)
    return ""


def _mail_since(folder: str, moment: float) -> str:
    """Return the name of a message that came to the folder at `moment` or later, or an empty string.  Raises OSError.

    What counts is when the file got its name there: the time of its last change of status.
    """
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_ctime >= moment:
                    return entry.name
    except FileNotFoundError:
        pass
    return ""


def _empty_and_remove(folder: str, removal: Removal | None = None) -> None:
    """Delete a folder with its files, and add them up; one that is a link goes with what it leads to.  OSError."""
    for turn in range(_MAX_TRIES):
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    size = message_octets(entry.path) if removal is not None else 0
                    os.unlink(entry.path)
                    if removal is not None:
                        removal.mails += 1
                        removal.octets += size
            os.rmdir(os.path.realpath(folder))
            break
        except FileNotFoundError:
            break    # by an earlier run
        except OSError as why:
            if why.errno != errno.ENOTEMPTY or turn == _MAX_TRIES - 1:
                raise
    if os.path.islink(folder):
        os.unlink(folder)


def _unlink_if_there(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _error(path: str, why: OSError) -> StoreError:
    """Return the error that tells what could not be done, and with which file of the mailbox."""
    place = why.filename if isinstance(why.filename, str) else path
    return StoreError(f"{place}: {why.strerror}")
