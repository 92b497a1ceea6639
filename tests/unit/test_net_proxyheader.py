"""A header of the PROXY protocol is known in whatever pieces it comes, in clear, under TLS and before a preamble."""

import ssl
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from popular.errors import ProxyHeader
from popular.net.tls.stream import TlsStream
from popular.net.transport import Stream, is_proxy_header
from popular.net.wire import Wire
from popular.pop3.authorization import AuthorizationState
from popular.pop3.dialogue import Dialogue
from popular.pop3.xpop import read_preamble
from tests.system.test_proxy_protocol import V1, V2


class Pieces:
    """A peer that sends its octets in pieces of some size, and takes whatever it is sent."""

    def __init__(self, octets: bytes, size: int) -> None:
        self._pieces: Iterator[bytes] = (octets[start:start + size] for start in range(0, len(octets), size))

    def recv(self, size: int) -> bytes:
        """Return the next piece."""
        return next(self._pieces)

    def send(self, data: bytes, flags: int = 0) -> int:
        """Take all."""
        return len(data)


def in_clear(peer: Stream) -> None:
    """Speak POP3."""
    Dialogue(Wire(peer, idle=1), maxerrors=25).run(AuthorizationState(Wire(peer, idle=1), ()))


def before_a_preamble(peer: Stream) -> None:
    """Speak XPOP."""
    read_preamble(Wire(peer, idle=1))


def under_tls(peer: Stream) -> None:
    """Shake hands."""
    stream = TlsStream(peer, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), server_side=True)
    while True:
        try:
            stream.handshake()
        except BlockingIOError:    # what comes next is there
            pass


@pytest.mark.parametrize("size", [1, 4, 5, 11, 100])
@pytest.mark.parametrize("header", [V1, V2], ids=["version 1", "version 2"])
@pytest.mark.parametrize("speak", [in_clear, before_a_preamble, under_tls])
def test_a_header_in_pieces(speak: Callable[[Stream], None], header: bytes, size: int) -> None:
    if (speak, header) == (before_a_preamble, V2):    # an empty line, with which it begins, is refused when it is there
        size = max(size, 5)
    with pytest.raises(ProxyHeader):
        speak(cast(Stream, Pieces(header, size)))


@pytest.mark.parametrize("octets, is_one", [
    (V1, True), (V1.lower(), True), (V2, True), (b"PROXY", False), (V2[:11], False), (b"\x16\x03\x01", False),
    (b"", False)])
def test_what_a_header_is(octets: bytes, is_one: bool) -> None:
    assert is_proxy_header(octets) is is_one
