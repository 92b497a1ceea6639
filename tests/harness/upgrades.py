"""A pserv of one mailbox that is upgraded, and sessions that must not notice."""

from pathlib import Path

from tests.harness.control import control
from tests.harness.daemon import Daemon, Settings
from tests.harness.popclient import PopClient
from tests.harness.release import Release

MAIL = b"Subject: x\r\n\r\ntext\r\n"


def left_in(rundir: Path) -> list[str]:
    """Return what is left when no daemon runs, and should not be."""
    return sorted({path.name for path in rundir.iterdir()} - {"pserv.conf", "pserv.err", "pserv.log"})


def start(release: Release, rundir: Path, spool: Path) -> Daemon:
    """Start a pserv."""
    settings: Settings = {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}}
    return Daemon.start("pserv", settings, rundir, env=release.env, root=release.root)


def session(daemon: Daemon) -> PopClient:
    """Begin a session of a mailbox with one message."""
    client = PopClient(daemon.endpoint())
    try:
        assert client.xpop("joe").startswith(b"+OK")
    except BaseException:
        client.close()
        raise
    return client


def finish(client: PopClient) -> None:
    """Do what is left of a session."""
    assert client.message(1) == MAIL
    client.ok("QUIT")
    assert client.rest() == b""


def wants_service(daemon: Daemon) -> None:
    """Have a whole session, whoever serves it."""
    with session(daemon) as client:
        finish(client)


def upgrade(daemon: Daemon) -> int:
    """Upgrade, and return the pid of the new master."""
    before = daemon.master
    with control(daemon) as client:
        reply = client.ask("upgrade")
    assert reply.ok, reply
    assert daemon.master != before
    return daemon.master
