"""How the relay moves much: through a pipe in the kernel, which is there only while it is needed."""

import errno
import fcntl
import os
from collections.abc import Callable, Iterator

import pytest

from popular.net.relay import pipe as pipe_module
from popular.net.relay import pair as relay_module
from popular.net.relay.pair import RelayEnd
from popular.net.relay.pipe import Pipe
from tests.harness.middle import Middle, in_thread
from tests.harness.pairs import PATIENCE, read_all, read_exactly, reset, tcp_pair
from tests.harness.system import wait_for

SHORT = 0.05    # seconds: a real limit that must pass
MIB = 1024 * 1024


@pytest.fixture
def middle() -> Iterator[Middle]:
    """Connections, and a relay to be started between them."""
    with tcp_pair() as (to_client, client), tcp_pair() as (to_server, server):
        middle = Middle(client, server, to_client, to_server)
        yield middle
        middle.close()


def no_pipe() -> Pipe:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def no_larger_pipe(fd: int, command: int, size: int) -> int:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def refusing(to_pipe: bool) -> Callable[..., int]:
    """Return a splice that cannot be done with the sockets on one side of a pipe."""
    splice = os.splice

    def refuse(source: int, sink: int, count: int, *, flags: int) -> int:
        if to_pipe == (count == pipe_module.MOST):    # so much is asked for only of a source
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return splice(source, sink, count, flags=flags)

    return refuse


@pytest.mark.parametrize(("owner", "name", "value"), [
    pytest.param(relay_module, "Pipe", no_pipe, id="no pipe left"),
    pytest.param(fcntl, "fcntl", no_larger_pipe, id="no larger pipe left"),
    pytest.param(os, "splice", refusing(True), id="source cannot be spliced"),
    pytest.param(os, "splice", refusing(False), id="sink cannot be spliced"),
    pytest.param(relay_module, "BURST", 1, id="each block in turn"),
    pytest.param(pipe_module, "MOST", 1000, id="small pieces"),
])
def test_every_way_to_move_much(middle: Middle, monkeypatch: pytest.MonkeyPatch, owner: object, name: str,
                                value: object) -> None:
    up, down = os.urandom(3 * MIB), os.urandom(3 * MIB)
    monkeypatch.setattr(owner, name, value)
    middle.start(to_server=up[:100_000], to_client=down[:1000])
    senders = [in_thread(lambda: middle.client.sendall(up[100_000:])),
               in_thread(lambda: middle.server.sendall(down[1000:]))]
    received: list[bytes] = []
    reader = in_thread(lambda: received.append(read_exactly(middle.server, len(up))))
    assert read_exactly(middle.client, len(down)) == down
    for thread in (*senders, reader):
        thread.join()
    assert received == [up]
    middle.server.close()
    assert middle.end() == RelayEnd(len(up), len(down), "server closed")


def test_a_pipe_that_cannot_be_as_large_as_it_should_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(fcntl, "fcntl", no_larger_pipe)
    with pytest.raises(PermissionError):
        Pipe()
    assert os.listdir("/proc/self/fd") == before


class CountedPipe(Pipe):
    """A pipe that is counted while it is open."""

    made = 0
    open = 0

    def __init__(self) -> None:
        super().__init__()
        CountedPipe.made += 1
        CountedPipe.open += 1

    def close(self) -> None:
        super().close()
        CountedPipe.open -= 1


@pytest.fixture
def pipes(monkeypatch: pytest.MonkeyPatch) -> type[CountedPipe]:
    """Count the relay's pipes."""
    monkeypatch.setattr(relay_module, "Pipe", CountedPipe)
    monkeypatch.setattr(CountedPipe, "made", 0)
    monkeypatch.setattr(CountedPipe, "open", 0)
    return CountedPipe


def test_lines_need_no_pipe(middle: Middle, pipes: type[CountedPipe]) -> None:
    middle.start()
    for _ in range(3):
        middle.client.sendall(b"STAT\r\n")
        assert read_exactly(middle.server, 6) == b"STAT\r\n"
        middle.server.sendall(b"x" * 10_000)
        assert read_exactly(middle.client, 10_000) == b"x" * 10_000
    assert pipes.made == 0


def test_the_pipe_goes_when_nothing_moves_and_comes_again(middle: Middle, pipes: type[CountedPipe],
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "KEEP_PIPE", SHORT)
    middle.start()
    for turn in (1, 2):
        sender = in_thread(lambda: middle.server.sendall(b"m" * MIB))
        assert read_exactly(middle.client, MIB) == b"m" * MIB
        sender.join()
        wait_for(lambda: not pipes.open, PATIENCE, "the end of the pipe")
        assert pipes.made == turn
    middle.client.sendall(b"QUIT\r\n")
    assert read_exactly(middle.server, 6) == b"QUIT\r\n"


@pytest.mark.parametrize("end", ["server closes", "client resets", "idle"])
def test_no_pipe_stays_open_at_the_end(middle: Middle, pipes: type[CountedPipe], end: str) -> None:
    middle.start(idle=4 * SHORT if end == "idle" else PATIENCE)
    failed: list[OSError] = []

    def send() -> None:
        try:
            middle.server.sendall(b"m" * 20 * MIB)
            middle.server.close()
        except OSError as why:
            failed.append(why)

    sender = in_thread(send)
    read_exactly(middle.client, MIB)
    if end == "client resets":
        reset(middle.client)
    elif end == "server closes":
        assert len(read_all(middle.client)) == 19 * MIB
    middle.end()
    sender.join()
    assert (pipes.made > 0, pipes.open) == (True, 0)
