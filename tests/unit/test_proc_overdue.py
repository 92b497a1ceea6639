"""Whom the master asks, and ends, because a session has not logged in."""

from popular.proc.overdue import LoginLimit, Newcomers

LIMIT = LoginLimit(ask_after=10.0, answer_within=5.0)
PATIENT = LoginLimit(ask_after=10.0, answer_within=5.0, may_wait=True)


def test_who_does_not_answer_is_asked_once_and_ended() -> None:
    newcomers = Newcomers(LIMIT)
    newcomers.begin(7, 100.0)
    assert newcomers.wait(100.0) == 10.0
    assert newcomers.take_due(109.9) == ([], [])
    assert newcomers.take_due(110.0) == ([7], [])
    assert newcomers.wait(110.0) == 5.0
    newcomers.wait_on(7, 110.0)    # to wait for the client is no good answer here
    assert newcomers.take_due(114.9) == ([], [])
    assert newcomers.take_due(115.0) == ([], [7])
    assert newcomers.wait(115.0) is None


def test_who_has_logged_in_or_left_is_left_alone() -> None:
    newcomers = Newcomers(LIMIT)
    for pid in (1, 2, 3):
        newcomers.begin(pid, 100.0 + pid)
    newcomers.forget(1)
    assert newcomers.take_due(112.0) == ([2], [])
    newcomers.forget(2)
    newcomers.forget(9)
    assert newcomers.take_due(120.0) == ([3], [])
    assert newcomers.take_due(125.0) == ([], [3])


def test_a_new_session_of_the_same_child_has_its_own_time() -> None:
    newcomers = Newcomers(LIMIT)
    newcomers.begin(1, 100.0)
    newcomers.begin(2, 101.0)
    newcomers.begin(1, 105.0)
    assert newcomers.take_due(111.0) == ([2], [])
    newcomers.begin(2, 111.0)
    assert newcomers.take_due(115.0) == ([1], [])
    assert newcomers.take_due(120.0) == ([], [1])
    assert newcomers.wait(120.0) == 1.0


def test_a_client_may_take_its_time_where_there_is_no_authtimeout() -> None:
    newcomers = Newcomers(PATIENT)
    newcomers.begin(7, 100.0)
    newcomers.wait_on(7, 101.0)    # nobody has asked
    assert newcomers.take_due(110.0) == ([7], [])
    newcomers.wait_on(7, 110.5)
    assert newcomers.take_due(116.0) == ([], [])
    assert newcomers.take_due(120.5) == ([7], [])
    assert newcomers.take_due(125.5) == ([], [7])


def test_without_a_limit_nobody_is_asked() -> None:
    newcomers = Newcomers(LoginLimit())
    newcomers.begin(7, 100.0)
    assert (newcomers.wait(1e9), newcomers.take_due(1e9)) == (None, ([], []))


def test_a_limit_is_for_sessions_to_come() -> None:
    newcomers = Newcomers(LIMIT)
    newcomers.begin(1, 100.0)
    newcomers.limit = LoginLimit(ask_after=100.0, answer_within=1.0)
    newcomers.begin(2, 100.0)
    assert newcomers.take_due(110.0) == ([1], [])
    assert newcomers.wait(110.0) == 1.0


def test_a_shorter_limit_is_that_of_sessions_that_begin_then() -> None:
    newcomers = Newcomers(LIMIT)
    newcomers.begin(1, 100.0)
    newcomers.limit = LoginLimit(ask_after=3.0, answer_within=1.0)
    newcomers.begin(2, 101.0)
    newcomers.begin(3, 102.0)
    assert newcomers.wait(102.0) == 2.0
    assert newcomers.take_due(104.0) == ([2], [])
    assert newcomers.take_due(105.0) == ([3], [2])
    assert newcomers.take_due(110.0) == ([1], [3])


def test_a_shorter_time_to_answer_is_that_of_who_is_asked_then() -> None:
    newcomers = Newcomers(LIMIT)
    newcomers.begin(1, 100.0)
    newcomers.begin(2, 101.0)
    assert newcomers.take_due(110.0) == ([1], [])
    newcomers.limit = LoginLimit(ask_after=10.0, answer_within=1.0)
    assert newcomers.take_due(111.0) == ([2], [])
    assert newcomers.take_due(112.0) == ([], [2])
    assert newcomers.take_due(115.0) == ([], [1])
