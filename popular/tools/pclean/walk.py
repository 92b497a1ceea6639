"""A walk through a spool: every mailbox once, in an order that is the same each time, so that it can be resumed later.

Used in pclean.  Raises MailboxError if the spool itself cannot be read; anything else that fails is yielded, too.

The walk is depth first: the names of a folder in the order of their octets, a folder after everything below it.  So a
mailbox comes after the mailboxes nested in it.  Memory holds the names of the folders that are still to come, for each
folder on the current path: about 80 octets for each mailbox of the widest folder, whatever else the spool has.  A spool
with a million mailboxes in one folder needs some 80 MB; one that is spread over a thousand folders next to nothing.
No descriptor stays open.

A mailbox is a folder with new/ and one of cur/ and tmp/; these three are not entered.  Symbolic links are the
administrator's (design 9) and followed, unless they lead to a folder on the current path.  A folder with two names is
walked through under both.  lost+found is not entered; it belongs to fsck(8).
"""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from popular.names import is_mailbox
from popular.store.folders import folder_error
from popular.store.removal import ASIDE, MARKER, OWN_FOLDERS, aside_of

_NOT_ENTERED = "lost+found"


class SpoolItemKind(Enum):
    """What was found."""

    MAILBOX = "mailbox"
    LEFTOVER = "leftover"        # of an interrupted removal; the name is the mailbox's former name
    ODD_NAME = "odd name"        # no mailbox can have this name, or lie below it; not entered
    LOOP = "loop"                # a symbolic link that leads back to a folder on its path
    UNREADABLE = "unreadable"    # a folder that cannot be listed


@dataclass(frozen=True, slots=True)
class SpoolItem:
    """One thing that was found."""

    kind: SpoolItemKind
    name: str                  # below the spool
    path: str
    is_marked: bool = False    # a mailbox with the mark of `store.removal`
    why: str = ""              # the system's reason


@dataclass(slots=True)
class _Folder:
    """A folder on the current path."""

    name: str                # below the spool, empty for the spool itself
    path: str
    after: list[str]         # the components of the name after which the walk resumes; empty: walk through all
    is_mailbox: bool = False
    is_marked: bool = False
    ahead: list[str] = field(default_factory=list)       # subfolders to be entered, the next one last
    links: set[str] = field(default_factory=set)         # subfolders that are symbolic links
    found: list[SpoolItem] = field(default_factory=list)     # other than subfolders


class Walk:
    """One walk; may be iterated over once."""

    def __init__(self, root: str, after: str = "") -> None:
        """Walk below `root`, through what comes after the mailbox `after` if one is named."""
        self._root = root
        self._after = after.split("/") if after else []
        self._way: list[_Folder] = []

    def __iter__(self) -> Iterator[SpoolItem]:
        top = _Folder("", self._root, self._after)
        try:
            self._list(top)
        except OSError as why:
            raise folder_error(self._root, why) from why
        yield from self._enter(top)
        while self._way:
            here = self._way[-1]
            if here.ahead:
                yield from self._descend(here, here.ahead.pop())
                continue
            self._way.pop()
            if here.is_mailbox:
                yield SpoolItem(SpoolItemKind.MAILBOX, here.name, here.path, here.is_marked)

    def _descend(self, parent: _Folder, child: str) -> Iterator[SpoolItem]:
        """Enter a subfolder unless no mailbox can be there."""
        after: list[str] = []
        if parent.after and parent.after[0] == child:
            after = parent.after[1:]
            if not after:
                return    # done, with everything below it
        path = os.path.join(parent.path, child)
        name = f"{parent.name}/{child}" if parent.name else child
        if not is_mailbox(name):
            yield SpoolItem(SpoolItemKind.ODD_NAME, name, path)
            return
        folder = _Folder(name, path, after)
        try:
            if child in parent.links and self._is_on_way(path):
                yield SpoolItem(SpoolItemKind.LOOP, name, path)
                return
            self._list(folder)
        except (FileNotFoundError, NotADirectoryError):
            return    # removed meanwhile
        except OSError as why:
            yield SpoolItem(SpoolItemKind.UNREADABLE, name, path, why=why.strerror or type(why).__name__)
            return
        yield from self._enter(folder)

    def _enter(self, folder: _Folder) -> Iterator[SpoolItem]:
        """Add a listed folder to the current path."""
        self._way.append(folder)
        found, folder.found = folder.found, []
        yield from found

    def _is_on_way(self, path: str) -> bool:
        """Tell whether a link leads to a folder on the current path.  Raises OSError."""
        target = os.stat(path)
        return any(os.path.samestat(target, os.stat(folder.path)) for folder in self._way)

    def _list(self, folder: _Folder) -> None:
        """Read a folder.  Raises OSError."""
        names: list[str] = []
        with os.scandir(folder.path) as entries:
            for entry in entries:
                if entry.name == MARKER:
                    folder.is_marked = entry.is_file(follow_symlinks=False)
                elif _is_folder(entry, folder):
                    names.append(entry.name)
        if folder.name and "new" in names and ("cur" in names or "tmp" in names):
            folder.is_mailbox = True
            names = [name for name in names if name not in OWN_FOLDERS]
        if folder.after:
            names = [name for name in names if name >= folder.after[0]]
        names.sort(reverse=True)
        folder.ahead = names


def _is_folder(entry: "os.DirEntry[str]", parent: _Folder) -> bool:
    """Tell whether an entry is a folder to be entered; anything else to report is added to the parent's `found`."""
    name = f"{parent.name}/{entry.name}" if parent.name else entry.name
    is_link = entry.is_symlink()
    try:
        is_folder = entry.is_dir()
    except OSError as why:    # a link to itself, or to a place that may not be read
        kind = SpoolItemKind.LOOP if why.errno == errno.ELOOP else SpoolItemKind.UNREADABLE
        parent.found.append(SpoolItem(kind, name, entry.path, why=why.strerror or type(why).__name__))
        return False
    if is_folder and entry.name.startswith(ASIDE):
        former = entry.name.removeprefix(ASIDE)
        name = f"{parent.name}/{former}" if parent.name else former
        parent.found.append(SpoolItem(SpoolItemKind.LEFTOVER, name, entry.path))
        return False
    if is_folder and is_link:
        parent.links.add(entry.name)
    if not is_folder and is_link and os.path.isdir(aside_of(entry.path)):
        parent.found.append(SpoolItem(SpoolItemKind.LEFTOVER, name, entry.path))
    return is_folder and entry.name != _NOT_ENTERED
