"""The control socket and the daemon's own processes: a child and a PDM worker that give commands are refused."""

from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.control import control, greeting, variable
from tests.harness.daemon import Daemon
from tests.harness.logs import read_classic
from tests.harness.popclient import PopClient
from tests.harness.proxy import store
from tests.harness.pstatus import status

MODULE = """
import os, socket
from popular.pdm.api import UNKNOWN, PdmModule

class Module(PdmModule):
    API = (1, 1)
    blocking = {blocking}

    def check(self, request):
        if request.user == "{user}":
            for command in ("set pdmdir /tmp", "shutdown all"):
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.connect(self.args[0])
                    try:
                        sock.sendall(command.encode() + b"\\n")
                    except BrokenPipeError:    # refused already
                        pass
                    print(os.getpid(), sock.recv(1000).decode().strip())
        return UNKNOWN
"""
ATTACKERS = {"child": False, "worker": True}
REFUSAL = "-ERR processes of the daemon may not control it"


@pytest.fixture
def proxy(start: Callable[..., Daemon], rundir: Path, tmp_path: Path) -> Daemon:
    """A pproxy with two modules that attack, one in children and one in PDM workers."""
    for name, blocking in ATTACKERS.items():
        (tmp_path / f"pdm_{name}.py").write_text(MODULE.format(user=name, blocking=blocking))
    return start("pproxy", {
        "pproxy": {"pdmdir": tmp_path, "authdelay": 0}, "vserv": {"main": {"address": "127.0.0.1:0"}},
        "backend": store(Endpoint("127.0.0.1", 1)),
        "pdm": {name: {"module": name, "args": rundir / "pproxy.ctrl"} for name in ATTACKERS}})


def attack(proxy: Daemon, client: PopClient, attacker: str) -> int:
    """Log in as an attacker, whose commands are refused; returns the pid of the attacking process."""
    assert client.login(attacker, "open sesame").startswith(b"-ERR [AUTH]")
    told = [read_classic(line).fields["text"].decode() for line in proxy.wait_log(" pdm_output ", count=2)]
    pid = told[0].partition(" ")[0]
    assert told == [f"{pid} {REFUSAL}"] * 2
    return int(pid)


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_a_process_of_the_daemon_is_not_obeyed(proxy: Daemon, tmp_path: Path, attacker: str) -> None:
    with PopClient(proxy.endpoint()) as client:
        pid = attack(proxy, client, attacker)
        [line] = map(read_classic, proxy.wait_log(" control_child "))    # once a minute
        assert line.fields["child"] == pid
        if attacker == "child":
            [session] = map(read_classic, proxy.log_lines(" session_start "))
            assert (line.session, line.fields["client"]) == (session.session, session.fields["client"])
        assert status(proxy)["totals"]["control_refused"] == 2
    assert variable(proxy, "pdmdir") == str(tmp_path)
    assert greeting(proxy.endpoint())
    assert not [line for line in proxy.log_lines(" command ") if "pdmdir /tmp" in line or "shutdown" in line]


def test_a_child_of_the_replaced_master_is_not_obeyed_by_the_new_one(proxy: Daemon) -> None:
    with PopClient(proxy.endpoint()) as client:
        client.greeting()
        with control(proxy) as administrator:
            assert administrator.ask("upgrade").ok
        client.ok("USER child")
        assert client.command("PASS sesame").startswith(b"-ERR [AUTH]")
        [line] = map(read_classic, proxy.wait_log(" control_child "))
        [session] = map(read_classic, proxy.log_lines(" session_start "))
        assert (line.pid, line.fields["child"]) == (proxy.master, session.pid)
    assert greeting(proxy.endpoint())
