"""A mailbox of this host as the target of pmigrate.

Part of pmigrate.  A batch is written in this order, so that whatever ends it, the next run completes it:

    1. drafts in tmp/ are synced to disk
    2. unique ids and names go to `.popular-uidls`, synced, unless the names tell the ids (`store.uidlist`)
    3. each message gets its name in new/ or cur/ by link(2), both folders are synced, and the drafts are removed
    4. the ids go to `.popular-moved`, synced: the batch is done

A message with an id in 2, but not in 4, and without a file is brought again, under the name in 2.  Raises StoreError.
"""

import errno
import os
import time
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from popular.errors import MailboxError, StoreError
from popular.store.filename import base_of, is_ours, new_name, rank_of, size_of, uid_of, with_base
from popular.store.folders import add_name, sync_folder
from popular.store.listing import StoredMessage, list_messages
from popular.store.mailbox import Mailbox
from popular.store.uidlist import KnownUids, give_uids, given_uids
from popular.tools.pmigrate.sources.source import SourceMessage
from popular.tools.pmigrate.targets.ledger import LEDGER_NAME, Ledger, read_ledger
from popular.tools.pmigrate.targets.target import MoveDraft, Incoming
from popular.unix.rights import Rights, acting_as

BATCH_MESSAGES = 500
BATCH_OCTETS = 64 << 20

_LISTED = ",U"     # behind a name of our form whose unique id is listed
_MAX_TRIES = 100   # names tried


@dataclass(frozen=True, slots=True)
class _Kept:
    """One message of a batch: where its octets are, and the name that it is to have."""

    path: str
    is_draft: bool
    incoming: Incoming
    name: str

    @property
    def tells_itself(self) -> bool:
        """Tell whether its id is that of its name, and may still become another, so it must not be listed."""
        return not self.incoming.message.is_given and uid_of(self.name) == self.incoming.uid


class SpoolDraft:
    """A file in tmp/."""

    def __init__(self, path: str, owner: Rights) -> None:
        self.path = path
        self._owner = owner
        self.file: BinaryIO = open(path, "x+b", opener=_make)

    def forget(self) -> None:
        """Remove it."""
        try:
            self.file.close()
        except OSError:    # what was not written yet is not missed
            pass
        with acting_as(self._owner):
            _forget(self.path)


class Spool:
    """A mailbox below the spool; see `target.Target`.  All that is done there is done with the rights of its owner."""

    def __init__(self, mailbox: Mailbox, owner: Rights, *, links: bool = False) -> None:
        """Open the mailbox, which must exist, against other runs of pmigrate; `links`: link files of the source."""
        self._mailbox = mailbox
        self._owner = owner
        self._links = links
        self._batch: list[_Kept] = []
        self._octets = 0
        self._is_bare = False    # names tell the unique ids, and the order
        with self._acting():
            self._ledger = Ledger(f"{mailbox.path}/{LEDGER_NAME}")
            try:
                self._load()
            except BaseException:
                self._ledger.close()
                raise

    def _load(self) -> None:
        """Read what the mailbox has."""
        self._given = given_uids(self._mailbox.path)
        self._known = KnownUids()    # that of the list, also what others add
        self._there: dict[str, StoredMessage] = {
            message.uid: message for message in list_messages(self._mailbox, given=lambda: self._given)}
        self._taken = {*self._given, *(base_of(message.name) for message in self._there.values())}

    def brought(self) -> Set[str]:
        """Return the unique ids that pmigrate has brought, now or in earlier runs."""
        return self._ledger.uids

    def has(self, uid: str) -> bool:
        """Tell whether a message has been brought, even if a client has removed it since, or is there anyway."""
        return uid in self._ledger.uids or uid in self._there

    def begin(self, messages: Sequence[tuple[str | None, SourceMessage]]) -> None:
        """Decide whether names alone can tell unique ids and order; if not, list what came without that before."""
        gone = [uid for uid, message in messages if uid is not None and not self._recognizes(uid, message)]
        there = [(uid, message) for uid, message in messages if uid is not None and uid in self._there]
        listed = set(self._given.values())
        self._is_bare = not listed and _tell_themselves(messages)
        with self._acting():
            if not self._is_bare:
                give_uids(self._mailbox.path, [(uid, base_of(self._there[uid].name)) for uid, message in there
                                               if uid not in listed and message.is_given])
            self._ledger.add(uid for uid in [*gone, *(uid for uid, _ in there)] if uid not in self._ledger.uids)

    def _recognizes(self, uid: str, message: SourceMessage) -> bool:
        """Have a message known by the id that its server has given by now, if it was brought when it had none.

        False: it was brought, and a client has removed it.
        """
        former = uid_of(message.name or "")
        if uid == former or self.has(uid) or not self.has(former) or message.name is None:
            return True
        found = self._there.pop(former, None)
        if found is not None:
            self._there[uid] = found
        return found is not None

    def keeps_octets(self, message: SourceMessage, uid: str | None) -> bool:
        """Tell whether the file of a message is taken as it is, with its name and line ends."""
        name = message.name
        return name is not None and not is_ours(name) and self._is_free(base_of(name), uid)

    def draft(self) -> SpoolDraft:
        """Return a new draft."""
        with self._acting():
            return SpoolDraft(f"{self._mailbox.tmp}/pmigrate.{os.getpid()}.{time.time_ns()}", self._owner)

    def keep(self, draft: MoveDraft, incoming: Incoming) -> None:
        """Take over a draft; its message may come into the mailbox with the next `commit` only."""
        assert isinstance(draft, SpoolDraft)
        with self._acting():
            os.utime(draft.file.fileno(), (incoming.received, incoming.received))
            draft.file.close()
        self._add(_Kept(draft.path, True, incoming, self._name_for(incoming)))

    def link(self, incoming: Incoming) -> bool:
        """Take the file of a message over by a link in place of a draft; False if that is not wanted."""
        path = incoming.message.path
        if not self._links or path is None or not self.keeps_octets(incoming.message, incoming.uid):
            return False
        self._add(_Kept(path, False, incoming, self._name_for(incoming)))
        return True

    def commit(self) -> None:
        """Have everything that was kept in the mailbox and on disk."""
        if not self._batch:
            return
        with self._acting():
            for kept in self._batch:
                if kept.is_draft:
                    _sync_file(kept.path)
            names = self._listed_names()
            for kept, name in zip(self._batch, names, strict=True):
                self._publish(kept, name)
            for folder in {self._folder(kept.incoming) for kept in self._batch}:
                sync_folder(folder)
            self._ledger.add(kept.incoming.uid for kept in self._batch)
            self._forget_batch()

    def remove(self, uids: Iterable[str]) -> int:
        """Remove messages that were brought; return how many were there."""
        found = [self._there[uid] for uid in uids if uid in self._there]
        if not found:
            return 0
        with self._acting():
            self._mailbox.mark_departure()
            for message in found:
                _forget(f"{self._mailbox.new if message.is_new else self._mailbox.cur}/{message.name}")
            sync_folder(self._mailbox.new)
            sync_folder(self._mailbox.cur)
        return len(found)

    def close(self) -> None:
        """Forget what was not committed, and release all resources."""
        with self._acting():
            self._forget_batch()
        self._ledger.close()

    @contextmanager
    def _acting(self) -> Iterator[None]:
        """Work as the owner; an OSError becomes a StoreError."""
        with acting_as(self._owner):
            try:
                yield
            except OSError as why:
                raise StoreError(f"{why.filename or self._mailbox.name}: {why.strerror}") from why

    def _add(self, kept: _Kept) -> None:
        """Add a message to the batch, and commit a batch that is large enough."""
        self._taken.add(base_of(kept.name))
        self._batch.append(kept)
        self._octets += kept.incoming.size
        if len(self._batch) >= BATCH_MESSAGES or self._octets >= BATCH_OCTETS:
            self.commit()

    def _name_for(self, incoming: Incoming) -> str:
        """Return a name that is not taken: that of a file of another program, or one of our form."""
        name = incoming.message.name
        if self._is_bare:
            return name if name is not None else incoming.uid
        if name is not None and not is_ours(name) and self._is_free(base_of(name), incoming.uid):
            return name
        for index in range(incoming.index, incoming.index + _MAX_TRIES):
            name = new_name(incoming.received, os.getpid(), incoming.size, index)
            if self._is_free(name, incoming.uid):
                return name + _LISTED
        raise StoreError(f"{self._mailbox.name}: no name is free")

    def _is_free(self, base: str, uid: str | None) -> bool:
        """Tell whether no other message has a base, or is to have it."""
        return base not in self._taken or uid is not None and self._given.get(base) == uid

    def _listed_names(self) -> list[str]:
        """List the unique ids of the batch; return the names, of which an earlier run may have listed others."""
        if self._is_bare:
            return [kept.name for kept in self._batch]
        listed = [kept for kept in self._batch if not kept.tells_itself]
        bases = give_uids(self._mailbox.path, [(kept.incoming.uid, base_of(kept.name)) for kept in listed],
                          self._known)
        named = {kept.incoming.uid: base for kept, base in zip(listed, bases, strict=True)}
        return [with_base(kept.name, named.get(kept.incoming.uid, base_of(kept.name))) for kept in self._batch]

    def _publish(self, kept: _Kept, name: str) -> None:
        """Give a message its name; a linked file keeps its other ones."""
        path = f"{self._folder(kept.incoming)}/{name}"
        if kept.is_draft:
            add_name(kept.path, path)
            return
        try:
            os.link(kept.path, path)
        except FileExistsError:
            if not os.path.samestat(os.lstat(kept.path), os.lstat(path)):
                raise
        except OSError as why:
            hint = ", which is on another file system" if why.errno == errno.EXDEV else ""
            raise StoreError(f"cannot link {kept.path}{hint}: {why.strerror}") from why

    def _folder(self, incoming: Incoming) -> str:
        return self._mailbox.cur if incoming.message.is_read else self._mailbox.new

    def _forget_batch(self) -> None:
        """Remove what is left of the drafts."""
        for kept in self._batch:
            if kept.is_draft:
                _forget(kept.path)
        self._batch, self._octets = [], 0


def known_uids(mailbox: Mailbox, owner: Rights) -> frozenset[str]:
    """Return the unique ids of all messages that are in a mailbox or have been brought; none if there is no mailbox.

    Nothing is changed.  Raises StoreError.
    """
    with acting_as(owner):
        try:
            there = {message.uid for message in list_messages(mailbox, given=lambda: given_uids(mailbox.path))}
        except MailboxError as why:
            if why.no_such_mailbox and os.path.isdir(mailbox.root):
                return frozenset()
            raise
        return brought_uids(mailbox) | there


def brought_uids(mailbox: Mailbox) -> frozenset[str]:
    """Return the unique ids of all messages that have been brought to a mailbox.  Raises StoreError."""
    try:
        return read_ledger(f"{mailbox.path}/{LEDGER_NAME}")
    except OSError as why:
        raise StoreError(f"{mailbox.path}/{LEDGER_NAME}: {why.strerror}") from why


def _tell_themselves(messages: Sequence[tuple[str | None, SourceMessage]]) -> bool:
    """Tell whether each message has a name, or an id of our form as its name, and all are in order."""
    names: list[str] = []
    for uid, message in messages:
        name = uid or "" if message.name is None or is_ours(message.name) else message.name
        if uid is None or uid_of(name) != uid:
            return False
        if is_ours(name) and size_of(name) != message.size or message.name is None and not is_ours(name):
            return False
        names.append(name)
    return all(rank_of(one) < rank_of(other) for one, other in pairwise(names))


def _make(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _sync_file(path: str) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:    # gone, or pclean removes it later
        pass
