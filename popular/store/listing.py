"""The messages of a mailbox: each of them once, in the order of delivery, with a unique id.

Also where a message is later: without locks (spec 9.1), another session may move or remove it after it was listed.

Used in the children of pserv and in pdeliver (quota).  Raises MailboxError.

Nearly always all names are POPular's own, and no name occurs twice.  Such a mailbox is a PlainListing: no object is
made for each message, only names are read from the folders, and they are sorted only when the order is needed, which it
is not for STAT.  Folders, links and other entries that are not regular files are never listed.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from itertools import chain, repeat
from typing import NamedTuple, Protocol, TypeVar

from popular.errors import MailboxError
from popular.store.filename import (
    base_of, is_ours, lacks_seen, mark_of, plain_octets, rank_of, read_name, sort_plain, twin_base, uid_of)
from popular.store.folders import files_in, names_in
from popular.store.mailbox import Mailbox


class StoredMessage(NamedTuple):
    """One message as it was listed.  Its base and inode never change, its place may."""

    uid: str
    is_new: bool           # in new/, else in cur/
    name: str
    inode: int | None      # None if the base identifies it: it is no twin, and no other message has its base
    leftover: str = ""     # its second name, in new/, if a move to cur/ was interrupted; else empty
    is_twin: bool = False  # of our form, and another message has its base, or that as its id: `uid` becomes its base

    @property
    def was_read(self) -> bool:
        """Tell whether it is in cur/, and has no flags that say it is unread nevertheless."""
        return not (self.is_new or lacks_seen(self.name))

    @property
    def is_alone(self) -> bool:
        """Tell whether no other message has its base."""
        return self.inode is None


class PlainListing:
    """The messages of a mailbox with plain names (see `plain_octets`), all different; sorted when first needed."""

    __slots__ = ("octets", "_names", "_is_sorted", "_new")

    def __init__(self, names: list[str], new: list[str], octets: int) -> None:
        """Take all names, those of them that are in new/, and the total size of all messages."""
        self.octets = octets
        self._names = names
        self._is_sorted = False
        self._new: Collection[str] = new

    @property
    def names(self) -> list[str]:
        """The names in order; they are also the unique ids."""
        if not self._is_sorted:
            sort_plain(self._names)
            self._new = frozenset(self._new)
            self._is_sorted = True
        return self._names

    @property
    def sizes(self) -> list[int]:
        """The sizes, in order of the names."""
        return [int(name.rpartition("_")[2]) for name in self.names]

    def size(self, index: int) -> int:
        """Return the size of one message."""
        return int(self.names[index].rpartition("_")[2])

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> StoredMessage:
        name = self.names[index]
        return StoredMessage(name, name in self._new, name, None)

    def __iter__(self) -> Iterator[StoredMessage]:
        return map(self.__getitem__, range(len(self)))


Messages = PlainListing | list[StoredMessage]
Twin = tuple[int, int]    # inode and `mark_of` the base: an IMAP server's copy in the same mailbox has the same inode
_Place = tuple[bool, str]                                    # whether in new/, and the name there
_Places = dict[tuple[str, int], tuple[bool, str, str]]       # the same by base and inode, and a leftover
_Times = tuple[int, int]                                     # of change of both folders, in nanoseconds
_Given = Mapping[str, str]                                   # unique ids by base, in order, see `store.uidlist`
_File = TypeVar("_File")


class RememberedTwins(Protocol):
    """What is remembered about a mailbox; `store.sizelist` fulfils it."""

    def twins(self) -> dict[Twin, int]:
        """Return the names that shared a base, and the turn that gave each its unique id."""
        ...

    def keep_twins(self, twins: dict[Twin, int]) -> None:
        """Remember these names and turns."""
        ...


class _NothingRemembered:
    """Remembers nothing."""

    def twins(self) -> dict[Twin, int]:
        """Return none."""
        return {}

    def keep_twins(self, twins: dict[Twin, int]) -> None:
        """Remember nothing."""


def list_messages(mailbox: Mailbox, known: RememberedTwins = _NothingRemembered(),
                  strange: list[str] | None = None, given: Callable[[], _Given] = dict) -> Messages:
    """Return the messages: those with a given unique id in that order, others by time of delivery, then by name.

    The order and the ids are the same at every listing.  A message seen in both folders, because it was moved
    meanwhile, is listed once.  No message is opened, and no size is read from disk.  `known` is used only if names are
    not plain, and so is `given`, which returns unique ids by base, in order.  It is called after the folders were
    listed, since an id is given before its message comes.  Names of what is not a regular file are added to `strange`.
    Raises MailboxError.
    """
    others = [] if strange is None else strange
    new, cur = _in_both(mailbox, partial(names_in, strange=others))
    names = new + cur
    octets = plain_octets(names)
    if octets is not None and not _have_common(new, cur):
        return PlainListing(names, new, octets)
    twins = known.twins()
    messages = None if twins else _by_names(new, cur, given() if octets is None else {})
    if messages is None:
        places = _places(mailbox)
        messages, twins = _told_apart(places, twins, given() if octets is None else {})
        known.keep_twins(twins)
    return messages


class Whereabouts:
    """The paths of one mailbox's messages, and a search for those that have moved."""

    def __init__(self, mailbox: Mailbox, flags_own: bool = False) -> None:
        """Look in `mailbox`; `flags_own`: names of our form also get the flag `S`."""
        self._mailbox = mailbox
        self._flags_own = flags_own
        self._places: dict[str, dict[int, tuple[bool, str]]] = {}
        self._listed_at: _Times | None = None

    def likely(self, message: StoredMessage) -> list[str]:
        """Return the paths a message can have if only POPular moved it: as listed, then where QUIT puts read mail."""
        if not message.is_new:
            return [f"{self._mailbox.cur}/{message.name}"]
        paths = [f"{self._mailbox.new}/{message.name}"]
        if message.is_alone:
            paths.append(f"{self._mailbox.cur}/{message.name}")
            flagged = read_name(message.name, self._flags_own)
            if flagged != message.name:
                paths.append(f"{self._mailbox.cur}/{flagged}")
        return paths

    def search(self, message: StoredMessage) -> str | None:
        """Return the path of a message by its base and inode, or None if it is gone.

        A message that was the only one with its base, and now is not, cannot be told from the others: it counts as
        gone, too.  Lists the folders only if they have changed since the last search.  Raises MailboxError.
        """
        now = self._times()
        if now != self._listed_at:
            self._places = _places_now(self._mailbox)
            self._listed_at = now
        places = self._places.get(base_of(message.name), {})
        if message.inode is not None:
            places = {inode: place for inode, place in places.items() if inode == message.inode}
        if len(places) != 1:
            return None
        ((is_new, name),) = places.values()
        return f"{self._mailbox.new if is_new else self._mailbox.cur}/{name}"

    def _times(self) -> _Times:
        """Return when the two folders last changed; called before listing, so that no change is missed."""
        return _changed(self._mailbox.new), _changed(self._mailbox.cur)


def _have_common(some: list[str], others: list[str]) -> bool:
    """Tell whether a name is in both lists."""
    few, many = sorted((some, others), key=len)
    return bool(few) and not frozenset(few).isdisjoint(many)


def unusual_messages(messages: Messages) -> list[tuple[int, StoredMessage]]:
    """Return the messages that QUIT must repair, with their indexes: twins, and those with a second name."""
    if isinstance(messages, PlainListing):
        return []
    return [(index, message) for index, message in enumerate(messages) if message.leftover or message.is_twin]


def _places_now(mailbox: Mailbox) -> dict[str, dict[int, _Place]]:
    """Return where each message is now, by base and inode.  Raises MailboxError."""
    found: dict[str, dict[int, _Place]] = {}
    for (base, inode), (is_new, name, _) in _places(mailbox).items():
        found.setdefault(base, {})[inode] = is_new, name
    return found


def _changed(folder: str) -> int:
    """Return a folder's time of change in nanoseconds; 0 if the system does not tell it."""
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0


def _in_both(mailbox: Mailbox, files: Callable[[str], list[_File]]) -> tuple[list[_File], list[_File]]:
    """Return the files in new/ and those in cur/, listed in this order since messages move from new/ to cur/."""
    try:
        new = files(mailbox.new)
    except MailboxError as why:
        if not mailbox.lost(why):
            raise mailbox.missing(why) from why
        new = []
    try:
        return new, files(mailbox.cur)
    except MailboxError as why:
        if not why.is_missing:
            raise
        return new, []


def _by_names(new: list[str], cur: list[str], given: _Given) -> list[StoredMessage] | None:
    """Return messages with names of any form if none needs its inode for a unique id, else None."""
    names = new + cur
    listed: dict[str, str] = {}    # names by base
    if given:
        names = []
        for name in chain(new, cur):
            base = base_of(name)
            if base in listed:
                return None
            if base in given:
                listed[base] = name
            else:
                names.append(name)
    names.sort(key=rank_of)
    uids = list(map(uid_of, names))
    if len({*uids, *given.values()}) < len(names) + len(given):
        return None
    in_new = frozenset(new)
    names[:0] = [listed[base] for base in given if base in listed]
    uids[:0] = [uid for base, uid in given.items() if base in listed]
    return [StoredMessage(uid, name in in_new, name, None) for uid, name in zip(uids, names)]


def _told_apart(places: _Places, twins: Mapping[Twin, int],
                given: _Given) -> tuple[list[StoredMessage], dict[Twin, int]]:
    """Return messages with names of any form, each with a unique id even if some share a base; and foreign twins.

    A given id is only for the first message with its base, and also taken when there is none.
    """
    sharers = Counter(base for base, _ in places)
    first = {base: (-1, index, 0, 0, base) for index, base in enumerate(given)}    # before any `rank_of`
    ranked = sorted((first.get(base) or rank_of(name), is_new, name, inode, leftover)
                    for (base, inode), (is_new, name, leftover) in places.items())
    taken = {*given, *given.values()}
    remembered = {uid: twin for _, _, name, inode, _ in ranked
                  if twins and (twin := (inode, mark_of(name))) in twins and not is_ours(name)
                  and (uid := twin_base(name, inode + twins[twin])) not in taken}
    uids = {twin: uid for uid, twin in remembered.items()}
    taken.update(remembered)
    awaited = dict(given)
    messages: list[StoredMessage] = []
    found: dict[Twin, int] = {}
    for rank, is_new, name, inode, leftover in ranked:
        base, turn, twin = rank[-1], 0, (inode, mark_of(name))
        if twin in uids:
            uid, turn = uids.pop(twin), twins[twin] + 1
        elif base in awaited:
            uid = awaited.pop(base)
        else:
            uid = base if base in given else uid_of(name)
            while uid in taken:
                uid, turn = twin_base(name, inode + turn), turn + 1
            taken.add(uid)
        if turn and not is_ours(name):
            found[twin] = turn - 1
        is_twin = turn > 0 and is_ours(name)
        messages.append(StoredMessage(uid, is_new, name, inode if sharers[base] > 1 or is_twin else None, leftover,
                                      is_twin))
    return messages, found


def _places(mailbox: Mailbox) -> _Places:
    """Return the place of every message, and any leftover, by base and inode, which never change.

    A message that is in both folders has its place in cur/.
    """
    places: _Places = {}
    new, cur = _in_both(mailbox, lambda folder: list(files_in(folder)))
    for is_new, (name, inode) in chain(zip(repeat(True), new), zip(repeat(False), cur)):
        identity = (base_of(name), inode)
        leftover = ""
        if identity in places:
            was_new, earlier, leftover = places[identity]
            leftover = earlier if was_new else leftover
        places[identity] = is_new, name, leftover
    return places
