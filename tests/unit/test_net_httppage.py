"""One page over HTTP, and what hostile clients get: on a real listener, the server in a thread."""

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from popular.addresses import Endpoint
from popular.net import httppage
from popular.net.httppage import MAX_HTTP_REQUEST, MAX_REST, MAX_VISITS, PageServer
from popular.net.listen import bind_tcp, bound_endpoint
from tests.harness.metrics import get
from tests.harness.system import wait_for
from tests.harness.toyclient import is_refused

PAGE = b"x 1\n" * 100
GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


class Site:
    """A server in a thread."""

    def __init__(self, wrap: Callable[[socket.socket], Any]) -> None:
        self.page: bytes | None = PAGE
        sock = bind_tcp(Endpoint("127.0.0.1", 0), 64)
        self.endpoint = bound_endpoint(sock)
        self.sock = wrap(sock)
        self._wake, self._alarm = os.pipe()
        self._is_leaving = False
        server = PageServer(self.sock, "/metrics", "text/x", lambda: self.page, [self._wake],
                            lambda: self._is_leaving)
        self.thread = threading.Thread(target=server.run)
        self.thread.start()

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection((self.endpoint.host, self.endpoint.port), 10.0)

    def ask(self, request: bytes) -> bytes:
        """Send octets, and return all that comes."""
        with self.connect() as sock:
            sock.sendall(request)
            return read_all(sock)

    def leave(self) -> None:
        """Tell the server to leave."""
        self._is_leaving = True
        os.write(self._alarm, b".")

    def close(self) -> None:
        """End everything."""
        self.leave()
        self.thread.join(10.0)
        assert not self.thread.is_alive()
        for fd in (self._wake, self._alarm):
            os.close(fd)
        self.sock.close()


@pytest.fixture
def make_site() -> Iterator[Callable[..., Site]]:
    """A function that starts a server; it ends with the test."""
    sites: list[Site] = []

    def make(wrap: Callable[[socket.socket], Any] = lambda sock: sock) -> Site:
        sites.append(Site(wrap))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    """A server."""
    return make_site()


def read_all(sock: socket.socket) -> bytes:
    found = b""
    while block := sock.recv(65536):
        found += block
    return found


def is_closed(sock: socket.socket) -> bool:
    """Tell whether the other side has closed, although we have not read everything."""
    try:
        sock.send(b"x")
    except OSError:
        return True
    return False


def status(answer: bytes) -> int:
    """Return the status of an answer whose head is as it should be, and that has a body only with 200."""
    head, end, body = answer.partition(b"\r\n\r\n")
    assert end and b"\r\nConnection: close" in head
    code = int(head.split()[1])
    assert code == 200 or body == b"" and b"Content-Length: 0" in head
    return code


def test_get_and_head(site: Site) -> None:
    for _ in range(3):
        code, headers, body = get(site.endpoint)
        assert (code, body, headers["content-type"]) == (200, PAGE, "text/x")
        assert headers["content-length"] == str(len(PAGE))
    code, headers, body = get(site.endpoint, method="HEAD")
    assert (code, body, headers["content-length"]) == (200, b"", str(len(PAGE)))


@pytest.mark.parametrize(("request_", "wanted"), [
    pytest.param(GET, 200, id="as it should be"),
    pytest.param(b"GET /metrics HTTP/1.0\n\n", 200, id="old and by hand"),
    pytest.param(b"GET /metrics?x=/y HTTP/1.1\r\n\r\n", 200, id="a query"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", 404, id="another path"),
    pytest.param(b"GET /metrics/ HTTP/1.1\r\n\r\n", 404, id="a path below"),
    pytest.param(b"GET /../metrics HTTP/1.1\r\n\r\n", 404, id="dots"),
    pytest.param(b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405, id="post"),
    pytest.param(b"get /metrics HTTP/1.1\r\n\r\n", 400, id="a method in small letters"),
    pytest.param(b"GET metrics HTTP/1.1\r\n\r\n", 400, id="no path"),
    pytest.param(b"GET http://x/metrics HTTP/1.1\r\n\r\n", 400, id="a proxy's request"),
    pytest.param(b"GET  /metrics HTTP/1.1\r\n\r\n", 400, id="two spaces"),
    pytest.param(b"GET /metrics\r\n\r\n", 400, id="HTTP/0.9"),
    pytest.param(b"GET /metrics HTTP/2\r\n\r\n", 400, id="HTTP/2"),
    pytest.param(b"GET /metr\0ics HTTP/1.1\r\n\r\n", 400, id="NUL in the path"),
    pytest.param(b"GET /metrics HTTP/1.1\r\nX: \0\r\n\r\n", 400, id="NUL in a header"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\n\n", 400, id="TLS"),
    pytest.param(b"\r\n\r\n", 400, id="nothing"),
    pytest.param(GET + b"garbage" * 1000, 200, id="more behind it"),
    pytest.param(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * (MAX_HTTP_REQUEST - 26) + b"\r\n\r\n", 200, id="long enough"),
    pytest.param(b"GET /metrics HTTP/1.1\r\nX: " + b"x" * (MAX_HTTP_REQUEST - 25) + b"\r\n\r\n", 431, id="too long"),
    pytest.param(b"x" * (MAX_HTTP_REQUEST + 1), 431, id="too long and no end"),
])
def test_requests(site: Site, request_: bytes, wanted: int) -> None:
    answer = site.ask(request_)
    assert status(answer) == wanted
    assert answer.endswith(PAGE) is (wanted == 200)
    assert (b"Allow: GET, HEAD\r\n" in answer) is (wanted == 405)


def test_without_a_page(site: Site) -> None:
    site.page = None
    assert status(site.ask(GET)) == 503


def test_a_request_may_come_in_pieces(site: Site) -> None:
    with site.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for place in range(len(GET)):
            sock.sendall(GET[place:place + 1])
        assert status(read_all(sock)) == 200


def test_a_large_page_goes_to_a_slow_reader(site: Site) -> None:
    site.page = os.urandom(8 << 20)
    with site.connect() as slow:
        slow.sendall(GET)
        assert get(site.endpoint)[2] == site.page, "meanwhile others are served"
        assert read_all(slow).endswith(site.page)


def test_who_says_nothing_is_dropped_and_others_are_served(make_site: Callable[..., Site],
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httppage, "VISIT_SECONDS", 3.0)
    site = make_site()
    silent = [site.connect() for _ in range(3)]
    silent[0].sendall(GET[:-1])
    assert get(site.endpoint)[0] == 200
    assert not select.select(silent, [], [], 0)[0], "they still have time"
    for sock in silent:
        assert sock.recv(1) == b""
        sock.close()


def test_many_who_say_nothing_keep_nobody_out(make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest of them goes for each one more; so nobody waits for their time to be over."""
    monkeypatch.setattr(httppage, "VISIT_SECONDS", 60.0)
    site = make_site()
    with ExitStack() as stack:
        reader = stack.enter_context(site.connect())
        site.page = bytes(8 << 20)
        reader.sendall(GET)
        assert reader.recv(1) == b"H"
        site.page = PAGE
        silent = [stack.enter_context(site.connect()) for _ in range(4 * MAX_VISITS)]
        for _ in range(3):
            assert get(site.endpoint)[0] == 200
        wait_for(lambda: is_closed(silent[0]), 10.0, "the end of the oldest")
        silent[-1].sendall(GET)
        assert status(read_all(silent[-1])) == 200, "the youngest may still ask"
        assert read_all(reader).count(b"\0") == 8 << 20, "who is being answered is spared"


def test_when_all_are_slow_to_read_the_oldest_goes(make_site: Callable[..., Site],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httppage, "VISIT_SECONDS", 60.0)
    site = make_site()
    site.page = bytes(1 << 20)
    with ExitStack() as stack:
        slow = [stack.enter_context(site.connect()) for _ in range(MAX_VISITS)]
        for sock in slow:
            sock.sendall(GET)
            assert sock.recv(1) == b"H"
        assert get(site.endpoint, "/")[0] == 404
        wait_for(lambda: is_closed(slow[0]), 10.0, "the end of the oldest")
        assert not is_closed(slow[1])


def test_who_does_not_read_is_dropped(make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httppage, "VISIT_SECONDS", 0.3)
    site = make_site()
    site.page = bytes(64 << 20)
    with site.connect() as sock:
        sock.sendall(GET)
        assert get(site.endpoint, "/")[0] == 404
        wait_for(lambda: is_closed(sock), 10.0, "the server to close")


def test_who_talks_and_talks_is_dropped(site: Site) -> None:
    with site.connect() as sock, pytest.raises(OSError):
        sock.sendall(GET)
        for _ in range(100):
            sock.sendall(b"x" * MAX_REST)


def test_clients_that_reset_do_no_harm(site: Site) -> None:
    site.page = bytes(1 << 20)
    for request in (b"", GET[:9], GET):
        with site.connect() as sock:
            sock.sendall(request)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert get(site.endpoint)[0] == 200


def test_a_visit_that_has_begun_is_ended_at_the_end(site: Site) -> None:
    with site.connect() as sock:
        sock.sendall(GET[:-1])
        assert get(site.endpoint)[0] == 200, "so the first was accepted, too"
        site.leave()
        wait_for(lambda: is_refused(site.endpoint), 5.0, "the port")
        sock.sendall(GET[-1:])
        assert status(read_all(sock)) == 200
    site.thread.join(10.0)
    assert not site.thread.is_alive()


def test_it_ends_when_its_listener_is_shut_down(site: Site) -> None:
    site.sock.shutdown(socket.SHUT_RDWR)
    site.thread.join(10.0)
    assert not site.thread.is_alive()


class Short:
    """A listener that cannot accept once."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._failures = [OSError(errno.EMFILE, "Too many open files")]
        self.fileno, self.close, self.shutdown = sock.fileno, sock.close, sock.shutdown

    def accept(self) -> tuple[socket.socket, object]:
        """Accept, or raise what is still to be raised."""
        if self._failures:
            raise self._failures.pop()
        return self._sock.accept()


def test_a_shortage_is_waited_for(make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httppage, "DEAF_SECONDS", 0.3)
    site = make_site(Short)
    began = time.monotonic()
    assert get(site.endpoint)[0] == 200
    assert time.monotonic() - began >= 0.25
