"""What QUIT does to a mailbox: remove messages, move others from new/ to cur/, then sync (spec 2.4, design 9).

Used in the children of pserv.  Raises CommitError.

The order matters.  A removal looks in new/ first and in cur/ second.  A move in another session links into cur/ and
then unlinks from new/, so no second name of the message survives, whichever step that move has reached.
"""

import os
from collections.abc import Sequence, Set
from dataclasses import dataclass

from popular.errors import CommitError, MailboxError
from popular.store.filename import read_name, with_base
from popular.store.folders import add_name, make_folder, sync_folder
from popular.store.listing import Messages, StoredMessage, Whereabouts, unusual_messages
from popular.store.mailbox import Mailbox

MAX_TROUBLES = 20    # kept of one mailbox for the log; a broken disk must not fill it


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something about one message that the administrator should know; it is no reason to refuse anything."""

    what: str    # "not_listed", "not_a_file", "wrong_size", "not_remembered" or "not_moved"
    name: str    # the message's file
    why: str


class Commit:
    """The changes of one session, made once; `flags_own`: names of our form also get the flag `S`."""

    def __init__(self, mailbox: Mailbox, where: Whereabouts, flags_own: bool = False) -> None:
        self.troubles: list[Trouble] = []
        self._mailbox = mailbox
        self._where = where
        self._flags_own = flags_own
        self._touched: set[str] = set()    # folders to be synced
        self._moved: list[tuple[str, str]] = []    # old and new paths of files that have both names
        self._failures: list[str] = []     # one for each message that could not be removed

    def run(self, messages: Messages, deleted: Set[int], read: Set[int]) -> None:
        """Make the changes; the sets hold indexes.

        Raises CommitError if a deleted message may remain.
        """
        removals = [messages[index] for index in sorted(deleted)]
        kept = [messages[index] for index in sorted(read - deleted)]
        moves = [message for message in kept if message.is_new]
        moved = {message.inode for message in moves}
        unusual = unusual_messages(messages)
        for _, message in unusual:
            if message.leftover:
                self._complete_move(message)
        if removals:
            self._remove_all(removals)
        if moves:
            self._move_all(moves)
        for message in kept:
            if not (message.is_new or message.is_twin):
                self._flag(message, f"{self._mailbox.cur}/{message.name}")
        for index, message in unusual:
            if message.is_twin and index not in deleted and message.inode not in moved:
                self._part_twin(message)
        if self._moved or self._touched:
            self._sync(len(removals))
        if self._failures:
            raise CommitError(len(self._failures), len(removals), self._failures[0])

    def _complete_move(self, message: StoredMessage) -> None:
        """Remove the second name of a message whose move was interrupted."""
        self._rename(message, f"{self._mailbox.new}/{message.leftover}", f"{self._mailbox.cur}/{message.name}")

    def _remove_all(self, removals: Sequence[StoredMessage]) -> None:
        """Remove messages; those that are no longer where they were listed are searched for with a single listing."""
        if any(message.is_new for message in removals):
            self._mark_departure()
        strayed = [message for message in removals if not self._remove(self._where.likely(message))]
        for message in strayed:
            try:
                path = self._where.search(message)
            except MailboxError as why:
                self._failures.append(str(why))
            else:
                self._remove([path] if path is not None else [])

    def _remove(self, paths: Sequence[str]) -> bool:
        """Unlink each of the paths that exists; return False if none did."""
        found = False
        for path in paths:
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as why:
                self._failures.append(f"{path}: {why.strerror}")
                return True
            found = True
            self._touched.add(_folder(path))
        return found

    def _mark_departure(self) -> None:
        """Show `store.delivery.deliver` that a message leaves new/."""
        try:
            self._mailbox.mark_departure()
        except OSError as why:
            self.troubles.append(Trouble("not_moved", self._mailbox.cur, str(why.strerror)))

    def _move_all(self, moves: Sequence[StoredMessage]) -> None:
        """Move messages from new/ to cur/; those that another program has moved meanwhile are only marked as read."""
        strayed = [message for message in moves if not self._move(message)]
        if strayed and self._made_cur():
            strayed = [message for message in strayed if not self._move(message)]
        for message in strayed:
            try:
                path = self._where.search(message)
            except MailboxError as why:
                self.troubles.append(Trouble("not_moved", message.name, str(why)))
            else:
                if path is not None and path.startswith(f"{self._mailbox.cur}/"):
                    self._flag(message, path)

    def _made_cur(self) -> bool:
        """Make cur/ if it is missing; return whether it was."""
        try:
            return make_folder(self._mailbox.cur)
        except OSError as why:
            self.troubles.append(Trouble("not_moved", self._mailbox.cur, str(why.strerror)))
            return False

    def _move(self, message: StoredMessage) -> bool:
        """Move one message to cur/; return False if the message or cur/ does not exist."""
        name = with_base(message.name, message.uid) if message.is_twin else message.name
        target = read_name(name, self._flags_own)
        return self._rename(message, f"{self._mailbox.new}/{message.name}", f"{self._mailbox.cur}/{target}")

    def _flag(self, message: StoredMessage, path: str) -> None:
        """Give a file in cur/ the flag of read messages, where names have flags.

        This takes one step, or other programs would see the message twice.  It could only overwrite a file that gets
        the same name at this very moment, and no name is used twice.
        """
        folder, _, name = path.rpartition("/")
        flagged = f"{folder}/{read_name(name, self._flags_own)}"
        if flagged == path or os.path.lexists(flagged):
            return
        try:
            os.rename(path, flagged)
        except FileNotFoundError:
            pass    # removed or flagged by another program
        except OSError as why:
            self.troubles.append(Trouble("not_moved", message.name, why.strerror or type(why).__name__))
        else:
            self._touched.add(folder)

    def _part_twin(self, message: StoredMessage) -> None:
        """Give a message that shares its base a new one: the unique id that clients have seen, which it must keep."""
        folder = self._mailbox.new if message.is_new else self._mailbox.cur
        self._rename(message, f"{folder}/{message.name}", f"{folder}/{with_base(message.name, message.uid)}")

    def _rename(self, message: StoredMessage, source: str, target: str) -> bool:
        """Give one file another name; return False if it is gone: another session has moved it, which is just as good.

        `_sync` removes the old name.  Within one folder it is removed at once, since two names would be two messages.
        """
        try:
            if not add_name(source, target):
                self._touched.update((_folder(source), _folder(target)))
            elif _folder(source) == _folder(target):
                os.unlink(source)
                self._touched.add(_folder(source))
            else:
                self._moved.append((source, target))
        except FileNotFoundError:
            return False
        except OSError as why:
            self._not_moved(source, why)
        return True

    def _not_moved(self, path: str, why: OSError) -> None:
        self.troubles.append(Trouble("not_moved", path.rpartition("/")[2], why.strerror or type(why).__name__))

    def _sync(self, removals: int) -> None:
        """Sync each changed folder, those with new names before the old names are removed.

        So a crash leaves two names, never none.  If a sync fails, no removal is certain to last.
        """
        gained = {_folder(target) for _, target in self._moved}
        lost = self._sync_folders(gained, removals)
        changed = self._touched - gained
        for source, target in self._moved:
            if _folder(target) in lost:
                continue    # the next QUIT finds both names and completes the move
            try:
                os.unlink(source)
            except FileNotFoundError:
                continue
            except OSError as why:
                self._not_moved(source, why)
            changed.add(_folder(source))
        self._sync_folders(changed, removals)

    def _sync_folders(self, folders: set[str], removals: int) -> set[str]:
        """Sync folders; return those where that fails."""
        lost: set[str] = set()
        for folder in sorted(folders):
            try:
                sync_folder(folder)
            except OSError as why:
                lost.add(folder)
                self._not_moved(folder, why)
                if removals:
                    self._failures = [f"{folder}: {why.strerror}"] * removals
        return lost


def _folder(path: str) -> str:
    return path.rpartition("/")[0]
