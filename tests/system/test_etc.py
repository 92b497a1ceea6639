"""What else lies in etc/ for the system: logrotate, cron, sysusers and tmpfiles, given to the real programs."""

import grp
import os
import pwd
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from popular.paths import LOGDIR
from tests.harness.daemon import ROOT
from tests.harness.needs import need_program
from tests.harness.system import wait_for

ETC = ROOT / "etc"
SERVER = {"server": {"main": {"address": "127.0.0.1:0"}}}


def run(*words: object) -> str:
    """Run a program that must succeed; returns what it says."""
    done = subprocess.run([str(word) for word in words], text=True, timeout=30, check=False, cwd="/",
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    return done.stdout


def rotation(folder: Path) -> Path:
    """Return the logrotate file of a host whose folders lie below `folder`, run by whoever runs the test."""
    text = (ETC / "logrotate.d/popular").read_text()
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    text = text.replace("/var/log/popular/", f"{folder}/log/").replace("/var/run/popular/", f"{folder}/")
    text = re.sub("su (pop|pproxy) popular", f"su {user} {group}" if os.geteuid() == 0 else "", text)
    path = folder / "logrotate.conf"
    path.write_text(text)
    path.chmod(0o644)
    return path


def test_logs_are_rotated_under_a_running_daemon(start, rundir, spool):
    logrotate = need_program("logrotate")
    need_program("flock")
    log = rundir / "log/pserv"
    log.parent.mkdir(mode=0o750)
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, **SERVER}, options=("-l", str(log)))
    (rundir / "log/pproxy").write_text("a line\n")
    (rundir / "pproxy.pid").write_text(f"{os.getpid()}\n")    # of a daemon that was killed; HUP would end the test
    state, config = rundir / "state", rotation(rundir)
    inode = log.stat().st_ino
    run(logrotate, "--force", "--state", state, config)
    assert (rundir / "log/pserv.1").stat().st_ino == inode
    wait_for(lambda: log.exists() and "log_reopened" in log.read_text(), 10.0, "the new log")
    assert (rundir / "log/pproxy.1").read_text() == "a line\n"
    pserv.logfile = log
    run(logrotate, "--force", "--state", state, config)
    assert (rundir / "log/pserv.2.gz").exists(), "compressed when no session writes to it any more"


def test_logrotate_knows_every_log():
    named = re.findall(rf"^{LOGDIR}/(\w+)$", (ETC / "logrotate.d/popular").read_text(), re.MULTILINE)
    pages = {path.stem: path.read_text() for path in (ROOT / "man").glob("*.[18]")}
    assert sorted(named) == sorted(name for name, text in pages.items() if f"{LOGDIR}/{name}" in text)


def test_the_users_are_made(tmp_path):
    sysusers = need_program("systemd-sysusers")
    for folder in ("etc", "usr/lib/sysusers.d"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ETC / "sysusers.d/popular.conf", tmp_path / "usr/lib/sysusers.d")
    run(sysusers, f"--root={tmp_path}", "popular.conf")
    users = {line.partition(":")[0]: line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines()}
    assert {name: (words[5], "nologin" in words[6]) for name, words in users.items()} == {
        "pop": ("/pop", True), "pproxy": ("/", True)}
    assert users["pop"][2] != users["pproxy"][2]
    groups = dict(line.split(":")[::3] for line in (tmp_path / "etc/group").read_text().splitlines())
    assert groups == {"pop": "", "pproxy": "", "popular": "pop,pproxy"}


def test_the_folders_are_made(tmp_path):
    tmpfiles = need_program("systemd-tmpfiles")
    if os.geteuid() != 0:
        pytest.skip("only root makes folders for others")
    for folder in ("etc", "usr/lib/tmpfiles.d", "run", "var/log"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text("pop:x:4711:4712::/pop:/usr/sbin/nologin\n")
    (tmp_path / "etc/group").write_text("pop:x:4712:\npopular:x:4713:pop\n")
    shutil.copy(ETC / "tmpfiles.d/popular.conf", tmp_path / "usr/lib/tmpfiles.d")
    run(tmpfiles, f"--root={tmp_path}", "--create", "popular.conf")
    for name, mode in (("run/popular", 0o1771), ("var/log/popular", 0o1770)):
        found = (tmp_path / name).stat()
        assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (mode, 4711, 4713)


@pytest.mark.parametrize("timer_code, is_run", [
    pytest.param(0, False, id="timer active"), pytest.param(3, True, id="timer inactive"),
    pytest.param(None, True, id="no systemd")])
def test_cron_cleans_up_where_no_timer_does(tmp_path, timer_code, is_run):
    lines = (ETC / "cron.d/popular-pclean").read_text().splitlines()
    [line] = [line for line in lines if line[:1].isdigit()]
    fields = line.split(None, 6)
    assert all(re.fullmatch(r"[0-9*]+", field) for field in fields[:5]) and fields[5] == "root"
    assert "%" not in line, "which cron takes for a line end"
    told = tmp_path / "told"
    programs = {"pclean": f'echo "$@" >{shlex.quote(str(told))}'}
    if timer_code is not None:
        programs["systemctl"] = f"exit {timer_code}"
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    command = line.partition(" root ")[2]
    done = subprocess.run(["/bin/sh", "-c", command], env={"PATH": str(tmp_path)}, capture_output=True, text=True,
                          timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (told.read_text() if told.exists() else "") == ("--resume\n" if is_run else "")
