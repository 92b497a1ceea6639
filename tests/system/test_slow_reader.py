"""A client that takes its mail slowly and steadily: neither server nor proxy gives it up."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient
from tests.harness.proxy import PASSWORD, XENIA, StartProxy, store

IDLE = "600ms"
PIECE = 32 * 1024
PIECES = 60            # read slowly: 1.9 MiB in six idle times
PAUSE = 0.06           # seconds between two pieces
MESSAGE = (b"0123456789abcdef" * 4 + b"\r\n") * 100_000    # 6.6 MB, more than all buffers on the way hold


def took(client: PopClient, size: int) -> bytes:
    """Return some octets that came."""
    found = client.sock.recv(size)
    assert found, "cut off"
    return found


@pytest.mark.parametrize("way", ["pserv", "pproxy"])
def test_a_slow_but_steady_reader_gets_all(start: Callable[..., Daemon], proxy: StartProxy, spool: Path,
                                           make_mailbox: Callable[..., Path], pop: Callable[..., PopClient],
                                           way: str) -> None:
    make_mailbox("x/xenia", new=[MESSAGE])
    pserv = start("pserv", {"pserv": {"mailboxdir": spool, "idletimeout": IDLE},
                            "server": {"main": {"address": "127.0.0.1:0"}}})
    if way == "pserv":
        client = pop(pserv.endpoint())
        client.xpop("x/xenia")
    else:
        client = pop(proxy(store(pserv.endpoint()), idletimeout=IDLE).endpoint())
        client.login(XENIA, PASSWORD)
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
    client.send(b"RETR 1\r\n")
    pause = threading.Event()
    found = b""
    for _ in range(PIECES):
        found += took(client, PIECE)
        pause.wait(PAUSE)
    while not found.endswith(b"\r\n.\r\n"):
        found += took(client, 1 << 20)
    client.ok("QUIT")
    assert found.partition(b"\r\n")[2] == MESSAGE + b".\r\n"
