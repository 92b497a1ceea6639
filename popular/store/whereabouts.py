"""Where a message is now: without locks (spec 9.1) another session may move or remove it after it was listed.

Used in the children of pserv.  Raises MailboxError.
"""

import os

from popular.store.filename import base_of, read_name
from popular.store.listing import Message, places_now
from popular.store.mailbox import Mailbox

_Times = tuple[int, int]


class Whereabouts:
    """Paths of one mailbox's messages, and a search for those that have moved."""

    def __init__(self, mailbox: Mailbox, flags_own: bool = False) -> None:
        """Look in `mailbox`; `flags_own`: names of our form get the flag `S`, too."""
        self._mailbox = mailbox
        self._flags_own = flags_own
        self._places: dict[str, dict[int, tuple[bool, str]]] = {}
        self._listed_at: _Times | None = None

    def likely(self, message: Message) -> list[str]:
        """Return the paths a message may have if only POPular moved it: as listed, then where QUIT puts read mail."""
        if not message.is_new:
            return [f"{self._mailbox.cur}/{message.name}"]
        paths = [f"{self._mailbox.new}/{message.name}"]
        if message.is_alone:
            paths.append(f"{self._mailbox.cur}/{message.name}")
            flagged = read_name(message.name, self._flags_own)
            if flagged != message.name:
                paths.append(f"{self._mailbox.cur}/{flagged}")
        return paths

    def search(self, message: Message) -> str | None:
        """Return the path of a message by its base and inode, or None if it is gone.

        A message that was the only one of its base, and now is not, cannot be told from the others: it is gone too.
        Lists the folders only if they have changed since the last search.  Raises MailboxError.
        """
        now = self._times()
        if now != self._listed_at:
            self._places = places_now(self._mailbox)
            self._listed_at = now
        places = self._places.get(base_of(message.name), {})
        if message.inode is not None:
            places = {inode: place for inode, place in places.items() if inode == message.inode}
        if len(places) != 1:
            return None
        ((is_new, name),) = places.values()
        return f"{self._mailbox.new if is_new else self._mailbox.cur}/{name}"

    def _times(self) -> _Times:
        """Return when the two folders last changed; taken before listing, so that no change is missed."""
        return _changed(self._mailbox.new), _changed(self._mailbox.cur)


def _changed(folder: str) -> int:
    """Return a folder's time of change in nanoseconds, 0 where it cannot be asked."""
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0
