"""Where a user's mail is, for `user find`: what the database modules say without a password, and where it leads.

Runs in a process of its own, forked from the master.  Raises nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

from popular.control.answer import ControlAnswer
from popular.log.line import value
from popular.pdm.api import Outcome
from popular.pdm.chain import Chain, Step
from popular.pproxy.objects import ProxyConfig
from popular.pproxy.routing import NoRoute, find_route

WORDS = {Outcome.OK: "found", Outcome.UNKNOWN: "unknown", Outcome.FAILED: "cannot-tell", Outcome.DENIED: "denied"}


class Knowing(Protocol):
    """What knows users: the work of pproxy's children."""

    @property
    def config(self) -> ProxyConfig:
        """What is configured."""

    @property
    def chain(self) -> Chain:
        """The database modules."""


def find_user(proxy: Knowing, user: str, namespaces: Sequence[str]) -> ControlAnswer:
    """Tell for each namespace what each module says, and what is in the way of the mail."""
    lines: list[str] = []
    found, doubts = 0, 0
    for namespace in namespaces:
        steps = proxy.chain.find(user, namespace)
        found += any(step.answer.outcome is Outcome.OK for step in steps)
        doubts += any(step.answer.outcome is Outcome.FAILED for step in steps)
        is_first = True
        for step in steps:
            lines.append(f"{namespace} {told(step, WORDS[step.answer.outcome])}")
            if step.answer.outcome is Outcome.OK and is_first:    # a login would go no further
                is_first = False
                lines += [f"{namespace} {step.module} {remark}" for remark in remarks(proxy.config, step, namespace)]
    if found:
        return ControlAnswer(True, "", tuple(lines))
    why = "no database module finds them, but some cannot tell" if doubts else "no database module knows them"
    return ControlAnswer(False, why, tuple(lines))


def remarks(config: ProxyConfig, step: Step, namespace: str) -> Iterator[str]:
    """Yield what else decides what somebody sees whom a module has found."""
    if step.answer.found is None:
        return
    try:
        route = find_route(config.backends, step.answer.found)
    except NoRoute as why:
        yield f"no-route why={value(str(why))}"
        return
    backend = route.backend
    yield f"route backend={value(backend.ident)} protocol={value(route.protocol)} address={value(str(backend.address))}"
    if not backend.enabled:
        yield "backend-disabled: they see an empty mailbox"
    if backend.drain:
        yield "backend-drained: they see an empty mailbox or, without softfail, are told to come again later"
    for vserv in config.vservs.values():
        if vserv.namespace == namespace and not vserv.enabled:
            yield f"vserv-disabled vserv={value(vserv.ident)}: they see an empty mailbox there"


def told(step: Step, word: str) -> str:
    """Return a line for what a module has said, `word` for short; the password for a backend is not told."""
    found = step.answer.found
    head = f"{step.module} {word} module={value(step.name)}"
    if found is not None:
        head += (f" backend={value(found.backend)} protocol={value(found.protocol)} mailbox={value(found.mailbox)} "
                 f"user={value(found.user)}")
    return f"{head} why={value(step.answer.why)}" if step.answer.why else head
