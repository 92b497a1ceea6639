"""What a PDM worker does with questions that have waited."""

import os
import socket
import time
from contextlib import ExitStack

import pytest

from popular.log.sink import FileSink
from popular.log.writer import Log
from popular.pdm.api import Answer, Found, Outcome, PdmModule, Request
from popular.pdm.asking.channel import Channel
from popular.pdm.asking.question import MAX_PACKET, QuestionKind, Question, unpack_answer
from popular.pproxy.modules.clock import QuestionClock
from popular.pproxy.modules.worker import WorkerJob
from tests.harness.pdm import make_request, working

TIMEOUT = 10.0
OLD, NEW = 0.4 * TIMEOUT, 0.9 * TIMEOUT    # seconds that are left
FAILED, OK = Outcome.FAILED, Outcome.OK


class Flaky(PdmModule):
    """One that knows everybody, and fails when it is asked for `broken`."""

    API = (1, 1)
    blocking = True

    def check(self, request: Request) -> Answer:
        """Answer."""
        return Answer(FAILED, why="broken") if request.user == "broken" else Answer(OK, Found("store", "", "m"))


def answers_to(*waiting: tuple[str, float]) -> list[Outcome]:
    """Return the answers to questions that have waited for a worker: users, and the seconds that are left."""
    channel, module = Channel(), Flaky("users", [])
    job = WorkerJob([module], channel, TIMEOUT, None, Log("test", FileSink(2)))
    with ExitStack() as stack:
        ours: list[socket.socket] = []
        for user, seconds in waiting:
            mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.append(stack.enter_context(mine))
            request = make_request(user).until(time.monotonic() + seconds)
            with theirs:
                socket.send_fds(channel.asks, [Question(QuestionKind.CHECK, "users", module.digest, request).packed()],
                                [theirs.fileno()])
        with working(job):
            return [unpack_answer(one.recv(MAX_PACKET)).outcome for one in ours]


def test_the_master_sees_since_when_a_worker_has_had_its_question() -> None:
    clock = QuestionClock()
    try:
        assert clock.read(4) == []
        began = time.monotonic()
        clock.start(2)
        first, second, third = clock.read(4)
        assert (first, second) == (0.0, 0.0) and began <= third <= time.monotonic()
        clock.stop(2)
        assert clock.read(4) == [0.0] * 3
    finally:
        os.close(clock.fileno())


@pytest.mark.parametrize("waiting, outcomes", [
    ([("joe", OLD), ("joe", OLD)], [OK, OK]),
    ([("broken", NEW), ("joe", OLD), ("joe", OLD), ("joe", NEW), ("joe", OLD)], [FAILED, FAILED, FAILED, OK, OK]),
    ([("broken", NEW), ("joe", OLD), ("joe", OLD)], [FAILED, FAILED, OK]),
], ids=["well", "failed", "only old ones"])
def test_after_a_failure_the_questions_that_have_time_are_asked(waiting: list[tuple[str, float]],
                                                                outcomes: list[Outcome]) -> None:
    assert answers_to(*waiting) == outcomes
