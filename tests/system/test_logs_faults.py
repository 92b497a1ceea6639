"""Faults that are rare in life, put into real daemons: each has its message, and the client hears little (spec 5.2)."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.daemon import ROOT, Daemon
from tests.harness.fake_backend import FakeBackend
from tests.harness.logs import Line, only, read_classic
from tests.harness.popclient import PopClient
from tests.harness.proxy import XENIA, script_for, store
from tests.harness.system import title_of, wait_for

MAIL = b"Subject: x\r\n\r\ntext\r\n"
UNREADABLE = Path("/proc/sys/net/ipv4/route")    # has a regular file that not even root can read: flush

Pop = Callable[..., PopClient]
Start = Callable[..., Daemon]
MakeMailbox = Callable[..., Path]


def serve(start: Start, spool: Path, **variables: object) -> Daemon:
    """Start pserv over the spool."""
    return start("pserv", {"pserv": {"mailboxdir": spool, **variables}, "server": {"main": {"address": "127.0.0.1:0"}}})


def logged(daemon: Daemon, name: str) -> Line:
    """Return the one event of this name, waiting for it."""
    daemon.wait_log(f" {name} ")
    return only([read_classic(line) for line in daemon.log_lines()], name)


def test_spec_5_2_0009_a_message_whose_size_cannot_be_told(start: Start, pop: Pop, spool: Path,
                                                           make_mailbox: MakeMailbox) -> None:
    box = make_mailbox("joe", cur=[MAIL])
    if os.geteuid() != 0:
        (box / "new" / "flush").write_bytes(MAIL)
        (box / "new" / "flush").chmod(0)
    elif (UNREADABLE / "flush").exists():
        (box / "new").rmdir()
        (box / "new").symlink_to(UNREADABLE)
    else:
        pytest.skip("root can read every file here")
    pserv = serve(start, spool)
    client = pop(pserv.endpoint())
    assert client.xpop("joe", "sid-1").startswith(b"+OK")
    listed = client.multi("UIDL")
    assert not [line for line in listed if line.endswith(b" flush")]
    client.ok("QUIT")
    line = logged(pserv, "stat_failed")
    assert (line.session, line.level, line.number) == ("sid-1", "ADM", "0009")
    assert line.fields == {"mailbox": b"joe", "name": b"flush", "why": b"Permission denied"}


def test_spec_5_2_0007_no_memory_for_the_list_of_messages(start: Start, pop: Pop, spool: Path,
                                                          make_mailbox: MakeMailbox) -> None:
    new = make_mailbox("joe") / "new"
    for number in range(4000):
        (new / f"{945113196 + number}.1_5_{'x' * 200}").touch()
    pserv = serve(start, spool, minspare=1, maxspare=1)
    [child] = wait_for(lambda: [pid for pid in pserv.children() if title_of(pid).endswith(": idle")])
    size = int(Path(f"/proc/{child}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(child, resource.RLIMIT_AS, (size + 65536, size + 65536))
    client = pop(pserv.endpoint())
    assert client.xpop("joe", "sid-1") == b"-ERR [SYS/TEMP] mailbox cannot be opened now"
    line = logged(pserv, "out_of_memory")
    assert (line.pid, line.session, line.level, line.number) == (child, "sid-1", "SOS", "0007")
    assert line.fields == {"mailbox": b"joe"}


def test_a_message_that_cannot_be_moved_to_cur(start: Start, pop: Pop, spool: Path, make_mailbox: MakeMailbox) -> None:
    box = make_mailbox("joe", [MAIL])
    pserv = serve(start, spool)
    client = pop(pserv.endpoint())
    client.xpop("joe", "sid-1")
    assert client.message(1) == MAIL
    (box / "cur").rmdir()
    (box / "cur").touch()
    client.ok("QUIT")
    line = logged(pserv, "not_moved")
    assert (line.session, line.level, line.number) == ("sid-1", "ADM", "0285")
    assert line.fields["why"] == b"Not a directory"


SLOW = """
import time
from popular.pdm.api import Answer, Found, Outcome, PdmModule

class Module(PdmModule):
    API = (1, 0)

    def __init__(self, ident, args):
        pass

    def check(self, request):
        time.sleep(1.1)
        return Answer(Outcome.OK, Found(backend="store", protocol="xpop", mailbox=request.user))
"""


def test_a_database_module_that_takes_long(start: Start, pop: Pop, tmp_path: Path) -> None:
    (tmp_path / "pdm_slow.py").write_text(SLOW)
    tmp_path.chmod(0o755)
    with FakeBackend(script_for(XENIA)) as fake:
        daemon = start("pproxy", {
            "pproxy": {"pdmdir": tmp_path}, "vserv": {"main": {"address": "127.0.0.1:0"}}, "backend": store(fake),
            "pdm": {"slow": {"module": "slow"}}})
        client = pop(daemon.endpoint())
        assert client.login(XENIA, "x").startswith(b"+OK")
        client.ok("STAT")
        client.ok("QUIT")
    line = logged(daemon, "pdm_slow_answer")
    assert (line.level, line.fields["module"]) == ("ADM", b"slow")
    assert 1.0 < line.fields["seconds"] < 10


def test_a_state_file_that_cannot_be_made(start: Start, pop: Pop, spool: Path, make_mailbox: MakeMailbox,
                                          rundir: Path) -> None:
    make_mailbox("joe")
    (rundir / "pserv.state").mkdir()
    pserv = serve(start, spool)
    line = logged(pserv, "state_file_failed")
    assert (line.level, line.number) == ("ADM", "020d")
    assert b"pserv.state: Is a directory" in line.fields["why"]
    client = pop(pserv.endpoint())
    assert client.xpop("joe").startswith(b"+OK")
    client.ok("QUIT")


def test_a_database_that_is_away(start: Start, pop: Pop, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("")
    daemon = start("pproxy", {
        "pproxy": {"authdelay": 0}, "vserv": {"main": {"address": "127.0.0.1:0"}},
        "pdm": {"users": {"module": "passwd", "args": users}}})
    users.unlink()
    client = pop(daemon.endpoint())
    assert client.login("joe", "x").startswith(b"-ERR [SYS/TEMP] ")
    client.ok("QUIT")
    failed = logged(daemon, "pdm_failed")
    assert (failed.level, failed.fields["module"], failed.fields["user"]) == ("ADM", b"users", b"joe")
    assert failed.fields["why"] == logged(daemon, "login_failed").fields["why"]


def clean(spool: Path, rundir: Path) -> list[Line]:
    """Run pclean over the spool and return what it logged."""
    conf = rundir / "pclean.conf"
    conf.write_text("[pclean]\nstatetime = 0\n")
    rights = ["-u", "root", "-g", "root"] if os.geteuid() == 0 else []
    command = [sys.executable, str(ROOT / "bin" / "pclean"), "-c", str(conf), "-m", str(spool),
               "-l", str(rundir / "pclean.log"), *rights]
    subprocess.run(command, capture_output=True, timeout=60, check=False)
    return [read_classic(line) for line in (rundir / "pclean.log").read_text().splitlines()]


def test_a_link_in_the_spool_that_leads_back(spool: Path, rundir: Path, make_mailbox: MakeMailbox) -> None:
    make_mailbox("a/joe")
    (spool / "a" / "again").symlink_to(spool)
    line = only(clean(spool, rundir), "link_loop")
    assert (line.program, line.level, line.fields) == ("pclean", "ADM", {"path": f"{spool}/a/again".encode()})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_of_the_spool_that_pclean_may_not_read(spool: Path, rundir: Path) -> None:
    (spool / "closed").mkdir(mode=0)
    line = only(clean(spool, rundir), "folder_unreadable")
    assert line.fields == {"path": f"{spool}/closed".encode(), "why": b"Permission denied"}
