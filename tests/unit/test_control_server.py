"""The control socket, driven turn by turn in this process: limits, hostile clients, late answers, stale sockets."""

import os
import select
import socket
import stat
import time
from collections.abc import Iterator

import pytest

from popular.control import connection as connection_module
from popular.control import server as server_module
from popular.control.answer import ControlAnswer
from popular.control.client import ControlClient, NoDaemon
from popular.control.grammar import MAX_COMMAND_LINE
from popular.control.place import MAX_PATH, Place
from popular.control.server import MAX_CONNECTIONS, ControlServer
from popular.errors import StartError
from popular.proc.watch import Watch
from popular.unix.descriptors import MastersOwn
from popular.unix.rights import Peer


class Later:
    """An answer that comes when the test says so."""

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.answer: ControlAnswer | None = None
        self.is_abandoned = False

    def look(self) -> ControlAnswer | None:
        """Return the answer if it is there."""
        return self.answer

    def give_up(self) -> ControlAnswer:
        """Say that it took too long."""
        return ControlAnswer(False, "too late")

    def abandon(self) -> bool:
        """Note it."""
        self.is_abandoned = True
        return True


class Served:
    """A server with a loop that the test turns."""

    def __init__(self, folder: str) -> None:
        self.own = MastersOwn()
        self.watch = Watch(self.own)
        self.lines: list[str] = []
        self.strangers: list[Peer] = []
        self.children: list[int] = []
        self.later = Later(60.0)
        self.place = Place(folder, "pproxy")
        self.server = ControlServer(self.place, self.watch, self.obey, self.strangers.append,
                                    self.children.append)
        self.server.open()
        self.clients: list[socket.socket] = []

    def obey(self, line: str, peer: Peer) -> ControlAnswer | Later:
        """Answer one line."""
        self.lines.append(line)
        match line.split():
            case ["later"]:
                return self.later
            case ["big", size]:
                return ControlAnswer(True, "", ("x" * 1000,) * int(size))
        return ControlAnswer(True, line)

    def connect(self) -> socket.socket:
        """Return a client's end; it never blocks for long."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(5)
        client.connect(self.place.link)
        self.clients.append(client)
        self.turn()
        return client

    def turn(self, times: int = 3) -> None:
        """Let the master do what there is to do."""
        for _ in range(times):
            self.watch.wait(0)
            self.server.attend()

    def say(self, client: socket.socket, octets: bytes) -> None:
        """Send octets and let them be obeyed."""
        client.sendall(octets)
        self.turn()

    def close(self) -> None:
        """End everything."""
        self.server.close()
        for client in self.clients:
            client.close()


@pytest.fixture
def served(rundir) -> Iterator[Served]:
    """A server in a folder of its own."""
    served = Served(str(rundir))
    yield served
    served.close()


def heard(client: socket.socket) -> bytes:
    """Return what waits for a client, without waiting longer; the end is told by `<end>`."""
    told = b""
    while select.select([client], [], [], 0)[0]:
        try:
            block = client.recv(1 << 20)
        except ConnectionResetError:
            return told + b"<reset>"
        if not block:
            return told + b"<end>"
        told += block
    return told


def test_spec_0_4_the_socket_has_the_pid_in_its_name_and_a_link(served, rundir):
    name = f"pproxy.{os.getpid()}.ctrl"
    assert sorted(os.listdir(rundir)) == sorted([name, "pproxy.ctrl"])
    assert os.readlink(rundir / "pproxy.ctrl") == name
    assert stat.S_IMODE(os.stat(rundir / name).st_mode) & 0o077 == 0
    served.close()
    assert os.listdir(rundir) == []


@pytest.mark.parametrize(("said", "told"), [
    pytest.param(b"one\n", b"+OK one\n", id="a line"),
    pytest.param(b"one\r\n", b"+OK one\n", id="CRLF"),
    pytest.param(b"one\ntwo\nthree\n", b"+OK one\n+OK two\n+OK three\n", id="pipelined"),
    pytest.param(b"\n", b"+OK\n", id="empty"),
    pytest.param(b"on", b"", id="half a line"),
    pytest.param(b"a\0b\n", b"-ERR a line must have no control characters\n", id="NUL"),
    pytest.param(b"a\x1bb\n", b"-ERR a line must have no control characters\n", id="escape"),
    pytest.param(b"a\xffb\n", b"-ERR a line must be UTF-8\n", id="no UTF-8"),
    pytest.param(b"x" * MAX_COMMAND_LINE + b"\n", b"+OK " + b"x" * MAX_COMMAND_LINE + b"\n", id="the longest"),
    pytest.param(b"x" * (MAX_COMMAND_LINE + 1) + b"\n", b"-ERR a line has at most 20000 octets\n<end>", id="too long"),
])
def test_lines_are_answered(served, said, told):
    client = served.connect()
    served.say(client, said)
    assert heard(client) == told


def test_a_line_may_come_octet_by_octet(served):
    client = served.connect()
    for octet in b"abc\n":
        served.say(client, bytes((octet,)))
    assert heard(client) == b"+OK abc\n"


def test_an_endless_line_ends_the_connection(served):
    client = served.connect()
    served.say(client, b"x" * 100_000)
    assert heard(client).startswith(b"-ERR a line has at most 20000 octets\n<")
    assert served.lines == []


def test_half_a_line_is_not_obeyed_at_the_end(served):
    client = served.connect()
    client.sendall(b"one\ntwo")
    client.shutdown(socket.SHUT_WR)
    served.turn()
    assert served.lines == ["one"]
    assert heard(client) == b"+OK one\n<end>"


def test_a_half_line_has_a_time_limit(served, monkeypatch):
    client = served.connect()
    served.say(client, b"on")
    assert 0 < served.server.patience(time.monotonic()) <= 10
    monkeypatch.setattr(connection_module, "LINE_SECONDS", 0.0)
    assert served.server.patience(time.monotonic()) == 0.0
    served.turn()
    assert heard(client) == b"-ERR a line takes at most 0 s\n<end>"


def test_a_silent_connection_may_stay(served, monkeypatch):
    monkeypatch.setattr(connection_module, "LINE_SECONDS", 0.0)
    client = served.connect()
    served.say(client, b"one\n")
    assert served.server.patience(time.monotonic()) is None
    assert heard(client) == b"+OK one\n"


def test_the_ninth_connection_is_refused(served):
    clients = [served.connect() for _ in range(MAX_CONNECTIONS)]
    ninth = served.connect()
    assert heard(ninth) == b"-ERR there are 8 control connections already\n<end>"
    clients[0].close()
    served.turn()
    tenth = served.connect()
    served.say(tenth, b"one\n")
    assert heard(tenth) == b"+OK one\n"


def test_a_connection_that_is_long_silent_makes_room(served, monkeypatch):
    clients = [served.connect() for _ in range(MAX_CONNECTIONS)]
    served.say(clients[0], b"one\n")
    heard(clients[0])
    served.say(clients[1], b"half")
    monkeypatch.setattr(server_module, "LINE_SECONDS", 0.0)
    ninth = served.connect()
    served.say(ninth, b"two\n")
    assert heard(ninth) == b"+OK two\n"
    assert [heard(client) for client in clients] == [b"", b"", b"<end>", b"", b"", b"", b"", b""]


def test_a_client_that_never_reads_holds_nobody_up(served, monkeypatch):
    deaf, other = served.connect(), served.connect()
    served.say(deaf, b"big 5000\n" + b"one\n" * 100)
    assert served.lines == ["big 5000"]
    served.say(other, b"two\n")
    assert heard(other) == b"+OK two\n"
    monkeypatch.setattr(connection_module, "LINE_SECONDS", 0.0)
    served.turn()
    assert heard(deaf).endswith((b"<end>", b"<reset>"))
    assert served.lines == ["big 5000", "two"]


def test_a_slow_reader_gets_everything(served):
    client = served.connect()
    served.say(client, b"big 5000\none\n")
    told = b""
    while not told.endswith(b"+OK one\n"):
        told += client.recv(65536)
        served.turn()
    assert told == (b"x" * 1000 + b"\n") * 5000 + b"+OK\n+OK one\n"


def test_later_lines_wait_for_a_late_answer(served):
    client = served.connect()
    served.say(client, b"later\none\n")
    assert heard(client) == b"" and served.lines == ["later"]
    assert not served.server.is_quiet
    served.later.answer = ControlAnswer(True, "there")
    served.turn()
    assert heard(client) == b"+OK there\n+OK one\n"
    assert served.server.is_quiet


def test_a_late_answer_has_a_deadline(served):
    client = served.connect()
    served.later.deadline = time.monotonic()
    served.say(client, b"later\n")
    assert heard(client) == b"-ERR too late\n"


def test_a_late_answer_is_abandoned_with_its_client(served):
    client = served.connect()
    served.say(client, b"later\n")
    client.close()
    served.turn()
    assert served.later.is_abandoned
    assert served.server.is_quiet


def test_a_stranger_is_refused_and_noted(served, monkeypatch):
    monkeypatch.setattr(connection_module.os, "geteuid", lambda: 12345)
    monkeypatch.setattr(server_module.Peer, "of", lambda sock: Peer(1, 54321))
    client = served.connect()
    assert heard(client).startswith(b"-ERR only root and the user")
    assert [peer.uid for peer in served.strangers] == [54321]
    assert served.lines == []


def test_a_child_is_refused_and_noted(served, monkeypatch):
    monkeypatch.setattr(server_module, "child_behind", lambda sock, peer, masters: 4711)
    client = served.connect()
    assert heard(client) == b"-ERR processes of the daemon may not control it\n<end>"
    assert (served.children, served.lines) == ([4711], [])


def test_who_has_gone_is_not_obeyed(served, monkeypatch):
    """It may have been a child."""
    def gone(sock, peer, masters):
        raise ProcessLookupError

    monkeypatch.setattr(server_module, "child_behind", gone)
    client = served.connect()
    assert heard(client) == b"<end>"
    assert served.children == served.lines == []


def test_every_descriptor_is_the_masters_own(served, monkeypatch):
    closed: list[int] = []
    served.connect()
    served.connect()
    monkeypatch.setattr(os, "close", closed.append)
    served.own.close_all()
    assert len(closed) == 3


def test_a_shortage_of_descriptors_is_waited_for(served, monkeypatch):
    class Short:
        """A listener that has none left."""

        def accept(self):
            raise OSError(24, "Too many open files")

        def fileno(self):
            return real.fileno()

    real = served.server._listener
    monkeypatch.setattr(served.server, "_listener", Short())
    client = served.connect()
    assert 0 < served.server.patience(time.monotonic()) <= 1.0
    monkeypatch.setattr(served.server, "_listener", real)
    monkeypatch.setattr(served.server, "_resting_until", 0.0)
    served.turn()
    served.say(client, b"one\n")
    assert heard(client) == b"+OK one\n"


def test_a_second_master_finds_the_first(served, rundir):
    with pytest.raises(StartError, match="already running: .*pproxy.ctrl answers"):
        Place(str(rundir), "pproxy").open()


def test_what_a_killed_master_left_is_replaced(rundir):
    for name in ("pproxy.1.ctrl", "pproxy.2.ctrl", "other.1.ctrl"):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(rundir / name))
    os.symlink("pproxy.1.ctrl", rundir / "pproxy.ctrl")
    served = Served(str(rundir))
    client = served.connect()
    served.say(client, b"one\n")
    assert heard(client) == b"+OK one\n"
    assert sorted(os.listdir(rundir)) == sorted(["other.1.ctrl", "pproxy.ctrl", f"pproxy.{os.getpid()}.ctrl"])
    served.close()


def test_a_link_to_anothers_socket_stays(served, rundir):
    os.unlink(rundir / "pproxy.ctrl")
    os.symlink("pproxy.1.ctrl", rundir / "pproxy.ctrl")
    served.server.close()
    assert os.listdir(rundir) == ["pproxy.ctrl"]


def test_a_name_that_is_too_long_is_told():
    with pytest.raises(StartError, match=f"longer than {MAX_PATH} octets; give a shorter rundir"):
        Place("/tmp/" + "x" * 100, "pproxy").open()


def test_a_folder_that_is_not_ours_is_told():
    with pytest.raises(StartError, match="cannot make the control socket /no/such/pproxy"):
        Place("/no/such", "pproxy").open()


def test_a_client_tells_that_nobody_is_there(rundir):
    with pytest.raises(NoDaemon, match="No such file"):
        ControlClient(str(rundir / "none"))
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(rundir / "stale"))
    with pytest.raises(NoDaemon, match="no daemon listens there"):
        ControlClient(str(rundir / "stale"))
