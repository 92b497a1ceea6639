"""The session of one client of the proxy, from greeting to goodbye (spec 0.2, 1.5).

Runs in the children of pproxy.  After a refusal, ours or the backend's, the client stays in AUTHORIZATION.
What the client has sent ahead is kept through every change of state and is relayed first.
"""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from popular.config.store import Config
from popular.daemon.admin.sessions import totals_of
from popular.daemon.child.session import Session
from popular.daemon.messages import NULL_BYTE_IN_INPUT
from popular.daemon.tls import IMPLICIT
from popular.errors import BackendError, Gone, LoginRefused, NulByte
from popular.log.writer import Log
from popular.mailcheck.packet import MailState
from popular.net.relay import relay
from popular.pdm.api import Found, Outcome, Request
from popular.pdm.chain import CachedAnswer, Chain, Step, Verdict
from popular.pop3 import capability
from popular.pop3.authorization import AuthorizationState, Credentials, StartTls
from popular.pop3.dialogue import Dialogue
from popular.pop3.maildrop import EmptyMaildrop
from popular.pop3.transaction import TransactionState
from popular.pproxy import messages
from popular.pproxy.backend import BackendLink, BackendRefused, Unanswered
from popular.pproxy.limits.guesses import LoginGuard
from popular.pproxy.objects import Backend, ProxyConfig, Vserv
from popular.pproxy.routing import NoRoute, Route, find_route
from popular.pproxy.visit import Visit
from popular.statefile.counters import ProxyOutcome
from popular.statefile.layout import CountedBy
from popular.statefile.reader import Row
from popular.statefile.slot import session_key

if TYPE_CHECKING:
    from popular.pproxy.recorder import Recorder

_MAX_DELAY = 15.0    # seconds; the longest wait before a refusal
_LEAVING_SECONDS = 0.5    # for a session that the client has just ended
_EMPTY_MAILBOX = "0 messages (0 octets)"
_WRONG = "Authentication failed"
BROKEN = "Temporary problem, please try again later"


class Empty:
    """The client is logged in and sees an empty mailbox."""


class ProxySession:
    """One client of the proxy."""

    def __init__(self, config: ProxyConfig, chain: Chain, session: Session, vserv: Vserv,
                 recorder: "Recorder | None" = None, guard: LoginGuard | None = None) -> None:
        self.config = config
        self.chain = chain
        self.session = session
        self.vserv = vserv
        self.wire = session.wire
        self.log = session.log
        self.slot = session.child.slot
        self.client = str(session.peer)
        self.dialogue = Dialogue(self.wire, maxerrors=config.maxerrors, trace=session.trace)
        self.user = ""
        self.route: Route | None = None
        self.pdm = ""          # the module that named it
        self.mailbox = 0       # the key of the mailbox that the user has logged in to; 0: none, or a master session
        self.outcome = ProxyOutcome.NO_LOGIN
        self.end_reason = ""   # why it ended so, where that is known
        self.recorder = recorder if vserv.smtpafterpop else None
        self.unrecorded = False    # the client may send mail, but is not recorded yet
        self.guard = guard         # None: failed logins have no limit here

    def run(self) -> None:
        """Serve the client; raises Gone if they leave or misbehave."""
        self.log.note(messages.SESSION_START, client=self.client, vserv=self.vserv.ident)
        self.session.hides_input = True
        try:
            self.limit_login()
            self.session.enter("greeting")
            if self.vserv.tls is not None and self.vserv.tls.mode == IMPLICIT:
                self.session.start_tls(self.vserv.tls)
            if not self.session.connection.is_greeted:
                self.wire.reply(True, self.vserv.banner)
            self.wire.await_input()
            login = self.log_in()
            if login is not None:
                self.wire.deadline, self.wire.idle = None, self.config.idletimeout
                self.session.hides_input = False
                if self.recorder is not None:
                    self.record(login, self.recorder)
            if isinstance(login, BackendLink):
                self.hand_over(login)
            elif login is not None:
                self.play_empty_mailbox()
        except Gone as why:
            self.end_reason += f": {why}"
            raise
        finally:
            self.log_end()

    def limit_login(self) -> None:
        """Set the deadline of the whole login; without one, only the idle timeout limits it."""
        if self.config.authtimeout:
            self.wire.deadline = time.monotonic() + self.config.authtimeout
        else:
            self.wire.idle = self.config.idletimeout

    def log_in(self) -> Empty | BackendLink | None:
        """Log the client in to a mailbox; return None if they quit before.  Raises Gone after too many refusals."""
        for attempt in range(self.config.maxauthtries):
            self.session.enter("auth")
            self.session.child.has_login = False
            credentials = self.ask_credentials()
            if credentials is None:
                self.outcome = ProxyOutcome.QUIT
                return None
            asked = time.monotonic()
            self.user, self.route, self.pdm = self.vserv.userformat.applied(credentials.user), None, ""
            self.slot.call_user(self.user)
            if self.guard is not None and not self.guard.may_try(self.vserv.namespace, self.user):
                self.refuse_unchecked()
            try:
                login = self.admit(self.authenticate(credentials.password))
                if self.guard is not None:
                    self.guard.succeeded()
                return login
            except LoginRefused as why:
                self.outcome = ProxyOutcome.REFUSED
                if self.guard is not None and why.is_guess:
                    self.guard.failed()
                self.slot.leave_backend()
                self.pause_until(asked + min(self.config.authdelay * 2 ** attempt, _MAX_DELAY))
                self.wire.reply(False, why.text, why.code)
        self.log.note(messages.TOO_MANY_LOGINS, client=self.client, tries=self.config.maxauthtries)
        raise Gone("too many refused logins")

    def ask_credentials(self) -> Credentials | None:
        """Get USER and PASS from the client, after STLS if they send it; return None if they quit."""
        while True:
            offers_tls = self.vserv.tls is not None and not self.session.is_secure
            needs_tls = not (self.session.is_secure or self.vserv.plaintextauth == "on"
                             or self.vserv.plaintextauth == "local" and self.session.is_local)
            caps = self.vserv.login_caps or capability.AUTHORIZATION
            if (offers_tls or needs_tls) and not self.vserv.login_caps:
                caps = capability.before_login(offers_tls=offers_tls, needs_tls=needs_tls)
            found = self.dialogue.run(AuthorizationState(
                self.wire, caps, offers_tls=offers_tls, needs_tls=needs_tls))
            if not isinstance(found, StartTls):
                return found if isinstance(found, Credentials) else None
            assert self.vserv.tls is not None    # else STLS does not exist
            self.session.start_tls(self.vserv.tls)

    def refuse_unchecked(self) -> NoReturn:
        """Refuse a login after too many failed ones, and end the session: to wait would keep the child; raises Gone."""
        self.outcome = ProxyOutcome.REFUSED
        self.slot.count("logins_unchecked")
        self.session.note_peer(messages.LOGIN_UNCHECKED, user=self.user, namespace=self.vserv.namespace,
                               client=self.client)
        self.wire.reply(False, "Too many failed logins, please try again later", "SYS/TEMP")
        raise Gone("too many failed logins")

    def authenticate(self, password: bytes) -> Route:
        """Ask the database modules who the user is and where their mail is; raises LoginRefused."""
        verdict = self.session.child.lend(self.chain.check, Request(
            user=self.user, password=password, ip=self.session.peer.host,
            protocol="pop3", namespace=self.vserv.namespace, vserv=self.vserv.ident))
        for step in verdict.steps:
            self.count_step(step)
        who = {"user": self.user, "namespace": self.vserv.namespace, "pdm": verdict.module}
        match verdict:
            case Verdict(outcome=Outcome.OK, found=Found() as found):
                try:
                    self.route = route = find_route(self.config.backends, found, password)
                except NoRoute as why:
                    self.slot.count("logins_failed")
                    self.log.note(messages.ROUTE_UNUSABLE, **who, why=str(why), client=self.client)
                    raise LoginRefused(BROKEN, code="SYS/TEMP", why=str(why)) from why
                self.pdm = verdict.module
                self.slot.count("logins")
                self.session.child.has_login = True
                self.slot.call_backend(route.backend.ident)
                self.mailbox = 0 if route.master else session_key(
                    self.vserv.namespace, route.backend.ident, route.where)
                self.slot.count_by(CountedBy.MAILBOX, self.mailbox)
                self.log.note(messages.LOGIN, **who, backend=route.backend.ident, protocol=route.protocol,
                              mailbox=route.where, master=route.master, client=self.client)
                if found.label:
                    self.log.note(messages.APP_PASSWORD, user=self.user, label=found.label, client=self.client)
                return route
            case Verdict(outcome=Outcome.FAILED):
                self.slot.count("logins_failed")
                self.log.note(messages.LOGIN_FAILED, **who, client=self.client, why=verdict.why)
                raise LoginRefused(BROKEN, code="SYS/TEMP", why=verdict.why)
        self.slot.count("logins_refused")
        self.log.note(messages.LOGIN_REFUSED, **who, client=self.client, why=verdict.why or verdict.outcome.value)
        raise LoginRefused(_WRONG, code="AUTH", why=verdict.why, is_guess=True)

    def count_step(self, step: Step) -> None:
        """Count a question to a module, or an answer from the cache; log one that is stale."""
        answer = step.answer
        has_failed = answer.outcome is Outcome.FAILED
        if isinstance(answer, CachedAnswer):
            self.slot.count(answer.counter)
            if answer.counter == "cache_hits":
                return
            if answer.failure:
                has_failed = True
                self.log.note(messages.STALE_ANSWER, module=step.module, user=self.user, client=self.client,
                              why=answer.failure)
        self.slot.count_question(step.module, step.seconds, has_failed=has_failed)

    def admit(self, route: Route) -> Empty | BackendLink:
        """Choose between the empty mailbox and the backend, and answer the client's PASS; raises LoginRefused."""
        most = route.sessions or self.vserv.limits.usersessions
        if most and self.mailbox:
            self.limit_sessions(most)
        if not self.vserv.enabled:
            self.log.note(messages.VSERV_DISABLED, vserv=self.vserv.ident, client=self.client)
            return self.empty(route, ProxyOutcome.VSERV_DISABLED)
        if not route.backend.enabled:
            self.log.note(messages.BACKEND_DISABLED, **self.where(route))
            return self.empty(route, ProxyOutcome.BACKEND_DISABLED)
        replica = self.config.backends.get(route.backend.replica)
        has_replica = replica is not None and replica.enabled
        try:
            return self.visit(route, has_replica=has_replica)
        except BackendError as why:
            if replica is None or not has_replica or isinstance(why, Unanswered):
                return self.out_of_reach(route, why)
            return self.visit_replica(route, replica, why)

    def visit(self, route: Route, *, has_replica: bool = False) -> Empty | BackendLink:
        """Ask the backend for mail and log in there; raises LoginRefused, and BackendError if it is out of reach."""
        where = self.where(route)
        visit = Visit(self.session, route, where)
        is_drained = route.backend.drain
        if not (is_drained and has_replica):
            visit.want_room()
            match visit.mail_state():
                case MailState.EMPTY:
                    self.log.note(messages.MAILBOX_EMPTY, **where)
                    return self.empty(route, ProxyOutcome.EMPTY)
                case MailState.OVERLOADED:
                    self.log.note(messages.STORE_OVERLOADED, **where)
                    return self.empty(route, ProxyOutcome.OVERLOADED)
        if is_drained:
            raise BackendError("it is drained", "drained")
        return self.connect(route, visit)

    def visit_replica(self, route: Route, replica: Backend, why: BackendError) -> Empty | BackendLink:
        """Do it at the replica of a backend that is out of reach; raises LoginRefused."""
        self.log_nul(why)
        self.session.child.count_failure(route.backend.ident, why.kind)
        self.slot.count("to_replica")
        self.log.note(messages.REPLICA_USED, backend=route.backend.ident, replica=replica.ident, mailbox=route.where,
                      why=str(why), client=self.client)
        self.route = route = replace(route, backend=replica)
        self.slot.move_to_backend(replica.ident)
        try:
            return self.visit(route)
        except BackendError as also:
            return self.out_of_reach(route, also)

    def limit_sessions(self, most: int) -> None:
        """Wait shortly for a session of this user to end if they have more than `most`; raises LoginRefused.

        Sessions with the same mailbox are theirs, since databases may take several spellings for the same name.
        """
        patience = time.monotonic() + _LEAVING_SECONDS
        while (sessions := self.slot.sessions_with(CountedBy.MAILBOX, self.mailbox)) > most:
            if time.monotonic() >= patience:
                self.log.note(messages.TOO_MANY_SESSIONS, user=self.user, namespace=self.vserv.namespace,
                              sessions=most, client=self.client)
                raise LoginRefused("Too many sessions", code="IN-USE", why=f"{sessions} sessions")
            time.sleep(_LEAVING_SECONDS / 10)

    def connect(self, route: Route, visit: Visit) -> BackendLink:
        """Log in at the backend and pass its answer on; raises LoginRefused, and BackendError if it is out of reach."""
        try:
            link = visit.connect()
        except BackendRefused as why:
            self.slot.count("backend_refused")
            is_guess = why.is_guess and not route.is_vouched
            if is_guess:    # it was the client's own password, not checked before
                self.log.note(messages.LOGIN_REFUSED, user=self.user, namespace=self.vserv.namespace,
                              client=self.client, pdm=self.pdm, why=f"backend {route.backend.ident}: {why}")
            else:
                self.log.note(messages.BACKEND_REFUSED, **self.where(route), answer=str(why))
            raise LoginRefused(why.answer.text, code=why.answer.code, why=str(why), is_guess=is_guess) from why
        try:
            self.wire.send(link.first_line + b"\r\n")
        except BaseException:
            link.close()
            raise
        self.outcome = ProxyOutcome.RELAYED
        return link

    def out_of_reach(self, route: Route, why: BackendError) -> Empty:
        """Show the empty mailbox instead of the backend, or raise LoginRefused, depending on `softfail`.

        Always raise LoginRefused if the backend was to check the client's password, or got one and did not answer.
        """
        self.log_nul(why)
        self.session.child.count_failure(route.backend.ident, why.kind)
        if route.softfail and route.is_vouched and not isinstance(why, Unanswered):
            self.log.note(messages.SOFT_FAILURE, **self.where(route), why=str(why))
            return self.empty(route, ProxyOutcome.SOFT_FAILURE)
        self.log.note(messages.BACKEND_FAILED, **self.where(route), why=str(why))
        raise LoginRefused(BROKEN, code="SYS/TEMP", why=str(why))

    def empty(self, route: Route, outcome: ProxyOutcome) -> Empty:
        """Answer PASS as pserv would for a mailbox without mail.

        Raises LoginRefused if nothing has checked the password.
        If the module does not check it (`any` with pop3), the backend would, but it was not asked.
        """
        if not route.is_vouched:
            raise LoginRefused(BROKEN, code="SYS/TEMP", why=f"{outcome.text}, and nobody has checked the password")
        self.outcome = outcome
        self.wire.reply(True, _EMPTY_MAILBOX)
        return Empty()

    def where(self, route: Route) -> dict[str, str]:
        """Return the fields of log lines for a route and its client."""
        return {"backend": route.backend.ident, "mailbox": route.where, "client": self.client}

    def record(self, login: Empty | BackendLink, recorder: "Recorder") -> None:
        """Record that the client may send mail, if their own password was checked.

        With pop3 only the backend is certain to check it, and for an empty mailbox it was not asked.
        """
        route = self.route
        if route is None or route.master or route.protocol == "pop3" and isinstance(login, Empty):
            return
        self.unrecorded = not recorder.record(self.session.peer.host, self.log)

    def record_late(self) -> None:
        """Try once more to record the client, after they have left."""
        if self.recorder is not None:
            self.unrecorded = not self.recorder.record(self.session.peer.host, self.log, is_last_try=True)

    def play_empty_mailbox(self) -> None:
        """Serve an empty mailbox until the client leaves."""
        self.session.enter("empty")
        self.dialogue.run(TransactionState(self.wire, EmptyMaildrop(), self.vserv.mail_caps,
                                           has_last=self.config.last))

    def hand_over(self, link: BackendLink) -> None:
        """Relay bytes between client and backend until one of them ends."""
        self.session.enter("relay")
        self.session.is_talking = False
        sent_ahead = self.wire.take_buffered()
        known_in, known_out = self.wire.bytes_in - len(sent_ahead), self.wire.bytes_out
        try:
            end = relay(self.wire.sock, link.wire.sock, to_server=sent_ahead,
                        to_client=link.wire.take_buffered(), idle=self.config.idletimeout,
                        progress=lambda up, down: self.slot.progress(known_in + up, known_out + down))
        finally:
            link.close()
        self.wire.bytes_in, self.wire.bytes_out = known_in + end.to_server, known_out + end.to_client
        self.end_reason = f": {end.reason}"

    def pause_until(self, moment: float) -> None:
        """Wait before a refusal, but not beyond the login's deadline."""
        if self.wire.deadline is not None:
            moment = min(moment, self.wire.deadline)
        time.sleep(max(0.0, moment - time.monotonic()))

    def log_nul(self, why: BackendError) -> None:
        """Log a NUL byte from a backend (spec 1.5), if that has caused the error."""
        if isinstance(why.__cause__, NulByte):
            data = b"***" if isinstance(why, Unanswered) else why.__cause__.data    # it may repeat the password
            self.log.note(NULL_BYTE_IN_INPUT, ctx="backend", len=why.__cause__.length, data=data)

    def log_end(self) -> None:
        """Log the line that sums up the session, and count its outcome."""
        self.slot.count(self.outcome.counter)
        self.log.note(
            messages.SESSION_END, client=self.client, vserv=self.vserv.ident, namespace=self.vserv.namespace,
            user=self.user, backend=self.route.backend.ident if self.route else "",
            protocol=self.route.protocol if self.route else "", outcome=self.outcome.text + self.end_reason,
            **self.session.totals())
        self.slot.end()


def sum_up(config: Config, log: Log, row: Row, how: str) -> None:
    """Write the last line of a session whose child has died, `how`, from what the child had reported (master only)."""
    vserv = config.item("vserv", row.owner)
    log.note(
        messages.SESSION_END, client=str(row.client), vserv=row.owner,
        namespace=vserv.values.text("namespace") if vserv else "", user=row.user, backend=row.backend, protocol="",
        outcome=f"{ProxyOutcome.CUT_OFF.text}: {how}", **totals_of(row))
