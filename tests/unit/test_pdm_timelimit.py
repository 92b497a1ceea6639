"""The bound on calls: it strikes once, in time or not at all, and whoever used the alarm has it back."""

import os
import signal
import threading
import time

import pytest

from popular.errors import PdmError
from popular.pdm.timelimit import TimeUp, limited, within
from tests.harness.system import wait_for


def wait():
    threading.Event().wait(10)


@pytest.fixture
def free_alarm():
    """An alarm that nobody uses, as in a child of pproxy."""
    handler = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    timer = signal.setitimer(signal.ITIMER_REAL, 0)
    yield
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, *timer)


def test_the_alarm_is_given_back():
    struck = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: struck.append(number))
    old = signal.setitimer(signal.ITIMER_REAL, 30, 5)
    try:
        limited(0.5, lambda: None)
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 29 < left <= 30 and interval == 5
        with pytest.raises(TimeUp):
            limited(0.02, lambda: threading.Event().wait(10))
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 28 < left <= 30 and interval == 5 and struck == []
        signal.setitimer(signal.ITIMER_REAL, 0.01)    # one that comes due meanwhile strikes afterwards
        with pytest.raises(TimeUp):
            limited(0.05, lambda: threading.Event().wait(10))
        wait_for(lambda: struck, 5.0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, *old)
        signal.signal(signal.SIGALRM, before)


def test_a_blocked_alarm_still_bounds_and_stays_blocked():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    try:
        with pytest.raises(TimeUp):
            limited(0.02, lambda: threading.Event().wait(10))
        assert signal.SIGALRM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_what_it_calls_gets_its_arguments_and_may_raise(free_alarm):
    assert limited(10.0, divmod, 7, 2) == limited(0, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        limited(10.0, divmod, 7, 0)
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_an_alarm_that_nobody_uses_is_taken_once(free_alarm):
    limited(10.0, divmod, 7, 2)
    handler = signal.getsignal(signal.SIGALRM)
    assert callable(handler)
    for _ in range(2):
        with pytest.raises(TimeUp):
            limited(0.01, wait)
        assert signal.getsignal(signal.SIGALRM) is handler
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    os.kill(os.getpid(), signal.SIGALRM)    # outside of a call it does nothing


def test_a_forked_process_has_the_alarm_too(free_alarm):
    limited(10.0, divmod, 7, 2)
    pid = os.fork()
    if pid == 0:
        try:
            limited(0.01, wait)
        except TimeUp:
            os._exit(7)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_a_timer_that_was_set_meanwhile_goes_on(free_alarm):
    limited(10.0, divmod, 7, 2)
    signal.setitimer(signal.ITIMER_REAL, 30, 5)
    with pytest.raises(TimeUp):
        limited(0.01, wait)
    left, interval = signal.getitimer(signal.ITIMER_REAL)
    assert 28 < left < 30 and interval == 5


@pytest.mark.parametrize("inner", [0.02, 5.0])
def test_a_call_in_a_call_leaves_the_outer_bound(free_alarm, inner):
    reached = []

    def outer():
        try:
            limited(inner, time.sleep, 0.1)
        except TimeUp:
            reached.append("struck")
        wait()

    began = time.monotonic()
    with pytest.raises(TimeUp):
        limited(0.2, outer)
    assert 0.15 < time.monotonic() - began < 5
    assert reached == (["struck"] if inner < 0.1 else [])


def test_it_never_strikes_after_the_call(free_alarm):
    struck = 0
    for number in range(2000):
        try:
            limited(1e-6 * (number % 50 + 1), sum, range(number % 100))
        except TimeUp:
            struck += 1
        assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert struck > 0


def test_another_thread_has_no_bound_and_does_not_disturb_that_of_the_first(free_alarm):
    def in_thread():
        answers.append(limited(0.001, time.sleep, 0.05))

    def outer():
        thread.start()
        thread.join()
        wait()

    answers: list[None] = []
    thread = threading.Thread(target=in_thread)
    with pytest.raises(TimeUp):
        limited(0.2, outer)
    assert answers == [None]
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.parametrize("seconds, left, why", [
    (0.06, 10.0, r"no answer within 0\.1 s"), (10.0, 0.06, r"no answer within 0\.1 s"),
    (10.0, -1.0, "no time was left"), (10.0, 0.0, "no time was left")])
def test_a_part_of_an_answer_has_its_own_time_and_that_of_the_whole(free_alarm, seconds, left, why):
    began = time.monotonic()
    with pytest.raises(PdmError, match=f"^{why}$"):
        within(seconds, began + left, wait)
    assert time.monotonic() - began < 5
    assert within(10.0, float("inf"), sum, (1, 2)) == 3
    with pytest.raises(ZeroDivisionError):
        within(10.0, time.monotonic() + 10.0, divmod, 1, 0)
