"""Database module `dovecot`: the users of a Dovecot, from its `passwd-file`, or asked for at its auth socket.

    dovecot file=FILE   [backend=ID] [backends=HOST[:PORT]=ID,…] [mailbox=PATTERN] [KEY=VALUE …]
    dovecot socket=FILE [backend=ID] [backends=HOST[:PORT]=ID,…] [mailbox=PATTERN] [KEY=VALUE …]

A line of the file is `USER:HASH:UID:GID:GECOS:HOME:SHELL:FIELDS`, as Dovecot has it; its end may be missing.
HASH without a scheme has that of `scheme`.  At the socket the module speaks Dovecot's client protocol and
checks passwords with AUTH PLAIN; a refusal does not tell unknown users from wrong passwords.  FIELDS, and
what comes with the OK of the socket, mean:

    proxy, proxy_maybe    the mail is at `host` (and `port`): `backends` says which id that is; the session goes on
                          there by pop3 as `destuser` or `user` with `pass`, or else as the client has logged in,
                          and then the backend has to check the password
    nopassword            allowed only in this case, and if there is no `pass`
    nologin               without proxy, the user is refused
    allow_nets            the user is refused elsewhere
    master                not supported: a failure
    others                values for the pattern of the mailbox, with those called `uid`, `gid`, `home`; `userdb_`
                          is removed from names

Without proxy, the mail is at `backend`: in the mailbox of the pattern `mailbox`, or else behind a POP3 server that
the client's name and password are passed to.  The pattern is that of the module any, with `%{NAME}` for a
value; of values that begin with `root`, this beginning and a slash are removed.
"""

import mmap
import os
import socket
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from popular.pdm import records
from popular.pdm.api import PROVEN, UNKNOWN, Answer, CannotFind, Found, Outcome, PdmError, PdmModule, Request
from popular.pdm.options import File, Id, Options, Setting, String, Time
from popular.pdm.pattern import Pattern
from popular.pdm.timelimit import within

MAX_FILE = 64 << 20      # octets of a passwd-file, which is searched from the beginning
MAX_LINE = 16384         # octets of a line from the socket
MAX_PASSWORD = 4096      # octets, with which a line to the socket is short enough for every Dovecot

_FIELDS = ("uid", "gid", "gecos", "home", "shell")    # behind the hash
_ESCAPED = {"0": "\0", "1": "\1", "t": "\t", "r": "\r", "l": "\n"}
_CLOSED = "*"            # a hash that no password fits


@dataclass(frozen=True, slots=True)
class Hosts:
    """Hosts that Dovecot knows, with the ids of backends, separated by commas."""

    name: ClassVar[str] = "Hosts"
    wanted: ClassVar[str] = "a list of HOST=ID or HOST:PORT=ID, separated by commas"

    def parse(self, text: str) -> Mapping[str, str]:
        """Read `HOST[:PORT]=ID,…`."""
        pairs = [word.rpartition("=") for word in text.split(",")]
        try:
            found = {host.lower(): Id().parse(ident) for host, _, ident in pairs if host}
        except ValueError:
            raise ValueError(self.wanted) from None
        if len(found) != len(pairs):
            raise ValueError(self.wanted)
        return found

    def show(self, value: Mapping[str, str]) -> str:
        """Return the list."""
        return ",".join(f"{host}={ident}" for host, ident in value.items())


OPTIONS = Options(
    Setting("file", File(), None, "Dovecot's passwd-file."),
    Setting("socket", File(), None, "Dovecot's auth socket for clients, such as /run/dovecot/auth-client."),
    Setting("backend", Id(), None, "The backend of users without proxy."),
    Setting("backends", Hosts(), {}, "The ids of the backends that `host` of a user may name: 10.0.0.5=store1."),
    Setting("mailbox", String(), None, "The mailbox of users without proxy, a pattern that may have %{home} and other "
            "values.  By default they are on a POP3 server."),
    Setting("root", String(), None, "What is removed at the beginning of values: the mailboxdir of pserv."),
    Setting("key", String(), "%u", "The name in the file, a pattern; Dovecot calls it username_format."),
    Setting("scheme", String(32), "CRYPT", "The scheme of hashes in the file that have none."),
    Setting("timeout", Time(0.05, 60), 5.0, "Time to wait for the socket."),
)


class Module(PdmModule):
    """The users of one Dovecot."""

    API = (1, 1)
    blocking = True

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the words described above; raises ValueError."""
        super().__init__(ident, args)
        values = OPTIONS.parse(args)
        self._file, self._path = values.optional_text("file"), values.optional_text("socket")
        if (self._file is None) is (self._path is None):
            raise ValueError("give either file or socket")
        self.blocking = self._path is not None
        if self._file is not None:    # a socket tells nothing without a password
            self.mechanisms = frozenset({PROVEN})
        self._backend = values.optional_text("backend")
        self._hosts = cast(Mapping[str, str], values["backends"])
        if self._backend is None and not self._hosts:
            raise ValueError("give backend, or backends, or both")
        self.backends = tuple(dict.fromkeys(filter(None, (self._backend, *self._hosts.values()))))
        mailbox = values.optional_text("mailbox")
        self._mailbox = None if mailbox is None else Pattern(mailbox, with_names=True)
        self._root = (values.optional_text("root") or "").rstrip("/") + "/"
        self._key, self._scheme = Pattern(values.text("key")), values.text("scheme")
        self._timeout = values.seconds("timeout")
        self._link: _Link | None = None

    def open(self) -> None:
        """Forget the connection of another process; ours is made by the first question."""
        self._link = None

    def probe(self) -> None:
        """Look up a user who does not exist."""
        if self._file is not None:
            records.probe(self._file, self.check)
            return
        try:
            records.probe_server(self.check)
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def check(self, request: Request) -> Answer:
        """Look the user up in the file, or ask the socket."""
        if records.user_octets(request.user) is None:
            return UNKNOWN
        try:
            return self._check_socket(request) if self._file is None else self._check_file(self._file, request)
        except ValueError as why:
            return Answer(Outcome.FAILED, why=str(why))

    def find(self, user: str, namespace: str) -> Found | None:
        """Look the user up in the file."""
        if self._file is None:
            raise CannotFind
        request = Request(user, b"", "", "pop3", namespace)
        try:
            line = self._line(self._file, request)
            return None if line is None else self._record(request, *line).found
        except ValueError as why:
            raise PdmError(str(why)) from None

    def _check_file(self, path: str, request: Request) -> Answer:
        line = self._line(path, request)
        if line is None:
            return UNKNOWN
        stored, fields = line
        if stored and not stored.startswith("{"):
            stored = f"{{{self._scheme}}}{stored}"
        record = self._record(request, stored, fields)
        if "nopassword" not in fields or request.mechanism == PROVEN:
            return records.answer_to(request, record)
        if record.found.verified:
            raise ValueError("the user has nopassword, and no other server checks the password")
        return records.accepted(request, record)

    def _line(self, path: str, request: Request) -> tuple[str, dict[str, str]] | None:
        """Return hash and fields of a user, None without a line; raises OSError and ValueError."""
        user = self._key.fill(request.user, request.namespace).encode("utf-8", "surrogateescape")
        line = _search(path, user) if user and b":" not in user and not user.startswith(b"#") else None
        return None if line is None else _parsed(line)

    def _check_socket(self, request: Request) -> Answer:
        """Ask Dovecot; raises PdmError and ValueError."""
        if b"\0" in request.password or len(request.password) > MAX_PASSWORD:
            return Answer(Outcome.DENIED, why="Dovecot takes no such password")
        words: list[str] | None = None
        if self._link is not None:
            try:
                words = self._told(request)
            except PdmError:
                self.close()    # Dovecot has ended meanwhile, perhaps to begin again
        if words is None:
            try:
                words = self._told(request)
            except PdmError:
                self.close()
                raise
        verdict, fields = words[0], _named(words[2:])
        if verdict == "OK":
            return records.accepted(request, self._record(request, "", fields))
        if verdict != "FAIL":
            raise ValueError("Dovecot wants to know more than a password")
        is_temporary = "temp" in fields or fields.get("code") == "temp_fail"
        why = fields.get("reason") or fields.get("code") or "refused by Dovecot"
        return Answer(Outcome.FAILED if is_temporary else Outcome.DENIED, why=why)

    def _told(self, request: Request) -> list[str]:
        """Return the words of Dovecot's answer; raises PdmError."""
        try:
            return within(self._timeout, request.deadline, self._asked, request)
        except OSError as why:
            raise PdmError(f"{self._path}: {why.strerror or why}") from None

    def _asked(self, request: Request) -> list[str]:
        if self._link is None:
            self._link = _Link(str(self._path))
        return self._link.ask(request)

    def _record(self, request: Request, stored: str, fields: Mapping[str, str]) -> records.Record:
        """Return what is known of a user; raises ValueError."""
        if "master" in fields:
            raise ValueError("the user is to be passed on with the password of a master user")
        is_proxy = "proxy" in fields or "proxy_maybe" in fields
        values = {"password": stored or _CLOSED, **_rules(fields, is_proxy=is_proxy)}
        if is_proxy and "host" in fields:
            values["backend"] = self._at(fields["host"], fields.get("port", "110"))
        elif self._backend is not None:
            values["backend"] = self._backend
        else:
            raise ValueError("the user has no proxy with a host, and there is no backend=")
        if self._mailbox is not None and not is_proxy:
            shown = {name: text.removeprefix(self._root) for name, text in fields.items()}
            values["mailbox"] = self._mailbox.mailbox(request.user, request.namespace, shown) or ""
            if not values["mailbox"]:
                made = self._mailbox.fill(request.user, request.namespace, shown)
                raise ValueError(f"{self._mailbox.text} makes {made!a}, which is no name of a mailbox")
            return records.record_of(values)
        values["protocol"] = "pop3"
        values["buser"] = fields.get("destuser") or fields.get("user") or request.user
        values["bpass"] = fields.get("pass", request.password.decode("utf-8", "surrogateescape"))
        record = records.record_of(values)
        if is_proxy and "pass" not in fields:    # the backend has to check the password, as Dovecot may not have
            return replace(record, found=replace(record.found, verified=False))
        return record

    def _at(self, host: str, port: str) -> str:
        """Return the id of a backend; raises ValueError."""
        for place in (f"{host}:{port}".lower(), host.lower()):
            if place in self._hosts:
                return self._hosts[place]
        raise ValueError(f"host {host!a} with port {port!a} is not among backends=")


class _Link:
    """A connection to the auth socket."""

    def __init__(self, path: str) -> None:
        """Connect and read what Dovecot says of itself; raises OSError and PdmError."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._unread, self._number = b"", 0
        try:
            self._socket.connect(path)
            self._socket.sendall(f"VERSION\t1\t1\nCPID\t{os.getpid()}\n".encode())
            said = [self._words()]
            while said[-1][0] != "DONE":
                said.append(self._words())
        except BaseException:
            self.close()
            raise
        if ["MECH", "PLAIN"] not in [words[:2] for words in said]:
            self.close()
            raise PdmError(f"{path}: Dovecot does not offer AUTH PLAIN there")

    def ask(self, request: Request) -> list[str]:
        """Return the answer to a login, a verb first and then the number; raises OSError."""
        self._number += 1
        user = request.user.encode("utf-8", "surrogateescape")
        rip = f"rip={request.ip}\t" if request.ip else ""
        resp = b64encode(b"\0%b\0%b" % (user, request.password)).decode()
        self._socket.sendall(
            f"AUTH\t{self._number}\tPLAIN\tservice=pop3\tnologin\tsecured\tno-penalty\t{rip}resp={resp}\n".encode())
        while True:
            words = self._words()
            if words[0] in ("OK", "FAIL", "CONT") and words[1:2] == [str(self._number)]:
                return words

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _words(self) -> list[str]:
        """Return the words of the next line; raises OSError."""
        while b"\n" not in self._unread:
            octets = self._socket.recv(MAX_LINE)
            if not octets or len(self._unread) > MAX_LINE:
                raise ConnectionResetError(None, "the connection was closed")
            self._unread += octets
        line, _, self._unread = self._unread.partition(b"\n")
        return [_unescaped(word) for word in line.decode("utf-8", "surrogateescape").split("\t")]


def _search(path: str, user: bytes) -> bytes | None:
    """Return the first line that begins with `USER:`; raises OSError and ValueError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        if size > MAX_FILE:
            raise ValueError(f"{path}: more than {MAX_FILE} octets; make a cdb of it")
        if size == 0:
            return None
        with mmap.mmap(fd, size, prot=mmap.PROT_READ) as text:
            begin = 0 if text[:len(user) + 1] == user + b":" else text.find(b"\n" + user + b":") + 1
            if text[begin:begin + len(user) + 1] != user + b":":
                return None
            end = text.find(b"\n", begin)
            line = text[begin:end if end >= 0 else size]
    finally:
        os.close(fd)
    if len(line) > records.MAX_RECORD:
        raise ValueError(f"{path}: the user's line has more than {records.MAX_RECORD} octets")
    return line.removesuffix(b"\r")


def _parsed(line: bytes) -> tuple[str, dict[str, str]]:
    """Return hash and fields in a line, which has a colon."""
    _, stored, *rest = line.decode("utf-8", "surrogateescape").split(":", 7)
    values = {name: text for name, text in zip(_FIELDS, rest) if text}
    return stored, {**values, **_named(rest[5].split(" ") if len(rest) > 5 else [])}


def _named(words: list[str]) -> dict[str, str]:
    """Return fields by their names; those that say no are left out."""
    pairs = [word.partition("=") for word in words if word]
    return {name.removeprefix("userdb_"): text for name, equals, text in pairs if not equals or text not in ("n", "no")}


def _unescaped(word: str) -> str:
    if "\1" not in word:
        return word
    first, *rest = word.split("\1")
    return first + "".join(_ESCAPED.get(part[:1], part[:1]) + part[1:] for part in rest)


def _rules(fields: Mapping[str, str], *, is_proxy: bool) -> dict[str, str]:
    """Return what forbids logins, by the names that records have for it."""
    nets = [net for net in fields.get("allow_nets", "").split(",") if net not in ("", "local")]
    if "nologin" in fields and not is_proxy:
        return {"disabled": fields.get("reason") or "nologin"}
    if "allow_nets" in fields and not nets:
        return {"disabled": "allow_nets has no network"}
    return {"networks": ",".join(nets)}
