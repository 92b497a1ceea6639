"""A plain POP3 client for tests: it sends what it is told, octet for octet, and hides nothing.

poplib is too polite for tests of a server: it refuses to send what a hostile client sends.
"""

import socket
from types import TracebackType

from popular.addresses import Endpoint


class PopClient:
    """One connection to a POP3 server; raises AssertionError on answers that are not as wanted."""

    def __init__(self, endpoint: Endpoint, timeout: float = 40.0, source: str = "") -> None:
        origin = (source, 0) if source else None
        self.sock = socket.create_connection((endpoint.host, endpoint.port), timeout, origin)
        self._buffer = b""

    def __enter__(self) -> "PopClient":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; twice is fine."""
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send octets as they are."""
        self.sock.sendall(data)

    def line(self) -> bytes:
        """Return the next line without its CRLF; raises AssertionError at the end of the stream."""
        while b"\n" not in self._buffer:
            data = self.sock.recv(65536)
            if not data:
                raise AssertionError(f"connection closed after {self._buffer!r}")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        assert line.endswith(b"\r"), f"a line ends in a bare LF: {line!r}"
        return line[:-1]

    def command(self, words: str | bytes) -> bytes:
        """Send one command line and return the first line of the answer."""
        self.send((words.encode("latin-1") if isinstance(words, str) else words) + b"\r\n")
        return self.line()

    def ok(self, words: str | bytes) -> bytes:
        """Send one command; returns the answer's text behind `+OK`, anything else fails."""
        answer = self.command(words)
        assert answer.startswith(b"+OK"), f"{words!r} was answered {answer!r}"
        return answer[4:]

    def err(self, words: str | bytes) -> bytes:
        """Send one command; returns the answer's text behind `-ERR`, anything else fails."""
        answer = self.command(words)
        assert answer.startswith(b"-ERR"), f"{words!r} was answered {answer!r}"
        return answer[5:]

    def lines(self) -> list[bytes]:
        """Return the lines of a multi-line answer behind its first line, stuffed dots removed."""
        found: list[bytes] = []
        while (line := self.line()) != b".":
            found.append(line[1:] if line.startswith(b".") else line)
        return found

    def multi(self, words: str | bytes) -> list[bytes]:
        """Send a command with a multi-line answer; returns its lines."""
        self.ok(words)
        return self.lines()

    def message(self, number: int) -> bytes:
        """Fetch a message as it lies in the mailbox: CRLF lines, no stuffing."""
        return b"".join(line + b"\r\n" for line in self.multi(f"RETR {number}"))

    def greeting(self) -> bytes:
        """Read the greeting; returns the text behind `+OK`."""
        line = self.line()
        assert line.startswith(b"+OK"), f"the greeting is {line!r}"
        return line[4:]

    def login(self, user: str, password: str | bytes) -> bytes:
        """Read the greeting, send USER and PASS; returns the answer to PASS as it is."""
        self.greeting()
        self.ok(f"USER {user}")
        secret = password.encode("utf-8") if isinstance(password, str) else password
        return self.command(b"PASS " + secret)

    def xpop(self, mailbox: str, sid: str = "test-1", flags: str = "") -> bytes:
        """Send an XPOP preamble; returns the server's answer as it is."""
        self.send(f"{mailbox}\r\n{sid}\r\n{flags}\r\n".encode("latin-1"))
        return self.line()

    def rest(self) -> bytes:
        """Return everything until the other side closes; a reset counts as closed."""
        data, self._buffer = self._buffer, b""
        while True:
            try:
                more = self.sock.recv(65536)
            except ConnectionResetError:
                return data
            if not more:
                return data
            data += more
