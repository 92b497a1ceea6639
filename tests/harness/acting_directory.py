"""A server that acts as an LDAP directory: it gives whatever answers a test wants to see understood."""

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

BIND, SEARCH, EXTENDED = 0x61, 0x65, 0x78    # answers, by their tags (RFC 4511 section 4)
_ENTRY = b"\x64\x16\x04\x04cn=x\x30\x0e\x30\x0c\x04\x03uid\x31\x05\x04\x03joe"
_SEARCH_REQUEST = 0x63


def message(number: int, kind: int, code: int, text: str = "") -> bytes:
    """Return an answer with a result code and a text for the administrator (RFC 4511 section 4.1.9)."""
    result = bytes([0x0a, 1, code, 4, 0, 4, len(text)]) + text.encode()
    content = bytes([2, 1, number, kind, len(result)]) + result
    return bytes([0x30, len(content)]) + content


def found(number: int) -> bytes:
    """Return an entry, and the end of a search."""
    return bytes([0x30, len(_ENTRY) + 3, 2, 1, number]) + _ENTRY + message(number, SEARCH, 0)


@contextmanager
def acting(answer: Callable[[int, int, bytes], bytes]) -> Iterator[str]:
    """Yield the URI of a server that gives an `answer` to each request, which it gets with its number and kind."""
    def serve() -> None:
        talking: list[socket.socket] = []
        with ExitStack() as socks:
            while True:
                for sock in select.select([listener, end, *talking], [], [])[0]:
                    if sock is end:
                        return
                    if sock is listener:
                        talking.append(socks.enter_context(listener.accept()[0]))
                        continue
                    request = _receive(sock)
                    if not request:
                        talking.remove(sock)
                    elif request[0] == 0x30:
                        body = request[3:] if request[1] == 0x81 else request[2:]
                        with suppress(ConnectionError):    # the client has left meanwhile
                            sock.sendall(answer(body[2], body[3], request))

    own, end = socket.socketpair()
    with own, end, socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"ldap://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            own.close()
            thread.join()


def _receive(sock: socket.socket) -> bytes:
    """Return what has come; nothing at the end, however it came."""
    try:
        return sock.recv(4096)
    except ConnectionResetError:
        return b""


def directory(code: int, text: str) -> Callable[[int, int, bytes], bytes]:
    """Return the answers of a server that finds everybody, and gives a result to every bind."""
    return lambda number, kind, request: found(number) if kind == _SEARCH_REQUEST else message(number, BIND, code, text)
