"""A PDM worker: a process of pproxy that asks database modules which may wait, for the children that serve clients.

It answers one question at a time.  It imports drivers and keeps connections, so the master and its children need
neither, and the number of workers limits the connections to a database.  It leaves when the master says so, after many
questions, and when no process is left that could ask.  When the master has died, sessions that are not logged in may
still ask, but only for the time that a login may take.

Runs in the worker; `WorkerJob` is made in the master.
"""

import select
import signal
import socket
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from popular.log.writer import Log
from popular.pdm.api import CHALLENGES, Answer, Outcome, PdmModule
from popular.pdm.asking.cache import AnswerCache
from popular.pdm.asking.channel import AT_ONCE, Channel
from popular.pdm.asking.output import ModuleOutput
from popular.pdm.asking.question import MAX_PACKET, QuestionKind, Question, pack_answer
from popular.pdm.asking.runner import ModuleRunner
from popular.pproxy.modules.clock import QuestionClock
from popular.pproxy.policy.question import POLICY_MARK
from popular.proc.child import Child
from popular.unix.signals import IGNORED, set_handler

if TYPE_CHECKING:
    from popular.pproxy.policy.server import PolicyServers

MAX_QUESTIONS = 10_000    # after which a worker is replaced: drivers and their libraries may leak

_FRESH = 0.5     # of the time for a question: what a module that has failed gets at least, to start or connect anew
_GRACE = 0.25    # seconds after the deadline of a question, before its module is interrupted
_CHANGED = "the module was changed in the meantime"
_TOO_OLD = "the module has failed, and too little time is left to try again"
_EVENTS = 4


class WorkerJob:
    """The work of all PDM workers of one configuration."""

    def __init__(self, modules: Sequence[PdmModule], channel: Channel, timeout: float, linger: float | None,
                 log: Log, cache: AnswerCache | None = None, policies: "PolicyServers | None" = None) -> None:
        """Ask `modules` and `policies` what comes over `channel`; times are in seconds.

        Answers of modules are kept in `cache`.  After the master's death a worker stays for `linger`; None: until
        nobody is left who could ask.
        """
        self.channel = channel
        self.cache = cache
        self.timeout = timeout
        self.longest = max(timeout, policies.timeout if policies else 0.0)    # of all questions
        self.policies = policies
        # what makes two jobs the same
        self.digests = (*((module.ident, module.digest) for module in modules),
                        *(policies.policies.items() if policies else ()))
        self._linger = linger
        self._failed: set[str] = set()    # ids of the modules whose last answer was a failure
        # The child that asks logs failures, with its session; what modules write is logged here.
        output = ModuleOutput(log)
        self._runners = {module.ident: ModuleRunner(module, timeout, _ignore, output, _GRACE) for module in modules}

    def run(self, child: Child, clock: QuestionClock) -> int:
        """Answer questions until it is time to leave, and keep the `clock` of this worker; returns 0."""
        slot = child.slot.number
        clock.stop(slot)    # of a worker that has died
        self.channel.become_worker()
        set_handler(signal.SIGXCPU, IGNORED)    # its processor time is that of many sessions
        child.title("pdm worker")
        for runner in self._runners.values():
            runner.prepare()    # loading a driver may take longer than a question has time
        if self.policies is not None:
            self.policies.prepare()
        questions = _Questions(self.channel, child, self._linger)
        for _ in range(MAX_QUESTIONS):
            taken = questions.next()
            if taken is None:
                break
            clock.start(slot)
            child.lend(self.serve, *taken)
            clock.stop(slot)
        for runner in self._runners.values():
            runner.close()
        if self.policies is not None:
            self.policies.close()
        return 0

    def serve(self, packet: bytes, reply: socket.socket | None) -> None:
        """Answer the question in a packet, unless it cannot be read, or nobody waits for the answer any more."""
        with reply or nullcontext():
            try:
                if self.policies is not None and packet.startswith(POLICY_MARK):
                    answer = self.policies.reply(packet)
                else:
                    answer = self._reply(packet) if reply is not None else None
            except ValueError:    # a hostile child
                return
            if answer is None or reply is None:
                return
            try:
                reply.send(answer, AT_ONCE)
            except OSError:    # gone
                pass

    def _reply(self, packet: bytes) -> bytes | None:
        """Return the answer to a question to a module; None: it comes too late.  Raises ValueError."""
        question = Question.unpacked(packet)
        if time.monotonic() >= question.request.deadline:
            return None
        answer = pack_answer(self._answer(question))
        if len(answer) > MAX_PACKET:
            answer = pack_answer(Answer(Outcome.FAILED, why=f"its answer has more than {MAX_PACKET} octets"))
        return answer

    def _answer(self, question: Question) -> Answer:
        runner = self._runners.get(question.module)
        if runner is None or runner.module.digest != question.digest:
            return Answer(Outcome.FAILED, why=_CHANGED)
        if question.kind is QuestionKind.FIND:
            answer = runner.locate(question.request)
            found = answer.found    # for administrators: without the login at a backend
            return answer if found is None else replace(answer, found=replace(found, password=b""))
        if self._is_hopeless(question):
            return Answer(Outcome.FAILED, why=_TOO_OLD)
        if question.kind is QuestionKind.TOKEN:
            backend = question.identity.backend if question.identity is not None else ""
            answer = runner.token(question.request, backend)
        else:
            answer = self._asked(runner, question)
        (self._failed.add if answer.outcome is Outcome.FAILED else self._failed.discard)(question.module)
        return answer

    def _is_hopeless(self, question: Question) -> bool:
        """Tell whether a module that has failed is better asked a later question, if one waits.

        Questions come in the order of their age.  If all get what little time is left, no start and no connection may
        ever be ready in time while they keep coming, however well the database is.
        """
        left = question.request.deadline - time.monotonic()
        return question.module in self._failed and left < _FRESH * self.timeout and self.channel.is_waiting()

    def _asked(self, runner: ModuleRunner, question: Question) -> Answer:
        if question.kind is QuestionKind.AUTH or self.cache is None or question.request.mechanism in CHALLENGES:
            return runner.answer(question.request, question.identity)
        place = self.cache.place(runner.module, question.request)
        answer = runner.answer(question.request)
        self.cache.store(place, answer)
        return answer


class _Questions:
    """What one worker waits for."""

    def __init__(self, channel: Channel, child: Child, linger: float | None) -> None:
        self._channel = channel
        self._child = child
        self._linger = linger
        self._until: float | None = None    # monotonic, once the master has died
        self._epoll = select.epoll()
        # One question wakes one worker.  If that one leaves instead, the worker that replaces it sees the question.
        self._epoll.register(channel.works, select.EPOLLIN | select.EPOLLEXCLUSIVE)
        for fd in child.wake_fds:
            self._epoll.register(fd, select.EPOLLIN)

    def next(self) -> tuple[bytes, socket.socket | None] | None:
        """Return a question, or None if it is time to leave."""
        signals, death = self._child.wake_fds
        while True:
            ready = [fd for fd, _ in self._epoll.poll(self._patience(), _EVENTS)]
            if signals in ready:
                self._child.forget_alarms()
            if self._child.is_retired or self._until is not None and time.monotonic() >= self._until:
                return None
            if death in ready:
                self._epoll.unregister(death)
                self._until = None if self._linger is None else time.monotonic() + self._linger
            if self._channel.works.fileno() in ready:
                try:
                    taken = self._channel.take()
                except EOFError:
                    return None
                if taken is not None:
                    return taken

    def _patience(self) -> float | None:
        return None if self._until is None else max(0.0, self._until - time.monotonic())


def _ignore(message: object, **fields: object) -> None:
    """Log nothing."""
