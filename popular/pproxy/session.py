"""The session of one client of the proxy, from greeting to goodbye (spec 0.2, 1.5).

Runs in the children of pproxy.  After a refusal, ours or the backend's, the client stays in AUTHORIZATION.
What the client has sent ahead is kept through every change of state and is relayed first.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from popular.addresses import Endpoint
from popular.config.store import Config
from popular.daemon.admin.sessions import totals_of
from popular.daemon.child.session import Session
from popular.daemon.tls import IMPLICIT, Tls
from popular.errors import Gone, LoginRefused
from popular.log.writer import Log
from popular.net.relay.pair import relay
from popular.pdm.asking.chain import Chain
from popular.pop3 import capability
from popular.pop3.authorization import AuthorizationState, Named, StartTls
from popular.pop3.dialogue import Dialogue
from popular.pop3.exchange import MAX_SASL_LINE, SaslExchange
from popular.pop3.maildrop import EmptyMaildrop
from popular.pop3.transaction import TransactionState
from popular.pproxy import messages
from popular.pproxy.backends.link import BackendLink
from popular.pproxy.limits.guesses import LoginGuard
from popular.pproxy.login import Empty, LoginAttempt
from popular.pproxy.objects import ProxyConfig, Vserv
from popular.proc.child import Child
from popular.sasl.mechanism import Credentials, Mechanism
from popular.statefile.counters import ProxyOutcome
from popular.statefile.reader import Row

if TYPE_CHECKING:
    from popular.net.proxyheader import ClientOrigin
    from popular.pproxy.recorder import Recorder
    from popular.pproxy.relays.channel import RelayChannels

# Gets the owner of the listener, a client whom a proxy has named, and the child; tells whether they are served (if not,
# it was counted and logged), and what judges their logins.
Judge = Callable[[str, Endpoint, Child], tuple[bool, LoginGuard | None]]

_MAX_DELAY = 15.0    # seconds; the longest wait before a refusal


class ProxySession:
    """One client of the proxy."""

    def __init__(self, config: ProxyConfig, chain: Chain, session: Session, vserv: Vserv,
                 recorder: "Recorder | None" = None, guard: LoginGuard | None = None,
                 attempt: Callable[..., LoginAttempt] = LoginAttempt,
                 judge: Judge | None = None, relays: "RelayChannels | None" = None) -> None:
        self.config = config
        self.chain = chain
        self.session = session
        self.vserv = vserv
        self.wire = session.wire
        self.log = session.log
        self.slot = session.child.slot
        self.dialogue = Dialogue(self.wire, maxerrors=config.maxerrors, trace=session.trace,
                                 maxline=config.maxline)
        self.login: LoginAttempt | None = None    # the last attempt
        self.timestamp = ""                       # in our greeting; empty: there is no APOP
        self.mechanisms: Sequence[str] = ()       # offered now
        self.exchange: SaslExchange | None = None    # by which the last credentials came
        self.asked = 0.0                          # when they were there; monotonic
        self.outcome = ProxyOutcome.NO_LOGIN    # as long as nobody has logged in
        self.end_reason = ""   # why it ended so, where that is known
        self.recorder = recorder if vserv.smtpafterpop else None
        self.unrecorded = False    # the client may send mail, but is not recorded yet
        self.guard = guard         # None: failed logins have no limit here
        self.attempt = attempt     # what makes an attempt to log in
        self.judge = judge         # of clients whom a proxy names
        self.relays = relays       # to which the session may be handed over; None: to nobody
        self.is_elsewhere = False    # it goes on in a relay process, which also sums it up
        self.knows_xclient = vserv.knows_xclient(session.peer)

    def run(self) -> None:
        """Serve the client; raises Gone if they leave or misbehave."""
        self.log.note(messages.SESSION_START, client=self.session.client, vserv=self.vserv.ident)
        if self.session.origin is not None:
            self.note_named(self.session.origin)
        self.session.hides_input = True
        try:
            self.limit_login()
            self.session.enter("greeting")
            if self.vserv.tls is not None and self.vserv.tls.mode == IMPLICIT:
                self.start_tls(self.vserv.tls)
            if not self.session.connection.is_greeted:
                self.greet()
            self.wire.await_input()
            mailbox = self.log_in()
            if mailbox is not None:
                self.wire.deadline, self.wire.idle = None, self.config.idletimeout
                self.session.hides_input = False
                if self.recorder is not None:
                    self.record(mailbox, self.recorder)
            if isinstance(mailbox, BackendLink):
                self.hand_over(mailbox)
            elif mailbox is not None:
                self.play_empty_mailbox()
        except Gone as why:
            self.end_reason += f": {why}"
            raise
        finally:
            if not self.is_elsewhere:
                self.log_end()

    def greet(self) -> None:
        """Send the greeting, with what APOP needs if it is offered."""
        text = self.vserv.banner_for(knows_xclient=self.knows_xclient)
        if self.vserv.offer is not None and self.vserv.offer.has_apop:
            self.timestamp = self.stamp()
            text = f"{text} {self.timestamp}"
        self.wire.reply(True, text)

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
            self.exchange = None
            self.asked = time.monotonic()
            try:
                credentials = self.ask_credentials()
                if credentials is None:
                    self.outcome = ProxyOutcome.QUIT
                    return None
                self.asked = time.monotonic()
                mailbox = self.begin_attempt(credentials).run(self.exchange)
                if self.guard is not None:
                    self.guard.succeeded()
                return mailbox
            except LoginRefused as why:
                self.refuse(why, attempt)
        self.log.note(messages.TOO_MANY_LOGINS, client=self.session.client, tries=self.config.maxauthtries)
        raise Gone("too many refused logins")

    def begin_attempt(self, credentials: Credentials) -> LoginAttempt:
        """Return the attempt to log in with these credentials; raises Gone if it is one too many."""
        form = self.vserv.userformat.applied
        if credentials.master and form(credentials.master) == form(credentials.user):
            credentials = replace(credentials, master="")    # nobody else's mailbox: one name in two spellings
        credentials = self.with_master(credentials)
        user = form(credentials.user) if credentials.user else ""    # a token names them
        self.login = self.attempt(self.config, self.chain, self.session, self.vserv, user, credentials)
        self.slot.call_user(user)
        if self.guard is not None and not self.guard.may_try(self.vserv.namespace, self.login.prover):
            self.refuse_unchecked(user)
        return self.login

    def refuse(self, why: LoginRefused, attempt: int) -> None:
        """Answer a refused login, the number `attempt` of this session, not before its time."""
        self.outcome = ProxyOutcome.REFUSED
        if self.guard is not None and why.is_guess:
            self.guard.failed()
        self.slot.leave_backend()
        self.pause_until(self.asked + min(self.config.authdelay * 2 ** attempt, _MAX_DELAY))
        if self.exchange is not None and why.is_guess:
            self.exchange.refuse()
        self.wire.reply(False, why.text, why.code)

    def salt(self, credentials: Credentials) -> bytes:
        """Return what SCRAM needs before the client can show that it knows the password; raises LoginRefused."""
        assert self.vserv.offer is not None    # else there is no SCRAM
        attempt = self.begin_attempt(credentials)
        return attempt.find_salt() or self.vserv.offer.made_up_salt(
            credentials.mechanism, self.vserv.namespace, attempt.prover)

    def certified_user(self) -> str:
        """Return the user whom the client's certificate names; empty: none."""
        stream = self.session.stream
        return stream.certified(self.vserv.certificateuser) if stream is not None else ""

    def stamp(self) -> str:
        """Return a text that no client has seen before."""
        return f"<{os.urandom(9).hex()}.{time.time_ns()}@{self.config.sidprefix}>"

    def ask_credentials(self) -> Credentials | None:
        """Get USER and PASS, or AUTH, from the client, after STLS if they send it; return None if they quit."""
        offer = self.vserv.offer
        while True:
            offers_tls = self.vserv.tls is not None and not self.session.is_secure
            needs_tls = not (self.session.is_secure or self.vserv.plaintextauth == "on"
                             or self.vserv.plaintextauth == "local" and self.session.is_local)
            self.mechanisms = () if offer is None else offer.names(
                needs_tls=needs_tls, is_certified=bool(self.vserv.certificateuser) and bool(self.certified_user()))
            has_more_in_tls = (offer is not None and needs_tls and offers_tls
                               and bool(offer.names(needs_tls=False, is_certified=False)))
            caps = self.vserv.login_caps or capability.before_login(
                self.with_delay(self.vserv.extensions.caps), offers_tls=offers_tls, needs_tls=needs_tls,
                mechanisms=self.mechanisms)
            proxies = self.vserv.proxies if self.knows_xclient else None
            if proxies is not None and not self.vserv.login_caps:
                caps = (*caps, "XCLIENT")
            state = AuthorizationState(
                self.wire, caps, offers_tls=offers_tls, needs_tls=needs_tls, mechanisms=self.mechanisms,
                has_more_in_tls=has_more_in_tls, begin=self.begin_exchange, timestamp=self.timestamp,
                read_xclient=proxies.read_xclient if proxies else None, prepare=self.vserv.extensions.prepare)
            self.wire.maxline = max(self.config.maxline, MAX_SASL_LINE if self.mechanisms else 0,
                                    proxies.maxline if proxies else 0)
            found = self.dialogue.run(state)
            if isinstance(found, Named):
                self.name_client(found.origin)
                continue
            if not isinstance(found, StartTls):
                self.wire.maxline = self.config.maxline
                self.exchange = state.exchange
                return found if isinstance(found, Credentials) else None
            assert self.vserv.tls is not None    # else STLS does not exist
            self.start_tls(self.vserv.tls)

    def start_tls(self, tls: Tls) -> None:
        """Do the handshake; log a certificate with which nobody can log in."""
        self.session.start_tls(tls)
        stream, kind = self.session.stream, self.vserv.certificateuser
        if kind and stream is not None and stream.has_certificate and not stream.certified(kind):
            self.session.note_peer(messages.CERTIFICATE_UNNAMED, client=self.session.client, vserv=self.vserv.ident,
                                   wanted=kind)

    def with_delay(self, caps: tuple[str, ...]) -> tuple[str, ...]:
        """Return `caps` with LOGIN-DELAY, if this client has to obey it."""
        delay = self.vserv.extensions.delay
        return caps if delay is None or not self.slot.client_keys[0] else (*caps, delay.capability)

    def begin_exchange(self, name: str) -> Mechanism:
        """Begin an exchange of an offered mechanism."""
        assert self.vserv.offer is not None    # else there are none
        return self.vserv.offer.begin(name, self)

    def with_master(self, credentials: Credentials) -> Credentials:
        """Return the credentials with the name of the user parted from that of a master user before it."""
        mark = self.vserv.masterseparator
        if mark and not credentials.master and mark in credentials.user:
            master, _, user = credentials.user.partition(mark)
            if master and user:
                return replace(credentials, user=user, master=master)
        return credentials

    def name_client(self, origin: "ClientOrigin") -> None:
        """Go on with the client whom a proxy has named, and answer XCLIENT; raises Gone if they are not served."""
        assert origin.client is not None    # XCLIENT has told
        self.knows_xclient = False
        self.wire.maxline = self.config.maxline
        self.session.call_client(origin.client, origin)
        self.note_named(origin)
        if self.judge is not None:
            is_served, self.guard = self.judge(self.vserv.ident, origin.client, self.session.child)
            if not is_served:
                self.wire.reply(False, "connection refused, please try again later", "SYS/TEMP")
                raise Gone("limited")
        self.wire.reply(True, "welcome")

    def note_named(self, origin: "ClientOrigin") -> None:
        """Log whom a proxy serves."""
        self.log.note(messages.CLIENT_NAMED, client=self.session.client, proxy=str(self.session.via), id=origin.ident,
                      tls=origin.tls, certificate=origin.certificate, authority=origin.authority)

    def refuse_unchecked(self, user: str) -> NoReturn:
        """Refuse a login after too many failed ones, and end the session: to wait would keep the child; raises Gone."""
        self.outcome = ProxyOutcome.REFUSED
        self.slot.count("logins_unchecked")
        self.session.note_peer(messages.LOGIN_UNCHECKED, user=user, namespace=self.vserv.namespace,
                               client=self.session.client)
        self.wire.reply(False, "Too many failed logins, please try again later", "SYS/TEMP")
        raise Gone("too many failed logins")

    def record(self, mailbox: Empty | BackendLink, recorder: "Recorder") -> None:
        """Record that the client may send mail, if their own password was checked.

        With pop3 only the backend is certain to check it, and for an empty mailbox it was not asked.
        """
        route = self.login.route if self.login else None
        if route is None or route.master or route.protocol == "pop3" and isinstance(mailbox, Empty):
            return
        self.unrecorded = not recorder.record(self.session.peer.host, self.log)

    def record_late(self) -> None:
        """Try once more to record the client, after they have left."""
        if self.recorder is not None:
            self.unrecorded = not self.recorder.record(self.session.peer.host, self.log, is_last_try=True)

    def play_empty_mailbox(self) -> None:
        """Serve an empty mailbox until the client leaves."""
        self.session.enter("empty")
        caps = self.vserv.mail_caps
        if not self.vserv.login_caps:
            caps = capability.with_sasl(self.with_delay(caps), self.mechanisms)
        self.dialogue.run(TransactionState(self.wire, EmptyMaildrop(), caps, has_last=self.config.last))

    def hand_over(self, link: BackendLink) -> None:
        """Have bytes relayed between client and backend until one of them ends: by a relay process, or here."""
        self.session.enter("relay")
        self.session.is_talking = False
        sent_ahead, said = self.wire.take_buffered(), link.wire.take_buffered()
        known_in, known_out = self.wire.bytes_in - len(sent_ahead), self.wire.bytes_out
        try:
            if self.relays is not None and self.move_out(self.relays, link, sent_ahead, said):
                return
            end = relay(self.wire.sock, link.wire.sock, to_server=sent_ahead, to_client=said,
                        idle=self.config.idletimeout,
                        progress=lambda up, down: self.slot.progress(known_in + up, known_out + down))
        finally:
            link.close()
        self.wire.bytes_in, self.wire.bytes_out = known_in + end.to_server, known_out + end.to_client
        self.end_reason = f": {end.reason}"

    def move_out(self, relays: "RelayChannels", link: BackendLink, sent_ahead: bytes, said: bytes) -> bool:
        """Hand the session over to a relay process, with what both sides have sent; return False if it stays here."""
        client, server = self.wire.sock, link.wire.sock
        if not isinstance(client, socket.socket) or not isinstance(server, socket.socket):    # under TLS
            return False
        from popular.pproxy.relays.channel import HandedOver, Story    # the master has loaded it

        story = Story(self.session.id, self.about(), self.session.times, self.wire.bytes_in - len(sent_ahead),
                      self.wire.bytes_out, self.session.started, time.monotonic())
        found = relays.give(self.slot, story, self.config.idletimeout, client, server, sent_ahead, said)
        if found is HandedOver.NO:
            return False
        if found is HandedOver.LOST:
            self.end_reason = ": the relay process died"
        self.is_elsewhere = found is HandedOver.YES
        self.wire.close()
        return True

    def pause_until(self, moment: float) -> None:
        """Wait before a refusal, but not beyond the login's deadline."""
        if self.wire.deadline is not None:
            moment = min(moment, self.wire.deadline)
        time.sleep(max(0.0, moment - time.monotonic()))

    def log_end(self) -> None:
        """Log the line that sums up the session, and count its outcome."""
        outcome = self.login and self.login.outcome or self.outcome
        self.slot.count(outcome.counter)
        self.log.note(messages.SESSION_END, **self.about(), outcome=outcome.text + self.end_reason,
                      **self.session.totals())

    def about(self) -> dict[str, str]:
        """Return what the line that sums the session up says of who was where."""
        login, route = self.login, self.login.route if self.login else None
        return {"client": self.session.client, "vserv": self.vserv.ident, "namespace": self.vserv.namespace,
                "user": login.user if login else "", "backend": route.backend.ident if route else "",
                "protocol": route.protocol if route else ""}


def sum_up(config: Config, log: Log, row: Row, how: str) -> None:
    """Write the last line of a session whose child has died, `how`, from what the child had reported (master only)."""
    vserv = config.item("vserv", row.owner)
    log.note(
        messages.SESSION_END, client=str(row.client), vserv=row.owner,
        namespace=vserv.values.text("namespace") if vserv else "", user=row.user, backend=row.backend, protocol="",
        outcome=f"{ProxyOutcome.CUT_OFF.text}: {how}", **totals_of(row))
