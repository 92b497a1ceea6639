"""The two-pass lookup over all database modules (spec 7.1).

    first pass     every module's `check`, in order; the first OK ends it
    second pass    only if a module knew the user but denied: every module's `auth`, in order, with the
                   identity from the first denial; the first OK ends it (a master password)
    the result     OK, else FAILED if any module failed, else DENIED if any denied, else UNKNOWN

FAILED is not UNKNOWN: if the database is broken, clients are told so, never that their password is
wrong.  A Chain is made in the master and used in its children (or in a tool); each process opens a
module at its first question to it.  Nothing here raises: any error in a module counts as FAILED and
is logged.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol

from popular.errors import PdmError
from popular.pdm import messages, secrets
from popular.pdm.api import UNKNOWN, Answer, CannotFind, Found, Outcome, Request
from popular.pdm.timelimit import TimeUp, limited
from popular.pdm.validation import fault_of
from popular.unix.signals import is_interruption

SLOW_SECONDS = 1.0    # an answer that takes longer is noted


class Asked(Protocol):
    """What the chain needs of a module: PdmModule has it, and so may a proxy for one that runs elsewhere."""

    API: tuple[int, int]
    ident: str
    name: str
    namespaces: frozenset[str]

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


class OutputCatcher(Protocol):
    """Collects what modules write to standard output and standard error."""

    def catch(self) -> None:
        """Start collecting, in this process."""

    def log(self, module: str, *secrets: bytes) -> None:
        """Log what was collected as output of `module`, without the `secrets`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The common answer of all modules to one login."""

    outcome: Outcome
    found: Found | None = None    # only with OK, and always then
    module: str = ""              # id of the module whose answer this is; empty if no module knows the user
    why: str = ""                 # for the log, never for the client; no secrets


@dataclass(frozen=True, slots=True)
class Step:
    """One module's answer to one question."""

    module: str       # its id
    name: str         # the NAME of pdm_NAME.py
    answer: Answer
    is_second: bool = False    # in the second pass


class Chain:
    """All modules in their order."""

    def __init__(self, modules: Sequence[Asked], timeout: float, note: Callable[..., None],
                 output: OutputCatcher | None = None) -> None:
        """Ask `modules`; each has at most `timeout` seconds for one question (0: no limit).

        `note(message, **fields)` logs a message of `popular.pdm.messages`; usually it is a Log's method.
        Without `output`, what modules write is not collected.
        """
        self._output = output
        self._modules = tuple(modules)
        self._timeout = timeout
        self._note: Callable[..., None] = note
        self._opened: dict[int, int] = {}    # id of a module and process that opened it: nothing is used over a fork

    def check(self, request: Request) -> Verdict:
        """Ask the modules who the user is and whether they may log in; never raises."""
        answers = self._ask(request, None)
        verdict = settle(answers)
        if verdict.outcome is not Outcome.OK and (identity := _denied_identity(answers)) is not None:
            verdict = settle([*answers, *self._ask(request, identity)])
        if verdict.outcome is Outcome.UNKNOWN:
            secrets.verify_nothing(request.password)    # so that the time does not reveal that the user does not exist
        return verdict

    def examine(self, request: Request) -> tuple[list[Step], Verdict]:
        """Do as `check`, but also return the answer of each module; never raises."""
        names = {module.ident: module.name for module in self._modules}
        first = self._ask(request, None)
        steps = [Step(ident, names[ident], answer) for ident, answer in first]
        verdict, identity = settle(first), _denied_identity(first)
        if verdict.outcome is not Outcome.OK and identity is not None:
            second = self._ask(request, identity)
            steps += [Step(ident, names[ident], answer, is_second=True) for ident, answer in second]
            verdict = settle([*first, *second])
        return steps, verdict

    def find(self, user: str, namespace: str) -> list[Step]:
        """Return each module's answer, in order, where a user's mail is, without a password; never raises.

        OK: found; UNKNOWN: the module does not know the user; FAILED: it cannot tell, with the reason.  Only the first
        OK would count at a login.
        """
        request = Request(user, b"", "", "pop3", namespace)
        return [Step(module.ident, module.name, self._located(module, request)) for module in self._modules
                if not module.namespaces or namespace in module.namespaces]

    def _located(self, module: Asked, request: Request) -> Answer:
        try:
            found = limited(self._timeout, self._put_find, module, request)
        except CannotFind as why:
            return Answer(Outcome.FAILED, why=str(why))
        except TimeUp:
            return self._failed(module, request, f"no answer within {self._timeout:g} s")
        except BaseException as why:    # as in _answer
            return self._failed(module, request, reason(why))
        if found is None:
            return UNKNOWN
        answer = Answer(Outcome.OK, found)
        fault = fault_of(answer)
        return Answer(Outcome.FAILED, why=f"invalid answer: {fault}") if fault else answer

    def _put_find(self, module: Asked, request: Request) -> Found | None:
        if module.API < (1, 1):    # its `find`, if it has one, is something else
            raise CannotFind
        self._open(module)
        return module.find(request.user, request.namespace)

    def describe(self) -> list[str]:
        """Return for each module the words that `ptestpdm` and `pdm add` take, secrets masked."""
        return [" ".join(filter(None, (module.ident, module.name, self._words(module)))) for module in self._modules]

    def close(self) -> None:
        """Close what this process opened."""
        for module in self._modules:
            self._shut(module)

    def _words(self, module: Asked) -> str:
        scope = f"namespace={','.join(sorted(module.namespaces))}" if module.namespaces else ""
        return " ".join(filter(None, (module.describe(), scope)))

    def _ask(self, request: Request, identity: Found | None) -> list[tuple[str, Answer]]:
        """Ask the modules in order until one answers OK; with `identity`, ask the question of the second pass."""
        answers: list[tuple[str, Answer]] = []
        for module in self._modules:
            if module.namespaces and request.namespace not in module.namespaces:
                continue
            answer = self._answer(module, request, identity)
            answers.append((module.ident, answer))
            if answer.outcome is Outcome.OK:
                break
        return answers

    def _answer(self, module: Asked, request: Request, identity: Found | None) -> Answer:
        """Return one module's answer, checked, and log what it wrote."""
        answer = self._judge(module, request, identity)
        if self._output is not None:
            self._output.log(module.ident, request.password, answer.found.password if answer.found else b"")
        return answer

    def _judge(self, module: Asked, request: Request, identity: Found | None) -> Answer:
        """Return one module's answer, checked; any error is logged and counts as FAILED."""
        began = time.monotonic()
        question = request.until(began + self._timeout) if self._timeout > 0 else request
        try:
            answer = limited(self._timeout, self._put, module, question, identity)
        except TimeUp:
            return self._failed(module, request, f"no answer within {self._timeout:g} s")
        except BaseException as why:    # a module is foreign code, and its fault must not end the session
            if is_interruption(why):
                raise
            return self._failed(module, request, reason(why))
        seconds = time.monotonic() - began
        if seconds > SLOW_SECONDS:
            self._note(messages.PDM_SLOW, module=module.ident, seconds=seconds)
        fault = fault_of(answer)
        if fault:
            self._note(messages.PDM_INVALID, module=module.ident, user=request.user, why=fault)
            return Answer(Outcome.FAILED, why=f"invalid answer: {fault}")
        if answer.outcome is Outcome.FAILED:
            self._note(messages.PDM_FAILED, module=module.ident, user=request.user, why=answer.why)
        return answer

    def _put(self, module: Asked, question: Request, identity: Found | None) -> Answer:
        """Ask a module, after opening it if necessary; raises what the module raises."""
        self._open(module)
        return module.check(question) if identity is None else vouched(module.auth(question, identity), identity)

    def _open(self, module: Asked) -> None:
        if self._opened.get(id(module)) != os.getpid():
            if self._output is not None:
                self._output.catch()
            self._opened[id(module)] = os.getpid()    # this first: a half-opened module is closed when `open` fails
            module.open()

    def _failed(self, module: Asked, request: Request, why: str) -> Answer:
        """Log a failure, and close the module so that it is opened again for the next question."""
        self._note(messages.PDM_FAILED, module=module.ident, user=request.user, why=why)
        self._shut(module)
        return Answer(Outcome.FAILED, why=why)

    def _shut(self, module: Asked) -> None:
        """Close a module if this process has opened it; a failure is logged."""
        if self._opened.pop(id(module), 0) != os.getpid():
            return
        try:
            limited(self._timeout, module.close)
        except BaseException as why:    # as in _answer
            if is_interruption(why):
                raise
            self._note(messages.PDM_FAILED, module=module.ident, user="-", why=f"close: {reason(why)}")


def _denied_identity(answers: Sequence[tuple[str, Answer]]) -> Found | None:
    """Return the identity for the second pass: that of the first denial that has one."""
    for _, answer in answers:
        if answer.outcome is Outcome.DENIED and answer.found is not None:
            return answer.found
    return None


def vouched(answer: Answer, identity: Found) -> Answer:
    """Return a second-pass answer; an OK without a place gets the identity of the first pass."""
    is_bare = isinstance(answer, Answer) and answer.outcome is Outcome.OK and answer.found is None
    return replace(answer, found=identity) if is_bare else answer


def settle(answers: Sequence[tuple[str, Answer]]) -> Verdict:
    """Return the verdict on the answers of both passes, given in the order in which they came."""
    for outcome in (Outcome.OK, Outcome.FAILED, Outcome.DENIED):
        for ident, answer in answers:
            if answer.outcome is outcome:
                return Verdict(outcome, answer.found if outcome is Outcome.OK else None, ident, answer.why)
    return Verdict(Outcome.UNKNOWN)


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
