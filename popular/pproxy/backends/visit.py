"""One login at one backend: limits and health of the backend, mail check, connection (design 7.1).

Runs in the children of pproxy, once or, if there is a replica, twice for each login.
"""

import math
import time
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING

from popular.daemon.child.session import Session
from popular.errors import BackendError, MailcheckError, NoMailbox
from popular.mailcheck.client import ask_pcheckd
from popular.mailcheck.packet import MailState
from popular.pproxy import messages
from popular.pproxy.backends.health import ServiceHealth
from popular.pproxy.backends.link import BackendLink
from popular.pproxy.backends.routing import Route
from popular.statefile.layout import LOGIN_ROOM, OF_CHECKS, OF_LOGINS, SESSION_ROOM, BackendState, SessionState

if TYPE_CHECKING:
    from popular.pproxy.backends.announce import Announcement

_CHECKS = tuple(f"checks_{state.name.lower()}" for state in MailState)    # counters, by the digit on the wire

_LOGGING_IN = frozenset((SessionState.MAILCHECK, SessionState.CONNECTING))
_IN_USE = frozenset((SessionState.CONNECTING, SessionState.RELAY))

_LEAST = 1 / 3    # of slowtime: what a probe has at least, however long its mail check took


class Visit:
    """What a session does at a backend before it can relay."""

    def __init__(self, session: Session, route: Route, where: Mapping[str, str]) -> None:
        """Begin the visit of the backend of `route`; `where` are the fields of log lines about it."""
        self._session = session
        self._slot = session.child.slot
        self._route = route
        self._where = where
        self._numbers, self._at = self._slot.health(route.backend.ident)
        self._logins = ServiceHealth(self._numbers, self._at + OF_LOGINS, route.backend.logins, self._note_logins)
        self._began = time.monotonic()
        self._has_answered = False

    def want_room(self) -> None:
        """Raise BackendError if the backend has as many logins or sessions as it may have."""
        backend = self._route.backend
        if backend.backendlogins:
            self._take_room(LOGIN_ROOM, backend.backendlogins, _LOGGING_IN, "logins under way")
        if backend.backendsessions:
            self._take_room(SESSION_ROOM, backend.backendsessions, _IN_USE, "sessions")

    def mail_state(self) -> MailState | None:
        """Ask pcheckd; return None if the protocol has no mail check, or if there is no usable answer."""
        route, backend = self._route, self._route.backend
        if route.protocol != "cxpop":
            return None
        checks = ServiceHealth(self._numbers, self._at + OF_CHECKS, backend.checks, self._note_checks)
        if not checks.ask(self._began):
            self._slot.count("checks_skipped")
            return None
        self._session.enter("mailcheck")
        tries = 1 if checks.is_probe else backend.checktries
        state: MailState | None = None
        try:
            state = ask_pcheckd(backend.check, route.mailbox, backend.checktimeout, tries, backend.source)
            self._slot.count(_CHECKS[state])
        except NoMailbox:    # only the server knows what happens to such users
            self._slot.count("checks_missing")
            self._session.log.note(messages.NO_MAILBOX, **self._where)
            state = MailState.EMPTY if route.missing == "empty" else None
        except MailcheckError as why:
            self._slot.count("checks_failed")
            self._session.log.note(messages.MAILCHECK_FAILED, **self._where, why=str(why))
            checks.failed(self._count_time(), str(why))
            return None
        if checks.answered(self._count_time()):
            self._logins.hasten()    # the host is back, so its server may be
        return state

    def connect(self, route: Route) -> BackendLink:
        """Log in at the backend of `route`; raises what `BackendLink.open` raises, and BackendError if it is not asked.
        """
        now = time.monotonic()
        slowtime = self._route.backend.logins.slowtime
        if not self._logins.ask(now):
            raise BackendError(f"it is {self._logins.state}, and it is not yet time for the next probe", "down")
        self._session.enter("connecting")
        answer_by = max(self._began + slowtime, now + slowtime * _LEAST) if self._logins.is_probe else math.inf
        try:
            return BackendLink.open(route, self._session.id, self._session.child.reserved.place_backend,
                                    self._note_answer, answer_by, self._announcement())
        except BackendError as why:
            if not self._has_answered and why.kind != "local":
                self._logins.failed(time.monotonic(), str(why))
            raise

    def _announcement(self) -> "Announcement | None":
        """Return what the backend is told of the client; None: nothing."""
        backend, session = self._route.backend, self._session
        if backend.announce is None:
            return None
        local = session.origin.local if session.origin else None
        return backend.announce(
            session.peer, local or session.connection.local, session.tls, session.origin.ttl if session.origin else 0,
            session.id, lambda why: session.note_peer(messages.CLIENT_NOT_PASSED, backend=backend.ident,
                                                      client=str(session.peer), why=why))

    def _note_answer(self) -> None:
        self._has_answered = True
        self._logins.answered(time.monotonic())

    def _take_room(self, index: int, most: int, states: Container[int], what: str) -> None:
        """Raise BackendError if `most` sessions of the backend are in these states.

        They are counted when as many have begun as there was room for: reading all slots for each login would be slow.
        """
        at = self._at + index
        room = self._numbers[at]
        if not 1 <= room <= most:
            room = most - self._slot.sessions_of_backend(self._route.backend.ident, states)
            if room < 1:
                raise BackendError(f"it has {most - room:g} {what}", "busy")
        self._numbers[at] = room - 1

    def _count_time(self) -> float:
        """Count the time that the mail check took, and return the present one."""
        now = time.monotonic()
        self._slot.count("check_microseconds", int((now - self._began) * 1_000_000))
        return now

    def _note_logins(self, state: BackendState, was: str, why: str) -> None:
        self._note("logins", state, was, why)

    def _note_checks(self, state: BackendState, was: str, why: str) -> None:
        self._note("mail checks", state, was, why)

    def _note(self, what: str, state: BackendState, was: str, why: str) -> None:
        backend, log = self._route.backend.ident, self._session.log
        if state is BackendState.UP:
            log.note(messages.BACKEND_UP, backend=backend, what=what, was=was)
        else:
            log.note(messages.BACKEND_TROUBLE, backend=backend, what=what, state=state.name.lower(), was=was, why=why)
