"""One TCP peer that speaks in lines: commands in, replies out, with limits on all of it.

Used in the children (pproxy toward its client and its backends, pserv toward the proxy) and in
tools.  One thread, a non-blocking socket: recv and send are tried first, and `poll` waits only
when the kernel has nothing to give.  Raises Gone when the peer is gone, NulByte (spec 1.5),
ProxyHeader, and CommandRefused (an over-long line).
"""

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterable

from popular.errors import CommandRefused, Gone, NulByte, ProxyHeader, StoreError
from popular.names import MAX_RESPONSE, clean_line
from popular.net.idleness import LOOKS, Idleness
from popular.net.transport import PROXY_V2, FilePart, Octets, Stream

MAX_SURPLUS = 64 * 1024       # octets of an over-long line that are read to find its end
SEND_BLOCK = 64 * 1024        # octets that `send_parts` gathers before it sends
LINGER_OCTETS = 64 * 1024    # what `linger_close` reads from a peer that goes on sending
LINGER_SECONDS = 1.0

_RECEIVE = 4096             # commands are short; pipelined ones fit by the dozen
_POLL_LIMIT = 86400.0       # seconds; poll takes milliseconds in a C int


class Wire:
    """Lines from a peer, replies to it.

    `idle` is how long, in seconds, the peer may send no byte while its TCP takes none; `deadline` is
    a time of time.monotonic() after which nothing is waited for, None for no such limit.  Both may
    be changed at any time, and so may `maxline` (octets of a line without its end).
    """

    __slots__ = ("sock", "idle", "deadline", "maxline", "bytes_in", "bytes_out", "is_unfinished", "language",
                 "takes_nul",
                 "_before_wait", "_input", "_start", "_head", "_poll")

    def __init__(self, sock: Stream, *, idle: float, maxline: int = 255,
                 before_wait: Callable[[int, int], None] | None = None) -> None:
        """Take over `sock`; it becomes non-blocking.

        `before_wait` is called before waiting for the peer, with the octets received and sent.
        """
        if isinstance(sock, socket.socket) and sock.gettimeout() != 0:
            sock.setblocking(False)
        self.sock: Stream = sock
        self.idle = idle
        self.deadline: float | None = None
        self.maxline = maxline
        self.bytes_in = 0
        self.bytes_out = 0
        self.is_unfinished = False    # `send_parts` did not come to its end
        self.language: Callable[[str], str] | None = None    # returns a text of ours as the peer wants it
        self.takes_nul = False        # a NUL is data like any octet
        self._before_wait = before_wait
        self._input = b""       # received; everything before _start has been handed out
        self._start = 0
        self._head = b""        # the first octets of the connection, which may be part of a PROXY protocol header
        self._poll: select.poll | None = None

    def readline(self) -> bytes:
        """Return the next line without its LF or CRLF; a bare CR is data.

        Raises Gone ("closed", "reset", "timeout", or an over-long line that never ends), NulByte,
        and CommandRefused once an over-long line has been read to its end: no part of it is ever returned.
        An unfinished line before the end of the connection is dropped.
        """
        searched = self._start
        while True:
            end = self._input.find(b"\n", searched)
            if end >= 0:
                line = self._input[self._start:end]
                self._start = end + 1
                if line.endswith(b"\r"):
                    line = line[:-1]
                if len(line) > self.maxline:
                    raise CommandRefused("line too long")
                return line
            pending = self._input[self._start:]
            if len(pending) > self.maxline + 1:    # one more than allowed: the CR
                self._skip_line()
                raise CommandRefused("line too long")
            searched = len(pending)
            self._input = pending + self._receive()
            self._start = 0

    def has_line(self) -> bool:
        """Tell whether `readline` would not have to wait."""
        return self._input.find(b"\n", self._start) >= 0

    def read(self, size: int) -> bytes:
        """Return what came, 1 to `size` octets; raises Gone and NulByte."""
        if self._start == len(self._input):
            return self._receive(size)
        block = self._input[self._start:self._start + size]
        self._start += len(block)
        return block

    def put_back(self, rest: bytes) -> None:
        """Have octets that were read come again, before all others."""
        self._input = rest + self._input[self._start:]
        self._start = 0

    def await_input(self) -> None:
        """Wait until there is something to read; raises Gone and NulByte."""
        if self._start == len(self._input):
            self._input = self._receive()
            self._start = 0

    def reply(self, ok: bool, text: str = "", code: str = "", *, last: bool = False) -> None:
        """Send `+OK text` or `-ERR [code] text` (RFC 1939 section 3, RFC 2449 section 8) as one line.

        Whatever `text` holds, the reply is one line of printable ASCII of at most 512 octets.  The `last` one is sent
        together with the end of the connection, which must follow at once.
        """
        line = "+OK" if ok else "-ERR"
        if code:
            line = f"{line} [{code}]"
        if text:
            line = f"{line} {text if self.language is None else self.language(text)}"
        if not (line.isascii() and line.isprintable()) or len(line) > MAX_RESPONSE:
            line = clean_line(line.encode("utf-8", "replace"))
        self.send(line.encode("ascii") + b"\r\n", more=last)

    def said(self, text: str) -> str:
        """Return a text of ours in the language of the peer."""
        return text if self.language is None else self.language(text)

    def send(self, data: Octets, *, more: bool = False) -> None:
        """Send all of `data`; raises Gone when the peer is gone or takes nothing for `idle` seconds.

        `more`: more data for the same packet follows at once.
        """
        flags = socket.MSG_MORE if more else 0
        try:
            sent = self.sock.send(data, flags)
        except BlockingIOError:
            sent = 0
        except OSError as why:
            raise _gone(why) from None
        self.bytes_out += sent
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:], flags)

    def send_parts(self, parts: Iterable[Octets | FilePart]) -> None:
        """Send all parts, octets gathered into blocks of about `SEND_BLOCK`, parts of files as they are.

        When `parts` raises, what was gathered is not sent, and the peer has an unfinished answer:
        the caller must end the connection.  Raises StoreError and OSError for a file, too, with the same consequence.
        """
        self.is_unfinished = True
        gathered: list[Octets] = []
        size = 0
        for part in parts:
            if isinstance(part, FilePart):
                if gathered:
                    self.send(b"".join(gathered), more=True)
                    gathered.clear()
                    size = 0
                self._send_file(part)
                continue
            gathered.append(part)
            size += len(part)
            if size >= SEND_BLOCK:
                self.send(part if len(gathered) == 1 else b"".join(gathered))
                gathered.clear()
                size = 0
        if gathered:
            self.send(b"".join(gathered))
        self.is_unfinished = False

    def take_buffered(self) -> bytes:
        """Return what was received and not yet read, and forget it: it belongs to the next reader."""
        rest = self._input[self._start:]
        self.discard_buffered()
        return rest

    def discard_buffered(self) -> None:
        """Forget what was received and not yet read (RFC 2595: after STLS it must not count)."""
        self._input = b""
        self._start = 0

    def close(self) -> None:
        """Close the socket; may be called twice."""
        self.sock.close()

    def linger_close(self, seconds: float = LINGER_SECONDS) -> None:
        """Close so that the peer sees the last reply even if it is still sending; may be called twice.

        A socket closed with unread input resets the connection, and the reset overtakes the
        reply.  So the writing half is closed first, and the peer has `seconds` and `LINGER_OCTETS` to
        notice.  0 is for a peer that sends nothing more, as after QUIT: only pending input is read.
        """
        try:
            self.sock.shutdown(socket.SHUT_WR)
            self._drain(time.monotonic() + seconds)
        except OSError:
            pass    # there is no peer to miss the reply
        finally:
            self.sock.close()

    def _drain(self, until: float) -> None:
        """Read and forget, up to the limits of `linger_close` or the peer's end."""
        left = LINGER_OCTETS
        while left > 0:
            try:
                data = self.sock.recv(left)
            except BlockingIOError:
                if not self._poll_for(select.POLLIN, until - time.monotonic()):
                    return
                continue
            if not data:
                return
            left -= len(data)

    def _skip_line(self) -> None:
        """Read to the end of an over-long line and forget it; raises Gone when it does not come."""
        surplus = 0
        while surplus <= MAX_SURPLUS:
            block = self._receive()
            end = block.find(b"\n")
            if end >= 0:
                self._input = block
                self._start = end + 1
                return
            surplus += len(block)
        raise Gone("endless line")

    def _receive(self, size: int = _RECEIVE) -> bytes:
        """Return what the peer sent, 1 to `size` octets; raises Gone or NulByte."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise Gone("timeout")    # also for a peer that never stops sending
        while True:
            try:
                block = self.sock.recv(size)
            except BlockingIOError:
                self.wait(select.POLLIN)
                continue
            except OSError as why:
                raise _gone(why) from None
            if not block:
                raise Gone("closed")
            if self.bytes_in < len(PROXY_V2):
                self._head = (self._head + block)[:len(PROXY_V2)]
            self.bytes_in += len(block)
            if 0 in block and not self.takes_nul:
                if PROXY_V2.startswith(self._head):
                    raise ProxyHeader
                raise NulByte(len(block), block)
            return block

    def _send_file(self, part: FilePart) -> None:
        """Send a part of a file; raises Gone, and StoreError or OSError when the file is too short or unreadable."""
        place, end = part.start, part.start + part.count
        # Over TLS it must be copied: what the kernel sends would bypass the stream.
        send_some = self._hand_over_some if isinstance(self.sock, socket.socket) else self._copy_some
        while place < end:
            sent = send_some(part.fd, place, end)
            if not sent:
                raise StoreError("file was cut off while it was sent")
            place += sent

    def _hand_over_some(self, fd: int, place: int, end: int) -> int:
        """Let the kernel send some octets of a file between `place` and `end`; return the count, 0 at its end."""
        while True:
            try:
                sent = os.sendfile(self.sock.fileno(), fd, place, end - place)
            except BlockingIOError:
                self.wait(select.POLLOUT)
            except OSError:    # of the socket or the file, or the file does not support it: copying will show
                return self._copy_some(fd, place, end)
            else:
                self.bytes_out += sent
                return sent

    def _copy_some(self, fd: int, place: int, end: int) -> int:
        """Send some octets of a file between `place` and `end`; return the count, 0 at the end of the file."""
        block = os.pread(fd, min(SEND_BLOCK, end - place), place)
        if block:
            self.send(block)
        return len(block)

    def _send_rest(self, data: memoryview, flags: int) -> None:
        """Send all of `data`, waiting for room each time."""
        while data:
            self.wait(select.POLLOUT)
            try:
                sent = self.sock.send(data, flags)
            except BlockingIOError:    # the kernel may withdraw what it announced
                continue
            except OSError as why:
                raise _gone(why) from None
            self.bytes_out += sent
            data = data[sent:]

    def wait(self, event: int) -> None:
        """Wait until the socket is ready for `event` (select.POLLIN, POLLOUT); raises Gone when a limit comes first."""
        if self._before_wait is not None:
            self._before_wait(self.bytes_in, self.bytes_out)
        idleness: Idleness | None = None
        while True:
            seconds = self.idle / LOOKS    # until the limits are checked again
            if self.deadline is not None:
                seconds = min(seconds, self.deadline - time.monotonic())
            if self._poll_for(event, seconds):
                return
            if self.deadline is not None and time.monotonic() >= self.deadline:
                raise Gone("timeout")
            if idleness is None:
                idleness = Idleness(self.idle, self.idle / LOOKS, self.sock)
            if idleness.is_over():
                raise Gone("timeout")

    def _poll_for(self, event: int, seconds: float) -> bool:
        """Tell whether `event`, or an error that the next call will raise, came within `seconds`."""
        if seconds <= 0:
            return False
        if self._poll is None:
            self._poll = select.poll()
        self._poll.register(self.sock, event)
        return bool(self._poll.poll(min(seconds, _POLL_LIMIT) * 1000))


def _gone(why: OSError) -> Gone:
    """Translate the kernel's errors of a connection; a closed descriptor is our mistake and is not translated."""
    if why.errno == errno.EBADF:
        raise why
    if isinstance(why, TimeoutError):
        return Gone("timeout")
    return Gone("closed" if why.errno == errno.EPIPE else "reset")
