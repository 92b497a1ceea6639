"""The users, the databases that know them and their mailboxes, once for POPular and once for Dovecot.

Both stores hold the same messages, each as its own delivery would have left them: with CRLF and the size in the
name for pserv; with LF, and both sizes in the name, for Dovecot.  Messages of one size and kind are links to
a few files, so a store of gigabytes needs the room of one mailbox and lies in the page cache.

Runs in the benchmark before the first turn.  Raises OSError.
"""

import os
from base64 import encodebytes
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from hashlib import shake_256
from pathlib import Path

from tests.bench.databases import Person, write_dovecot, write_users

PASSWORD = "open-sesame"
BACKEND = "store"               # the id of the one backend
MAIL_SIZE = 4096                # octets on the wire of an ordinary message, without the doubled dot
BIG_MESSAGE = 1 << 20           # of one of the workloads bulk and bulk-text
SMALL_MESSAGE = 1024            # of one in the big mailbox
BULK_MESSAGES = 20
BIG_USER = "big"

_TIME = 945_113_196
_MAX_LINKS = 30_000             # to one file; ext4 allows 65,000
_HEAD = (b"From: a@example.org\r\nTo: b@example.org\r\nSubject: the benchmark\r\n"
         b"Date: Sat, 21 Aug 2004 12:19:29 +0200\r\nMessage-Id: <1@example.org>\r\n")
_LINE = b"The quick brown fox jumps over the lazy dog, and over and over again.\r\n"
_MIME = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=cut\r\n\r\n--cut\r\n\r\n.dot\r\n"
_ATTACHMENT = (b"\r\n--cut\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n"
               b"Content-Disposition: attachment; filename=noise\r\n\r\n")
_END = b"--cut--\r\n"
_BASE64 = 76, 57                # characters of a line, and the octets that they stand for

Writer = Callable[[int], bytes]    # a size → a message of that size


@dataclass(frozen=True, slots=True)
class Population:
    """How many users of each kind there are; only those below have mailboxes, the databases know all `users`."""

    users: int = 100_000
    empty: int = 1_000
    mail: int = 500
    bulk: int = 256             # of each kind of big message
    big: int = 100_000          # messages in the one big mailbox; 0: no such mailbox
    boxes: tuple[int, ...] = ()    # a mailbox with each of these numbers of messages

    def empty_users(self) -> list[str]:
        """Return the users without mail."""
        return [name_of(number) for number in range(self.empty)]

    def mail_users(self) -> list[str]:
        """Return the users with one message."""
        return [name_of(number) for number in range(self.empty, self.empty + self.mail)]

    def bulk_users(self) -> list[str]:
        """Return the users with many big messages, with attachments."""
        first = self.empty + self.mail
        return [name_of(number) for number in range(first, first + self.bulk)]

    def bulk_text_users(self) -> list[str]:
        """Return the users with many big messages, of text."""
        first = self.empty + self.mail + self.bulk
        return [name_of(number) for number in range(first, first + self.bulk)]

    def all_users(self) -> list[str]:
        """Return everyone that the databases know, in the order of octets."""
        return sorted([BIG_USER, *map(box_of, self.boxes), *(name_of(number) for number in range(self.users))])


@dataclass(frozen=True, slots=True)
class Store:
    """Where everything lies that the contenders share; nothing of it is written to but mailboxes."""

    folder: Path

    @property
    def spool(self) -> Path:
        """The mailboxes of pserv and pcheckd."""
        return self.folder / "spool"

    @property
    def homes(self) -> Path:
        """The homes of Dovecot's users, each with its Maildir."""
        return self.folder / "homes"

    @property
    def passwd(self) -> Path:
        """The users in the format of Dovecot's passwd-file."""
        return self.folder / "dovecot.users"

    @property
    def secrets(self) -> Path:
        """The folder of what TLS needs, once there is any."""
        return self.folder / "tls"

    @property
    def certificate(self) -> Path:
        """The certificate of everyone who has TLS."""
        return self.secrets / "server.pem"

    @property
    def key(self) -> Path:
        """Its key."""
        return self.secrets / "server.key"

    def users(self, module: str, protocol: str) -> Path:
        """Return the file with the users for one of our database modules."""
        return self.folder / f"{protocol}.{module}"


def name_of(number: int) -> str:
    """Return the name of a user."""
    return f"user{number:07d}"


def box_of(messages: int) -> str:
    """Return the user whose mailbox has so many messages, if there is one."""
    return f"box{messages:07d}"


def mailbox_of(name: str) -> str:
    """Return the mailbox of a user, below the spool."""
    return f"{name[-2:]}/{name}"


def backend_of(number: int) -> str:
    """Return the id of a backend, where there are several; number 0 is the one that is always there."""
    return BACKEND if number == 0 else f"{BACKEND}{number}"


@cache
def text_message(size: int) -> bytes:
    """Return a message of text of `size` octets, a few hundred at least: one line begins with a dot, all end in one."""
    head = _HEAD + b"\r\n.dot\r\n"
    lines = (size - len(head) - 2) // len(_LINE)
    body = head + _LINE * lines
    return body + b"x" * (size - len(body) - 2) + b"\r\n"


@cache
def attachment_message(size: int) -> bytes:
    """Return a message of `size` octets, a few hundred at least: one line that begins with a dot, and an attachment.

    The attachment is noise in whole lines of Base64, and the same in each run; what is left over stands in the text.
    """
    length, octets = _BASE64
    frame = len(_HEAD + _MIME + b"\r\n" + _ATTACHMENT + _END)
    lines, rest = divmod(size - frame, length + len(b"\r\n"))
    noise = encodebytes(shake_256(b"the benchmark").digest(lines * octets)).replace(b"\n", b"\r\n")
    return _HEAD + _MIME + b"x" * rest + b"\r\n" + _ATTACHMENT + noise + _END


def build(folder: Path, population: Population, owner: tuple[int, int], *, has_dovecot: bool) -> Store:
    """Make everything anew below `folder`; mailboxes belong to `owner` (uid and gid)."""
    store = Store(folder)
    names = population.all_users()
    for protocol in ("cxpop", "pop3"):
        for module in ("sqlite", "passwd"):
            write_users(module, store.users(module, protocol), (person_of(name, protocol) for name in names))
    _make_mailboxes(population, _Spool(store, folder / "messages", owner))
    if has_dovecot:
        write_dovecot(store.passwd, names, PASSWORD)
        _make_mailboxes(population, _Homes(store, folder / "messages", owner))
    return store


def person_of(name: str, protocol: str) -> Person:
    """Return what our databases know of a user whose backend speaks cxpop or pop3."""
    if protocol == "cxpop":
        return Person(name, PASSWORD, BACKEND, mailbox_of(name))
    return Person(name, PASSWORD, BACKEND, buser=name, bpass=PASSWORD)


class _Spool:
    """Mailboxes of spec 9.1."""

    def __init__(self, store: Store, originals: Path, owner: tuple[int, int]) -> None:
        self._store = store
        self._copies = _Copies(originals, "crlf", owner, lambda text: text)
        self.owner = owner

    def mailbox(self, user: str) -> Path:
        """Return the folder of a user's mail."""
        return self._store.spool / mailbox_of(user)

    def put(self, mailbox: Path, number: int, write: Writer, size: int, *, is_read: bool) -> None:
        """Put message `number` into a mailbox."""
        folder = "cur" if is_read else "new"
        self._copies.link(write, size, number, mailbox / folder / f"{_TIME + number}.14341_{size}")


class _Homes:
    """Maildirs as Dovecot's own delivery makes them."""

    def __init__(self, store: Store, originals: Path, owner: tuple[int, int]) -> None:
        self._store = store
        self._copies = _Copies(originals, "lf", owner, lambda text: text.replace(b"\r\n", b"\n"))
        self.owner = owner

    def mailbox(self, user: str) -> Path:
        """Return the Maildir of a user."""
        return self._store.homes / user / "Maildir"

    def put(self, mailbox: Path, number: int, write: Writer, size: int, *, is_read: bool) -> None:
        """Put message `number` into a Maildir."""
        folder, flags = ("cur", ":2,S") if is_read else ("new", "")
        name = f"{_TIME + number}.M{number}P14341.bench,S={_size_with_lf(write, size)},W={size}{flags}"
        self._copies.link(write, size, number, mailbox / folder / name)


@cache
def _size_with_lf(write: Writer, size: int) -> int:
    """Return the size of a message whose lines end in LF."""
    return len(write(size)) - write(size).count(b"\r\n")


class _Copies:
    """A few files for each kind and size, more for each few ten thousand messages, and links to them."""

    def __init__(self, folder: Path, kind: str, owner: tuple[int, int], form: Callable[[bytes], bytes]) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._kind, self._owner, self._form = folder, kind, owner, form
        self._links = 0

    def link(self, write: Writer, size: int, number: int, path: Path) -> None:
        """Make `path` a link to message `number` of this kind and size."""
        self._links += 1
        name = f"{self._kind}.{write.__name__}.{size}.{number % BULK_MESSAGES}.{self._links // _MAX_LINKS}"
        original = self._folder / name
        if not original.exists():
            original.write_bytes(self._form(write(size)))
            os.chown(original, *self._owner)
        os.link(original, path)


def _make_mailboxes(population: Population, kind: _Spool | _Homes) -> None:
    """Make the mailboxes of everyone who has one, and put their messages there."""
    contents: list[tuple[list[str], int, Writer, int]] = [
        (population.empty_users(), 0, text_message, 0),
        (population.mail_users(), 1, text_message, MAIL_SIZE),
        (population.bulk_users(), BULK_MESSAGES, attachment_message, BIG_MESSAGE),
        (population.bulk_text_users(), BULK_MESSAGES, text_message, BIG_MESSAGE)]
    if population.big:
        contents.append(([BIG_USER], population.big, text_message, SMALL_MESSAGE))
    contents += [([box_of(count)], count, text_message, SMALL_MESSAGE) for count in population.boxes]
    for users, count, write, size in contents:
        for user in users:
            mailbox = kind.mailbox(user)
            _make_folders(mailbox, kind.owner)
            for number in range(count):
                kind.put(mailbox, number, write, size, is_read=number % 2 == 0)


def _make_folders(mailbox: Path, owner: tuple[int, int]) -> None:
    for name in ("tmp", "new", "cur"):
        (mailbox / name).mkdir(parents=True, exist_ok=True)
        os.chown(mailbox / name, *owner)
    for folder in (mailbox, mailbox.parent):
        os.chown(folder, *owner)
