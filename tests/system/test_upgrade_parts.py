"""What an upgrade passes on: low ports, ports of ringd, the log, certificates."""

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.certificates import Authority, context_of
from tests.harness.control import control, tell
from tests.harness.daemon import Daemon, StartFailed
from tests.harness.network import own_network
from tests.harness.popclient import PopClient
from tests.harness.proxy import start_proxy, store
from tests.harness.system import children_of, is_alive, wait_for
from tests.harness.toyclient import is_refused

NOWHERE = Endpoint("127.0.0.1", 1)
LOW = Endpoint("127.0.0.1", 110)

Start = Callable[..., Daemon]


@pytest.fixture
def network() -> Iterator[None]:
    """A network in which low ports are free."""
    try:
        with own_network():
            yield
    except PermissionError:
        pytest.skip("only root has low ports and other users")


def upgrade(daemon: Daemon) -> int:
    """Upgrade, and return the pid of the new master."""
    with control(daemon) as client:
        reply = client.ask("upgrade")
    assert reply.ok, reply
    return daemon.master


def greets(endpoint: Endpoint) -> bool:
    """Tell whether a POP3 server is there."""
    with PopClient(endpoint) as client:
        return bool(client.greeting())


def test_a_low_port_survives_although_the_user_may_not_bind_it(start: Start, rundir: Path, network: None) -> None:
    rundir.chmod(0o755)
    shutil.chown(rundir, "nobody", "nogroup")
    vserv = {"address": LOW}
    try:
        proxy = start_proxy(start, rundir, store(NOWHERE), vserv=vserv, user="nobody", group="nogroup")
    except StartFailed as why:
        if "may not read" in why.stderr:
            pytest.skip("this Python is closed to other users")
        raise
    new = upgrade(proxy)
    assert os.stat(f"/proc/{new}").st_uid == os.stat(rundir).st_uid
    assert greets(LOW) and proxy.wait() == 0 and greets(LOW)
    proxy.logfile.rename(rundir / "old.log")
    os.kill(new, signal.SIGHUP)
    proxy.wait_log("log_reopened")
    tell(proxy, "vserv remove main")
    assert is_refused(LOW)


def test_ports_of_ringd_stay_counted(start: Start, rundir: Path, network: None) -> None:
    ringd = start("ringd", {"ringd": {"ports": LOW.port}})
    proxy = start_proxy(start, rundir, store(NOWHERE), vserv={"address": LOW}, ringd=rundir / "ringd.sock")
    for _ in range(2):
        former = proxy.master
        upgrade(proxy)
        wait_for(lambda: not is_alive(former), 15.0, "the end of the old master")
        assert greets(LOW)
    counted = [line.split("references=")[1].split()[0] for line in ringd.log_lines("references=")]
    assert counted == ["1"], "the old masters gave nothing back that is still in use"
    tell(proxy, "vserv remove main")
    ringd.wait_log("references=0")
    assert is_refused(LOW)
    tell(proxy, f"vserv add main {LOW}")
    assert greets(LOW)


def test_standard_error_is_still_the_log(start: Start, spool: Path) -> None:
    pserv = start("pserv", {"pserv": {"mailboxdir": spool, "logto": "stderr"},
                            "server": {"main": {"address": "127.0.0.1:0"}}})
    new = upgrade(pserv)
    os.kill(new, signal.SIGHUP)
    wait_for(lambda: f" pserv {new} - INF 0209 log_reopened" in pserv.stderr(), 10.0, "its line")


def test_certificates_are_read_by_the_new_master(start: Start, rundir: Path, authority: Authority) -> None:
    pair = authority.sign("mail.example.org")
    vserv = {"tls": "implicit", "certificate": pair.certificate, "key": pair.key}
    proxy = start_proxy(start, rundir, store(NOWHERE), vserv=vserv)

    def greeting() -> bytes:
        endpoint = proxy.endpoint()
        with socket.create_connection((endpoint.host, endpoint.port), 10.0) as sock:
            with context_of(authority).wrap_socket(sock, server_hostname="mail.example.org") as tls:
                return tls.recv(100)

    new = upgrade(proxy)
    wait_for(lambda: children_of(proxy.pid) in ([], [new]), 10.0, "the children of the old master to leave")
    assert greeting().startswith(b"+OK")
    Path(pair.key).rename(rundir / "key")
    with control(proxy) as client:
        reply = client.ask("upgrade")
        assert not reply.ok and pair.key in reply.lines[-1]
    assert greeting().startswith(b"+OK"), "a key that cannot be read leaves everything as it was"
