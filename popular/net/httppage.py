"""One page over HTTP, for collectors of metrics: GET and HEAD of one path, and nothing else.

Runs in the separate process that serves metrics.  Clients are hostile: each has `VISIT_SECONDS` for everything, and
its request may have `MAX_HTTP_REQUEST` octets.  At most `MAX_VISITS` of them are served at once.  One more replaces
the oldest that has not sent its request, or else the oldest, so silent clients cannot keep others out.  Invalid
requests get a bare error, and every connection is closed after its answer.  Raises nothing but what `page` raises.
"""

import errno
import re
import select
import socket
import time
from collections.abc import Callable, Sequence

MAX_VISITS = 64            # connections at once
MAX_HTTP_REQUEST = 4096    # octets of a request line and its headers
MAX_REST = 65536           # octets that a client may send after its request; they are ignored
VISIT_SECONDS = 5.0        # for request, answer and close
DEAF_SECONDS = 1.0         # seconds without accepting, when the system has refused a connection

_BLOCK = 4096
_END = re.compile(rb"\r?\n\r?\n")
_REQUEST = re.compile(rb"([A-Z]{1,16}) (/[!-~]*) HTTP/1\.[0-9]", re.ASCII)
_CLOSED = (errno.EINVAL, errno.EBADF, errno.ENOTSOCK)    # shut down by the master

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
            431: "Request Header Fields Too Large", 503: "Service Unavailable"}


class PageServer:
    """Serves one page on a listener until it is asked to leave."""

    def __init__(self, sock: socket.socket, path: str, content_type: str, page: Callable[[], bytes | None],
                 wake_fds: Sequence[int], is_retiring: Callable[[], bool]) -> None:
        """Serve what `page` returns as `path`, 503 for None; ask whether to leave when a wake fd is readable."""
        self._sock = sock
        self._path = path.encode("ascii")
        self._type = content_type
        self._page = page
        self._wake_fds = wake_fds
        self._is_retiring = is_retiring
        self._visits: dict[int, _Visit] = {}
        self._deaf_until = 0.0    # monotonic: when to accept again

    def run(self) -> None:
        """Serve; when asked to leave, close the listener, finish the visits that have begun, and return."""
        is_leaving = False
        while not is_leaving or self._visits:
            ready = self._wait(is_leaving)
            is_leaving = is_leaving or self._is_retiring()
            for fd in ready & self._visits.keys():
                self._attend(self._visits[fd])
            if self._sock.fileno() in ready and not is_leaving:
                is_leaving = not self._accept()
            if is_leaving:
                self._sock.close()    # another process may want the port
            for visit in [visit for visit in self._visits.values() if time.monotonic() >= visit.deadline]:
                self._part(visit)

    def _wait(self, is_leaving: bool) -> set[int]:
        """Wait until there is something to do; returns the descriptors that are ready."""
        poll = select.poll()
        now = time.monotonic()
        moments = [visit.deadline for visit in self._visits.values()]
        for fd, visit in self._visits.items():
            poll.register(fd, select.POLLOUT if visit.answer else select.POLLIN)
        if not is_leaving:
            for fd in self._wake_fds:
                poll.register(fd, select.POLLIN)
            if now < self._deaf_until:
                moments.append(self._deaf_until)
            else:
                poll.register(self._sock.fileno(), select.POLLIN)
        patience = max(0.0, min(moments) - now) * 1000 + 1 if moments else None
        return {fd for fd, _ in poll.poll(patience)}

    def _accept(self) -> bool:
        """Take one connection; False when no more will come."""
        try:
            sock, _ = self._sock.accept()
        except BlockingIOError:    # gone again, or another process was quicker
            return True
        except OSError as why:
            self._deaf_until = time.monotonic() + DEAF_SECONDS
            return why.errno not in _CLOSED
        sock.setblocking(False)
        if len(self._visits) >= MAX_VISITS:    # they are in the order of their arrival
            visits = list(self._visits.values())
            self._part(next((visit for visit in visits if not visit.answer), visits[0]))
        visit = self._visits[sock.fileno()] = _Visit(sock, time.monotonic() + VISIT_SECONDS)
        self._attend(visit)    # one that has sent its request is safe from the next one
        return True

    def _attend(self, visit: "_Visit") -> None:
        """Continue a visit as far as possible without waiting."""
        try:
            if not visit.answer:
                visit.receive()
                if visit.is_done:
                    self._part(visit)
                    return
                visit.answer = b"" if visit.is_answered else self._reply(bytes(visit.request))
            visit.send()
        except BlockingIOError:
            pass
        except OSError:    # gone
            self._part(visit)

    def _reply(self, request: bytes) -> bytes:
        """Return the answer, empty as long as the request is incomplete."""
        end = _END.search(request)
        if (len(request) if end is None else end.start()) > MAX_HTTP_REQUEST:
            return _bare(431)
        if end is None:
            return b""
        found = _REQUEST.fullmatch(request.partition(b"\n")[0].removesuffix(b"\r"))
        if found is None or b"\0" in request[:end.start()]:
            return _bare(400)
        if found[2].partition(b"?")[0] != self._path:
            return _bare(404)
        if found[1] not in (b"GET", b"HEAD"):
            return _bare(405, "Allow: GET, HEAD\r\n")
        page = self._page()
        if page is None:
            return _bare(503)
        return _head(200, len(page), f"Content-Type: {self._type}\r\n") + (page if found[1] == b"GET" else b"")

    def _part(self, visit: "_Visit") -> None:
        del self._visits[visit.sock.fileno()]
        visit.sock.close()


class _Visit:
    """One connection: a request comes, an answer goes, and the client closes."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline     # monotonic
        self.request = bytearray()
        self.answer = b""            # what is still to be sent
        self.is_answered = False     # input is now discarded: closing with unread input could lose the answer
        self.is_done = False         # the client has closed, or sends too much
        self._rest = 0

    def receive(self) -> None:
        block = self.sock.recv(_BLOCK)
        if self.is_answered:
            self._rest += len(block)
        else:
            self.request += block
        self.is_done = not block or self._rest > MAX_REST

    def send(self) -> None:
        if self.answer:
            self.answer = self.answer[self.sock.send(self.answer):]
            if not self.answer:
                self.is_answered = True
                self.sock.shutdown(socket.SHUT_WR)


def _bare(code: int, more: str = "") -> bytes:
    return _head(code, 0, more)


def _head(code: int, length: int, more: str = "") -> bytes:
    return f"HTTP/1.1 {code} {_REASONS[code]}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n".encode()
