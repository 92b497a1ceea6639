"""What lies in a mailbox: each message once, in the order of delivery, with a unique id that no other has.

Used in the children of pserv and in pdeliver (quota).  Raises MailboxError.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from popular.errors import MailboxError
from popular.store.filename import base_of, rank_of, twin_base, uid_of
from popular.store.folders import File, files_in, is_missing
from popular.store.mailbox import Mailbox


class Message(NamedTuple):
    """One message as the listing saw it.  Its base and inode stay for life, its place may change."""

    uid: str
    is_new: bool      # in new/, else in cur/
    name: str
    inode: int
    leftover: str     # its second name, in new/, where a move to cur/ was cut off; else empty
    is_alone: bool    # no other message has its base

    @property
    def is_twin(self) -> bool:
        """Tell whether an earlier message has its base, so that its unique id is not what its name says."""
        return not self.is_alone and self.uid != uid_of(self.name)


class _Place(NamedTuple):
    is_new: bool
    name: str
    leftover: str


_Identity = tuple[str, int]    # base and inode: what stays when a message is moved or flagged


def list_messages(mailbox: Mailbox) -> list[Message]:
    """Return the messages by time of delivery, then by name; the order and the ids are the same at every listing.

    A message seen in both folders, for it was moved meanwhile, comes once.  No file is opened and none is asked
    for its size.  Raises MailboxError.
    """
    places = _places(mailbox)
    sharers = Counter(base for base, _ in places)
    ranked = sorted((rank_of(place.name), place.is_new, place.name, inode, place.leftover)
                    for (_, inode), place in places.items())
    messages: list[Message] = []
    taken: set[str] = set()
    for rank, is_new, name, inode, leftover in ranked:
        uid, turn = uid_of(name), inode
        while uid in taken:
            uid, turn = twin_base(name, turn), turn + 1
        taken.add(uid)
        messages.append(Message(uid, is_new, name, inode, leftover, sharers[rank[2]] == 1))
    return messages


def places_now(mailbox: Mailbox) -> dict[_Identity, tuple[bool, str]]:
    """Return where each message is now, in new/ or not and by which name, found by base and inode.

    Raises MailboxError.
    """
    return {identity: (place.is_new, place.name) for identity, place in _places(mailbox).items()}


def files_of(mailbox: Mailbox) -> Iterator[tuple[bool, File]]:
    """Yield all message files, those of new/ first, since messages go from there to cur/; True with those of new/."""
    try:
        for file in files_in(mailbox.new):
            yield True, file
    except MailboxError as why:
        raise mailbox.missing(why) from why
    try:
        for file in files_in(mailbox.cur):
            yield False, file
    except MailboxError as why:
        if not is_missing(why):
            raise


def _places(mailbox: Mailbox) -> dict[_Identity, _Place]:
    """Return the place of every message; the one in cur/ where a message is in both folders."""
    places: dict[_Identity, _Place] = {}
    for is_new, (name, inode) in files_of(mailbox):
        identity = (base_of(name), inode)
        before = places.get(identity)
        leftover = ""
        if before is not None:
            leftover = before.name if before.is_new else before.leftover
        places[identity] = _Place(is_new, name, leftover)
    return places
