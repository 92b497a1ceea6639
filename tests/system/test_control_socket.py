"""The control socket of real daemons: ending them, faults, strangers, and hostile clients."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.control.client import ControlClient, NoDaemon
from popular.daemon.reload.apply import SYNC_SECONDS
from tests.harness.control import control, greeting, refused, tell, variable
from tests.harness.daemon import Daemon
from tests.harness.proxy import start_proxy, store
from tests.harness.system import is_alive, wait_for
from tests.harness.toyclient import Client, is_refused, start_toy

NOWHERE = Endpoint("127.0.0.1", 1)

Start = Callable[..., Daemon]


@pytest.fixture
def proxy(start: Start, rundir: Path) -> Daemon:
    """A proxy whose backend is out of reach."""
    return start_proxy(start, rundir, store(NOWHERE))


@pytest.mark.parametrize(("what", "goes_on"), [("all", False), ("parent", True), ("delayed", True)])
def test_spec_1_3_shutdown_ends_the_daemon(start: Start, what: str, goes_on: bool) -> None:
    toy = start_toy(start)
    with Client(toy.endpoint()) as client:
        children = [client.pid, *toy.children()]
        with control(toy) as administrator:
            assert administrator.ask(f"shutdown {what}").ok
            if what == "parent":
                assert toy.wait() == 0
            assert is_refused(toy.endpoint())
            if goes_on:
                assert client.ask(b"hello") == b"hello"
            else:
                assert client.is_closed()
        client.close()
        wait_for(lambda: not any(map(is_alive, children)), 10.0, "the end of the children")
    assert toy.wait() == 0
    assert not list(toy.rundir.glob("*.ctrl"))
    assert f" stopped command='shutdown {what}' " in toy.log_lines(" stopped ")[-1]


def test_the_last_word_of_a_daemon_tells_what_ended_it(start: Start) -> None:
    """It told of a HUP before, or of nothing."""
    toy = start_toy(start)
    toy.signal(signal.SIGHUP)
    assert toy.wait_log("log_reopened")
    with control(toy) as administrator:
        assert administrator.ask("shutdown delayed").ok
    assert toy.wait() == 0
    assert " stopped command='shutdown delayed' " in toy.log_lines(" stopped ")[-1]


def test_spec_1_3_shutdown_children_goes_on(start: Start) -> None:
    toy = start_toy(start)
    with Client(toy.endpoint()) as client:
        child = client.pid
        with control(toy) as administrator:
            assert administrator.ask("shutdown children").ok
        assert client.is_closed()
    with Client(toy.endpoint()) as client:
        assert client.pid != child


def test_nothing_is_changed_while_the_daemon_ends(start: Start) -> None:
    toy = start_toy(start)
    with Client(toy.endpoint()) as client, control(toy) as administrator:
        assert client.pid
        assert administrator.ask("shutdown delayed").ok
        assert administrator.ask("set maxuse 7").text == "the daemon is ending"
        assert administrator.ask("reload").text == "the daemon is ending"
        assert administrator.ask("show maxuse").lines == ("maxuse = 1",)
        assert administrator.ask("shutdown all").ok
        assert toy.wait() == 0


@pytest.mark.may_bug
def test_a_fault_in_a_command_ends_nothing(start: Start) -> None:
    toy = start_toy(start)
    assert refused(toy, "fault").text == "internal error, nothing was changed; the log tells more"
    [line] = toy.wait_log("control_failed")
    assert "type='KeyError'" in line and "secret" not in line
    with Client(toy.endpoint()) as client:
        assert client.ask(b"hello") == b"hello"


def test_a_killed_daemons_socket_is_in_nobodys_way(start: Start) -> None:
    toy = start_toy(start)
    toy.kill()
    with pytest.raises(NoDaemon, match="no daemon listens there"):
        control(toy)
    again = start_toy(start)
    assert variable(again, "pid") == str(again.pid)
    assert len(list(again.rundir.glob("*.ctrl"))) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_somebody_else_is_refused(proxy: Daemon) -> None:
    proxy.rundir.chmod(0o755)
    path = os.path.realpath(proxy.rundir / "pproxy.ctrl")
    code = ("import socket, sys; sock = socket.socket(socket.AF_UNIX); sock.connect(sys.argv[1]); "
            "print(sock.makefile().readline(), end=''); sock.sendall(b'shutdown all\\n')")
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/env", "python3", "-c", code, path]

    def attempt() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(words, capture_output=True, text=True, timeout=20, cwd="/",
                              env={"PATH": "/usr/local/bin:/usr/bin:/bin"})

    assert "PermissionError" in attempt().stderr
    os.chmod(path, 0o777)
    assert attempt().stdout.startswith("-ERR only root and the user that the daemon runs as")
    [line] = proxy.wait_log("control_stranger")
    assert "uid=65534" in line
    assert greeting(proxy.endpoint())


def test_hostile_clients_disturb_nobody(proxy: Daemon) -> None:
    path = str(proxy.rundir / "pproxy.ctrl")
    with ControlClient(path) as endless, ControlClient(path) as deaf, ControlClient(path) as half:
        half._sock.sendall(b"set maxauthtries ")
        deaf._sock.settimeout(0.2)
        with pytest.raises(OSError):    # it waits in vain, or is ended
            deaf._sock.sendall(b"show config\n" * 100_000)
        with pytest.raises(OSError):
            while True:
                endless._sock.sendall(b"x" * 65536)
        tell(proxy, "vserv set main banner=alive")
        assert greeting(proxy.endpoint()) == b"alive"
    assert variable(proxy, "maxauthtries") == "3"
    resident = Path(f"/proc/{proxy.pid}/statm").read_text().split()[1]
    assert int(resident) * os.sysconf("SC_PAGE_SIZE") < 64 << 20


def test_sync_waits_no_longer_than_it_says(start: Start) -> None:
    toy = start_toy(start, minspare=1, maxspare=1)
    [child] = toy.children()
    os.kill(child, signal.SIGSTOP)    # a child that cannot leave
    try:
        with control(toy) as administrator:
            administrator._sock.settimeout(SYNC_SECONDS + 10)
            assert administrator.ask("set maxuse 7").ok
            assert "still leaving" in administrator.ask("sync").text
    finally:
        os.kill(child, signal.SIGCONT)
