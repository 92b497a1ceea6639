"""The init scripts of both families, run for real: what they do, say, and end with."""

import os
import pwd
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from popular.control.client import ControlClient, default_path
from tests.harness.inithost import RED_HAT, InitHost
from tests.harness.service_manager import Unit
from tests.harness.system import is_alive, title_of, wait_for

PORT = "127.0.0.1:0"
Settings = dict[str, dict[str, object]]

BOTH = pytest.mark.parametrize("family, shell", [("debian", "dash"), ("redhat", "bash")])


def settings_of(program: str, spool: Path) -> Settings:
    """Return what a program needs to run."""
    table: dict[str, Settings] = {
        "pproxy": {"pproxy": {"minspare": 1, "maxspare": 2}, "vserv": {"main": {"address": PORT}}},
        "pserv": {"pserv": {"mailboxdir": spool, "minspare": 1, "maxspare": 2}, "server": {"main": {"address": PORT}}},
        "plmtpd": {"plmtpd": {"mailboxdir": spool, "minspare": 1, "maxspare": 2},
                   "server": {"main": {"address": f"unix:{spool.parent}/lmtp"}},
                   "pdm": {"all": {"module": "any", "args": "store %u"}}},
        "pcheckd": {"pcheckd": {"mailboxdir": spool, "host": "127.0.0.1", "port": 0}},
        "ringd": {"ringd": {"user": pwd.getpwuid(os.geteuid()).pw_name}},
    }
    return table[program]


@pytest.fixture
def make_host(rundir: Path, spool: Path) -> Iterator[Callable[..., InitHost]]:
    """A function (program, family, shell, rc=…, variables) that makes a host on which one program is configured."""
    hosts: list[InitHost] = []

    def make(program: str, family: str = "debian", shell: str = "dash", rc: str = "", **variables: object) -> InitHost:
        host = InitHost(rundir / "host", family, shell)
        hosts.append(host)
        host.prepare(**{"RINGD_OPTIONS": "", **variables})
        host.configure(program, settings_of(program, spool), rc)
        return host

    yield make
    for host in hosts:
        host.close()


def told(host: InitHost, program: str, command: str) -> str:
    """Give a control command; returns the lines of its answer."""
    with ControlClient(default_path(str(host.rundir), program)) as client:
        return "\n".join(client.ask(command).lines)


@BOTH
def test_a_day_of_pproxy(make_host, family, shell):
    host = make_host("pproxy", family, shell, "set maxsession 77\nbackend add store xpop 127.0.0.1:1110\n")
    lock = host.folder / "subsys/pproxy"
    assert host.run("pproxy", "status").returncode == 3
    assert "pproxy" in host.ok("pproxy", "start")
    first = host.pid("pproxy")
    assert title_of(first) == "pproxy: master"
    assert lock.exists() is (family == "redhat")
    assert host.ok("pproxy", "status") == f"pproxy is running, pid {first}\n"
    assert "77" in told(host, "pproxy", "show maxsession"), "the rc file was sent"

    assert f"already running, pid {first}" in host.ok("pproxy", "start")
    assert host.pid("pproxy") == first

    host.configure("pproxy", {"pproxy": {"maxerrors": 9}, "vserv": {"main": {"address": PORT}}},
                   "set maxsession 78\nbackend add store xpop 127.0.0.1:1111\n")
    assert "maxerrors" in host.ok("pproxy", "reload"), "what changed"
    assert host.pid("pproxy") == first
    assert "9" in told(host, "pproxy", "show maxerrors")
    assert "78" in told(host, "pproxy", "show maxsession")
    assert "127.0.0.1:1111" in told(host, "pproxy", "backend list")

    host.ok("pproxy", "upgrade")
    second = host.pid("pproxy")
    assert second != first
    assert "78" in told(host, "pproxy", "show maxsession")
    host.ok("pproxy", "restart")
    third = host.pid("pproxy")
    assert third != second
    assert not is_alive(second)
    host.ok("pproxy", "stop")
    assert not is_alive(third)
    assert host.run("pproxy", "status").returncode == 3
    assert "not running" in host.ok("pproxy", "stop")
    assert not lock.exists()


@pytest.mark.parametrize("program, family, shell", [
    ("pserv", "debian", "bash"), ("pcheckd", "redhat", "dash"), ("plmtpd", "redhat", "bash")])
def test_the_servers_start_upgrade_and_stop(make_host, program, family, shell):
    host = make_host(program, family, shell)
    host.ok(program, "start")
    first = host.pid(program)
    host.ok(program, "reload")
    assert host.pid(program) == first
    host.ok(program, "upgrade")
    assert is_alive(host.pid(program)) and host.pid(program) != first
    assert host.ok(program, "status") == f"{program} is running, pid {host.pid(program)}\n"
    host.ok(program, "stop")
    assert host.run(program, "status").returncode == 3


def test_ringd_is_restarted_and_not_upgraded(make_host):
    host = make_host("ringd", "redhat", "bash")
    host.ok("ringd", "start")
    first = host.pid("ringd")
    host.ok("ringd", "reload")
    done = host.run("ringd", "upgrade")
    assert (done.returncode, host.pid("ringd")) == (3, first)
    for action in ("force-reload", "try-restart"):
        before = host.pid("ringd")
        host.ok("ringd", action)
        assert is_alive(host.pid("ringd")) and host.pid("ringd") != before
    host.ok("ringd", "stop")


def limits_of(pid: int) -> dict[str, str]:
    """Return the soft and hard limits of a process, and its umask."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    found = {line[:26].strip(): " ".join(line[26:].split()[:2]) for line in lines}
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {"umask": status["Umask"], **found}


@pytest.mark.parametrize("family, shell, functions, words, variables, files, processes", [
    ("debian", "dash", "", "Starting mail check daemon: pcheckd.", {}, "16384 16384", "50000 50000"),
    ("redhat", "dash", "", "Starting pcheckd: OK", {}, "16384 16384", "50000 50000"),
    ("redhat", "bash", RED_HAT, "Starting pcheckd: [  OK  ]", {"NOFILE": 2000, "NPROC": 3000}, "2000 2000",
     "3000 3000"),
])
def test_a_start_looks_as_all_of_the_distribution_and_the_limits_are_those_of_the_units(
        make_host, family, shell, functions, words, variables, files, processes):
    host = make_host("pcheckd", family, shell, **variables)
    (host.folder / "functions").write_text(functions)
    assert host.ok("pcheckd", "start") == words + "\n"
    assert host.ok("pcheckd", "status") == f"pcheckd is running, pid {host.pid('pcheckd')}\n"
    found = limits_of(host.pid("pcheckd"))
    host.ok("pcheckd", "stop")
    assert (found["Max core file size"], found["Max open files"], found["Max processes"]) == ("0 0", files, processes)
    unit = Unit("pcheckd.service")
    assert (found["umask"], "0") == (unit.get("UMask"), unit.get("LimitCORE"))
    assert variables or files.split()[0] == unit.get("LimitNOFILE")


def test_a_pid_file_of_a_dead_daemon_deceives_nobody(make_host):
    host = make_host("pserv")
    host.ok("pserv", "start")
    host.kill("pserv")
    assert host.run("pserv", "status").returncode == 1
    host.ok("pserv", "start")
    host.kill("pserv")
    (host.rundir / "pserv.pid").write_text(f"{os.getpid()}\n")    # alive, but no pserv
    assert host.run("pserv", "status").returncode == 1
    host.ok("pserv", "stop")    # and this process goes on
    assert not (host.rundir / "pserv.pid").exists()
    assert host.run("pserv", "status").returncode == 3


def test_a_lock_file_of_a_dead_daemon_is_told(make_host):
    host = make_host("pserv", "redhat", "bash")
    (host.folder / "subsys/pserv").touch()
    assert host.run("pserv", "status").returncode == 2
    host.ok("pserv", "stop")
    assert host.run("pserv", "status").returncode == 3


def test_the_folders_are_made_for_the_user_of_the_daemon(make_host):
    if os.geteuid() != 0:
        pytest.skip("only root makes folders for others")
    host = make_host("pcheckd")
    host.configure("pcheckd", {"pcheckd": {"user": "nobody", "group": "nogroup", "mailboxdir": "/", "port": 0}})
    host.run("pcheckd", "start")    # it may fail: a Python in root's home is closed to nobody
    nobody = pwd.getpwnam("nobody")
    for folder, mode in ((host.rundir, 0o751), (host.logdir, 0o750)):
        found = folder.stat()
        assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (mode, nobody.pw_uid, nobody.pw_gid)
    if host.pid("pcheckd"):
        host.ok("pcheckd", "stop")


def test_folders_that_are_there_stay_as_they_are(make_host):
    host = make_host("pcheckd")
    host.logdir.mkdir(mode=0o711)
    host.ok("pcheckd", "start")
    assert host.logdir.stat().st_mode & 0o777 == 0o711
    host.ok("pcheckd", "stop")


@pytest.mark.parametrize("family, shell, code", [("debian", "dash", 0), ("redhat", "bash", 5)])
def test_what_is_not_installed_is_told(make_host, family, shell, code):
    host = make_host("pproxy", family, shell, PREFIX="/nonexistent")
    done = host.run("pproxy", "start")
    assert (done.returncode, done.stdout) == (code, "")
    assert "PREFIX" in done.stderr


@BOTH
def test_a_start_that_fails_says_why(make_host, family, shell):
    host = make_host("pserv", family, shell)
    host.configure("pserv", {"pserv": {"maxsession": "many"}, "server": {"main": {"address": PORT}}})
    done = host.run("pserv", "start")
    assert done.returncode == 6
    assert "maxsession" in done.stderr and "many" in done.stderr
    assert "fail" in done.stdout.lower()
    assert host.run("pserv", "status").returncode == 3


def test_a_mistake_in_the_rc_file_is_told_and_the_daemon_runs(make_host):
    host = make_host("pproxy", rc="set maxsession many\n")
    done = host.run("pproxy", "start")
    assert done.returncode == 1
    assert "pproxy.rc:1" in done.stderr
    assert host.run("pproxy", "status").returncode == 0
    host.ok("pproxy", "stop")


def test_what_runs_is_not_ended_for_a_wrong_configuration(make_host):
    host = make_host("pserv")
    host.ok("pserv", "start")
    pid = host.pid("pserv")
    host.configure("pserv", {"pserv": {"maxsession": "many"}, "server": {"main": {"address": PORT}}})
    for action, code in (("restart", 6), ("reload", 1), ("force-reload", 1)):
        done = host.run("pserv", action)
        assert (done.returncode, host.pid("pserv")) == (code, pid), action
        assert "many" in done.stderr
    host.ok("pserv", "stop")


def test_what_runs_is_not_ended_where_the_next_login_would_fail(make_host):
    host = make_host("pproxy", "redhat", "bash")
    users = host.folder / "users"
    users.write_text("joe:x:store::joe\n")
    host.configure("pproxy", {"vserv": {"main": {"address": PORT}}, "pproxy": {"maxerrors": 9},
                              "backend": {"store": {"protocol": "xpop", "address": "127.0.0.1:1"}},
                              "pdm": {"users": {"module": "passwd", "args": users}}})
    host.ok("pproxy", "start")
    host.ok("pproxy", "check")
    pid = host.pid("pproxy")
    users.unlink()
    for action in ("restart", "try-restart", "check"):
        done = host.run("pproxy", action)
        assert (done.returncode, host.pid("pproxy")) == (6, pid), action
        assert f"{users}: No such file" in done.stderr
    users.write_text("joe:x:store::joe\n")
    host.ok("pproxy", "restart")
    assert host.pid("pproxy") not in (0, pid)
    host.ok("pproxy", "stop")


@BOTH
def test_systemd_is_not_told_to_restart_what_would_not_start(make_host, family, shell, tmp_path):
    host = make_host("pserv", family, shell, SYSTEMD=tmp_path)
    host.ok("pserv", "start")
    functions = host.folder / "functions"
    functions.write_text("echo handed over to systemd; exit 0\n")    # as distributions' do where systemd runs
    pid = host.pid("pserv")
    host.configure("pserv", {"pserv": {"maxsession": "many"}, "server": {"main": {"address": PORT}}})
    for action in ("restart", "try-restart"):
        done = host.run("pserv", action)
        assert (done.returncode, host.pid("pserv")) == (6, pid), action
        assert f"not restarted, pid {pid} keeps running" in done.stderr and "handed over" not in done.stdout
    functions.unlink()
    host.ok("pserv", "stop")


@pytest.mark.parametrize("action, code", [
    ("reload", 7), ("force-reload", 7), ("upgrade", 7), ("try-restart", 0), ("frobnicate", 2)])
def test_what_needs_a_running_daemon_says_so(make_host, action, code):
    host = make_host("pproxy")
    assert host.run("pproxy", action).returncode == code
    assert host.pid("pproxy") == 0


def test_a_stop_that_takes_too_long_says_so(make_host):
    host = make_host("pcheckd", STOPTIME=0)
    host.ok("pcheckd", "start")
    pid = host.pid("pcheckd")
    os.kill(pid, signal.SIGSTOP)    # it cannot obey
    done = host.run("pcheckd", "stop")
    assert done.returncode == 1
    assert f"pid {pid}, still running" in done.stdout
    os.kill(pid, signal.SIGCONT)
    wait_for(lambda: not is_alive(pid), 10.0, "its end")
