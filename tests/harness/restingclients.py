"""Many POP3 clients in a process of their own, for tests under load: they log in and rest, then all fetch a message.

    restingclients.py HOST PORT SOURCE COUNT USER PASSWORD

It says `ready` when all have logged in, reads a line, has all of them fetch a message at once, says how many got the
whole of it and after how many seconds, and reads another line before it ends.
"""

import selectors
import socket
import sys
import time

from tests.harness.stubstore import MESSAGE

_ANSWER = b"+OK\r\n" + MESSAGE + b".\r\n"


def log_in(address: tuple[str, int], source: str, user: str, password: str) -> socket.socket:
    """Return a connection that has logged in."""
    sock = socket.create_connection(address, 120.0, (source, 0))
    for line in (b"", b"USER %s\r\n" % user.encode(), b"PASS %s\r\n" % password.encode()):
        sock.sendall(line)
        answer = b""
        while not answer.endswith(b"\n"):
            answer += sock.recv(4096) or b"-closed\n"
        if not answer.startswith(b"+OK"):
            raise SystemExit(f"{answer!r}")
    return sock


def fetch(socks: list[socket.socket]) -> int:
    """Have all fetch a message; return how many got it."""
    selector, missing, whole = selectors.DefaultSelector(), len(socks), 0
    answers = {sock: b"" for sock in socks}
    for sock in socks:
        sock.sendall(b"RETR 1\r\n")
        selector.register(sock, selectors.EVENT_READ)
    while missing:
        for key, _ in selector.select():
            assert isinstance(key.fileobj, socket.socket)
            data = key.fileobj.recv(65536)
            answers[key.fileobj] += data
            if not data or len(answers[key.fileobj]) >= len(_ANSWER):
                selector.unregister(key.fileobj)
                missing -= 1
                whole += answers[key.fileobj] == _ANSWER
    selector.close()
    return whole


def main(host: str, port: str, source: str, count: str, user: str, password: str) -> None:
    """Do it."""
    socks = [log_in((host, int(port)), source, user, password) for _ in range(int(count))]
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    print(fetch(socks), time.monotonic() - began, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
