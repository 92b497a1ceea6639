"""A mailbox of any POP3 server, or of pserv by XPOP, as a source of pmigrate.

Part of pmigrate.  As a source, nothing is deleted there, and RSET comes before QUIT.  The standard library's client is
not used: it holds each answer in memory, and loses its socket if the greeting is a refusal.  Raises SourceError; Cut
where the server is busy or has gone.
"""

import base64
import os
import re
import socket
import ssl
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

from popular.addresses import Endpoint
from popular.pop3.xpop import preamble_lines
from popular.store.lineends import BLOCK, ByteSource
from popular.tools.pmigrate.reading import BlockReader
from popular.tools.pmigrate.sources.source import MAX_MESSAGES, Cut, SourceMessage, SourceError
from popular.tools.printing import harmless

POP3_PORTS = {"pop3": 110, "pop3s": 995, "xpop": 1110}    # by the word before ://

_MAX_LINE = 1024     # octets of an answer's line, with its end
_MAX_CAPA = 200      # lines of CAPA
_PASSING = ("[IN-USE]", "[SYS/TEMP]", "[LOGIN-DELAY]")    # at the beginning of a refusal that does not last
_LISTED = re.compile(r"([0-9]{1,9}) +(\S+)(?: .*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pop3Server:
    """A POP3 server and how to speak to it."""

    scheme: str             # a key of POP3_PORTS
    endpoint: Endpoint
    timeout: float = 60.0   # seconds without an octet
    cafile: str = ""        # authorities that its certificate may come from; empty: those of the system
    is_verified: bool = True
    is_cleartext: bool = False    # whether it may get a password without TLS

    def __str__(self) -> str:
        return f"{self.scheme}://{self.endpoint}"


@dataclass(frozen=True, slots=True)
class Pop3Login:
    """Whose mailbox is wanted."""

    user: str
    password: str = field(repr=False)


class Pop3Source:
    """A mailbox that is reached by POP3; see `source.MailSource`."""

    def __init__(self, server: Pop3Server, login: Pop3Login | None, mailbox: str = "") -> None:
        """Log in at once; with XPOP, `mailbox` takes the place of a login."""
        self.title = f"{server}/{mailbox}" if login is None else f"{harmless(login.user)} at {server}"
        self._remarks: list[str] = []
        self._talk = _Conversation(server, preamble_of(mailbox) if login is None else b"")
        try:
            if login is not None:
                self._log_in(server, login)
        except BaseException:
            self._talk.hang_up()
            raise

    def messages(self) -> Iterator[SourceMessage]:
        """Yield the messages as LIST has them, with their ids by UIDL, and read those that LAST tells."""
        sizes = [(number, int(word)) for number, word in self._listed("LIST") if word.isdigit()]
        try:
            uids = dict(self._listed("UIDL"))
        except RefusedByServer as why:
            self._remarks.append(f"the server tells no unique ids: {why}")
            uids = {}
        last = self._last()
        for number, size in sizes:
            yield SourceMessage(str(number), uids.get(number), size, is_read=number <= last)

    @contextmanager
    def open(self, message: SourceMessage) -> Iterator[ByteSource]:
        """Give a reader of a message while it comes in."""
        self._talk.say(f"RETR {message.place}")
        yield BlockReader(self._talk.text())

    def remove(self, uids: Set[str]) -> int:
        """Delete messages by their unique ids; return how many were there.  Nothing can be read afterwards."""
        numbers = [number for number, uid in self._listed("UIDL") if uid in uids]
        for number in numbers:
            self._talk.say(f"DELE {number}")
        self._talk.say("QUIT")
        self._talk.hang_up()
        return len(numbers)

    def remarks(self) -> Sequence[str]:
        """Return what the server cannot do."""
        return self._remarks

    def close(self) -> None:
        """Take back every mark, say goodbye, and close."""
        try:
            self._talk.say("RSET")
            self._talk.say("QUIT")
        except SourceError:
            pass
        self._talk.hang_up()

    def _log_in(self, server: Pop3Server, login: Pop3Login) -> None:
        """Begin TLS if the server offers it, and log in."""
        if any(char in f"{login.user}{login.password}" for char in "\r\n\0"):
            raise SourceError("user and password must be one line each")
        able = self._talk.capabilities()
        if server.scheme == "pop3" and "STLS" in able:
            self._talk.say("STLS")
            self._talk.begin_tls()
            able = self._talk.capabilities()
        if not (self._talk.is_encrypted or server.is_cleartext):
            raise SourceError(f"{server}: offers no TLS, so no password is sent; --cleartext allows it")
        if "USER" not in able and "PLAIN" in able.get("SASL", "").split():
            self._talk.say("AUTH PLAIN")
            word = base64.b64encode(f"\0{login.user}\0{login.password}".encode("utf-8", "surrogateescape"))
            self._talk.say(word.decode("ascii"))
            return
        self._talk.say(f"USER {login.user}")
        self._talk.say(f"PASS {login.password}")

    def _listed(self, word: str) -> Iterator[tuple[int, str]]:
        """Yield numbers and words of LIST or UIDL."""
        self._talk.say(word)
        for line in self._talk.lines(MAX_MESSAGES):
            found = _LISTED.fullmatch(line)
            if found is not None:
                yield int(found[1]), found[2]

    def _last(self) -> int:
        """Return the highest number of a message that was read, or 0 if the server does not tell."""
        try:
            words = self._talk.say("LAST").split()
        except RefusedByServer:
            return 0
        return int(words[0]) if words and words[0].isdigit() and len(words[0]) < 10 else 0


class RefusedByServer(SourceError):
    """The server says -ERR, and will again."""


class _Conversation:
    """Commands, and answers of bounded length."""

    def __init__(self, server: Pop3Server, preamble: bytes) -> None:
        """Connect, and read the greeting; `preamble` is sent before it."""
        self._server = server
        self._is_open = True    # nothing is left of an answer
        try:
            self._sock: socket.socket = socket.create_connection(
                (server.endpoint.host, server.endpoint.port), server.timeout)
        except OSError as why:
            raise Cut(f"{server}: {why.strerror or why}") from why
        self._file = self._sock.makefile("rb", BLOCK)
        self.is_encrypted = False
        try:
            if server.scheme == "pop3s":
                self.begin_tls()
            self._send(preamble)
            self._status()
        except BaseException:
            self.hang_up()
            raise

    def begin_tls(self) -> None:
        """Encrypt the connection."""
        context = tls_context(self._server.cafile, self._server.is_verified)
        try:
            self._file.close()    # with what an attacker may have sent before TLS
            self._sock = context.wrap_socket(self._sock, server_hostname=self._server.endpoint.host)
        except ssl.SSLCertVerificationError as why:
            raise SourceError(f"{self._server}: {why.verify_message}") from why
        except (OSError, ValueError) as why:
            raise Cut(f"{self._server}: TLS: {getattr(why, 'reason', None) or why}") from why
        self._file = self._sock.makefile("rb", BLOCK)
        self.is_encrypted = True

    def say(self, line: str) -> str:
        """Send a command; return what is behind +OK, or a bare +.  Raises RefusedByServer and Cut."""
        if not self._is_open:
            raise Cut(f"{self._server}: an answer was not read to its end")
        self._send(f"{line}\r\n".encode("utf-8", "surrogateescape"))
        return self._status()

    def capabilities(self) -> dict[str, str]:
        """Return what CAPA tells, in capitals: words by the first of their line."""
        try:
            self.say("CAPA")
        except RefusedByServer:
            return {"USER": ""}
        told = [line.upper().partition(" ") for line in self.lines(_MAX_CAPA)]
        return {word: rest for word, _, rest in told}

    def lines(self, limit: int) -> Iterator[str]:
        """Yield the lines of an answer, at most `limit`."""
        self._is_open = False
        for _ in range(limit + 1):
            line = self._line()
            if line == ".":
                self._is_open = True
                return
            yield line.removeprefix(".")
        raise SourceError(f"{self._server}: an answer has more than {limit} lines")

    def text(self) -> Iterator[bytes]:
        """Yield a message in blocks, whatever the length of its lines, without the doubling of dots."""
        self._is_open = False
        parts: list[bytes] = []
        octets = 0
        end = b"\r\n"    # of what was read so far
        while (piece := self._read(BLOCK)) != b".\r\n" or end != b"\r\n":
            parts.append(piece[1:] if end == b"\r\n" and piece[:1] == b"." else piece)
            octets += len(piece)
            end = (end + piece)[-2:]
            if octets >= BLOCK:
                yield b"".join(parts)
                parts, octets = [], 0
        self._is_open = True
        yield b"".join(parts)

    def hang_up(self) -> None:
        """Close; twice is fine."""
        self._file.close()
        self._sock.close()

    def _status(self) -> str:
        """Read the first line of an answer."""
        line = self._line()
        if line.startswith("+"):
            return line.removeprefix("+OK").removeprefix("+").strip()
        text = line.removeprefix("-ERR").strip()
        kind = Cut if text.upper().startswith(_PASSING) else RefusedByServer
        raise kind(f"{self._server}: {harmless(text) or 'refuses without a reason'}")

    def _line(self) -> str:
        line = self._read(_MAX_LINE)
        if not line.endswith(b"\n"):
            self._is_open = False
            raise SourceError(f"{self._server}: a line of an answer is too long")
        return line.rstrip(b"\r\n").decode("utf-8", "surrogateescape")

    def _read(self, limit: int) -> bytes:
        """Return the octets up to a line end, or `limit`."""
        try:
            piece = self._file.readline(limit)
        except (OSError, ValueError) as why:
            self._is_open = False
            raise Cut(f"{self._server}: {getattr(why, 'strerror', None) or why}") from why
        if not piece:
            self._is_open = False
            raise Cut(f"{self._server}: has closed the connection")
        return piece

    def _send(self, octets: bytes) -> None:
        try:
            self._sock.sendall(octets)
        except OSError as why:
            self._is_open = False
            raise Cut(f"{self._server}: {why.strerror or why}") from why


@cache
def tls_context(cafile: str, is_verified: bool) -> ssl.SSLContext:
    """Return what TLS begins with at a client; raises SourceError for a file that has no certificates."""
    try:
        context = ssl.create_default_context(cafile=cafile or None)
    except OSError as why:
        raise SourceError(f"{cafile}: {why.strerror or why}") from why
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def preamble_of(mailbox: str) -> bytes:
    """Return what opens a mailbox by XPOP, for a session in which no mail becomes read; raises SourceError."""
    try:
        return preamble_lines(mailbox, f"pmigrate-{os.getpid()}", master=True, missing="refuse")
    except ValueError as why:
        raise SourceError(str(why)) from None
