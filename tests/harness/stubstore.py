"""A tiny store that speaks XPOP with any number of proxies at once: everybody has one message.

In a thread of a test, or as a program of its own for tests under load: its port is the first line of its output.
"""

import selectors
import socket
import threading
from types import TracebackType

from popular.addresses import Endpoint

MESSAGE = b"Subject: x\r\n\r\n" + b"All work and no play makes a dull test.\r\n" * 40
LOGIN_LINES = 3

_ANSWERS = {
    b"NOOP": b"+OK\r\n",
    b"STAT": b"+OK 1 %d\r\n" % len(MESSAGE),
    b"RETR": b"+OK\r\n" + MESSAGE + b".\r\n",
    b"QUIT": b"+OK bye\r\n",
    b"FLOOD": b"m" * 50_000_000,    # for a client that does not read
}


class StubStore:
    """Serves until it is closed."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self._listener.setblocking(False)
        self.endpoint = Endpoint("127.0.0.1", self._listener.getsockname()[1])
        self.heard: list[bytes] = []    # lines after the logins
        self._waker, self._wake = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._waker, selectors.EVENT_READ)
        self._lines: dict[socket.socket, int] = {}     # lines that came over each connection
        self._input: dict[socket.socket, bytes] = {}
        self._output: dict[socket.socket, memoryview] = {}
        self._thread = threading.Thread(target=self.run, name="stub-store")

    def __enter__(self) -> "StubStore":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._wake.send(b"x")
        self._thread.join()
        for sock in (*self._lines, self._listener, self._wake, self._waker):
            sock.close()
        self._selector.close()

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._lines)

    def run(self) -> None:
        """Serve."""
        while True:
            for key, mask in self._selector.select():
                if key.fileobj is self._waker:
                    return
                if key.fileobj is self._listener:
                    self._accept()
                    continue
                assert isinstance(key.fileobj, socket.socket)
                try:
                    if mask & selectors.EVENT_READ:
                        self._read(key.fileobj)
                    if key.fileobj in self._output:
                        self._write(key.fileobj)
                except OSError:
                    self._drop(key.fileobj)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        self._lines[sock], self._input[sock] = 0, b""
        self._selector.register(sock, selectors.EVENT_READ)

    def _read(self, sock: socket.socket) -> None:
        data = sock.recv(65536)
        if not data:
            raise OSError("it has closed")
        *lines, self._input[sock] = (self._input[sock] + data).split(b"\r\n")
        for line in lines:
            self._lines[sock] += 1
            if self._lines[sock] < LOGIN_LINES:
                continue
            if self._lines[sock] == LOGIN_LINES:
                answer = b"+OK 1 message\r\n"
            else:
                self.heard.append(line)
                answer = _ANSWERS.get(line.partition(b" ")[0], b"-ERR\r\n")
            self._output[sock] = memoryview(bytes(self._output.get(sock, b"")) + answer)

    def _write(self, sock: socket.socket) -> None:
        rest = self._output.pop(sock)
        try:
            rest = rest[sock.send(rest):]
        except BlockingIOError:
            pass
        if rest:
            self._output[sock] = rest
            self._selector.modify(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
            return
        self._selector.modify(sock, selectors.EVENT_READ)
        if self._lines[sock] > LOGIN_LINES and self.heard[-1] == b"QUIT":
            raise OSError("it has said QUIT")

    def _drop(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        sock.close()
        del self._lines[sock], self._input[sock]
        self._output.pop(sock, None)


if __name__ == "__main__":
    store = StubStore()
    print(store.endpoint.port, flush=True)
    store.run()
