"""--check-config: it asks what the start and the first login will ask, with the rights of the service user."""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.harness.certificates import Authority
from tests.harness.daemon import ROOT, ini_text
from tests.harness.needs import need_module
from tests.harness.system import is_alive, wait_for
from tests.harness.tools import run_tool
from tests.system.test_start import library_is_open

IS_ROOT = os.geteuid() == 0
Texts = dict[str, dict[str, Any]]
USER_CHANGES = ("user 'nobody' can change it, and so what the daemon does; it should belong to root, and nobody else "
                "should write to it")


@pytest.fixture
def folder(rundir: Path) -> Path:
    """A folder for everything, which other users may enter."""
    rundir.chmod(0o755)
    for name in ("run", "log", "spool"):
        (rundir / name).mkdir()
        if IS_ROOT:
            shutil.chown(rundir / name, "nobody", "nogroup")
    (rundir / "users").write_text("joe:x:store::joe\n")
    (rundir / "users").chmod(0o644)
    return rundir


def settings(folder: Path, program: str = "pproxy", **variables: object) -> Texts:
    """Return settings of a program that can be started."""
    own: dict[str, object] = {"rundir": folder / "run", "logfile": folder / f"log/{program}", **variables}
    if IS_ROOT and "user" not in own:
        own["user"] = "root"
    if program in ("pserv", "plmtpd"):
        own.setdefault("mailboxdir", folder / "spool")
        return {program: own, "server": {"main": {"address": "127.0.0.1:0"}}}
    return {"pproxy": own, "vserv": {"main": {"address": "127.0.0.1:0"}},
            "backend": {"store": {"protocol": "xpop", "address": "127.0.0.1:1"}},
            "pdm": {"users": {"module": "passwd", "args": folder / "users"}}}


def run(folder: Path, texts: Texts | str, *options: str,
        program: str = "pproxy") -> "subprocess.CompletedProcess[str]":
    """Run a program with an INI file."""
    path = folder / f"{program}.conf"
    path.write_text(texts if isinstance(texts, str) else ini_text(texts))
    return run_tool(program, "-c", path, *options, folder=ROOT)


def check(folder: Path, texts: Texts | str, *options: str, program: str = "pproxy") -> tuple[int, list[str]]:
    """Return the exit code of --check-config and what it says, without file and line."""
    done = run(folder, texts, "--check-config", *options, program=program)
    assert done.stdout == ""
    return done.returncode, without_lines(done.stderr, program)


def without_lines(text: str, program: str = "pproxy") -> list[str]:
    """Return lines of standard error without the name of the program, file and line."""
    return [re.sub(rf"^{program}: (warning: )?(/\S+: line [0-9]+: (?=\[))?", r"\1", line) for line in text.splitlines()]


def close(path: Path) -> None:
    """Let nobody but root use a file or folder."""
    os.chown(path, 0, 0)
    path.chmod(0o700 if path.is_dir() else 0o600)


def key_of_root(folder: Path) -> None:
    """Close the key."""
    close(folder / "key.pem")


def users_of_root(folder: Path) -> None:
    """Close the users file."""
    close(folder / "users")


def folder_of_root(folder: Path) -> None:
    """Close the folder of the users file."""
    (folder / "etc").mkdir()
    (folder / "users").rename(folder / "etc/users")
    (folder / "users").symlink_to("etc/users")
    close(folder / "etc")


def run_of_root(folder: Path) -> None:
    """Close the run folder."""
    close(folder / "run")


def log_of_root(folder: Path) -> None:
    """Close the log file."""
    (folder / "log/pproxy").touch()
    close(folder / "log/pproxy")


def logs_of_root(folder: Path) -> None:
    """Close the folder of the log file."""
    close(folder / "log")


def modules_of_root(folder: Path) -> None:
    """Close the module's file."""
    (folder / "pdm").mkdir(mode=0o755)
    shutil.copy(ROOT / "pdm_modules/pdm_passwd.py", folder / "pdm")
    close(folder / "pdm/pdm_passwd.py")


@pytest.mark.skipif(not IS_ROOT, reason="only root changes its user")
@pytest.mark.skipif(not library_is_open(), reason="this Python is closed to other users")
@pytest.mark.parametrize("spoil, code, told", [
    pytest.param(key_of_root, 78, "[vserv] main: key {}/key.pem: user 'nobody' cannot read it", id="key"),
    pytest.param(users_of_root, 78, "[pdm] users: module passwd: {}/users: user 'nobody' cannot read it", id="users"),
    pytest.param(folder_of_root, 78, "[pdm] users: module passwd: {}/users: user 'nobody' cannot read it", id="folder"),
    pytest.param(run_of_root, 69, "[pproxy] rundir: run folder {}/run: user 'nobody' cannot write to it: Permission "
                 "denied", id="run folder"),
    pytest.param(log_of_root, 69, "[pproxy] logfile: log file {}/log/pproxy: user 'nobody' cannot write to it: "
                 "Permission denied", id="log"),
    pytest.param(logs_of_root, 69, "[pproxy] logfile: log file {}/log/pproxy: user 'nobody' cannot write to it: "
                 "Permission denied", id="folder of the log"),
    pytest.param(modules_of_root, 78, "[pdm] users: {}/pdm/pdm_passwd.py: Permission denied", id="module"),
])
def test_what_the_user_may_not_do_is_told_to_root(folder: Path, authority: Authority, spoil: Callable[[Path], None],
                                                  code: int, told: str) -> None:
    pair = authority.sign("mail.example.org")
    for kind, path in (("cert", pair.certificate), ("key", pair.key)):
        shutil.copy(path, folder / f"{kind}.pem")
        (folder / f"{kind}.pem").chmod(0o644)
    texts = settings(folder, user="nobody")
    texts["vserv"]["main"] = {"address": "127.0.0.1:0", "tls": "implicit", "certificate": folder / "cert.pem",
                              "key": folder / "key.pem"}
    assert check(folder, texts) == (0, [])
    spoil(folder)
    if (folder / "pdm").exists():
        texts["pproxy"]["pdmdir"] = folder / "pdm"
    assert check(folder, texts) == (code, [told.format(folder)])


@pytest.mark.skipif(not IS_ROOT, reason="only root changes its user")
@pytest.mark.skipif(not library_is_open(), reason="this Python is closed to other users")
@pytest.mark.parametrize("program", ["pserv", "pcheckd"])
def test_a_spool_that_the_user_cannot_enter(folder: Path, program: str) -> None:
    texts = settings(folder, "pserv", user="nobody")
    if program == "pcheckd":
        texts = {"pcheckd": {**texts["pserv"], "host": "127.0.0.1", "port": 0}}
    assert check(folder, texts, program=program) == (0, [])
    close(folder / "spool")
    assert check(folder, texts, program=program) == (78, [
        f"[{program}] mailboxdir: folder {folder}/spool: user 'nobody' cannot enter it: Permission denied"])


@pytest.mark.skipif(not IS_ROOT, reason="only root changes its user")
@pytest.mark.skipif(not library_is_open(), reason="this Python is closed to other users")
def test_a_module_of_the_user_is_taken_with_a_warning(folder: Path) -> None:
    (folder / "pdm").mkdir(mode=0o755)
    shutil.copy(ROOT / "pdm_modules/pdm_passwd.py", folder / "pdm/pdm_own.py")
    for path in (folder / "pdm", folder / "pdm/pdm_own.py"):
        shutil.chown(path, "nobody", "nogroup")
    texts = settings(folder, user="nobody", pdmdir=folder / "pdm")
    texts["pdm"] = {"users": {"module": "own", "args": folder / "users"}}
    assert check(folder, texts) == (0, [f"warning: {path}: {USER_CHANGES}" for path in (folder / "pdm", path)])


@pytest.mark.skipif(not IS_ROOT, reason="only root changes its user")
@pytest.mark.parametrize("options, told", [
    pytest.param(["-u", "no-such-user"], "[pproxy] user: no such user 'no-such-user'; create it or give --user",
                 id="user"),
    pytest.param(["-u", "root", "-g", "no-such-group"],
                 "[pproxy] group: no such group 'no-such-group'; create it or give --group", id="group"),
])
def test_who_does_not_exist(folder: Path, options: list[str], told: str) -> None:
    assert check(folder, settings(folder), *options) == (78, [told])


@pytest.mark.skipif(not IS_ROOT, reason="only root changes its user")
@pytest.mark.parametrize("user", ["root", "daemon"])
def test_a_user_without_a_group_has_their_own(folder: Path, user: str) -> None:
    code, told = check(folder, settings(folder), "-u", user)
    assert not any("group" in line for line in told)


def missing(folder: Path) -> None:
    """Remove the users file."""
    (folder / "users").unlink()


def writable(folder: Path) -> None:
    """Let everybody write it."""
    (folder / "users").chmod(0o666)


def writable_folder(folder: Path) -> None:
    """Let everybody replace it."""
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    (folder / "users").rename(folder / "open/users")
    (folder / "users").symlink_to("open/users")


def replaced(folder: Path) -> None:
    """Put a folder in its place."""
    (folder / "users").unlink()
    (folder / "users").mkdir()


FAULTS = [
    pytest.param(missing, "{0}/users: No such file or directory", id="missing"),
    pytest.param(writable, "{0}/users: can be written by everybody: chmod o-w {0}/users", id="mode 666"),
    pytest.param(writable_folder, "{0}/open: can be written by everybody: chmod o-w {0}/open", id="folder"),
    pytest.param(replaced, "{0}/users: Is a directory", id="a folder"),
]


@pytest.mark.parametrize("spoil, told", FAULTS)
def test_a_users_file_that_logins_would_fail_by(folder: Path, spoil: Callable[[Path], None], told: str) -> None:
    spoil(folder)
    what = f"[pdm] users: module passwd: {told.format(folder)}"
    assert check(folder, settings(folder)) == (78, [what])
    assert not (folder / "run/pproxy.pid").exists()


MODULES = [
    pytest.param("any", "store %u", "", id="any"),
    pytest.param("master", "{}/users", "{}/users: line 1: before the first colon is no IP address, network or *; IPv6 "
                 "stands in brackets", id="master"),
    pytest.param("cdb", "{}/users", "{}/users: ", id="cdb"),
    pytest.param("sqlite", "{}/users", "{}/users: SQLite says: file is not a database", id="sqlite"),
    pytest.param("passwd", "", "'args' is missing: the users file", id="without args"),
    pytest.param("no_such", "", "pdm_no_such.py: No such file or directory", id="no module"),
    pytest.param("locked", "", "PermissionError", id="open fails"),
    pytest.param("slow", "", "no answer within 0.2 s", id="open waits"),
]
OWN = {"locked": "raise PermissionError()", "slow": "import time; time.sleep(30)"}


@pytest.mark.parametrize("module, args, told", MODULES)
def test_each_module_is_tried(folder: Path, module: str, args: str, told: str) -> None:
    texts = settings(folder, pdmtimeout="200ms")
    texts["pdm"] = {"them": {"module": module, "args": args.format(folder)}}
    if module in OWN:
        (folder / "pdm").mkdir(mode=0o755)
        (folder / f"pdm/pdm_{module}.py").write_text(
            "from popular.pdm.api import *\nclass Module(PdmModule):\n"
            f"    def open(self):\n        {OWN[module]}\n    def check(self, request):\n        return UNKNOWN\n")
        texts["pproxy"]["pdmdir"] = folder / "pdm"
    code, lines = check(folder, texts)
    if not told:
        assert (code, lines) == (0, [])
        return
    assert code == 78 and len(lines) == 1
    assert lines[0].startswith("[pdm] them: ") and told.format(folder) in lines[0]


def test_a_start_warns_of_what_logins_will_fail_by_and_logs_it(folder: Path) -> None:
    (folder / "users").unlink()
    done = run(folder, settings(folder))
    try:
        assert done.returncode == 0
        assert without_lines(done.stderr) == [
            f"warning: [pdm] users: module passwd: {folder}/users: No such file or directory"]
        assert "ADM 0230 start_doubtful" in (folder / "log/pproxy").read_text()
    finally:
        end(folder)


def end(folder: Path, program: str = "pproxy") -> None:
    """End a daemon that was started in the background."""
    path = folder / f"run/{program}.pid"
    if path.exists():
        pid = int(path.read_text())
        os.kill(pid, 15)
        wait_for(lambda: not is_alive(pid), 15.0, "the end")


@pytest.mark.parametrize("program", ["pproxy", "pserv"])
def test_a_port_in_use_is_told_with_the_name_of_who_has_it(folder: Path, program: str) -> None:
    texts = settings(folder, program)
    cls = "vserv" if program == "pproxy" else "server"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("", 0)) as other:
        ports = [each.getsockname()[1] for each in (server, other)]
        texts[cls]["main"] = {"address": f"127.0.0.1:{ports[0]}, 127.0.0.1:{ports[1]}"}
        for options, code in (["--check-config"], 69), ([], 69):
            done = run(folder, texts, *options, program=program)
            assert done.returncode == code
            lines = done.stderr.splitlines()
            assert len(lines) == 2
            for line, port in zip(lines, ports):
                assert line.startswith(f"{program}: cannot listen on 127.0.0.1:{port}: Address already in use; ")
                assert f"(pid {os.getpid()}) listens there" in line


def test_addresses_of_its_own_that_overlap(folder: Path) -> None:
    texts = settings(folder, "pserv")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    texts["server"] = {"all": {"address": f"0.0.0.0:{port}, [::]:{port}"}, "one": {"address": f"127.0.0.1:{port}"}}
    assert check(folder, texts, program="pserv") == (69, [
        f"cannot listen on 127.0.0.1:{port}: all listens on 0.0.0.0:{port}"])
    assert run(folder, texts, program="pserv").returncode == 69


def test_the_ports_of_the_daemon_itself_are_not_in_use(folder: Path) -> None:
    texts = settings(folder)
    assert run(folder, texts).returncode == 0
    try:
        pid = int((folder / "run/pproxy.pid").read_text())
        address = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
        port = next(line.split()[3].rpartition(":")[2] for line in address.splitlines() if f"pid={pid}," in line)
        texts["vserv"]["main"] = {"address": f"127.0.0.1:{port}"}
        assert check(folder, texts) == (0, [])
        assert is_alive(pid) and int((folder / "run/pproxy.pid").read_text()) == pid
        other = {**texts, "pproxy": {**texts["pproxy"], "rundir": folder / "other"}}    # another daemon, by its folder
        code, lines = check(folder, other)
        assert code == 69 and "(pid " in lines[0] and not (folder / "other").exists()
    finally:
        end(folder)


def test_nothing_is_made_by_a_check(folder: Path) -> None:
    (folder / "run").rmdir()
    before = sorted(folder.rglob("*"))
    assert check(folder, settings(folder)) == (0, [])
    assert sorted({*folder.rglob("*")} - {folder / "pproxy.conf"}) == before


@pytest.mark.parametrize("change, told", [
    pytest.param({"rundir": "/no/such/run"}, "[pproxy] rundir: run folder /no/such/run cannot be made: /no/such: No "
                 "such file or directory", id="run folder"),
    pytest.param({"logfile": "/no/such/log"}, "[pproxy] logfile: log file /no/such/log cannot be made: /no/such: No "
                 "such file or directory", id="log file"),
    pytest.param({"rundir": "/dev/null"}, "[pproxy] rundir: run folder /dev/null cannot be made: not a folder",
                 id="file"),
])
def test_folders_that_are_missing(folder: Path, change: dict[str, Any], told: str) -> None:
    assert check(folder, settings(folder, **change)) == (69, [told])


def test_a_certificate_and_the_key_of_another(folder: Path, authority: Authority) -> None:
    texts = settings(folder)
    one, other = authority.sign("a.example.org", days=10), authority.sign("b.example.org")
    texts["vserv"]["main"] = {"address": "127.0.0.1:0", "tls": "implicit", "certificate": one.certificate,
                              "key": other.key}
    assert check(folder, texts) == (78, [
        f"[vserv] main: key {other.key} does not belong to certificate {one.certificate}"])
    texts["vserv"]["main"]["key"] = one.key
    assert check(folder, texts) == (0, [
        f"warning: [vserv] main: certificate: certificate {one.certificate} expires in 9 days"])


def test_stderr_without_foreground_is_told_by_the_check_too(folder: Path) -> None:
    texts = settings(folder, logto="stderr")
    assert check(folder, texts) == (78, ["[pproxy] logto: logto = stderr needs --foreground"])
    assert check(folder, texts, "--foreground") == (0, [])


def test_what_a_proxy_needs_to_share_with_others(folder: Path) -> None:
    """The server need not answer, but the file with the password must be there."""
    need_module("redis")
    assert check(folder, settings(folder, sharewith=f"servers=127.0.0.1:1 passwordfile={folder}/none")) == (
        78, [f"[pproxy] sharewith: {folder}/none: No such file or directory"])
    assert check(folder, settings(folder, sharewith="server=127.0.0.1:1")) == (
        78, ["[pproxy] sharewith: unknown key 'server'; did you mean 'servers'?"])
    code, [line] = check(folder, settings(folder, sharewith="servers=127.0.0.1:1"))
    assert code == 0 and line.startswith("warning: [pproxy] sharewith: the server does not answer: 127.0.0.1:1: ")


def test_a_folder_for_smtp_after_pop_that_is_missing_is_told_once(folder: Path) -> None:
    texts = settings(folder, smtpafterpopfile=folder / "none/db")
    texts["vserv"]["main"]["smtpafterpop"] = "on"
    assert check(folder, texts) == (78, [f"[pproxy] smtpafterpopfile: no such folder: {folder}/none"])
