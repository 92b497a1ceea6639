"""The small parts of master and children: pipes, signals, descriptors, titles, rights, pid file, readiness."""

import os
import resource
import select
import signal
import socket

import pytest

from popular.errors import StartError
from popular.log.once import OnceAMinute
from popular.log.trace import MAX_PLACES, places
from popular.proc.pipes import DeathPipe, Doorbell
from popular.proc.watch import Watch
from popular.unix.descriptors import MastersOwn, ReservedDescriptors, allow_descriptors
from popular.unix.pidfile import AlreadyRunning, PidFile
from popular.unix.ready import Ready, StartOutcome, await_ready
from popular.unix.rights import Rights, acting_as, drop, find_rights, own_rights, prove
from popular.unix.signals import SignalPipe
from popular.unix.syscalls import have_signal_at_parents_death
from popular.unix.title import Title, load_setproctitle

IS_ROOT = os.geteuid() == 0


def in_child(work):
    """Run `work` in a forked process; returns its exit code (1 for an exception)."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = work() or 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def doorbell():
    bell = Doorbell()
    yield bell
    os.close(bell._read)
    os.close(bell._write)


def test_reports_come_whole_and_in_order(doorbell):
    sent = [(1000 + number, number % 3) for number in range(5000)]
    for pid, state in sent:
        doorbell.ring(pid, state)
    assert list(doorbell.drain()) == sent
    assert list(doorbell.drain()) == []


def test_ringing_at_a_dead_master_raises_nothing(doorbell):
    os.close(doorbell._read)
    doorbell.ring(1, 1)
    doorbell._read = os.open("/dev/null", os.O_RDONLY)


def test_the_death_pipe_ends_with_the_master():
    pipe = DeathPipe()
    assert not pipe.is_ended()
    os.close(pipe.masters_end)
    assert pipe.is_ended()
    os.close(pipe.fileno())


def test_the_kernel_sends_a_signal_at_the_master_s_end():
    def child():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        have_signal_at_parents_death(signal.SIGUSR1)
        os.write(ready[1], b"x")
        os.write(told[1], b"yes" if signal.sigtimedwait({signal.SIGUSR1}, 10) else b"no")

    ready, told = os.pipe(), os.pipe()
    master = os.fork()
    if master == 0:
        try:
            if os.fork() == 0:
                child()
            else:
                os.read(ready[0], 1)
        finally:
            os._exit(0)
    os.waitpid(master, 0)
    assert os.read(told[0], 3) == b"yes"
    for fd in (*ready, *told):
        os.close(fd)


@pytest.fixture
def user_signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    yield list(before)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signals_are_taken_in_their_order_each_once(user_signals):
    seen = []
    pipe = SignalPipe(user_signals, seen.append)
    assert pipe.take() == []
    for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR2):
        os.kill(os.getpid(), number)
    assert select.select([pipe], [], [], 5)[0]
    assert pipe.take() == [signal.SIGUSR2, signal.SIGUSR1]
    assert pipe.take() == []
    assert seen == [signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR2]
    pipe.close()


def test_a_poll_is_woken_by_a_signal(user_signals):
    pipe = SignalPipe(user_signals)
    waker = os.fork()
    if waker == 0:
        os.kill(os.getppid(), signal.SIGUSR1)
        os._exit(0)
    assert select.select([pipe], [], [], 10)[0]
    assert pipe.take() == [signal.SIGUSR1]
    os.waitpid(waker, 0)
    pipe.close()


def test_watch_calls_what_is_registered_and_closes_it_in_children():
    own = MastersOwn()
    watch = Watch(own)
    (a, b), (c, d) = os.pipe(), os.pipe()
    calls = []
    watch.register(a, lambda: calls.append("a"))
    watch.register(c, lambda: calls.append("c"))
    os.write(b, b"x")
    watch.wait(5)
    assert calls == ["a"]
    watch.unregister(a)
    watch.wait(0)
    assert calls == ["a"]
    own.close_all()
    with pytest.raises(OSError):
        os.fstat(c)
    for fd in (a, b, d):
        os.close(fd)


def test_a_callback_may_take_another_one_out():
    watch = Watch(MastersOwn())
    pipes = [os.pipe(), os.pipe()]
    calls = []

    def take_out(own, other):
        calls.append(own)
        watch.unregister(other)

    watch.register(pipes[0][0], lambda: take_out(pipes[0][0], pipes[1][0]))
    watch.register(pipes[1][0], lambda: take_out(pipes[1][0], pipes[0][0]))
    for _, write in pipes:
        os.write(write, b"x")
    watch.wait(5)
    assert len(calls) == 1
    for pair in pipes:
        for fd in pair:
            os.close(fd)


@pytest.fixture
def reserved():
    reserved = ReservedDescriptors.reserve()
    yield reserved
    for fd in reserved.descriptors:
        os.close(fd)


def test_a_connection_sits_on_its_number_and_gives_it_back(reserved):
    ours, peer = socket.socketpair()
    with peer:
        old = ours.detach()
        placed = reserved.place_client(old, socket.AF_UNIX)
        assert placed.fileno() == reserved.client != old
        with pytest.raises(OSError):
            os.fstat(old)
        assert placed.gettimeout() == 0
        assert not os.get_inheritable(reserved.client)
        placed.send(b"x")
        assert peer.recv(1) == b"x"
        placed.close()
        placed.close()
        assert peer.recv(1) == b""
        assert os.readlink(f"/proc/self/fd/{reserved.client}") == "/dev/null"


@pytest.mark.parametrize("soft, hard, wanted, allowed", [
    pytest.param(50, 100, 80, 80, id="raised"),
    pytest.param(50, 100, 200, 100, id="up to the hard limit"),
    pytest.param(90, 100, 80, 80, id="lowered"),
    pytest.param(80, 100, 80, 80, id="as it is"),
])
def test_a_process_allows_itself_descriptors_as_far_as_its_hard_limit_says(soft, hard, wanted, allowed):
    def child():
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(2):    # again, it changes nothing
            assert allow_descriptors(wanted) == allowed
            assert resource.getrlimit(resource.RLIMIT_NOFILE) == (allowed, hard)

    assert in_child(child) == 0


def test_client_and_backend_have_descriptors_of_their_own(reserved):
    a, b = socket.socketpair()
    client, backend = reserved.place_client(a.detach(), socket.AF_UNIX), reserved.place_backend(b)
    assert b.fileno() == -1
    assert backend.gettimeout() == 0
    assert len({client.fileno(), backend.fileno(), reserved.spare}) == 3
    client.send(b"x")
    assert backend.recv(1) == b"x"
    client.close()
    backend.close()


def test_once_a_minute_is_once_for_all_processes():
    once = OnceAMinute()
    assert once.is_due()
    assert not once.is_due()
    assert in_child(lambda: once.is_due()) == 0


def test_once_comes_again_when_its_time_is_over():
    once = OnceAMinute(0.0)
    assert once.is_due()
    assert once.is_due()


def test_titles_begin_with_the_program():
    shown = []
    Title("pproxy", shown.append).set("master")
    Title("pproxy", None).set("nothing to show it with")
    assert shown == ["pproxy: master"]


@pytest.mark.parametrize("make", [
    pytest.param(lambda folder: None, id="missing"),
    pytest.param(lambda folder: (folder / "_setproctitle.so").write_bytes(b"not ELF"), id="damaged"),
])
def test_without_the_extension_there_are_no_titles(tmp_path, make):
    folder = tmp_path / "setproctitle"
    folder.mkdir()
    make(folder)
    assert load_setproctitle([str(tmp_path)]) is None


def test_a_trace_names_places_only():
    def deep(level):
        if level == 0:
            raise ValueError("secret")
        deep(level - 1)

    try:
        deep(20)
    except ValueError as error:
        found = places(error).split(" < ")
    assert len(found) == MAX_PLACES
    assert all(place.startswith("test_proc_parts.py:") for place in found)
    assert places(None) == ""


def test_own_rights_are_proved():
    prove(own_rights())


def test_other_rights_are_not():
    with pytest.raises(StartError, match="wrong rights"):
        prove(Rights("other", os.getuid() + 1, os.getgid(), tuple(sorted(os.getgroups()))))


@pytest.mark.parametrize("user, group, text", [
    ("no-such-user", "root", "no such user 'no-such-user'; create it or give --user"),
    ("root", "no-such-group", "no such group 'no-such-group'; create it or give --group")])
def test_who_does_not_exist_is_named(user, group, text):
    with pytest.raises(KeyError, match=text):
        find_rights(user, group)


@pytest.mark.skipif(not IS_ROOT, reason="only root changes its user")
def test_rights_are_dropped_for_good():
    rights = find_rights("nobody", "nogroup")

    def child():
        drop(rights)
        prove(rights)
        try:
            os.seteuid(0)
        except PermissionError:
            return 0
        return 2

    assert in_child(child) == 0


@pytest.mark.skipif(not IS_ROOT, reason="only root changes its user")
def test_dropping_to_root_keeps_root():
    assert in_child(lambda: drop(find_rights("root", "root"))) == 0


@pytest.mark.skipif(not IS_ROOT, reason="only root changes its user")
def test_acting_as_another_user_ends(tmp_path):
    rights = find_rights("nobody", "nogroup")
    tmp_path.chmod(0o700)
    with acting_as(rights), pytest.raises(PermissionError):
        (tmp_path / "x").touch()
    prove(own_rights())
    assert os.getresuid() == (0, 0, 0)


@pytest.fixture
def pidfile(tmp_path):
    claimed = PidFile.claim(str(tmp_path / "toy.pid"))
    yield claimed
    try:
        os.close(claimed.fd)
    except OSError:
        pass    # removed by the test


def test_a_claimed_pid_file_is_nobody_else_s(pidfile):
    pidfile.write(4711)
    with pytest.raises(AlreadyRunning, match="already running, pid 4711"):
        PidFile.claim(pidfile.path)


def test_a_lock_lives_as_long_as_somebody_holds_the_file(pidfile):
    kept = os.dup(pidfile.fd)
    os.close(pidfile.fd)
    with pytest.raises(AlreadyRunning):
        PidFile.claim(pidfile.path)
    os.close(kept)
    pidfile.fd = PidFile.claim(pidfile.path).fd


def test_a_stale_pid_file_is_told_from_a_new_one(tmp_path, pidfile):
    assert not pidfile.was_stale
    (tmp_path / "old.pid").write_text("4711\n")
    old = PidFile.claim(str(tmp_path / "old.pid"))
    assert old.was_stale
    old.write(12)
    assert (tmp_path / "old.pid").read_text() == "12\n"
    old.remove()
    assert not (tmp_path / "old.pid").exists()


def test_a_file_that_was_replaced_while_locking_is_opened_again(tmp_path, monkeypatch):
    path = tmp_path / "toy.pid"
    real, replaced = os.stat, []

    def replacing(name, **more):
        if not replaced:
            replaced.append(1)
            path.unlink()
            path.touch()
        return real(name, **more)

    monkeypatch.setattr("popular.unix.pidfile.os.stat", replacing)
    claimed = PidFile.claim(str(path))
    assert os.fstat(claimed.fd).st_ino == path.stat().st_ino
    os.close(claimed.fd)


@pytest.mark.parametrize("told, outcome", [
    pytest.param(b"ready\nmain 127.0.0.1:110\n", StartOutcome(0, "main 127.0.0.1:110\n"), id="ready"),
    pytest.param(b"failed 78\nno such module\n", StartOutcome(78, "no such module"), id="failed"),
    pytest.param(b"", StartOutcome(70, "the master ended before it was ready"), id="died"),
    pytest.param(b"Traceback: x\n", StartOutcome(70, "the master ended before it was ready\nTraceback: x"),
                 id="traceback"),
    pytest.param(b"failed many\n", StartOutcome(70, "the master ended before it was ready\nfailed many"),
                 id="nonsense"),
])
def test_how_a_start_went(told, outcome):
    read, write = os.pipe()
    os.write(write, told)
    os.close(write)
    assert await_ready(read, 5) == outcome
    os.close(read)


def test_what_the_master_says_is_what_the_starter_reads():
    read, write = os.pipe()
    ready = Ready(write)
    assert ready.tell_ready([("a", "127.0.0.1:1"), ("b", "[::1]:2")])
    assert await_ready(read, 5) == StartOutcome(0, "a 127.0.0.1:1\nb [::1]:2\n")
    assert ready.tell_failed(78, "too late, and nobody hears it")
    os.close(read)


def test_a_start_that_takes_too_long_is_given_up():
    read, write = os.pipe()
    assert await_ready(read, 0).code == 69
    os.close(read)
    assert not Ready(write).tell_ready([])    # and the master learns that nobody waits


def test_nobody_need_wait():
    assert Ready(None).tell_ready([("a", "b")])
