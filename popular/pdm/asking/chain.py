"""The two-pass lookup over all database modules (spec 7.1).

    first pass     every module's `check`, in order; the first OK ends it
    second pass    only if a module knew the user but denied: every module's `auth`, in order, with the
                   identity from the first denial; the first OK ends it (a master password)
    the result     OK, else FAILED if any module failed, else DENIED if any denied, else UNKNOWN
    then           if the module that said OK names the user, it must be the one who logs in; if it does not say
                   where their mail is, the modules that take PROVEN are asked, in order, as in the first pass

Only modules that know the mechanism of the request are asked.  If the request has a `master`, the first pass asks where
the mail of the user is (`find`), and the second one the modules that know masters, whether they vouch for this one.

FAILED is not UNKNOWN: if the database is broken, clients are told so, never that their password is
wrong.  A Chain is made in the master and used in its children (or in a tool).  Any error in a module counts as
FAILED and is logged; only `token` raises anything.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from popular.errors import PdmError
from popular.pdm import secrets
from popular.pdm.api import PROVEN, UNKNOWN, Answer, CannotFind, Found, NoConsent, Outcome, PdmModule, Request
from popular.pdm.asking.runner import Asked, ModuleRunner, OutputCatcher

_NOWHERE = Found("nowhere", user="nobody")    # where the mail of nobody is
_NOBODY = "-popular-check-"    # a user whom no database has


@dataclass(frozen=True, slots=True)
class CachedAnswer(Answer):
    """The answer of a module with a cache."""

    counter: str = "cache_misses"    # what to count: cache_hits, cache_misses or cache_stale
    failure: str = ""                # with cache_stale: why the module failed


@dataclass(frozen=True, slots=True)
class Step:
    """One module's answer to one question."""

    module: str       # its id
    name: str         # the NAME of pdm_NAME.py
    answer: Answer
    is_second: bool = False    # in the second pass
    seconds: float = 0.0       # that it took


@dataclass(frozen=True, slots=True)
class Verdict:
    """The common answer of all modules to one login."""

    outcome: Outcome
    found: Found | None = None    # only with OK, and always then
    module: str = ""              # id of the module whose answer this is; empty if no module knows the user
    why: str = ""                 # for the log, never for the client; no secrets
    user: str = ""                # whom the module has named, made uniform; empty: the user of the request
    steps: tuple[Step, ...] = field(default=(), compare=False)    # the questions that led to it
    proof: bytes = field(default=b"", repr=False, compare=False)  # as in Answer; also without OK


class Chain:
    """All modules in their order."""

    def __init__(self, modules: Sequence[Asked], timeout: float, note: Callable[..., None],
                 output: OutputCatcher | None = None) -> None:
        """Ask `modules`, as ModuleRunner says."""
        self._runners = tuple(ModuleRunner(module, timeout, note, output) for module in modules)
        self._for_all = tuple(each for each in self._runners if not each.module.namespaces)
        named = {name for module in modules for name in module.namespaces}
        self._by_namespace = {name: tuple(each for each in self._runners
                                          if each in self._for_all or name in each.module.namespaces)
                              for name in named}

    def check(self, request: Request, name_of: Callable[[str], str] = str) -> Verdict:
        """Ask the modules who the user is and whether they may log in; never raises.

        `name_of` makes a name that a module has given uniform, as the user of the request already is.
        """
        steps = self._ask(request, None) if not request.master else self._places(request)
        verdict = settle(steps)
        if verdict.outcome is not Outcome.OK:
            identity = _denied_identity(steps)
            if identity is None and request.master and request.mechanism and not request.password:
                identity = _NOWHERE    # the salt of a master must not tell whether the user exists
            if identity is not None:
                steps += self._ask(request, identity)
                verdict = settle(steps)
        if verdict.user:
            verdict = self._named(request, verdict, name_of(verdict.user))
        if verdict.outcome is Outcome.UNKNOWN and not request.mechanism:
            secrets.verify_nothing(request.password)    # so that the time does not reveal that the user does not exist
        return verdict

    def find(self, user: str, namespace: str) -> list[Step]:
        """Return each module's answer, in order, where a user's mail is, without a password; never raises.

        OK: found; UNKNOWN: the module does not know the user; FAILED: it cannot tell, with the reason.  Only the first
        OK would count at a login.
        """
        request = Request(user, b"", "", "pop3", namespace)
        return [Step(runner.module.ident, runner.module.name, runner.locate(request))
                for runner in self._asked_for(namespace)]

    def place(self, user: str, namespace: str) -> list[Step]:
        """Ask where a user's mail is, up to the first module that knows them or cannot tell; never raises.

        The last answer is the one that counts: the user may have another mailbox in a database that cannot tell now.
        """
        request = Request(user, b"", "", "pop3", namespace)
        steps: list[Step] = []
        began = time.monotonic()
        for runner in self._asked_for(namespace):
            answer = runner.locate(request)
            ended = time.monotonic()
            steps.append(Step(runner.module.ident, runner.module.name, answer, seconds=ended - began))
            if answer.outcome is not Outcome.UNKNOWN:
                break
            began = ended
        return steps

    def mechanisms(self, namespace: str) -> frozenset[str]:
        """Return what the modules of a namespace can check besides passwords of users."""
        return frozenset(name for runner in self._asked_for(namespace) if not runner.module.names_masters
                         for name in runner.module.mechanisms)

    def token(self, user: str, backend: str, deadline: float = float("inf"), refused: bytes = b"") -> bytes:
        """Return the access token with which `user` can log in at a backend, from the first module that has one.

        `deadline` is in seconds of time.monotonic().  `refused` is a token that the backend has just refused; it is
        returned again if there is no other one.
        If there is none, raises NoConsent; but PdmError if a module has failed, which has been logged, or no module
        gives tokens.  The texts are for the log.
        """
        request = Request(user, refused, "", "pop3", "", deadline)
        whys: dict[Outcome, list[str]] = {Outcome.FAILED: [], Outcome.DENIED: []}
        for runner in self._runners:
            if runner.module.gives_tokens:
                answer = runner.token(request, backend)
                if answer.outcome is Outcome.OK:
                    return answer.proof
                whys[answer.outcome].append(f"{runner.module.ident}: {answer.why}")
        if whys[Outcome.FAILED] or not whys[Outcome.DENIED]:
            raise PdmError("; ".join(whys[Outcome.FAILED]) or "no module gives tokens")
        raise NoConsent("; ".join(whys[Outcome.DENIED]))

    def troubles(self, ident: str = "") -> list[str]:
        """Return which modules cannot look up a user now, and why, which is also logged; never raises.

        With `ident`, only one is asked.  Those that PDM workers ask are left out, as workers come later.
        """
        request = Request(_NOBODY, b"", "", "pop3", "")
        found: list[str] = []
        for runner in self._runners:
            module = runner.module
            if isinstance(module, PdmModule) and ident in ("", module.ident):
                answer = runner.locate(request)
                if answer.outcome is Outcome.FAILED and answer.why != str(CannotFind()):
                    found.append(f"{module.ident}: {answer.why}")
        return found

    def describe(self) -> list[str]:
        """Return for each module the words that `ptestpdm` and `pdm add` take, secrets masked."""
        return [" ".join(filter(None, (runner.module.ident, runner.module.name, _words(runner.module))))
                for runner in self._runners]

    def close(self) -> None:
        """Close what this process opened."""
        for runner in self._runners:
            runner.close()

    def _ask(self, request: Request, identity: Found | None) -> list[Step]:
        """Ask the modules in order until one answers OK; with `identity`, ask the question of the second pass."""
        steps: list[Step] = []
        began = time.monotonic()
        for runner in self._asked_for(request.namespace):
            module = runner.module
            if (request.mechanism and request.mechanism not in module.mechanisms
                    or request.master and not module.names_masters):
                continue
            answer = runner.answer(request, identity)
            ended = time.monotonic()
            steps.append(Step(module.ident, module.name, answer, identity is not None, ended - began))
            if answer.outcome is Outcome.OK:
                break
            began = ended
        return steps

    def _places(self, request: Request) -> list[Step]:
        """Return the first pass for a master: where the mail of the user is, in answers that only a master makes good.
        """
        proven = Request(request.user, b"", request.ip, request.protocol, request.namespace, request.deadline,
                         request.vserv, PROVEN)
        steps: list[Step] = []
        for runner in self._asked_for(request.namespace):
            module = runner.module
            answer = runner.answer(proven) if PROVEN in module.mechanisms else runner.locate(proven)
            if answer.outcome is Outcome.FAILED and answer.why == str(CannotFind()):
                answer = UNKNOWN
            if answer.found is not None:
                answer = Answer(Outcome.DENIED, answer.found, f"no master user {request.master!a}, or a wrong password")
            steps.append(Step(module.ident, module.name, answer))
            if answer.found is not None:
                break
        return steps

    def _named(self, request: Request, verdict: Verdict, user: str) -> Verdict:
        """Return the verdict if a module has named the user to whom its OK applies."""
        if not user or request.user and user != request.user:
            return replace(verdict, outcome=Outcome.DENIED, found=None, user="", why=f"it belongs to user {user!a}")
        if verdict.found is not None:
            return replace(verdict, user=user)
        steps = self._ask(Request(user, b"", request.ip, request.protocol, request.namespace, request.deadline,
                                  request.vserv, PROVEN), None)
        return replace(settle(steps), user=user, steps=(*verdict.steps, *steps))

    def _asked_for(self, namespace: str) -> Sequence[ModuleRunner]:
        """Return the modules for a namespace in their order: those that name it, and those that name none."""
        return self._by_namespace.get(namespace, self._for_all)


def settle(steps: Sequence[Step]) -> Verdict:
    """Return the verdict on the answers of both passes, given in the order in which they came."""
    for outcome in (Outcome.OK, Outcome.FAILED, Outcome.DENIED):
        for step in steps:
            if (answer := step.answer).outcome is outcome:
                found = answer.found if outcome is Outcome.OK else None
                user = answer.user if outcome is Outcome.OK else ""
                proof = answer.proof
                for each in steps:
                    proof = proof or each.answer.proof
                return Verdict(outcome, found, step.module, answer.why, user, tuple(steps), proof)
    return Verdict(Outcome.UNKNOWN, steps=tuple(steps))


def _denied_identity(steps: Sequence[Step]) -> Found | None:
    """Return the identity for the second pass: that of the first denial that has one."""
    for step in steps:
        if step.answer.outcome is Outcome.DENIED and step.answer.found is not None:
            return step.answer.found
    return None


def _words(module: Asked) -> str:
    scope = f"namespace={','.join(sorted(module.namespaces))}" if module.namespaces else ""
    return " ".join(filter(None, (module.describe(), scope)))
