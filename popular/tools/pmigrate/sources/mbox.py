"""Mailboxes in one file, as sources of pmigrate: messages between lines `From SENDER DATE`.

Part of pmigrate.  The octets are those that Dovecot serves from such a file: without the headers that tell its state,
and with quoted lines as they are, unless the administrator says how they were quoted.  The file is locked while it is
read, by fcntl and by PATH.lock.  Raises SourceError.
"""

import calendar
import errno
import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from popular.store.lineends import BLOCK, ByteSource
from popular.tools.pmigrate.reading import BlockReader
from popular.tools.pmigrate.sources.source import SourceMessage, SourceError

QUOTINGS = ("none", "mboxo", "mboxrd")
UIDLS = ("x-uidl", "dovecot")    # those of the header X-UIDL, else of Dovecot; those of Dovecot only

_MAX_HEADER = 1 << 20      # octets of a header that are searched and held
_FIRST = 8192              # octets that are read at first, as most messages are short
_MAX_FROM = 1024           # octets of a line From
_STALE = 600.0             # seconds after which nobody holds a PATH.lock any more
_LOCK_INTERVAL = 0.5       # seconds between two attempts to lock

_DAYS = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_FROM = re.compile(
    rb"From (?:[^\n]{0,900} )?" + _DAYS + rb" +(?P<month>" + b"|".join(_MONTHS) + rb") +(?P<day>\d{1,2}) +"
    rb"(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d))?(?: +(?P<zone>[A-Za-z]{1,5}|[-+]\d{4}))?"
    rb"(?: +[A-Za-z]{3,5})? +(?P<year>\d{4})(?: +(?P<after>[-+]\d{4}))?(?: [^\n]*)?\r?\n")
_SEPARATOR = b"\nFrom "
_BLANK = re.compile(rb"\r?\n\r?\n")
_HIDDEN = re.compile(rb"^(?:Content-Length|Status|X-IMAP|X-IMAPbase|X-Keywords|X-Status|X-UID)[ \t]*:"
                     rb"[^\n]*\n(?:[ \t][^\n]*\n)*", re.MULTILINE | re.IGNORECASE)
_QUOTED = {"mboxo": re.compile(rb"^>(?=From )", re.MULTILINE), "mboxrd": re.compile(rb"^>(?=>*From )", re.MULTILINE)}
_BASE = re.compile(r"([0-9]{1,10})\s+[0-9]{1,10}(?:\s|\Z)", re.ASCII)    # uidvalidity and the last uid
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Span:
    """Where a message is in the file."""

    start: int    # of its header, behind the line From
    body: int     # behind the empty line
    end: int


class Mbox:
    """A file of messages; see `source.MailSource`."""

    def __init__(self, path: str, patience: float, quoting: str = QUOTINGS[0], uidls: str = UIDLS[0]) -> None:
        """Open and lock the file, waiting for at most `patience` seconds.

        `quoting` is one of QUOTINGS, how lines From were quoted; `uidls` is one of UIDLS, whose ids clients know.
        """
        self.title = f"mbox {path}"
        self._path = path
        self._quoted = _QUOTED.get(quoting)
        self._has_xuidls = uidls == UIDLS[0]
        self._spans: dict[str, _Span] = {}
        self._remarks: list[str] = []
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as why:
            raise SourceError(f"{path}: {why.strerror}") from why
        self._has_dotlock = False
        try:
            self._lock(time.monotonic() + patience)
            self._size = os.fstat(self._file).st_size
        except BaseException:
            self.close()
            raise

    def messages(self) -> Iterator[SourceMessage]:
        """Yield the messages in the order of the file."""
        validity = None
        for number, (received, span) in enumerate(self._split(), 1):
            header = _fields(self._at(span.start, min(span.body - span.start, _MAX_HEADER)))
            if number == 1:
                base = _BASE.match(header.get("x-imapbase", header.get("x-imap", "")))
                validity = int(base[1]) if base is not None else None
                if "x-imap" in header:    # the pseudo message of c-client
                    continue
            self._spans[str(number)] = span
            yield SourceMessage(str(number), self._uid_of(header, validity), received=received,
                                is_read="R" in header.get("status", ""))

    @contextmanager
    def open(self, message: SourceMessage) -> Iterator[ByteSource]:
        """Give a reader of a message."""
        yield BlockReader(self._text(self._spans[message.place]))

    def remarks(self) -> Sequence[str]:
        """Return what looks wrong."""
        return self._remarks

    def close(self) -> None:
        """Close and unlock the file."""
        if self._has_dotlock:
            self._has_dotlock = False
            _forget(f"{self._path}.lock")
        os.close(self._file)

    def _uid_of(self, header: dict[str, str], validity: int | None) -> str | None:
        """Return the UIDL that a client was given: that of qpopper, or by the default format of Dovecot; or None."""
        if self._has_xuidls and "x-uidl" in header:
            return header["x-uidl"]
        if validity is not None and _NUMBER.fullmatch(header.get("x-uid", "")):
            return f"{int(header['x-uid']):08x}{validity:08x}"
        return None

    def _lock(self, until: float) -> None:
        """Lock the file in both ways; raises SourceError."""
        while not self._has_dotlock:
            if self._try_dotlock():
                break
            _wait(until, self._path)
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            except OSError as why:
                if why.errno not in (errno.EACCES, errno.EAGAIN):
                    raise SourceError(f"{self._path}: cannot be locked: {why.strerror}") from why
            _wait(until, self._path)

    def _try_dotlock(self) -> bool:
        """Make PATH.lock; False if another program has it.  Where we may not write, there is only fcntl's lock."""
        path = f"{self._path}.lock"
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._has_dotlock = True
        except FileExistsError:
            try:
                if time.time() - os.lstat(path).st_mtime > _STALE:
                    _forget(path)
            except FileNotFoundError:
                pass
            return False
        except OSError as why:
            if why.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise SourceError(f"{path}: {why.strerror}") from why
            self._remarks.append(f"{path} cannot be made, so programs that lock in this way may have written meanwhile")
        return True

    def _split(self) -> Iterator[tuple[int | None, _Span]]:
        """Yield the time of delivery and the place of each message; raises SourceError."""
        place = 0
        while place < self._size:
            line = _FROM.match(self._at(place, _MAX_FROM))
            if line is None:
                raise SourceError(f"{self._path}: no line `From SENDER DATE` at octet {place}")
            start = place + line.end()
            body = self._body_of(start)
            end, place = self._end_of(start, body)
            yield _time_of(line), _Span(start, body, end)

    def _body_of(self, start: int) -> int:
        """Return where the body of a message begins, or the message ends."""
        head = self._head(start)
        if head.startswith((b"\n", b"\r\n")):
            return start + head.index(b"\n") + 1
        blank = _BLANK.search(head)
        size = len(head) if blank is None else blank.end()
        text = b"\n" + head[:size]
        place = text.find(_SEPARATOR)
        while place >= 0:    # the next message, if this one has no empty line
            if _FROM.match(text[place + 1:place + _MAX_FROM]):
                return start + place
            place = text.find(_SEPARATOR, place + 1)
        return start + size

    def _head(self, start: int) -> bytes:
        """Return the beginning of a message with its header, or so much of that as is searched."""
        octets = _FIRST
        while True:
            head = self._at(start, octets)
            if len(head) < octets or octets == _MAX_HEADER or head.startswith((b"\n", b"\r\n")) or _BLANK.search(head):
                return head
            octets = min(octets * 16, _MAX_HEADER)

    def _end_of(self, start: int, body: int) -> tuple[int, int]:
        """Return the end of a message, and where the next line From is, or the end of the file."""
        told = _fields(self._at(start, min(body - start, _MAX_HEADER))).get("content-length", "")
        if _NUMBER.fullmatch(told):
            end = body + int(told)
            for blank in (b"\n", b"\r\n", b""):
                behind = end + len(blank)
                rest = self._at(end, _MAX_FROM)
                if behind <= self._size and rest.startswith(blank) and (
                        behind == self._size or _FROM.match(rest, len(blank))):
                    return end, behind
        place = self._next_from(body - 1)
        return self._without_blank(start, place), place

    def _next_from(self, place: int) -> int:
        """Return where the next line From is behind the line end at or behind `place`, or the end of the file."""
        octets = _FIRST
        while place < self._size:
            block = self._at(place, octets)
            found = block.find(_SEPARATOR)
            if found < 0:
                if len(block) < octets:
                    break
                place += len(block) - len(_SEPARATOR) + 1
                octets = BLOCK
                continue
            place += found + 1
            if _FROM.match(self._at(place, _MAX_FROM)):
                return place
        return self._size

    def _without_blank(self, start: int, end: int) -> int:
        """Return where a message ends if the next line From is at `end`: the empty line before it is no part of it."""
        last = self._at(max(start, end - 4), min(4, end - start))
        for blank in (b"\r\n\r\n", b"\n\n"):
            if last.endswith(blank):
                return end - len(blank) // 2
        return end

    def _text(self, span: _Span) -> Iterator[bytes]:
        """Yield what a client gets of a message."""
        body = min(span.body, span.end)
        if body - span.start <= _MAX_HEADER:
            yield _HIDDEN.sub(b"", self._at(span.start, body - span.start))
        else:
            body = span.start
        blocks = self._blocks(body, span.end)
        yield from blocks if self._quoted is None else _unquoted(blocks, self._quoted)

    def _blocks(self, place: int, end: int) -> Iterator[bytes]:
        while place < end:
            block = self._at(place, min(BLOCK, end - place))
            if not block:
                raise SourceError(f"{self._path}: has become shorter")
            yield block
            place += len(block)

    def _at(self, place: int, octets: int) -> bytes:
        """Return at most so many octets of the file; raises SourceError."""
        try:
            return os.pread(self._file, octets, place)
        except OSError as why:
            raise SourceError(f"{self._path}: {why.strerror}") from why


def _fields(header: bytes) -> dict[str, str]:
    """Return the first value of each field of a header, by its name in lower case."""
    found: dict[str, str] = {}
    text = re.sub(rb"\r?\n[ \t]+", b" ", header).decode("latin-1")
    for line in text.split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.rstrip().lower(), value.strip())
    return found


def _time_of(line: re.Match[bytes]) -> int | None:
    """Return the UNIX time of a line From; without a zone it is local time."""
    moment = (int(line["year"]), _MONTHS.index(line["month"]) + 1, int(line["day"]), int(line["hour"]),
              int(line["minute"]), int(line["second"] or 0))
    zone = line["after"] or line["zone"] or b""
    try:
        if zone[:1] in (b"+", b"-"):
            away = (int(zone[1:3]) * 60 + int(zone[3:5])) * 60
            return calendar.timegm((*moment, 0, 0, 0)) - (away if zone[:1] == b"+" else -away)
        if zone in (b"UTC", b"GMT", b"Z"):
            return calendar.timegm((*moment, 0, 0, 0))
        return int(time.mktime((*moment, 0, 0, -1)))
    except (ValueError, OverflowError):
        return None


def _unquoted(blocks: Iterator[bytes], quoted: re.Pattern[bytes]) -> Iterator[bytes]:
    """Yield a body without the quoting of lines From; holds one line, or a block of a longer one."""
    held = b""
    is_start = True    # `held` begins a line
    for block in blocks:
        held += block
        cut = held.rfind(b"\n") + 1 or (len(held) if len(held) > BLOCK else 0)
        if cut:
            yield _without(held[:cut], quoted, is_start)
            is_start = held[cut - 1:cut] == b"\n"
            held = held[cut:]
    if held:
        yield _without(held, quoted, is_start)


def _without(text: bytes, quoted: re.Pattern[bytes], is_start: bool) -> bytes:
    return quoted.sub(b"", text) if is_start else (b"\0" + text and quoted.sub(b"", b"\0" + text)[1:])


def _wait(until: float, path: str, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait for a lock; raises SourceError when that has lasted too long."""
    if time.monotonic() >= until:
        raise SourceError(f"{path}: another program has locked it")
    sleep(_LOCK_INTERVAL)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:    # it is stale later
        pass
