"""One attempt of a client to log in, from the password to the empty mailbox or the backend (spec 1.5).

Runs in the children of pproxy.  The answer to PASS is sent here if the client gets in; after a refusal, ours or the
backend's, whoever asked for the password answers.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import NoReturn

from popular.daemon.child.session import Session
from popular.daemon.messages import NULL_BYTE_IN_INPUT
from popular.errors import BackendError, CommandRefused, LoginRefused, NulByte, PdmError
from popular.mailcheck.packet import MailState
from popular.pdm.api import Found, NoConsent, Outcome, Request
from popular.pdm.asking.chain import CachedAnswer, Chain, Step, Verdict
from popular.pop3.exchange import SaslExchange
from popular.pop3.languages import spoken_on
from popular.pproxy import messages
from popular.pproxy.backends.link import BackendLink, BackendRefused, Unanswered
from popular.pproxy.backends.routing import MailboxHeld, NoRoute, Route, find_route
from popular.pproxy.backends.visit import Visit
from popular.pproxy.limits.delay import LoginDelay
from popular.pproxy.objects import Backend, ProxyConfig, Vserv
from popular.sasl.mechanism import Credentials
from popular.statefile.counters import ProxyOutcome
from popular.statefile.layout import CountedBy

_LEAVING_SECONDS = 0.5    # for a session that the client has just ended
_EMPTY_MAILBOX = "0 messages (0 octets)"
REFUSAL = "Authentication failed"
_TOO_SOON = "Logins to this mailbox must be further apart"
_NO_CONSENT = "The owner of this mailbox has not allowed access to it, or has withdrawn that"
_HELD = "The mailbox is being moved, please try again in a few minutes"
BROKEN = "Temporary problem, please try again later"


class Empty:
    """The client is logged in and sees an empty mailbox."""


class LoginAttempt:
    """One attempt to log in as `user`; what is known of the mailbox can be read at any time."""

    def __init__(self, config: ProxyConfig, chain: Chain, session: Session, vserv: Vserv, user: str,
                 credentials: Credentials) -> None:
        self.config = config
        self.chain = chain
        self.session = session
        self.vserv = vserv
        self.user = user
        self.credentials = credentials
        self.wire = session.wire
        self.log = session.log
        self.slot = session.child.slot
        self.client = session.client
        self.route: Route | None = None
        self.pdm = ""          # the module that named it
        self.verdict: Outcome | None = None    # of all modules
        self.mailbox = 0       # the key of the mailbox that the user has logged in to; 0: none, or a master session
        self.outcome: ProxyOutcome | None = None    # None: not logged in

    @property
    def prover(self) -> str:
        """The name of whoever shows something: the user, or the master user."""
        return self.credentials.master or self.user

    def run(self, exchange: SaslExchange | None = None) -> Empty | BackendLink:
        """Log the client in to a mailbox, and answer PASS; raises LoginRefused if they are not let in, unanswered.

        If the credentials came by an `exchange`, it tells the client what its mechanism demands before that.
        """
        return self.admit(self.authenticate(exchange))

    def find_salt(self) -> bytes:
        """Return what the modules say before the client has shown anything; raises LoginRefused if they cannot tell."""
        verdict = self.ask()
        if verdict.outcome is Outcome.FAILED:
            self.fail(verdict)
        return verdict.proof

    def ask(self) -> Verdict:
        """Ask the database modules who the user is and where their mail is."""
        credentials = self.credentials
        verdict = self.session.child.lend(self.chain.check, Request(
            user=self.user, password=credentials.password, ip=self.session.peer.host,
            protocol="pop3", namespace=self.vserv.namespace, vserv=self.vserv.ident, mechanism=credentials.mechanism,
            master=credentials.master), self.vserv.userformat.applied)
        self.verdict = verdict.outcome
        for step in verdict.steps:
            self.count_step(step)
        return verdict

    def authenticate(self, exchange: SaslExchange | None) -> Route:
        """Return where the user's mail is if what they have shown is right; raises LoginRefused."""
        verdict = self.ask()
        if verdict.user and verdict.user != self.user:    # the client has not said who they are
            self.user = verdict.user
            self.slot.call_user(self.user)
        who = self.who(verdict)
        match verdict:
            case Verdict(outcome=Outcome.OK, found=Found() as found):
                route = self.find_route(found, who)
                if exchange is not None:
                    self.tell_accepted(exchange, verdict.proof)
                self.let_in(route, verdict.module)
                self.log.note(messages.LOGIN, **who, backend=route.backend.ident, protocol=route.protocol,
                              mailbox=route.where, master=self.credentials.master or route.master,
                              client=self.client, mechanism=self.credentials.how)
                if found.label:
                    self.log.note(messages.APP_PASSWORD, user=self.user, label=found.label, client=self.client)
                return route
            case Verdict(outcome=Outcome.FAILED):
                self.fail(verdict)
        self.slot.count("logins_refused")
        self.log.note(messages.LOGIN_REFUSED, **who, client=self.client, why=verdict.why or verdict.outcome.value)
        raise LoginRefused(REFUSAL, code="AUTH", why=verdict.why, is_guess=True)

    def who(self, verdict: Verdict) -> Mapping[str, str]:
        """Return the fields of log lines for a verdict."""
        return {"user": self.user, "namespace": self.vserv.namespace, "pdm": verdict.module}

    def fail(self, verdict: Verdict) -> NoReturn:
        """Refuse a login because the modules cannot tell; raises LoginRefused."""
        self.slot.count("logins_failed")
        self.log.note(messages.LOGIN_FAILED, **self.who(verdict), client=self.client, why=verdict.why)
        raise LoginRefused(BROKEN, code="SYS/TEMP", why=verdict.why)

    def find_route(self, found: Found, who: Mapping[str, str]) -> Route:
        """Return the way to what a module has found; raises LoginRefused if there is none."""
        credentials = self.credentials
        try:
            return find_route(self.config.backends, found, credentials.password, credentials.mechanism)
        except NoRoute as why:
            self.slot.count("logins_failed")
            if isinstance(why, MailboxHeld):
                self.log.note(messages.MAILBOX_HELD, **who, client=self.client)
                raise LoginRefused(_HELD, code="IN-USE", why=str(why)) from why
            self.log.note(messages.ROUTE_UNUSABLE, **who, why=str(why), client=self.client)
            raise LoginRefused(BROKEN, code="SYS/TEMP", why=str(why)) from why

    def let_in(self, route: Route, module: str) -> None:
        """Note that the user has logged in."""
        self.route, self.pdm = route, module
        self.slot.count("logins")
        self.session.child.has_login = True
        self.slot.call_backend(route.backend.ident)
        self.mailbox = 0 if route.master else self.vserv.limits.key(
            self.vserv.namespace, route.backend.ident, route.where)

    def tell_accepted(self, exchange: SaslExchange, proof: bytes) -> None:
        """Tell the client what the mechanism demands before it is let in; raises LoginRefused if it objects."""
        try:
            exchange.accept(proof)
        except CommandRefused as why:
            self.slot.count("logins_failed")
            raise LoginRefused(why.text, code=why.code, why=f"the client: {why.text}") from why

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
        if not route.is_vouched:    # the backend is asked first, and then the session is counted
            return self.reach(route)
        self.count_session(route)
        try:
            return self.reach(route)
        except LoginRefused:
            if (delay := self.delay) is not None:
                delay.give_back(self.mailbox)
            raise

    def reach(self, route: Route) -> Empty | BackendLink:
        """Do it for a user who may enter the mailbox, if their password was checked; raises LoginRefused."""
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

    @property
    def delay(self) -> LoginDelay | None:
        """What keeps logins to this mailbox apart; None: nothing does."""
        delay = self.vserv.extensions.delay
        return delay if delay is not None and self.mailbox and self.slot.client_keys[0] else None

    def count_session(self, route: Route) -> None:
        """Count the session of a user whose password is known to be right; raises LoginRefused if it is one too many.

        Not before, or whoever guesses the password of others uses up their sessions.
        """
        self.slot.count_by(CountedBy.MAILBOX, self.mailbox)
        most = route.sessions or self.vserv.limits.usersessions
        if most and self.mailbox:
            self.limit_sessions(most)
        if (delay := self.delay) is not None and not delay.take(self.mailbox):
            self.session.note_peer(messages.LOGIN_TOO_SOON, user=self.user, namespace=self.vserv.namespace,
                                   client=self.client)
            raise LoginRefused(_TOO_SOON, code="LOGIN-DELAY", why=f"a login within {delay.seconds:g}s")

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

    def connect(self, route: Route, visit: Visit) -> BackendLink:
        """Log in at the backend and pass its answer on; raises LoginRefused, and BackendError if it is out of reach."""
        language = spoken_on(self.wire)
        if language:
            route = replace(route, language=language)
        try:
            link = self.connect_by_token(route, visit) if route.lacks_token else visit.connect(route)
        except BackendRefused as why:
            self.slot.count("backend_refused")
            is_guess = why.is_guess and not route.is_vouched
            if is_guess:    # it was the client's own password, not checked before
                self.log.note(messages.LOGIN_REFUSED, user=self.user, namespace=self.vserv.namespace,
                              client=self.client, pdm=self.pdm, why=f"backend {route.backend.ident}: {why}")
            else:
                self.log.note(messages.BACKEND_REFUSED, **self.where(route), answer=str(why))
            master = route.backend.login and route.backend.login.account.name
            if why.is_guess and master:    # no password that the client could give would help
                raise LoginRefused(BROKEN, code="SYS/TEMP", why=f"backend {route.backend.ident}: {why}") from why
            raise LoginRefused(why.answer.text, code=why.answer.code, why=str(why), is_guess=is_guess) from why
        try:
            if not route.is_vouched:
                self.count_session(route)
            self.wire.send(link.first_line + b"\r\n")
        except BaseException:
            link.close()
            raise
        self.outcome = ProxyOutcome.RELAYED
        return link

    def connect_by_token(self, route: Route, visit: Visit) -> BackendLink:
        """Log in with an access token, and with another one if the backend refuses the first: it may be void by now.

        Raises what `visit.connect` and `with_token` do.
        """
        until = math.inf if self.wire.deadline is None else self.wire.deadline
        first = self.with_token(route)
        try:
            return visit.connect(first)
        except BackendRefused as why:
            if not why.is_guess or time.monotonic() >= until:
                raise
            second = self.with_token(route, until, first.password)
            if second.password == first.password:    # there is no better one
                raise
            self.log.note(messages.TOKEN_REFUSED, **self.where(route), answer=str(why))
        return visit.connect(second)

    def with_token(self, route: Route, until: float = math.inf, refused: bytes = b"") -> Route:
        """Return the route with the access token that the backend wants, after it has `refused` another one.

        `until`, by time.monotonic(), limits the time for it, as pdmtimeout does.  Raises LoginRefused if the owner does
        not allow it, and BackendError if there is none at the moment.
        """
        try:
            token = self.session.child.lend(self.chain.token, route.user, route.backend.ident, until, refused)
        except NoConsent as why:
            self.slot.count("backend_refused")
            self.log.note(messages.BACKEND_REFUSED, **self.where(route), answer=f"no token: {why}")
            raise LoginRefused(_NO_CONSENT, code="AUTH", why=str(why)) from None
        except PdmError as why:
            raise BackendError(f"no token for it: {why}") from None
        return replace(route, password=token)

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

    def log_nul(self, why: BackendError) -> None:
        """Log a NUL byte from a backend (spec 1.5), if that has caused the error."""
        if isinstance(why.__cause__, NulByte):
            data = b"***" if isinstance(why, Unanswered) else why.__cause__.data    # it may repeat the password
            self.log.note(NULL_BYTE_IN_INPUT, ctx="backend", len=why.__cause__.length, data=data)
