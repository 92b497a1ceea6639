"""Maildirs of other servers as sources of pmigrate: Dovecot, Courier, and qmail-pop3d, as with vpopmail.

Part of pmigrate.  The folders are listed before the list of UIDLs is read: a server lists a message after it has come,
so a message that is found without a UIDL has not been shown to a client by then.  Its name, which no message has twice,
is its UIDL then, unless a later run finds another one.  Files stay as they are, and keep their names.  Everything is
read with the rights of the Maildir's owner, so a link in it leads root nowhere.
"""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from stat import S_ISREG

from popular.errors import MailboxError
from popular.store.filename import rank_of, size_of, uid_of
from popular.store.folders import names_in
from popular.store.lineends import ByteSource
from popular.tools.pmigrate.sources.courier import COURIER_LIST, courier_uids
from popular.tools.pmigrate.sources.dovecot import DOVECOT_LIST, configured_format, dovecot_uids
from popular.tools.pmigrate.sources.remembered import Remembered, bare_name
from popular.tools.pmigrate.sources.source import SourceMessage, SourceError
from popular.unix.rights import acting_as, rights_of_owner

MAILDIR_KINDS = ("maildir", "dovecot", "courier", "qmail")    # the first: whichever list is there

_MAX_LIST = 64 << 20    # octets of a list that are read
_COMPRESSED = "Z"       # Dovecot's flag of files that it has compressed


@dataclass(frozen=True, slots=True)
class _File:
    """A message's file."""

    is_read: bool    # in cur/
    name: str

    @property
    def place(self) -> str:
        return f"{'cur' if self.is_read else 'new'}/{self.name}"


class MaildirSource:
    """A Maildir; see `source.MailSource`."""

    def __init__(self, path: str, kind: str = MAILDIR_KINDS[0], form: str = "", config: str = "") -> None:
        """Read `path` as `kind`, one of MAILDIR_KINDS.

        `form` is pop3_uidl_format, empty for that of the Dovecot here, whose configuration is the file `config`, empty
        for the usual one.
        """
        self.path = path
        self.title = f"Maildir {path}"
        self._kind = kind
        self._form = form
        self._config = config
        self._remarks: list[str] = []

    def messages(self) -> Iterator[SourceMessage]:
        """Yield the messages in the order of POP3, those without a UIDL last."""
        with self._acting():
            found = list(self._found())
        return iter(found)

    @contextmanager
    def _acting(self) -> Iterator[None]:
        """Work as the owner.  Raises SourceError if there is no such folder."""
        try:
            owner = rights_of_owner(os.stat(self.path))
        except OSError as why:
            raise SourceError(f"{self.path}: {why.strerror}") from why
        with acting_as(owner):
            yield

    def _found(self) -> Iterator[SourceMessage]:
        """Yield the messages."""
        self._remarks.clear()
        files, twins = self._files()
        remembered = self._remembered(files)
        listed_messages = [key for key in remembered.uids if key in files]
        unlisted = sorted(files.keys() - remembered.uids.keys(), key=rank_of)
        for key in [*listed_messages, *unlisted]:
            name = files[key].name
            uid = remembered.uids.get(key)
            yield from self._message(files[key], uid or uid_of(name), remembered.sizes.get(key), uid is not None)
        for twin in twins:
            self._remarks.append(f"{twin.place}: another message has this name, too")
            yield from self._message(twin, None, None, False)

    @contextmanager
    def open(self, message: SourceMessage) -> Iterator[ByteSource]:
        """Give a reader of a message, wherever it is now."""
        check_readable(message)
        with self._acting():
            file = self._opened(message)
        with file:
            if not S_ISREG(os.fstat(file.fileno()).st_mode):
                raise SourceError(f"{message.place}: not a file")
            yield _Reader(file, message.place)

    def remarks(self) -> Sequence[str]:
        """Return what is no message, or has the name of another one, and folders that are not moved."""
        with self._acting():
            return [*self._remarks, *self._subfolders()]

    def close(self) -> None:
        """Do nothing, since nothing is held open."""

    def _message(self, file: _File, uid: str | None, size: int | None, is_given: bool) -> Iterator[SourceMessage]:
        """Yield a message unless it is gone."""
        path = f"{self.path}/{file.place}"
        told = size_of(file.name)
        try:
            received = int(os.lstat(path).st_mtime)
        except FileNotFoundError:
            return
        except OSError as why:
            raise SourceError(f"{path}: {why.strerror}") from why
        yield SourceMessage(file.place, uid, size if told is None else told, received, file.is_read, file.name, path,
                            is_given)

    def _files(self) -> tuple[dict[str, _File], list[_File]]:
        """Return the files by key, and those whose key another one has.  Raises SourceError."""
        files: dict[str, _File] = {}
        twins: list[_File] = []
        strange: list[str] = []
        for is_read, folder in ((False, "new"), (True, "cur")):
            try:
                names = names_in(f"{self.path}/{folder}", strange)
            except MailboxError as why:
                raise SourceError(str(why)) from why
            for name in names:
                file, key = _File(is_read, name), bare_name(name)
                if key not in files:
                    files[key] = file
                elif os.path.samefile(f"{self.path}/{files[key].place}", f"{self.path}/{file.place}"):
                    files[key] = file    # was moved meanwhile
                else:
                    twins.append(file)
        if strange:
            self._remarks.append(f"{len(strange)} entries are not files, such as {min(strange)!a}")
        return files, twins

    def _remembered(self, files: dict[str, _File]) -> Remembered:
        """Return what the server remembers."""
        dovecot = self._text(DOVECOT_LIST) if self._kind in ("maildir", "dovecot") else None
        courier = self._text(COURIER_LIST) if self._kind in ("maildir", "courier") else None
        if dovecot is not None and courier is not None:
            raise SourceError(f"{self.path}: has lists of Dovecot and Courier: say dovecot:PATH or courier:PATH")
        if dovecot is not None or self._kind == "dovecot":
            return dovecot_uids(dovecot or "", files, lambda: self._form or configured_format(self._config))
        if courier is not None or self._kind == "courier":
            return courier_uids(courier or "")
        return self._qmail_uids(files)

    def _qmail_uids(self, files: dict[str, _File]) -> Remembered:
        """Return what qmail-pop3d makes of names: the whole key is the UIDL, and the order is that of the files."""
        times = {}
        for key, file in files.items():
            try:
                times[key] = int(os.lstat(f"{self.path}/{file.place}").st_mtime)
            except OSError:
                continue    # gone meanwhile
        return Remembered({key: key for key in sorted(times, key=lambda key: (times[key], rank_of(key)))})

    def _text(self, name: str) -> str | None:
        """Return what a list holds; None if there is none.  Raises SourceError."""
        try:
            with io.FileIO(f"{self.path}/{name}", opener=_without_following) as file:
                if not S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise SourceError(f"{self.path}/{name}: not a file")
                text = file.read(_MAX_LIST + 1) or b""
        except FileNotFoundError:
            return None
        except OSError as why:
            raise SourceError(f"{self.path}/{name}: {why.strerror}") from why
        if len(text) > _MAX_LIST:
            raise SourceError(f"{self.path}/{name}: more than {_MAX_LIST} octets")
        return os.fsdecode(text)

    def _opened(self, message: SourceMessage) -> io.FileIO:
        """Open a message.  Raises SourceError."""
        try:
            return io.FileIO(f"{self.path}/{message.place}", opener=_without_following)
        except FileNotFoundError:
            return self._moved(message)
        except OSError as why:
            raise SourceError(f"{message.place}: {why.strerror}") from why

    def _moved(self, message: SourceMessage) -> io.FileIO:
        """Open a message that another program has moved.  Raises SourceError."""
        found = self._files()[0].get(bare_name(message.name or ""))
        try:
            if found is not None:
                return io.FileIO(f"{self.path}/{found.place}", opener=_without_following)
        except OSError:
            pass
        raise SourceError(f"{message.place}: gone")

    def _subfolders(self) -> list[str]:
        """Return a line for each folder of Maildir++ that has messages."""
        try:
            names = sorted(name for name in os.listdir(self.path) if name[0] == ".")
        except OSError:
            return []
        counts = {name: sum(_count(f"{self.path}/{name}/{folder}") for folder in ("new", "cur")) for name in names}
        return [f"folder {name!a} is not moved: {count} messages" for name, count in counts.items() if count]


class _Reader:
    """A message's octets; errors are those of a source."""

    def __init__(self, file: io.FileIO, place: str) -> None:
        self._file = file
        self._place = place

    def read(self, size: int, /) -> bytes:
        """Return up to `size` octets; none at the end.  Raises SourceError."""
        try:
            return self._file.read(size) or b""
        except OSError as why:
            raise SourceError(f"{self._place}: {why.strerror}") from why


def check_readable(message: SourceMessage) -> None:
    """Raise SourceError for a message that Dovecot has compressed."""
    if _COMPRESSED in message.place.partition(":2,")[2]:
        raise SourceError(f"{message.place}: compressed by Dovecot: let it be read by doveadm:USER or pop3://HOST")


def _without_following(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _count(folder: str) -> int:
    """Return the number of messages in a folder; 0 for one that cannot be read."""
    try:
        return len(names_in(folder, []))
    except MailboxError:
        return 0
