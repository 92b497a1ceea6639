"""Who takes part, and how each is started.

A contender is a whole chain that a client can be sent to: a proxy with what stands behind it, or a server alone.
It is started in the warden and runs until `close`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from popular.addresses import Endpoint
from tests.bench import dovecot, floor, peers, popular_chain
from tests.bench.interpreters import MARK
from tests.bench.popular_chain import Shape
from tests.bench.population import Store


@dataclass(frozen=True, slots=True)
class Place:
    """What a contender is started with."""

    folder: Path            # its own, with a short name
    store: Store
    owner: tuple[int, int]  # uid and gid of the mail
    shape: Shape = Shape()


class Running(Protocol):
    """A contender at work."""

    @property
    def endpoint(self) -> Endpoint:
        """Where clients connect."""
    @property
    def tls(self) -> Endpoint | None:
        """Where clients connect with TLS, if they can."""
    @property
    def checks(self) -> Endpoint | None:
        """Where mail checks are answered, if they are."""
    def close(self) -> None:
        """End everything that was started; twice is fine."""


@dataclass(frozen=True, slots=True)
class Contender:
    """One row of the table."""

    name: str
    about: str
    start: Callable[[Place], Running]
    needs: tuple[str, ...] = ()     # programs, by name
    workloads: tuple[str, ...] = ()     # that it can do; () is all of them without TLS
    tls: tuple[str, ...] = ()           # the same of those with TLS

    @property
    def is_ours(self) -> bool:
        """Tell whether it is POPular from end to end."""
        return self.name.startswith("popular-")

    @property
    def is_python(self) -> bool:
        """Tell whether another Python can run it: ours and the floors in Python."""
        return self.name.startswith(("popular-", "floor-python-"))

    def takes(self, workload: str) -> bool:
        """Tell whether it can do a workload."""
        if workload in TLS:
            return workload in self.tls
        return not self.workloads or workload in self.workloads


def _ours(maxuse: int, module: str, settings: str = "") -> Callable[[Place], Running]:
    return lambda place: popular_chain.PopularChain(place.folder, place.store, place.owner, maxuse, replace(
        place.shape, module=place.shape.module or module, settings=f"{settings}\n{place.shape.settings}"))


def _before_dovecot(maxuse: int) -> Callable[[Place], Running]:
    return lambda place: popular_chain.ProxyBeforeDovecot(place.folder, place.store, place.owner, maxuse)


def _dovecot(kind: str, *, has_proxy: bool) -> Callable[[Place], Running]:
    if has_proxy:
        return lambda place: dovecot.start_proxy_and_server(place.folder, place.store, place.owner, kind,
                                                            has_tls=place.shape.has_tls)
    return lambda place: dovecot.start_server(place.folder, place.store, place.owner, kind)


def _peer(start: Callable[[Path, Store, tuple[int, int], bool], Running]) -> Callable[[Place], Running]:
    return lambda place: start(place.folder, place.store, place.owner, place.shape.has_tls)


def _floor(maxuse: int, *, is_c: bool) -> Callable[[Place], Running]:
    return lambda place: floor.start_proxy(place.folder, place.store, place.owner, maxuse, place.shape, is_c=is_c)


def _direct(*, has_proxy: bool) -> Callable[[Place], Running]:
    return lambda place: floor.start_direct(place.folder, place.store, has_proxy=has_proxy)


POOLED = 1000    # sessions that a child serves

_BULK = ("bulk", "bulk-text")
_SESSIONS = ("empty", "mail", "mix", *_BULK, "idle")
TLS = ("tls-off", "tls-full", "tls-resumed", "tls-bulk")
_NO_TICKETS = ("tls-off", "tls-full", "tls-bulk")       # each login process of Dovecot takes only its own
_LEFT_OUT = "no log, database, limits or capabilities"

CONTENDERS: tuple[Contender, ...] = (
    Contender("popular-classic", "pproxy, pcheckd, pserv; maxuse = 1; users in sqlite", _ours(1, "sqlite"), tls=TLS),
    Contender("popular-pooled", "pproxy, pcheckd, pserv; maxuse = 1000; users in sqlite", _ours(POOLED, "sqlite"),
              tls=TLS),
    Contender("popular-classic-passwd", "the same; maxuse = 1; users in a passwd file", _ours(1, "passwd"),
              tls=TLS),
    Contender("popular-pooled-passwd", "the same; maxuse = 1000; users in a passwd file", _ours(POOLED, "passwd"),
              tls=TLS),
    Contender("popular-pooled-relay", "the same; a few processes relay for all of them (relay = shared)",
              _ours(POOLED, "passwd", "relay = shared")),
    Contender("pproxy-dovecot-classic", "pproxy, maxuse = 1, before tuned Dovecot", _before_dovecot(1), ("dovecot",)),
    Contender("pproxy-dovecot-pooled", "pproxy, maxuse = 1000, before tuned Dovecot", _before_dovecot(POOLED),
              ("dovecot",)),
    Contender("dovecot-packaged", "Dovecot alone, as packaged", _dovecot("packaged", has_proxy=False), ("dovecot",)),
    Contender("dovecot-tuned", "Dovecot alone, tuned", _dovecot("tuned", has_proxy=False), ("dovecot",)),
    Contender("dovecot-proxy-packaged", "Dovecot's proxy before Dovecot, both as packaged",
              _dovecot("packaged", has_proxy=True), ("dovecot",)),
    Contender("dovecot-proxy-tuned", "Dovecot's proxy before Dovecot, both tuned", _dovecot("tuned", has_proxy=True),
              ("dovecot",), tls=_NO_TICKETS),
    Contender("nginx", "nginx mail before tuned Dovecot", _peer(peers.start_nginx), ("dovecot", "nginx"), tls=TLS),
    Contender("perdition", "Perdition before tuned Dovecot", _peer(peers.start_perdition), ("dovecot", "perdition"),
              tls=TLS),
    Contender("haproxy", "HAProxy in TCP mode before tuned Dovecot", _peer(peers.start_haproxy),
              ("dovecot", "haproxy")),
    Contender("floor-python-classic", f"smallest proxy in Python before our pcheckd and pserv: {_LEFT_OUT}; 1 use",
              _floor(1, is_c=False), workloads=_SESSIONS),
    Contender("floor-python-pooled", "the same; 1000 uses", _floor(POOLED, is_c=False), workloads=_SESSIONS),
    Contender("floor-c-classic", f"smallest proxy in C before our pcheckd and pserv: {_LEFT_OUT}; 1 use",
              _floor(1, is_c=True), ("cc",), _SESSIONS),
    Contender("floor-c-pooled", "the same; 1000 uses", _floor(POOLED, is_c=True), ("cc",), _SESSIONS),
    Contender("floor-c-direct", "sendfile in C, a process for each session: no proxy, no search for dots, no UIDL, "
              "nothing deleted", _direct(has_proxy=False), ("cc",), _BULK),
    Contender("floor-c-two-hops", "the same behind splice in C, a process for each session", _direct(has_proxy=True),
              ("cc",), _BULK),
)


def contender(name: str) -> Contender:
    """Return the contender with this name, under another Python if it ends with `@` and a version; raises KeyError."""
    plain, _, version = name.partition(MARK)
    found = {each.name: each for each in CONTENDERS}[plain]
    return replace(found, name=name, about=f"{found.about}; Python {version}") if version else found


def lacks(wanted: Contender) -> str:
    """Return in one line what is missing for a contender, or an empty text."""
    for program in wanted.needs:
        missing = dovecot.missing() if program == "dovecot" else peers.missing(program)
        if missing:
            return missing
    return ""
