"""One module in the process that asks it: opened for its first question, limited in time, closed after a failure.

Runs in a child of pproxy, in a PDM worker, or in a tool.  Nothing here raises: any error in a module counts as FAILED.
"""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Protocol

from popular.errors import PdmError
from popular.pdm import messages
from popular.pdm.api import UNKNOWN, Answer, CannotFind, Found, NoConsent, Outcome, Request
from popular.pdm.asking.validation import fault_of, fault_of_token
from popular.pdm.timelimit import TimeUp, limited
from popular.unix.signals import is_interruption

SLOW_SECONDS = 1.0    # an answer that takes longer is noted

_SHORTEST = 0.001     # seconds of a limit: 0 would be none


class Asked(Protocol):
    """What is needed of a module: PdmModule has it, and so has the stand-in for one that PDM workers ask."""

    API: tuple[int, int]
    ident: str
    name: str
    namespaces: frozenset[str]
    mechanisms: frozenset[str]
    names_masters: bool
    gives_tokens: bool
    digest: int

    def open(self) -> None:
        """Get ready to answer, in this process."""

    def close(self) -> None:
        """Release everything; `open` may follow."""

    def describe(self) -> str:
        """Return the arguments, secrets masked."""

    def check(self, request: Request) -> Answer:
        """Answer in the first pass."""

    def auth(self, request: Request, found: Found) -> Answer:
        """Answer in the second pass."""

    def find(self, user: str, namespace: str) -> Found | None:
        """Look up a user without a password; raises CannotFind if that is not possible."""

    def token(self, user: str, backend: str, deadline: float, refused: str) -> str:
        """Return an access token, another one than that which was refused; raises NoConsent, and PdmError."""


class OutputCatcher(Protocol):
    """Collects what modules write to standard output and standard error."""

    def catch(self) -> None:
        """Start collecting, in this process."""

    def log(self, module: str, *secrets: bytes) -> None:
        """Log what was collected as output of `module`, without the `secrets`."""


class ModuleRunner:
    """One module, asked in whatever process calls; each process opens it anew."""

    def __init__(self, module: Asked, timeout: float, note: Callable[..., None],
                 output: OutputCatcher | None = None, grace: float = 0.0) -> None:
        """Ask `module`, which has at most `timeout` seconds for one question, or until its deadline (0: no limit).

        It is interrupted `grace` seconds later: a driver that keeps the deadline itself is better not interrupted.

        `note(message, **fields)` logs a message of `popular.pdm.messages`.  Without `output`, what the module writes
        is not collected.
        """
        self.module = module
        self._timeout = timeout
        self._note: Callable[..., None] = note
        self._output = output
        self._grace = grace
        self._opened_by = 0    # pid: nothing is used over a fork

    def prepare(self) -> None:
        """Open the module before the first question, which opens it again, and tells why, if this fails."""
        try:
            limited(self._timeout, self._open)
        except BaseException as why:    # as in _judge
            if is_interruption(why):
                raise
            self.close()

    def answer(self, request: Request, identity: Found | None = None) -> Answer:
        """Return the module's answer, checked; with `identity`, to the question of the second pass."""
        answer = self._judge(request, identity)
        if self._output is not None:
            self._output.log(self.module.ident, request.password, answer.found.password if answer.found else b"")
        return answer

    def locate(self, request: Request) -> Answer:
        """Return OK with the place of a user's mail, without a password, UNKNOWN, or FAILED with the reason."""
        try:
            found = limited(self._timeout, self._put_find, request)
        except CannotFind as why:
            return Answer(Outcome.FAILED, why=str(why))
        except TimeUp:
            return self._failed(request, f"no answer within {self._timeout:g} s")
        except BaseException as why:    # as in _judge
            return self._failed(request, reason(why))
        if found is None:
            return UNKNOWN
        answer = Answer(Outcome.OK, found)
        fault = fault_of(answer)
        return Answer(Outcome.FAILED, why=f"invalid answer: {fault}") if fault else answer

    def token(self, request: Request, backend: str) -> Answer:
        """Return OK with the access token of a user as its `proof`, DENIED if there is none, or FAILED.

        The password of `request` is a token that the backend has refused, if any.
        """
        answer = self._judge_token(request, backend)
        if self._output is not None:
            self._output.log(self.module.ident, request.password, answer.proof)
        return answer

    def close(self) -> None:
        """Close the module if this process has opened it; a failure is logged."""
        if self._opened_by != os.getpid():
            return
        self._opened_by = 0
        try:
            limited(self._timeout, self.module.close)
        except BaseException as why:    # as in _judge
            if is_interruption(why):
                raise
            self._note(messages.PDM_FAILED, module=self.module.ident, user="-", why=f"close: {reason(why)}")

    def _judge(self, request: Request, identity: Found | None) -> Answer:
        """Return the module's answer, checked; any error is logged and counts as FAILED."""
        began = time.monotonic()
        until, limit = self._limits(request.deadline)
        try:
            answer = limited(limit, self._put, request.until(until), identity)
        except TimeUp:
            return self._failed(request, f"no answer within {limit:.3g} s")
        except BaseException as why:    # a module is foreign code, and its fault must not end the session
            if is_interruption(why):
                raise
            return self._failed(request, reason(why))
        seconds = time.monotonic() - began
        if seconds > SLOW_SECONDS:
            self._note(messages.PDM_SLOW, module=self.module.ident, seconds=seconds)
        fault = fault_of(answer)
        if not fault and answer.outcome is Outcome.OK and not (request.user or answer.user):
            fault = "answered OK, but not who the user is"
        if fault:
            self._note(messages.PDM_INVALID, module=self.module.ident, user=request.user, why=fault)
            return Answer(Outcome.FAILED, why=f"invalid answer: {fault}")
        if answer.outcome is Outcome.FAILED:
            self._note(messages.PDM_FAILED, module=self.module.ident, user=request.user, why=answer.why)
        return answer

    def _judge_token(self, request: Request, backend: str) -> Answer:
        """Return the module's answer, checked; any error is logged and counts as FAILED."""
        until, limit = self._limits(request.deadline)
        try:
            token = limited(limit, self._put_token, request, backend, until)
        except NoConsent as why:
            return Answer(Outcome.DENIED, why=str(why))
        except TimeUp:
            return self._failed(request, f"no token within {limit:.3g} s")
        except BaseException as why:    # as in _judge
            if is_interruption(why):
                raise
            return self._failed(request, reason(why))
        if fault := fault_of_token(token):
            self._note(messages.PDM_INVALID, module=self.module.ident, user=request.user, why=fault)
            return Answer(Outcome.FAILED, why=f"invalid answer: {fault}")
        return Answer(Outcome.OK, proof=token.encode("ascii"))

    def _limits(self, deadline: float) -> tuple[float, float]:
        """Return when the answer to a question is due, and after how many seconds its module is interrupted."""
        if self._timeout <= 0:
            return deadline, 0.0
        now = time.monotonic()
        until = min(deadline, now + self._timeout)
        return until, max(_SHORTEST, until - now + self._grace)

    def _put(self, question: Request, identity: Found | None) -> Answer:
        """Ask the module, after opening it if necessary; raises what it raises."""
        self._open()
        if identity is None:
            return self.module.check(question)
        return vouched(self.module.auth(question, identity), identity)

    def _put_find(self, request: Request) -> Found | None:
        if self.module.API < (1, 1):    # its `find`, if it has one, is something else
            raise CannotFind
        self._open()
        return self.module.find(request.user, request.namespace)

    def _put_token(self, request: Request, backend: str, deadline: float) -> str:
        self._open()
        return self.module.token(request.user, backend, deadline, request.password.decode("latin-1"))

    def _open(self) -> None:
        if self._opened_by != os.getpid():
            if self._output is not None:
                self._output.catch()
            self._opened_by = os.getpid()    # this first: a half-opened module is closed when `open` fails
            self.module.open()

    def _failed(self, request: Request, why: str) -> Answer:
        """Log a failure, and close the module so that it is opened again for the next question."""
        self._note(messages.PDM_FAILED, module=self.module.ident, user=request.user, why=why)
        self.close()
        return Answer(Outcome.FAILED, why=why)


def vouched(answer: Answer, identity: Found) -> Answer:
    """Return a second-pass answer; an OK without a place gets the identity of the first pass."""
    is_bare = isinstance(answer, Answer) and answer.outcome is Outcome.OK and answer.found is None
    return replace(answer, found=identity) if is_bare else answer


def reason(why: BaseException) -> str:
    """Return why a module failed, for the log: only texts that cannot hold secrets."""
    if isinstance(why, PdmError):
        return str(why)
    if isinstance(why, OSError) and why.strerror:
        return f"{why.strerror}: {why.filename}" if isinstance(why.filename, str) else why.strerror
    return f"{type(why).__name__} at {_place_of(why.__traceback__)}"


def _place_of(trace: TracebackType | None) -> str:
    """Return file and line where an exception arose."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "an unknown place"
