"""`pmigrate inplace`: a Maildir becomes a mailbox of POPular by one rename, or where it is; no message is touched.

Part of pmigrate.  Raises SourceError and StoreError.

    1. everything is checked; if something is wrong, nothing was changed
    2. the UIDLs go to `.popular-uidls` in the Maildir, synced, with the rights of its owner
    3. with --owner, the Maildir and its messages get their new owner, the Maildir itself last
    4. the Maildir is renamed to its place below the spool, and both folders are synced
    5. sizes that are known are kept in `.popular-sizes`, so that nothing is read to count it

Whatever ends it, another run completes it.  To undo it: rename the Maildir back, give it and its messages to their
former owner, and remove `.popular-uidls` and `.popular-sizes`.  No file has got another name, so the old server goes on
where it was, with its own lists.  Mail of names that pdeliver or plmtpd gave is just more mail to it.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from popular.errors import StoreError
from popular.store.filename import base_of, is_ours, size_of
from popular.store.folders import make_folder, sync_folder
from popular.store.mailbox import Mailbox
from popular.store.sizelist import SizeList
from popular.store.uidlist import UIDS_NAME, give_uids
from popular.tools.pmigrate.copying import Identities, listed_messages, unnamed
from popular.tools.pmigrate.job import MoveResult, MoveVerdict
from popular.tools.pmigrate.sources.maildir import MaildirSource, check_readable
from popular.tools.pmigrate.sources.source import SourceMessage, MailSource, SourceError
from popular.unix.rights import Rights, acting_as, rights_of_owner

_FOLDERS = ("tmp", "cur", "new")


@dataclass(slots=True)
class _Plan:
    """What is to be done with one Maildir."""

    path: str                # of the Maildir
    mailbox: Mailbox
    owner: Rights            # that it is to have
    former: Rights           # that it has
    messages: list[SourceMessage]
    unnamed: int             # of them
    wanted: list[tuple[str, str]] = field(default_factory=list)    # UIDLs and bases, in order
    remarks: list[str] = field(default_factory=list)

    @property
    def is_there(self) -> bool:
        """Tell whether the Maildir is in its place already."""
        return os.path.realpath(self.path) == os.path.realpath(self.mailbox.path)

    @property
    def is_listed(self) -> bool:
        """Tell whether an earlier run has come as far as step 3."""
        try:
            return os.lstat(f"{self.path}/{UIDS_NAME}").st_uid == self.owner.uid != self.former.uid
        except FileNotFoundError:
            return False


def inplace(source: MailSource, mailbox: Mailbox, owner: Rights, *, gives: bool, is_dry: bool) -> MoveResult:
    """Make a Maildir the mailbox, which must not exist or be the Maildir itself; return what was done.

    All must belong to `owner`; with `gives` it is given to them by who has it.  With `is_dry`, nothing is changed.
    """
    if not isinstance(source, MaildirSource):
        raise SourceError(f"{source.title}: only a Maildir can be moved in place")
    path = source.path.rstrip("/")
    if not os.path.lexists(path) and os.path.lexists(f"{mailbox.path}/{UIDS_NAME}"):
        _sync(path, mailbox)
        return MoveResult(MoveVerdict.DONE, remarks=("was moved by an earlier run",))
    plan = _planned(source, path, mailbox, owner, gives=gives)
    plan.remarks.extend(source.remarks())
    octets = sum(message.size or 0 for message in plan.messages)
    if not is_dry:
        _write(plan)
        _give(plan)
        _rename(plan)
        _keep_sizes(plan)
    return MoveResult(MoveVerdict.DONE, len(plan.messages), len(plan.wanted), octets, unnamed=plan.unnamed,
                      remarks=tuple(plan.remarks))


def _planned(source: MaildirSource, path: str, mailbox: Mailbox, owner: Rights, *, gives: bool) -> _Plan:
    """Check everything; return what is to be done."""
    remarks: list[str] = []
    told = listed_messages(source, Identities(remarks.append))
    messages = [message for _, message in told]
    plan = _Plan(path, mailbox, owner, rights_of_owner(os.stat(path)), messages, unnamed(told),
                 remarks=remarks)
    _check_place(plan)
    _check_owner(plan, gives=gives)
    has_list = os.path.lexists(f"{path}/{UIDS_NAME}")    # then POPular may have delivered here since
    bases: set[str] = set()
    for uid, message in told:
        check_readable(message)
        name = message.name or ""
        if is_ours(name) and not has_list:
            raise SourceError(f"{message.place}: a name that POPular gives to messages with CRLF only: use copy")
        base = base_of(name)
        if base in bases or "\n" in base:
            why = "another message has its name up to the comma" if base in bases else "it has a line feed in its name"
            remarks.append(f"message {message.place}: {why}: gets another UIDL")
        elif uid is not None:
            plan.wanted.append((uid, base))
        bases.add(base)
    return plan


def _check_place(plan: _Plan) -> None:
    """Raise StoreError unless the Maildir can be renamed to its place."""
    if plan.is_there:
        return
    place = plan.mailbox.path
    if os.path.lexists(place):
        raise StoreError(f"{place}: exists already: use copy")
    parent = os.path.dirname(place)
    while not os.path.lexists(parent) and parent != plan.mailbox.root:
        parent = os.path.dirname(parent)
    if os.stat(parent).st_dev != os.stat(plan.path).st_dev:
        raise _elsewhere(plan)


def _elsewhere(plan: _Plan) -> StoreError:
    return StoreError(f"{plan.path}: on another file system than {plan.mailbox.root}: use copy")


def _check_owner(plan: _Plan, *, gives: bool) -> None:
    """Raise StoreError unless everything can be used by its owner to be."""
    uids = {plan.owner.uid, plan.former.uid} if gives else {plan.owner.uid}
    folders = [plan.path, *(path for path in _paths(plan) if os.path.lexists(path))]
    files = [message.path or "" for message in plan.messages]
    for path, mode in [*((path, 0o700) for path in folders), *((path, 0o400) for path in files)]:
        try:
            status = os.stat(path) if path == plan.path else os.lstat(path)
        except FileNotFoundError:
            continue    # moved meanwhile
        if status.st_uid not in uids:
            raise StoreError(f"{path}: belongs to user {status.st_uid}, not {plan.owner.user}"
                             + (f" or {plan.former.user}" if gives else ": --owner gives it to another user"))
        if status.st_mode & mode != mode or mode == 0o700 and not stat.S_ISDIR(status.st_mode):
            raise StoreError(f"{path}: its owner has not the rights {mode:o}")


def _paths(plan: _Plan) -> Iterator[str]:
    return (f"{plan.path}/{name}" for name in _FOLDERS)


def _write(plan: _Plan) -> None:
    """Make what is missing of the Maildir, and list the UIDLs."""
    if plan.is_listed:
        return
    with acting_as(plan.former):
        for path in _paths(plan):
            if not os.path.lexists(path):
                make_folder(path)
        bases = give_uids(plan.path, plan.wanted)
    for (uid, wanted), base in zip(plan.wanted, bases, strict=True):
        if wanted != base:
            plan.remarks.append(f"message {wanted}: {base} has its UIDL {uid}: gets another one")


def _give(plan: _Plan) -> None:
    """Give what belongs to the former owner to the new one; the Maildir last, which shows that all was given."""
    if plan.former.uid == plan.owner.uid:
        return
    _give_one(plan, f"{plan.path}/{UIDS_NAME}")
    for folder in _paths(plan):
        for name in os.listdir(folder):
            _give_one(plan, f"{folder}/{name}")
        _give_one(plan, folder)
    _give_one(plan, plan.path)


def _give_one(plan: _Plan, path: str) -> None:
    """Give one file; what belongs to somebody else stays theirs, perhaps a link that was made to trick root."""
    try:
        if os.lstat(path).st_uid == plan.former.uid:
            os.chown(path, plan.owner.uid, plan.owner.gid, follow_symlinks=False)
    except FileNotFoundError:
        pass    # gone meanwhile


def _rename(plan: _Plan) -> None:
    """Rename the Maildir to its place."""
    if plan.is_there:
        return
    with acting_as(plan.owner):
        folder = plan.mailbox.root
        for part in plan.mailbox.name.split("/")[:-1]:
            folder = f"{folder}/{part}"
            make_folder(folder)
    try:
        os.rename(plan.path, plan.mailbox.path)
    except OSError as why:
        if why.errno == errno.EXDEV:
            raise _elsewhere(plan) from why
        raise
    _sync(plan.path, plan.mailbox)


def _sync(path: str, mailbox: Mailbox) -> None:
    """Have the new name on disk, and then that the old one is gone."""
    for folder in (os.path.dirname(mailbox.path), os.path.dirname(os.path.abspath(path))):
        try:
            sync_folder(folder)
        except FileNotFoundError:
            continue    # that of the old name was removed


def _keep_sizes(plan: _Plan) -> None:
    """Keep the sizes that the old server knew of messages whose names do not tell them."""
    sizes = SizeList(plan.mailbox)
    with acting_as(plan.owner):
        for message in _without_size(plan.messages):
            try:
                status = os.lstat(f"{plan.mailbox.path}/{message.place}")
            except FileNotFoundError:
                continue    # moved or removed by a session
            if sizes.size(status) is None and message.size is not None:
                sizes.add(status, message.size)
        if sizes.is_changed:
            sizes.save()


def _without_size(messages: Sequence[SourceMessage]) -> Iterator[SourceMessage]:
    return (message for message in messages if message.size is not None and size_of(message.name or "") is None)
