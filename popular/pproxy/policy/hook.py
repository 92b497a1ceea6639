"""A login about which a policy server is asked before, and told afterwards (pproxy's children).

Imported in the master once a virtual server has a policy server.  PDM workers ask it, because children must not wait
for a network; whatever goes wrong, the login goes on without it.
"""

import time
from collections.abc import Callable
from functools import partial

from popular.daemon.child.session import Session
from popular.errors import LoginRefused, PdmError
from popular.pdm.api import Outcome
from popular.pdm.asking.chain import Chain
from popular.pdm.asking.channel import Channel
from popular.pop3.exchange import SaslExchange
from popular.pproxy.backends.link import BackendLink
from popular.pproxy.login import REFUSAL, Empty, LoginAttempt
from popular.pproxy.messages import POLICY_REFUSED
from popular.pproxy.objects import ProxyConfig, Vserv
from popular.pproxy.policy.question import LoginResult, PolicyAnswer, PolicyQuestion
from popular.pproxy.policy.server import PolicyTrouble
from popular.pproxy.policy.terms import PolicyTerms
from popular.sasl.mechanism import Credentials

_GRACE = 0.25    # seconds after the deadline of a question in which the worker can still say why it failed


class PolicyHook:
    """The way to one policy server; made in the master, for one virtual server."""

    def __init__(self, terms: PolicyTerms, channel: Channel, trouble: PolicyTrouble) -> None:
        """Ask by these terms, through PDM workers."""
        self.terms = terms
        self._channel = channel
        self._trouble = trouble

    @property
    def attempt(self) -> Callable[..., LoginAttempt]:
        """What makes a LoginAttempt."""
        return partial(JudgedAttempt, self)

    def ask(self, question: PolicyQuestion) -> PolicyAnswer:
        """Return the server's answer; raises nothing."""
        try:
            return PolicyAnswer.unpacked(self._channel.ask(question.packed(), question.deadline + _GRACE))
        except (PdmError, ValueError, OSError) as why:
            text = why.strerror if isinstance(why, OSError) else str(why)
        self._trouble.tell(self.terms.url, text or "")
        return PolicyAnswer(has_failed=True)

    def report(self, question: PolicyQuestion) -> None:
        """Have the server told, without waiting for that; raises nothing."""
        if not self._channel.tell(question.packed()):
            self._trouble.tell(self.terms.url, "the PDM workers have no room for a report")


class JudgedAttempt(LoginAttempt):
    """An attempt to log in, with the questions to the policy server."""

    def __init__(self, hook: PolicyHook, config: ProxyConfig, chain: Chain, session: Session, vserv: Vserv,
                 user: str, credentials: Credentials) -> None:
        super().__init__(config, chain, session, vserv, user, credentials)
        self._hook = hook

    def run(self, exchange: SaslExchange | None = None) -> Empty | BackendLink:
        """Do it unless the server refuses; raises LoginRefused.  The client has the answer before a success is told."""
        if self._hook.terms.asks:
            self._want_permission()
        try:
            mailbox = super().run(exchange)
        except LoginRefused as why:
            self._report(self._result(why))
            raise
        self._report(LoginResult(True))
        return mailbox

    def _want_permission(self) -> None:
        """Ask the server, and wait if it says so; raises LoginRefused."""
        answer = self._hook.ask(self._question())
        if answer.has_failed:
            self.slot.count("policy_failed")
        if answer.status < 0:
            self.slot.count("policy_refused")
            self.session.note_peer(POLICY_REFUSED, user=self.user, namespace=self.vserv.namespace, client=self.client,
                                   why=answer.message)
            self._report(LoginResult(False, "policy", True))
            raise LoginRefused(REFUSAL, code="AUTH", why=f"policy: {answer.message}")
        if answer.status > 0:
            now = time.monotonic()
            until = now + min(answer.status, self._hook.terms.delay)
            time.sleep(max(0.0, min(until, self.wire.deadline or until) - now))

    def _result(self, why: LoginRefused) -> LoginResult:
        """Return how a refused login ended: a right password is a success even if the backend was out of reach."""
        if self.route is not None and self.route.is_vouched:
            return LoginResult(True)
        if not why.is_guess:
            return LoginResult(False, "internal")
        return LoginResult(False, "account" if self.verdict is Outcome.UNKNOWN else "credentials")

    def _report(self, result: LoginResult) -> None:
        if self._hook.terms.reports:
            self._hook.report(self._question(result))

    def _question(self, result: LoginResult | None = None) -> PolicyQuestion:
        deadline = time.monotonic() + self._hook.terms.timeout
        if result is None and self.wire.deadline is not None:
            deadline = min(deadline, self.wire.deadline)
        password = b"" if self.credentials.mechanism else self.credentials.password
        return PolicyQuestion(
            self.vserv.ident, self.user.encode("utf-8", "surrogateescape"), password, self.session.peer.host,
            self.session.id, self.session.is_secure, deadline, result)
