"""Sockets that a service manager opens: taken by name, kept over reload and upgrade, and never shut down."""

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.mailcheck.client import ask_pcheckd
from popular.mailcheck.packet import MailState
from tests.harness.control import greeting
from tests.harness.daemon import Settings
from tests.harness.popclient import PopClient
from tests.harness.service_manager import BACKLOG, ServiceManager
from tests.harness.toyclient import is_refused

MAIL = b"Subject: x\r\n\r\ntext\r\n"
OWN_BACKLOG = 99

Manage = Callable[[str], ServiceManager]


@pytest.fixture
def manage(rundir: Path) -> Iterator[Manage]:
    """A function (program) that makes the manager of a service."""
    with ExitStack() as stack:
        yield lambda program: stack.enter_context(ServiceManager(program, rundir))


def proxy_with(**vservs: Endpoint) -> Settings:
    """Return the configuration of a pproxy with these virtual servers."""
    return {"pproxy": {"backlog": OWN_BACKLOG, "minspare": 2},
            "vserv": {name: {"address": endpoint, "banner": name} for name, endpoint in vservs.items()}}


def start(manager: ServiceManager, settings: Settings) -> None:
    """Start a service."""
    manager.configure(settings)
    manager.start()
    manager.wait_ready()


def upgrade(manager: ServiceManager) -> None:
    """Upgrade a service."""
    old = manager.main
    assert manager.ask("upgrade").ok
    manager.wait(lambda: manager.main != old, what="MAINPID")


def log_of(manager: ServiceManager) -> str:
    """Return what the service has logged."""
    return (manager.folder / f"{manager.program}.log").read_text()


def test_who_was_waiting_is_served(manage: Manage) -> None:
    manager = manage("pproxy")
    main, other = manager.open("main"), manager.open("other")
    with PopClient(other) as client:    # the connection waits at the manager's socket
        start(manager, proxy_with(main=main, other=other, own=Endpoint("127.0.0.1", 0)))
        assert b"other" in client.greeting()
    assert b"main" in greeting(main)
    assert f"{main}, {other}, 127.0.0.1:" in log_of(manager)
    assert manager.backlog("main") == OWN_BACKLOG


def test_it_is_only_closed(manage: Manage) -> None:
    manager = manage("pproxy")
    main, other = manager.open("main"), manager.open("other")
    start(manager, proxy_with(main=main, other=other, own=Endpoint("127.0.0.1", 0)))
    own = Endpoint("127.0.0.1", int(log_of(manager).partition(f"{other}, 127.0.0.1:")[2].partition("'")[0]))
    os.kill(manager.main, signal.SIGHUP)
    manager.wait_fact("READY=1", 2)
    assert manager.reload()[0] == 0
    assert b"own" in greeting(own) and b"other" in greeting(other)
    assert manager.ask("vserv remove own").ok and manager.ask("vserv remove other").ok
    assert is_refused(own)
    assert manager.backlog("other") == OWN_BACKLOG, "the manager's socket listens on"
    with PopClient(other, timeout=0.3) as client, pytest.raises(TimeoutError):
        client.greeting()    # nobody of the service accepts there
    assert b"main" in greeting(main)
    manager.stop()
    assert manager.backlog("main") == OWN_BACKLOG


def test_it_lives_on_over_upgrades_and_starts(manage: Manage) -> None:
    manager = manage("pproxy")
    main, other = manager.open("main"), manager.open("other")
    start(manager, proxy_with(main=main, other=other))
    upgrade(manager)
    upgrade(manager)
    assert b"main" in greeting(main)
    assert manager.ask("vserv remove other").ok
    assert manager.backlog("other") == OWN_BACKLOG, "the third master knows whose it is"
    manager.stop()
    assert manager.backlog("main") == OWN_BACKLOG and manager.killed == []
    manager.told.clear()
    with PopClient(main) as client:
        start(manager, proxy_with(main=main, other=other))
        assert b"main" in client.greeting()


def test_pserv_and_pcheckd_take_theirs(manage: Manage, spool: Path, rundir: Path,
                                       make_mailbox: Callable[..., Path]) -> None:
    make_mailbox("joe", new=[MAIL])
    manager = manage("pserv")
    main = manager.open("main", "::")
    start(manager, {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": main}}})
    with PopClient(Endpoint("::1", main.port)) as client:
        assert client.xpop("joe").startswith(b"+OK")
    manager.close()
    checks = manage("pcheckd")
    where = checks.open("pcheckd", udp=True)
    start(checks, {"pcheckd": {"mailboxdir": spool, "host": where.host, "port": where.port}})
    assert ask_pcheckd(where, "joe", timeout=5.0, tries=1) is MailState.NEW_MAIL


def test_mistakes_are_told_all_at_once(manage: Manage) -> None:
    manager = manage("pproxy")
    first = socket.create_server(("127.0.0.1", 0))
    main = Endpoint("127.0.0.1", first.getsockname()[1])
    manager.hand("main", first)
    manager.open("strange")
    elsewhere = manager.open("main")
    manager.hand("main", socket.socket())
    manager.hand("main", socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
    manager.hand("main", open(os.devnull))
    manager.open("main", udp=True)
    dual = manager.open("both", "::", dual=True)
    manager.hand("main", first.dup())
    manager.configure({"pproxy": {"minspare": 9}, "vserv": {"main": {"address": main}, "both": {"address": dual}}})
    manager.start()
    manager.wait(lambda: manager.exit_code() is not None, what="the end")
    assert manager.exit_code() == os.EX_CONFIG
    lines = [line.removeprefix("pproxy: ").removeprefix("pproxy: ") for line in manager.stderr().splitlines()]
    assert lines == [
        "socket 'strange', descriptor 4: it is for a name that does not listen, not for one that does: main, both",
        f"socket 'main', descriptor 5: it is {elsewhere}, not an address from the configuration: no further one",
        "socket 'main', descriptor 6: it is a socket: IPv4, stream, not listening, not a listening TCP socket",
        "socket 'main', descriptor 7: it is a socket: Unix, datagram, not listening, not a listening TCP socket",
        "socket 'main', descriptor 8: it is no socket (Socket operation on non-socket), not a listening TCP socket",
        "socket 'main', descriptor 9: it is a socket: IPv4, datagram, not listening, not a listening TCP socket",
        "socket 'both', descriptor 10: it is a socket for IPv4 too, not one for IPv6 alone "
        "(BindIPv6Only=ipv6-only)",
        f"socket 'main', descriptor 11: it is {main}, not an address from the configuration: no further one",
        "[pproxy] maxspare: maxspare = 8 is less than minspare, which is 9",
    ]
    assert manager.told == []


def test_what_is_meant_for_another_process_is_left_alone(manage: Manage) -> None:
    manager = manage("pproxy")
    main = manager.open("main")
    manager.configure(proxy_with(main=main))
    manager.start({"LISTEN_PID": "1"})
    manager.wait(lambda: manager.exit_code() is not None, what="the end")
    assert manager.exit_code() == os.EX_UNAVAILABLE
    assert f"cannot listen on {main}: Address already in use" in manager.stderr()
    assert manager.backlog("main") == BACKLOG, "it was not touched"
