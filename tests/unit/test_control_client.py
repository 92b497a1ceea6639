"""pcontrol's side of the control socket, before a daemon that is none."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from popular.control import client as module
from popular.control.client import ControlClient, NoDaemon

LIMIT = 1 << 20


class Counting(bytearray):
    """A buffer that notes how much of it is searched."""

    searched = 0

    def find(self, wanted: bytes, start: int = 0) -> int:    # type: ignore[override]
        """Note it."""
        Counting.searched += len(self) - start
        return super().find(wanted, start)


@contextmanager
def answering(folder: Path, answer: Callable[[], Iterator[bytes]]) -> Iterator[ControlClient]:
    """Connect to somebody who answers so."""
    path = str(folder / "it.ctrl")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                try:
                    for block in answer():
                        sock.sendall(block)
                except OSError:    # the client has had enough
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with ControlClient(path, patience=20.0) as client:
                yield client
        finally:
            thread.join(20.0)


@pytest.mark.parametrize(("limit", "block"), [
    pytest.param("MAX_ANSWER", b"x" * 65536, id="one line"),
    pytest.param("MAX_ANSWER", b"xyz\n" * 16384, id="lines"),
    pytest.param("MAX_ANSWER_LINES", b"\n" * 65536, id="empty lines"),
])
def test_an_answer_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str,
                                                 block: bytes) -> None:
    monkeypatch.setattr(module, limit, LIMIT)
    with answering(tmp_path, lambda: iter([block] * (4 * LIMIT // len(block)))) as client:
        with pytest.raises(NoDaemon, match="the answer does not end"):
            client.ask("show")


def test_no_octet_of_a_long_line_is_searched_twice(tmp_path: Path) -> None:
    def answer() -> Iterator[bytes]:
        yield from [b"x" * 4096] * (LIMIT // 4096)
        yield b"\n+OK\n"

    with answering(tmp_path, answer) as client:
        client._buffer = Counting()
        Counting.searched = 0
        reply = client.ask("show")
    assert (reply.ok, len(reply.lines[0])) == (True, LIMIT)
    assert Counting.searched < 2 * LIMIT


def test_the_limit_is_of_one_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER", 130_000)
    with answering(tmp_path, lambda: iter([b"x" * 60_000 + b"\n+OK\n"] * 5)) as client:
        assert all(client.ask("show").ok for _ in range(5))
