"""Starting: what the starter reports, when it returns, and who holds the pid file."""

import os
import shutil
import socket
import subprocess
from pathlib import Path
from pwd import getpwnam

import pytest

from tests.harness.system import descriptors_of, is_alive, parent_of, title_of, wait_for
from tests.harness.toyclient import Background, Client, start_toy


@pytest.fixture
def taken():
    """A port in use."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_starter_returns_when_the_daemon_listens(rundir):
    toy = Background(rundir)
    done = toy.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with Client(toy.endpoints[0]) as client:    # at once: no waiting, no second try
        assert client.ask(b"hello") == b"hello"
        assert parent_of(client.pid) == toy.pid
    assert title_of(toy.pid) == "toy: master"
    assert os.getsid(toy.pid) != os.getsid(0)
    assert os.readlink(f"/proc/{toy.pid}/cwd") == "/"
    toy.stop()
    assert not toy.pidfile.exists()


def test_the_pid_in_the_foreground_is_that_of_the_process_started(start):
    toy = start_toy(start)
    assert (toy.rundir / "toy.pid").read_text() == f"{toy.pid}\n"


@pytest.mark.parametrize("fd", [0, 1, 2])
def test_standard_descriptors_of_the_daemon_are_open(rundir, fd):
    toy = Background(rundir)
    assert toy.run().returncode == 0
    assert os.readlink(f"/proc/{toy.pid}/fd/{fd}") == "/dev/null"
    toy.stop()


def test_standard_descriptors_may_be_closed_at_the_start(rundir):
    toy = Background(rundir)
    assert toy.run(shell_words="<&- >&- 2>&-").returncode == 0
    with Client(toy.endpoints[0]) as client:
        assert client.ask(b"hello") == b"hello"
    assert os.readlink(f"/proc/{toy.pid}/fd/2") == "/dev/null"
    toy.stop()


def test_every_port_in_use_is_told_with_address_and_reason(rundir, taken):
    with socket.create_server(("127.0.0.1", 0)) as other:
        second = other.getsockname()[1]
        toy = Background(rundir, address=f"127.0.0.1:{taken}, 127.0.0.1:0, 127.0.0.1:{second}")
        done = toy.run()
    assert done.returncode == 69
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    for line, port in zip(lines, (taken, second)):
        assert f"127.0.0.1:{port}" in line
        assert "in use" in line
    assert not toy.pidfile.exists()


def test_a_second_start_is_refused(rundir):
    toy = Background(rundir)
    assert toy.run().returncode == 0
    first = toy.pid
    done = toy.run()
    assert done.returncode == 69
    assert done.stderr == f"toy: already running, pid {first}\n"
    assert toy.pid == first
    assert is_alive(first)
    toy.stop()


def test_the_pid_file_of_a_dead_master_is_taken_over(rundir):
    toy = Background(rundir)
    toy.pidfile.write_text(f"{os.getpid()}\n")    # alive, but no master: the lock counts, not the number
    assert toy.run().returncode == 0
    assert toy.pid != os.getpid()
    toy.stop()


def test_a_pid_file_that_is_a_symbolic_link_is_refused(rundir):
    toy = Background(rundir)
    victim = rundir / "victim"
    victim.write_text("precious")
    toy.pidfile.symlink_to(victim)
    assert toy.run().returncode == 69
    assert victim.read_text() == "precious"


def test_the_run_folder_is_made(rundir):
    toy = Background(rundir)
    folder = rundir / "new"
    assert toy.run("-r", str(folder)).returncode == 0
    toy.pidfile = folder / "toy.pid"
    assert folder.stat().st_mode & 0o777 == 0o751
    toy.stop()


@pytest.mark.parametrize("option, path", [
    pytest.param("-l", "/nonexistent/toy.log", id="log"),
    pytest.param("-r", "/nonexistent/run", id="run folder"),
])
def test_what_cannot_be_opened_is_told(rundir, option, path):
    done = Background(rundir).run(option, path)
    assert done.returncode == 69
    assert path in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("options, settings, code", [
    pytest.param(["--no-such-option"], {}, 64, id="option"),
    pytest.param(["--ready-fd", "many"], {}, 64, id="no descriptor"),
    pytest.param([], {"maxsession": "many"}, 78, id="value"),
    pytest.param([], {"minspare": 9, "maxspare": 2}, 78, id="between two rows"),
    pytest.param(["--check-config"], {"minspare": 9, "maxspare": 2}, 78, id="checked"),
    pytest.param(["--check-config"], {}, 0, id="check is fine"),
    pytest.param(["--help"], {}, 0, id="help"),
    pytest.param(["--version"], {}, 0, id="version"),
])
def test_exit_codes_of_words_and_settings(rundir, options, settings, code):
    toy = Background(rundir, **settings)
    done = toy.run(*options)
    assert done.returncode == code
    assert bool(done.stderr) == (code != 0)
    assert not toy.pidfile.exists()
    assert not toy.logfile.exists()


def test_a_descriptor_that_is_not_open_is_wrong_usage(rundir):
    done = Background(rundir).run(ready_fd=999)
    assert done.returncode == 64
    assert "999" in done.stderr


def test_print_config_prints_what_would_hold(rundir):
    done = Background(rundir, maxsession=77).run("--print-config")
    assert done.returncode == 0
    assert "maxsession = 77" in done.stdout


@pytest.mark.parametrize("fault, code, words", [
    pytest.param("nojob", 78, "no job for the toy", id="refuses"),
    pytest.param("dead", 70, "ended before it was ready", id="dies"),
])
def test_a_master_that_fails_is_told(rundir, fault, code, words):
    (rundir / "fault").write_text(fault)
    toy = Background(rundir, fault=rundir / "fault")
    done = toy.run()
    assert done.returncode == code
    assert words in done.stderr
    (rundir / "fault").unlink()
    assert toy.run().returncode == 0    # nothing is left that hinders the next start
    toy.stop()


def test_descriptors_of_whoever_started_it_are_closed(rundir):
    toy = Background(rundir)
    with open(rundir / "lock", "w", encoding="ascii") as lock:
        process = subprocess.Popen([*toy.command, "--foreground"], pass_fds=(lock.fileno(),))
    wait_for(lambda: toy.logfile.exists() and " 0001 start " in toy.logfile.read_text(), 10.0, "the start")
    targets = descriptors_of(process.pid).values()
    assert str(rundir / "lock") not in targets
    assert str(toy.pidfile) in targets
    process.terminate()
    assert process.wait(10) == 0


def test_names_of_files_are_made_absolute_before_the_folder_is_left(rundir):
    toy = Background(rundir)
    done = toy.run("-l", "relative.log", folder=rundir)
    assert done.returncode == 0
    assert (rundir / "relative.log").exists()
    toy.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
def test_root_needs_a_user_that_exists(rundir):
    done = Background(rundir, user="no-such-user").run()
    assert done.returncode == 78
    assert "no-such-user" in done.stderr


def library_is_open() -> bool:
    """Tell whether every user may read the Python in use, and this checkout."""
    return all(folder.stat().st_mode & 0o001 for file in (os.__file__, __file__)
               for folder in Path(file).resolve().parents)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
@pytest.mark.skipif(not library_is_open(), reason="this Python is closed to other users")
def test_root_gives_up_his_rights_for_good(rundir):
    shutil.chown(rundir, "nobody", "nogroup")
    toy = Background(rundir, user="nobody", group="nogroup")
    assert toy.run().returncode == 0
    with Client(toy.endpoints[0]) as client:
        for pid in (toy.pid, client.pid):
            status = Path(f"/proc/{pid}/status").read_text().splitlines()
            ids = {line.split()[0]: set(line.split()[1:]) for line in status if line[:3] in ("Uid", "Gid", "Gro")}
            assert all(len(ids[name]) == 1 and "0" not in ids[name] for name in ("Uid:", "Gid:"))
            assert "0" not in ids["Groups:"]
        assert client.ask(b"home").decode().strip() == getpwnam("nobody").pw_dir
    assert toy.logfile.owner() == "nobody"
    toy.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes its user")
@pytest.mark.skipif(library_is_open(), reason="this Python is open to other users")
def test_a_python_closed_to_the_user_is_told(rundir):
    done = Background(rundir, user="nobody", group="nogroup").run()
    assert done.returncode == 69
    assert "user nobody may not read" in done.stderr


def test_the_log_tells_the_start(start):
    toy = start_toy(start)
    line = toy.wait_log(" 0001 start ")[0]
    assert str(toy.endpoint()) in line
    assert wait_for(lambda: len(toy.children()) == 4)


@pytest.mark.parametrize(("word", "why"), [
    ("nostart", "exit code 3"), ("nofork", "Resource temporarily unavailable")])
def test_a_start_whose_children_cannot_live_has_failed(rundir, word, why):
    (rundir / "fault").write_text(word)
    toy = Background(rundir, fault=rundir / "fault")
    for options in ((), ("--foreground",)):
        done = toy.run(*options)
        assert (done.returncode, toy.endpoints) == (69, [])
        assert done.stderr == f"toy: no child can be started: {why}\n"
        assert not toy.pidfile.exists()
    lines = toy.logfile.read_text()
    assert lines.count(f" SOS 023c start_failed why='no child can be started: {why}'") == 2
    assert " start version=" not in lines


def test_children_that_are_there_before_the_start_is_reported_hold_nothing_of_it(rundir):
    """Whoever waits with --ready-fd, or on standard error, reads to the end."""
    toy = Background(rundir)
    assert toy.run().returncode == 0
    with Client(toy.endpoints[0]) as client:
        assert [os.readlink(f"/proc/{client.pid}/fd/{fd}") for fd in (1, 2)] == ["/dev/null"] * 2
    toy.stop()
