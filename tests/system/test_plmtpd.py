"""plmtpd as a daemon: its listeners, which may be Unix sockets, and what they leave behind."""

import grp
import os
import re
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from popular.unix.walls import landlock
from tests.harness.certificates import Authority, context_of
from tests.harness.control import refused, tell
from tests.harness.daemon import ROOT, Daemon, StartFailed, ini_text
from tests.harness.lmtpclient import LmtpClient
from tests.harness.loaded import set_load, start_loaded
from tests.harness.pstatus import pstatus, status
from tests.harness.ptyscreen import Terminal
from tests.harness.system import wait_for

PSTATUS = (sys.executable, str(ROOT / "bin/pstatus"))
OPTIONS = ["--user", "root", "--group", "root"] if os.geteuid() == 0 else []
GROUPS = sorted({*os.getgroups(), *([grp.getgrnam("daemon").gr_gid] if os.geteuid() == 0 else [])} - {os.getegid()})


def settings(folder: Path, variables: dict[str, object] | None = None, **keys: object) -> dict[str, dict[str, object]]:
    """Return settings for a daemon below `folder` with a server on a Unix socket, and one on a port."""
    (folder / "spool").mkdir(exist_ok=True)
    return {"plmtpd": {"mailboxdir": folder / "spool", "minspare": 1, "maxspare": 2, **(variables or {})},
            "server": {"main": {"address": f"unix:{folder}/lmtp", **keys}, "net": {"address": "127.0.0.1:0"}}}


@pytest.fixture(scope="module")
def daemon(module_rundir: Path) -> Iterator[Daemon]:
    """A running daemon."""
    with Daemon.start("plmtpd", settings(module_rundir), module_rundir) as running:
        yield running
        assert running.bugs() == []


def connect(endpoint: Endpoint) -> socket.socket:
    """Connect as a mail server does."""
    if endpoint.is_unix:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(20)
        sock.connect(endpoint.host)
        return sock
    return socket.create_connection((endpoint.host, endpoint.port), 20)


def talk(endpoint: Endpoint) -> list[bytes]:
    """Greet and leave; return the first and the last answer."""
    with connect(endpoint) as sock, sock.makefile("rb") as file:
        first = file.readline()
        sock.sendall(b"QUIT\r\n")
        return [first[:3], file.read()[:3]]


@pytest.mark.parametrize("owner, peer", [("main", "unix"), ("net", "127.0.0.1:")])
def test_a_session_on_each_kind_of_listener(daemon: Daemon, owner: str, peer: str) -> None:
    assert talk(daemon.endpoint(owner)) == [b"220", b"221"]
    [line, *_] = daemon.wait_log(f"server='{owner}'")
    assert f" peer='{peer}" in line and "outcome='quit'" in line


def test_what_pstatus_and_metrics_tell(daemon: Daemon) -> None:
    with connect(daemon.endpoint("main")) as sock, sock.makefile("rb") as file:
        assert file.readline()[:3] == b"220"
        found = status(daemon)
        [session] = [slot for slot in found["slots"] if slot["state"] == "greeting"]
        assert (session["server"], session["client"]) == ("main", "unix")
        [reply] = tell(daemon, "session list")
        assert [line for line in reply.lines if "client='unix' server='main' " in line]
        metrics = pstatus("-R", daemon.rundir, "-p", "plmtpd", "--metrics").stdout
        assert 'popular_sessions_active{program="plmtpd",state="greeting"} 1\n' in metrics
        assert 'popular_recipients_total{program="plmtpd",result="delivered"}' in metrics
        assert "pdm_workers" not in metrics and "children" in pstatus("-R", daemon.rundir, "-p", "plmtpd").stdout


def test_the_live_view(daemon: Daemon) -> None:
    command = [*PSTATUS, "--top", "-l", "100ms", "-p", "plmtpd", "-R", str(daemon.rundir)]
    with connect(daemon.endpoint("main")) as sock, sock.makefile("rb") as file:
        assert file.readline()[:3] == b"220"
        with Terminal(command) as terminal:
            terminal.wait_text(f"master {daemon.pid}", "1 sessions by slot", "greeting", "unix")
            terminal.type("q")
            assert terminal.wait() == 0


def test_a_session_that_is_cut_off_is_summed_up(daemon: Daemon) -> None:
    with connect(daemon.endpoint("net")) as sock, sock.makefile("rb") as file:
        assert file.readline()[:3] == b"220"
        tell(daemon, "session kill server=net")
        assert file.read() == b""
    [line] = daemon.wait_log("outcome='cut off: ")
    assert " delivery_closed " in line and " accepted='unknown' " in line and " server='net' " in line


def test_children_have_walls(daemon: Daemon) -> None:
    [reply] = tell(daemon, "show confinement")
    walls = dict(each.split(" = ", 1) for each in reply.lines)
    assert walls["no_new_privileges"] == "on" and "own_mailbox" not in walls
    [line] = daemon.wait_log(" walls_")
    for pid in daemon.children():
        text = Path(f"/proc/{pid}/status").read_text()
        state = dict(re.findall(r"^(NoNewPrivs|Seccomp):\t(\d)$", text, re.MULTILINE))
        assert state == {"NoNewPrivs": "1", "Seccomp": "2"} or " walls_missing " in line


def test_at_load_state_max_clients_are_told_so_in_their_protocol(start: Callable[..., Daemon], rundir: Path) -> None:
    set_load(rundir, 50)
    daemon = start_loaded(start, rundir, "plmtpd", settings(rundir, {"maxlocalload": 1}))
    daemon.wait_log("load_state state='MAX'")
    with connect(daemon.endpoint("main")) as sock, sock.makefile("rb") as file:
        assert file.read() == b"421 4.3.2 system load too high, please try again later\r\n"


def test_the_check_tells_what_a_start_would(tmp_path: Path) -> None:
    (tmp_path / "lmtp").write_text("precious")
    config = tmp_path / "plmtpd.conf"
    config.write_text(ini_text({**settings(tmp_path), "pdm": {"users": {"module": "nosuch"}}}))
    words = (ROOT / "bin/plmtpd", "--check-config", "-c", config, "-r", tmp_path, "-l", tmp_path / "log", *OPTIONS)
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 78
    assert "[pdm] users: " in done.stderr
    assert f"cannot listen on unix:{tmp_path}/lmtp: something other than a socket has this name" in done.stderr
    assert (tmp_path / "lmtp").read_text() == "precious"


def test_the_socket_is_for_the_group_only(daemon: Daemon) -> None:
    status = os.stat(daemon.endpoint("main").host)
    assert stat.S_ISSOCK(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o660


def test_a_server_on_a_unix_socket_is_added_changed_and_removed(daemon: Daemon) -> None:
    path = daemon.rundir / "second"
    address = f"unix:{path}"
    tell(daemon, f"server add second {address} socketmode=600")
    assert talk(Endpoint(str(path), 0)) == [b"220", b"221"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [line for line in tell(daemon, "server list")[0].lines if line.startswith(f"second {address} ")]
    number = path.stat().st_ino
    tell(daemon, "server set second socketmode=666")
    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_ino) == (0o666, number)
    tell(daemon, "server disable second")
    assert not path.exists()
    tell(daemon, "server enable second")
    assert talk(Endpoint(str(path), 0)) == [b"220", b"221"]
    tell(daemon, "server remove second")
    assert not path.exists()


def test_the_path_of_another_program_is_refused_and_left_alone(daemon: Daemon) -> None:
    path = daemon.rundir / "others"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        assert "another program listens there" in refused(daemon, f"server add third unix:{path}").text
    path.unlink()
    path.write_text("precious")
    assert "something other than a socket has this name" in refused(daemon, f"server add third unix:{path}").text
    assert path.read_text() == "precious"


def test_a_stale_socket_is_replaced_and_the_own_one_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    with Daemon.start("plmtpd", settings(tmp_path), tmp_path) as killed:
        killed.kill()
    assert path.is_socket()
    with Daemon.start("plmtpd", settings(tmp_path), tmp_path) as daemon:
        assert talk(daemon.endpoint("main")) == [b"220", b"221"]
        with pytest.raises(StartFailed, match=f"cannot listen on unix:{path}: Address already in use; "):
            Daemon.start("plmtpd", settings(tmp_path), tmp_path, name="other")
        assert talk(daemon.endpoint("main")) == [b"220", b"221"]
        assert daemon.stop() == 0
        assert daemon.log_lines(" 0300 shutdown_delivery command=")
    assert not path.exists()


def test_an_upgrade_keeps_the_socket_and_a_reload_moves_it(tmp_path: Path) -> None:
    path = tmp_path / "lmtp"
    with Daemon.start("plmtpd", settings(tmp_path, socketmode="0600"), tmp_path) as daemon:
        number = path.stat().st_ino
        with connect(daemon.endpoint("main")) as sock, sock.makefile("rb") as file:
            assert file.readline()[:3] == b"220"
            tell(daemon, "upgrade")
            assert talk(daemon.endpoint("main")) == [b"220", b"221"]
            sock.sendall(b"QUIT\r\n")
            assert file.readline()[:3] == b"221"
        daemon.wait()
        assert talk(daemon.endpoint("main")) == [b"220", b"221"]
        assert path.stat().st_ino == number
        moved = tmp_path / "moved"
        daemon.config.write_text(daemon.config.read_text().replace(f"unix:{path}", f"unix:{moved}"))
        tell(daemon, "reload")
        assert not path.exists() and talk(Endpoint(str(moved), 0)) == [b"220", b"221"]
    wait_for(lambda: not moved.exists(), 10.0, "the end of the socket")


@pytest.mark.skipif(not GROUPS, reason="the user of the tests has one group only")
def test_the_socket_gets_its_group(tmp_path: Path) -> None:
    with Daemon.start("plmtpd", settings(tmp_path, socketgroup=grp.getgrgid(GROUPS[0]).gr_name), tmp_path):
        assert (tmp_path / "lmtp").stat().st_gid == GROUPS[0]


def test_tls_on_both_kinds_of_listener(tmp_path: Path, authority: Authority) -> None:
    pair = authority.sign("127.0.0.1")
    files: dict[str, object] = {"certificate": pair.certificate, "key": pair.key}
    texts = settings(tmp_path, None, tls="implicit", **files)
    texts["server"]["net"] = {"address": "127.0.0.1:0", "tls": "starttls", **files}
    trusting = context_of(authority)
    with Daemon.start("plmtpd", texts, tmp_path) as daemon:
        with connect(daemon.endpoint("main")) as sock, trusting.wrap_socket(sock) as secure:
            assert secure.recv(3) == b"220"
        with connect(daemon.endpoint("net")) as sock:
            assert sock.recv(1024)[:3] == b"220"
            sock.sendall(b"LHLO mx\r\n")
            assert b"STARTTLS\r\n" in sock.recv(1024)
            sock.sendall(b"STARTTLS\r\n")
            assert sock.recv(1024)[:3] == b"220"
            with trusting.wrap_socket(sock) as secure:
                secure.sendall(b"QUIT\r\n")
                assert secure.recv(3) == b"221"
        assert len(tell(daemon, "show certificates")[0].lines) == 2


WAITING = '''
import os
from popular.pdm.api import UNKNOWN, Found, PdmModule

class Module(PdmModule):
    API = (1, 1)
    blocking = True

    def check(self, request):
        return UNKNOWN

    def find(self, user, namespace):
        try:
            os.execv("/bin/true", ["true"])
        except PermissionError:
            return Found("store", "xpop", user)
'''


@pytest.mark.skipif(landlock.abi() < landlock.LEAST_ABI, reason="the kernel lacks this wall, which the daemon tells")
def test_a_module_that_waits_is_asked_in_the_child_where_it_can_start_nothing(tmp_path: Path) -> None:
    (tmp_path / "pdm_waiting.py").write_text(WAITING)
    texts = settings(tmp_path, {"pdmdir": tmp_path, "missing": "create"})
    texts["pdm"] = {"users": {"module": "waiting"}}
    with Daemon.start("plmtpd", texts, tmp_path) as daemon, LmtpClient(daemon.endpoint("main")) as client:
        assert client.mail(["joe"], b"Subject: one\r\n\r\ntext\r\n") == ["250 2.0.0"]
    assert len([*(tmp_path / "spool/joe/new").iterdir()]) == 1
