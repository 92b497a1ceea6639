"""What is too old in a mailbox: files that deliveries left in tmp/, and mail by the administrator's age rules.

Used in pclean, beside running daemons and deliveries and without locks (spec 9.1).  Raises nothing: what cannot be done
is reported as a trouble, and the rest of the mailbox is cleaned nevertheless.

The age of a message counts from the time of delivery in its name if the name is ours, else from the last change of the
file.  That of a file in tmp/ always counts from its last change, so that a long delivery is not disturbed.  A message
that vanishes meanwhile was removed or moved by another process, which is just as good.  The order is that of
`store.commit`: new/ before cur/.  Where a move to cur/ was interrupted, the second name in new/ is removed before the
first in cur/, so that no read message becomes new again.  Each changed folder is synced once.  Memory is bounded
whatever a mailbox holds: a folder is read once and not kept (readdir(3) tolerates removals).

A list of given unique ids goes when none of its messages is left, once it is as old as files in tmp/ may get: a message
that is being taken over is listed before it comes.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from popular.errors import MailboxError
from popular.store.commit import MAX_TROUBLES
from popular.store.filename import base_of, time_of, unread_names
from popular.store.folders import files_in, sync_folder
from popular.store.mailbox import Mailbox
from popular.store.quota import message_octets
from popular.store.uidlist import UIDS_NAME, given_uids, remove_list


@dataclass(frozen=True, slots=True)
class Ages:
    """How old something may get, in seconds; None: no limit."""

    tmp: float
    read: float | None = None      # mail in cur/
    unread: float | None = None    # mail in new/


@dataclass(slots=True)
class Cleaned:
    """What was done to one mailbox, and what it holds now."""

    tmp: int = 0            # files removed
    read: int = 0
    unread: int = 0
    octets: int = 0         # freed by all of these
    number: int = 0         # messages that are left
    size: int = 0           # their octets
    failures: int = 0
    troubles: list[str] = field(default_factory=list)    # the first failures in words

    @property
    def removed(self) -> int:
        """How many files were removed."""
        return self.tmp + self.read + self.unread

    def fail(self, what: str) -> None:
        """Note something that could not be done."""
        self.failures += 1
        if len(self.troubles) < MAX_TROUBLES:
            self.troubles.append(what)


class Hand(Protocol):
    """What changes the disk, or only pretends to.  Each raises OSError."""

    def remove(self, path: str) -> None:
        """Remove a file."""

    def mark_departure(self, mailbox: Mailbox) -> None:
        """Note that messages will leave new/."""

    def sync(self, folder: str) -> None:
        """Have the names in a folder written to disk."""


class WorkingHand:
    """Changes the disk."""

    def remove(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def mark_departure(self, mailbox: Mailbox) -> None:
        """Note that messages will leave new/."""
        mailbox.mark_departure()

    def sync(self, folder: str) -> None:
        """Have the names in a folder written to disk."""
        sync_folder(folder)


class IdleHand:
    """Touches nothing."""

    def remove(self, path: str) -> None:
        """Leave the file."""

    def mark_departure(self, mailbox: Mailbox) -> None:
        """Leave the folder."""

    def sync(self, folder: str) -> None:
        """Leave the folder."""


class Cleaning:
    """The cleaning of one mailbox."""

    def __init__(self, mailbox: Mailbox, ages: Ages, now: float, hand: Hand, *,
                 wants_size: bool = False, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Clean `mailbox` as of the UNIX time `now`; `wants_size`: also stat files whose names do not tell their size.

        `is_stopped` is called before each file; once it returns True, the rest is left as it is.
        """
        self._mailbox = mailbox
        self._ages = ages
        self._now = now
        self._hand = hand
        self._wants_size = wants_size
        self._is_stopped = is_stopped
        self._has_departed = False         # cur/ was touched
        self._touched: set[str] = set()    # folders to be synced
        self._cleaned = Cleaned()

    def run(self) -> Cleaned:
        """Clean the mailbox; return what was done."""
        for folder, step in ((self._mailbox.tmp, self._clean_draft), (self._mailbox.new, self._clean_unread),
                             (self._mailbox.cur, self._clean_read)):
            self._each(folder, step)
        if not (self._cleaned.failures or self._is_stopped()):
            self._drop_list()
        for folder in sorted(self._touched):
            try:
                self._hand.sync(folder)
            except OSError as why:
                self._cleaned.fail(f"{folder}: {why.strerror}")
        return self._cleaned

    def _each(self, folder: str, step: Callable[[str, str], None]) -> None:
        """Call `step` with path and name of each file of a folder; a file that is gone or fails does not end this."""
        try:
            for name, _ in files_in(folder):
                if self._is_stopped():
                    return
                path = os.path.join(folder, name)
                try:
                    step(path, name)
                except FileNotFoundError:
                    continue
                except OSError as why:
                    self._cleaned.fail(f"{path}: {why.strerror}")
        except MailboxError as why:
            if not why.is_missing:
                self._cleaned.fail(str(why))

    def _drop_list(self) -> None:
        """Remove the list of given unique ids if none of its messages is left, or on its way."""
        mailbox = self._mailbox
        try:
            given = given_uids(mailbox.path)
            if given and not any(base_of(name) in given for folder in (mailbox.new, mailbox.cur)
                                 for name, _ in files_in(folder)):
                remove_list(mailbox.path, self._now - self._ages.tmp, self._hand.remove)
        except MailboxError as why:
            if not why.is_missing:
                self._cleaned.fail(str(why))
        except OSError as why:
            self._cleaned.fail(f"{mailbox.path}/{UIDS_NAME}: {why.strerror}")

    def _clean_draft(self, path: str, name: str) -> None:
        """Remove a file of tmp/ that no delivery writes to any more.  Raises OSError."""
        status = os.lstat(path)
        if self._now - status.st_mtime > self._ages.tmp:
            self._hand.remove(path)
            self._cleaned.tmp += 1
            self._cleaned.octets += status.st_size

    def _clean_unread(self, path: str, name: str) -> None:
        """Expire or count a message of new/.  Raises OSError."""
        if not self._is_older(path, name, self._ages.unread):
            self._count(path)
            return
        if not self._has_departed:
            self._hand.mark_departure(self._mailbox)
            self._has_departed = True
        self._expire(path)
        self._touched.add(self._mailbox.new)
        self._cleaned.unread += 1

    def _clean_read(self, path: str, name: str) -> None:
        """Expire or count a message of cur/.  Raises OSError."""
        if not self._is_older(path, name, self._ages.read):
            self._count(path)
            return
        for former in unread_names(name):
            second = os.path.join(self._mailbox.new, former)
            if _is_same(second, path):
                self._hand.remove(second)
                self._touched.add(self._mailbox.new)
        self._expire(path)
        self._touched.add(self._mailbox.cur)
        self._cleaned.read += 1

    def _is_older(self, path: str, name: str, age: float | None) -> bool:
        """Tell whether a message is older than `age`.  Raises OSError."""
        if age is None:
            return False
        delivered = time_of(name)
        return self._now - (os.lstat(path).st_mtime if delivered is None else delivered) > age

    def _expire(self, path: str) -> None:
        """Remove a message.  Raises OSError."""
        octets = message_octets(path)
        self._hand.remove(path)
        self._cleaned.octets += octets

    def _count(self, path: str) -> None:
        """Count a message that stays.  Raises OSError."""
        self._cleaned.number += 1
        if self._wants_size:
            self._cleaned.size += message_octets(path)


def _is_same(path: str, other: str) -> bool:
    """Tell whether two paths are the same file.  Raises OSError, but not if `path` does not exist."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(status, os.lstat(other))
