"""Mailboxes that are marked as removed: taken out of service as a whole, then deleted.

Used in pclean.  Raises StoreError where the system refuses something; a later run finishes what was begun.

To remove a user, an administrator first makes sure that no mail is sent to the mailbox any more, and then puts an empty
file `.removed` into its folder.  Later, for a mailbox that is due:

    1. the folder is renamed to `:removed:NAME` and synced.  No mailbox can have this name, since `:` is not allowed in
       mailbox names: from now on it is neither served nor delivered to, whenever the removal may be interrupted
    2. tmp/ is removed.  A delivery that has a file there fails, and the MTA tries again
    3. only now can no mail arrive, not even from a program whose working directory is this folder, and new/ shows
       whether something came since the mark was set.  If so, the folder gets its name back: accepted mail is not lost
    4. new/, cur/ and other files are removed, then the mark, then the folder; each step is synced before the next

If the mailbox is a symbolic link, its target folder is removed as well: that folder is renamed in its place, and the
link, which is dangling then, is removed last.
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
    """The result for a marked mailbox."""

    obstacle: str = ""    # why the mailbox is kept; empty: it is gone
    mails: int = 0        # files of new/ and cur/ that were deleted
    octets: int = 0       # their sizes


def marked_at(path: str) -> float | None:
    """Return the UNIX time when the mailbox's folder was marked; None if it is not marked.  Raises StoreError."""
    try:
        status = os.lstat(os.path.join(path, MARKER))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as why:
        raise _error(path, why) from why
    return status.st_mtime if stat.S_ISREG(status.st_mode) else None


def obstacle(path: str) -> str:
    """Return why a mailbox must not be removed despite its mark, or an empty string.  Raises StoreError."""
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
        if os.path.lexists(aside):    # an interrupted removal of an earlier mailbox with this name
            earlier = _finish(aside)
            if earlier.obstacle:
                return earlier
        os.rename(os.path.realpath(path), aside)
        sync_folder(os.path.dirname(aside))
        return _finish(aside, path)
    except OSError as why:
        raise _error(path, why) from why


def finish_removal(path: str) -> Removal:
    """Finish an interrupted removal; `path` is a folder set aside, or a link that led to it.  Raises StoreError."""
    try:
        if os.path.basename(path).startswith(ASIDE):
            return _finish(path)
        return _finish(aside_of(path), path)
    except OSError as why:
        raise _error(path, why) from why


def aside_of(path: str) -> str:
    """Return the path to which the folder of a mailbox is renamed before it is deleted; links are followed."""
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
    sync_folder(aside)    # whatever is left without the mark counts as a mailbox
    _unlink_if_there(os.path.join(aside, MARKER))
    os.rmdir(aside)
    sync_folder(os.path.dirname(aside))
    if link and os.path.islink(link) and not os.path.exists(link):
        os.unlink(link)
        sync_folder(os.path.dirname(link))
    return removal


def _put_back(aside: str) -> str:
    """Give a folder its name back; return a text to add to the obstacle if that name is taken.  Raises OSError."""
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

    The time when the file got its name there counts: that of its last change of status.
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
    """Delete a folder with its files and count them; if it is a link, its target is deleted, too.  Raises OSError."""
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
    """Return an error with the reason and the file of the mailbox that failed."""
    place = why.filename if isinstance(why.filename, str) else path
    return StoreError(f"{place}: {why.strerror}")
