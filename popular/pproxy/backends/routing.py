"""From what a database module says to where the mail is, for a login and for `user find`.

Used in the children of pproxy; `find_user` in a separate process, forked from the master.  Records come from
databases and may name what does not exist.  Only the administrator can fix that, so the client gets [SYS/TEMP]
and the log says what is wrong.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from popular.control.answer import ControlAnswer
from popular.errors import PopularError
from popular.log.line import value
from popular.names import is_mailbox
from popular.pdm.api import HELD, Found, Outcome
from popular.pdm.asking.chain import Chain, Step
from popular.pproxy.objects import PROTOCOLS, Backend, ProxyConfig

_WORDS = {Outcome.OK: "found", Outcome.UNKNOWN: "unknown", Outcome.FAILED: "cannot-tell", Outcome.DENIED: "denied"}

_TOKENS = frozenset(("OAUTHBEARER", "XOAUTH2"))    # mechanisms of which the client's proof is a token


class _Knowing(Protocol):
    """What knows users: the job of pproxy's children."""

    @property
    def config(self) -> ProxyConfig:
        """The configuration."""

    @property
    def chain(self) -> Chain:
        """The database modules."""


class NoRoute(PopularError):
    """An authenticated user's record cannot be used; the text says why."""


class MailboxHeld(NoRoute):
    """The mailbox is being moved, and nobody gets in meanwhile."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where one user's mail is and how to access it."""

    backend: Backend
    protocol: str                                       # the record's, else the backend's own
    mailbox: str                                        # cxpop and xpop
    user: str                                           # pop3
    password: bytes = field(repr=False)                 # pop3
    master: bool
    is_vouched: bool = True                             # the client's password was checked, or needs no check
    softfail: bool = True                               # show an empty mailbox if the backend is out of reach
    missing: str = ""                                   # cxpop and xpop: for a user without mailbox, of MISSING
    sessions: int = 0                                   # the most at once; 0: any number
    language: str = ""                                  # cxpop and xpop: of the answers; empty: English

    @property
    def lacks_token(self) -> bool:
        """Tell whether an access token is still to be got (pop3)."""
        login = self.backend.login
        return self.protocol == "pop3" and login is not None and login.takes_token and not self.password

    @property
    def where(self) -> str:
        """The mailbox or, with pop3, the user at the backend, for the log."""
        return self.mailbox if self.protocol != "pop3" else self.user


def find_route(backends: Mapping[str, Backend], found: Found, given: bytes | None = None, mechanism: str = "") -> Route:
    """Return the route to what a database module `found`; raises NoRoute.

    `given` is the client's password or, with a `mechanism`, what else they have shown; then the module has checked it.
    None: nobody logs in.
    """
    backend = backends.get(found.backend)
    if found.is_moving and found.backend == HELD:
        raise MailboxHeld("the mailbox is held while it is moved")
    if backend is None:
        raise NoRoute(f"no backend {found.backend!r} is configured")
    protocol = found.protocol or backend.protocol
    if protocol not in PROTOCOLS:
        raise NoRoute(f"no protocol {protocol!r} is known")
    password, is_vouched = found.password, True
    if protocol == "pop3":
        if not found.user:
            raise NoRoute("protocol pop3 needs a user for the backend, and the record has none")
        is_vouched = given is None or bool(mechanism) or _is_vouched(found, given)
        if backend.login is not None and not backend.login.sends_password:
            if not is_vouched:
                raise NoRoute("the backend gets no password of the client, and no database module has checked it")
            # Not the record's password: it may be the one that the client has sent.
            password = given if given and mechanism in _TOKENS else b""
        elif given is not None and (mechanism or found.master) and found.password in (b"", given):
            raise NoRoute("protocol pop3 needs a password for the backend: the record has none, and the client has not "
                          "sent the user's")
    elif not is_mailbox(found.mailbox):
        raise NoRoute(f"mailbox {found.mailbox!r} is not well-formed")
    return Route(backend, protocol, found.mailbox, found.user, password, found.master, is_vouched,
                 backend.softfail if found.softfail is None else found.softfail, found.missing, found.sessions)


def find_user(proxy: _Knowing, names: Mapping[str, str]) -> ControlAnswer:
    """Return, for each namespace and the user's name in it, each module's answer and what may prevent access."""
    lines: list[str] = []
    found, doubts = 0, 0
    for namespace, user in names.items():
        steps = proxy.chain.find(user, namespace)
        found += any(step.answer.outcome is Outcome.OK for step in steps)
        doubts += any(step.answer.outcome is Outcome.FAILED for step in steps)
        is_first = True
        for step in steps:
            lines.append(f"{namespace} {step_line(step, _WORDS[step.answer.outcome])}")
            if step.answer.outcome is Outcome.OK and is_first:    # a login would stop here
                is_first = False
                lines += [f"{namespace} {step.module} {remark}"
                          for remark in route_remarks(proxy.config, step, namespace)]
    if found:
        return ControlAnswer(True, "", tuple(lines))
    why = "no database module finds them, but some cannot tell" if doubts else "no database module knows them"
    return ControlAnswer(False, why, tuple(lines))


def route_remarks(config: ProxyConfig, step: Step, namespace: str, given: bytes | None = None,
                  mechanism: str = "") -> Iterator[str]:
    """Yield what else affects a user that a module has found; `given` and `mechanism` as in `find_route`."""
    if step.answer.found is None:
        return
    try:
        route = find_route(config.backends, step.answer.found, given, mechanism)
    except NoRoute as why:
        yield f"no-route why={value(str(why))}"
        return
    backend = route.backend
    yield f"route backend={value(backend.ident)} protocol={value(route.protocol)} address={value(str(backend.address))}"
    if not backend.enabled:
        yield "backend-disabled: they see an empty mailbox"
    replica = config.backends.get(backend.replica)
    if backend.drain and replica is not None and replica.enabled:
        yield f"backend-drained: they are served by its replica {replica.ident}"
    elif backend.drain:
        yield "backend-drained: they see an empty mailbox or, without softfail, are told to try again later"
    for vserv in config.vservs.values():
        if vserv.namespace == namespace and not vserv.enabled:
            yield f"vserv-disabled vserv={value(vserv.ident)}: they see an empty mailbox there"


def step_line(step: Step, word: str) -> str:
    """Return a line for a module's answer, of which `word` is the summary; without the password for a backend."""
    found = step.answer.found
    head = f"{step.module} {word} module={value(step.name)}"
    if step.answer.user:
        head += f" owner={value(step.answer.user)}"
    if found is not None:
        head += (f" backend={value(found.backend)} protocol={value(found.protocol)} mailbox={value(found.mailbox)} "
                 f"user={value(found.user)}")
        head += "".join(f" {name}={limit}" for name, limit in (("quota", found.quota), ("maxnum", found.maxnum))
                        if limit is not None)
    return f"{head} why={value(step.answer.why)}" if step.answer.why else head


def _is_vouched(found: Found, given: bytes) -> bool:
    """Tell whether the module that `found` has already checked the `given` password.

    A module that does not say has done so if the backend gets another password: then nothing else could check it.
    """
    return found.password != given if found.verified is None else found.verified
