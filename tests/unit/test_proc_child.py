"""Becoming a child: what happens before the work, and how the work may end."""

import os
import select
import signal

import pytest

from popular.log.once import OnceAMinute
from popular.log.writer import Log
from popular.proc.child import Child, ChildState, Inheritance, become_child
from popular.proc.pipes import DeathPipe, Doorbell
from popular.statefile.layout import SERVER
from popular.statefile.writer import StateFile
from popular.unix.descriptors import MastersOwn, ReservedDescriptors
from popular.unix.rights import Rights, own_rights
from popular.unix.title import Title


class Birthplace:
    """A master reduced to what a child inherits."""

    def __init__(self, path):
        self.path = path
        self.log = Log.open("toy", str(path))
        self.doorbell, self.death, self.once = Doorbell(), DeathPipe(), OnceAMinute()
        self.reserved = ReservedDescriptors.reserve()
        self.own = MastersOwn()
        self.own.add(self.doorbell.fileno(), self.death.masters_end)
        self.rights = own_rights()
        self.titles = []

    def bear(self, work, before=lambda: None):
        """Fork a child that does `work`, and `before` while signals are masked; returns exit code and reports."""
        inheritance = Inheritance(self.log, Title("toy", self.titles.append), self.doorbell, self.death, self.own,
                                  self.rights, self.reserved, self.once, StateFile(SERVER, 8))
        mask = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        pid = os.fork()
        if pid == 0:
            before()
            become_child(7, 3, inheritance, work)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return code, [state for child, state in self.doorbell.drain() if child == pid]

    def log_text(self):
        return self.path.read_text()

    def close(self):
        self.own.close_all()
        for fd in (self.log.fileno(), self.doorbell._write, self.death.fileno(),
                   *self.reserved.descriptors):
            os.close(fd)


@pytest.fixture
def place(tmp_path):
    place = Birthplace(tmp_path / "log")
    yield place
    place.close()


def test_a_child_reports_idle_and_leaves_with_the_code_of_its_work(place):
    assert place.bear(lambda child: 5) == (5, [ChildState.IDLE])
    assert place.log_text() == ""


def test_what_the_work_sees(place):
    def work(child: Child) -> int:
        assert (child.pid, child.slot.number, child.generation) == (os.getpid(), 7, 3)
        assert child.state is ChildState.IDLE
        assert not child.retiring
        child.title("BUSY")
        child.report(ChildState.BUSY)
        return 0 if place.titles == ["toy: idle", "toy: BUSY"] else 1

    assert place.bear(work) == (0, [ChildState.IDLE, ChildState.BUSY])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_spec_1_4_a_term_or_int_recorded_already_is_message_0133(place, number):
    code, reports = place.bear(lambda child: 5, before=lambda: os.kill(os.getpid(), number))
    assert (code, reports) == (0, [])
    assert f" INF 0133 got_term_signal signal='{number.name}'" in place.log_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP])
def test_spec_1_4_signals_end_a_child(place, number):
    def work(child: Child) -> int:
        os.kill(child.pid, number)
        return 5

    assert place.bear(work)[0] == -number


def test_retiring_is_seen_at_once_and_wakes(place):
    def work(child: Child) -> int:
        os.kill(child.pid, signal.SIGUSR1)
        return 0 if child.retiring and os.read(child.wake_fds[0], 1) else 1

    assert place.bear(work)[0] == 0


def test_a_signal_that_asks_for_nothing_wakes_once(place):
    def work(child: Child) -> int:
        signal.signal(signal.SIGALRM, lambda number, frame: None)
        os.kill(child.pid, signal.SIGALRM)
        seen = [is_readable(child.wake_fds[0])]
        child.forget_alarms()
        seen += [is_readable(child.wake_fds[0]), child.retiring]
        os.kill(child.pid, signal.SIGUSR1)
        child.forget_alarms()
        seen += [is_readable(child.wake_fds[0]), child.retiring]
        return 0 if seen == [True, False, False, True, True] else 1

    assert place.bear(work)[0] == 0


def is_readable(fd: int) -> bool:
    """Tell whether a descriptor is readable now."""
    return bool(select.select([fd], [], [], 0)[0])


def test_a_retire_that_came_before_the_handler_is_not_lost(place):
    code, _ = place.bear(lambda child: 0 if child.retiring else 1, before=lambda: os.kill(os.getpid(), signal.SIGUSR1))
    assert code == 0


@pytest.mark.parametrize("state, called", [(ChildState.IDLE, 0), (ChildState.BUSY, 1)])
def test_listeners_are_given_up_in_the_handler_only_when_busy(place, state, called):
    def work(child: Child) -> int:
        calls = []
        child.when_retired = lambda: calls.append(1)
        child.report(state)
        os.kill(child.pid, signal.SIGUSR1)
        return 0 if child.retiring and len(calls) == called else 1

    assert place.bear(work)[0] == 0


def test_an_unexpected_error_is_one_line_without_its_text(place):
    def work(child: Child) -> int:
        child.log.sid = "sid-1"
        raise KeyError("password")

    assert place.bear(work) == (os.EX_SOFTWARE, [ChildState.IDLE])
    text = place.log_text()
    assert text.count("\n") == 1
    assert " sid-1 BUG 0200 child_failed type='KeyError' trace='test_proc_child.py:" in text
    assert "password" not in text


def test_an_error_for_want_of_memory_is_a_shortage_and_said_once(place, monkeypatch):
    monkeypatch.setattr("popular.proc.child.PAUSE", 0.01)

    def work(child: Child) -> int:
        raise MemoryError

    assert [place.bear(work)[0] for _ in range(3)] == [os.EX_SOFTWARE] * 3
    assert place.log_text().count(" SOS 0201 child_short error='MemoryError'\n") == 1


def test_what_is_no_error_ends_with_another_code(place):
    def work(child: Child) -> int:
        raise SystemExit(0)

    assert place.bear(work)[0] == os.EX_OSERR


def test_exit_handlers_of_the_master_do_not_run(place, tmp_path):
    import atexit
    mark = tmp_path / "ran"
    atexit.register(mark.touch)
    try:
        assert place.bear(lambda child: 0)[0] == 0
    finally:
        atexit.unregister(mark.touch)
    assert not mark.exists()


def test_wrong_rights_are_found_before_the_work(place):
    place.rights = Rights("nobody", 65534, 65534, ())
    code, reports = place.bear(lambda child: 5)
    assert (code, reports) == (os.EX_SOFTWARE, [])
    assert "type='StartError'" in place.log_text()


def test_the_master_s_own_descriptors_are_closed(place):
    fd = os.open("/dev/null", os.O_RDONLY)
    place.own.add(fd)

    def work(child: Child) -> int:
        try:
            os.fstat(fd)
        except OSError:
            return 0
        return 1

    assert place.bear(work)[0] == 0
    os.fstat(fd)    # still open here
