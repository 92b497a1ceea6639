"""A message that is there and cannot be read: the client comes again later, the administrator learns why."""

from collections.abc import Callable
from pathlib import Path

from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient


def test_the_client_is_told_little_and_the_log_all(
        start: Callable[..., Daemon], pop: Callable[..., PopClient], spool: Path,
        make_mailbox: Callable[..., Path]) -> None:
    message = b"Subject: x\r\n\r\n"
    box = make_mailbox("box", new=[message, message])
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})
    client = pop(pserv.endpoint())
    assert client.xpop("box", "sid-1").startswith(b"+OK")
    file = max((box / "new").iterdir())
    file.unlink()
    file.symlink_to("/etc/hostname")     # never followed, and root's rights do not help
    assert client.err("RETR 2") == b"[SYS/TEMP] message 2 cannot be read now"
    assert client.err("TOP 2 0") == b"[SYS/TEMP] message 2 cannot be read now"
    assert client.message(1) == message
    client.ok("QUIT")
    [line] = pserv.wait_log("not_read")
    assert f" sid-1 ADM 0287 not_read mailbox='box' times=2 why='message 2: {file.name}: " in line
