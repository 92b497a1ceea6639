"""The policy servers as a PDM worker asks them: the JSON of Dovecot's auth_policy over HTTP.

`PolicyServers` is made in the master, and the rest runs in the worker, which alone reads the nonce and the header.
A server that does not answer is left alone for a while, by all workers: they have other questions to answer.
"""

import json
import mmap
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from popular.errors import PdmError
from popular.log.once import OnceAMinute
from popular.log.writer import Log
from popular.pdm.asking.runner import reason
from popular.pdm.databases.httpclient import HttpClient, HttpReply, server_of
from popular.pdm.options import read_secret
from popular.pproxy.backends.health import HealthTerms, ServiceHealth
from popular.pproxy.messages import POLICY_FAILED
from popular.pproxy.policy.question import PolicyAnswer, PolicyQuestion
from popular.pproxy.policy.terms import PolicyTerms, PolicyUrl
from popular.statefile.layout import HEALTH_SIZE

MAX_POLICY_ANSWER = 1 << 14     # octets
MAX_MESSAGE = 500        # characters of the server's message

_HASH_BITS = 12          # of the digest that are sent, as by Dovecot
_TRIES = 3               # without an answer, in a row, until a server is left alone
_LONGEST_PAUSE = 10.0    # seconds between two tries then
_ANY_STATUS = range(100, 600)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)


class PolicyTrouble:
    """Tells the log, at most once a minute, why a policy server was not heard; made in the master."""

    def __init__(self, log: Log) -> None:
        """Begin; raises OSError without memory."""
        self._log = log
        self._once = OnceAMinute()

    def tell(self, url: str, why: str) -> None:
        """Log `why`, or not."""
        if self._once.is_due():
            self._log.note(POLICY_FAILED, url=url, why=why)


class PolicyServers:
    """All policy servers of one configuration."""

    def __init__(self, policies: Mapping[str, PolicyTerms], log: Log) -> None:
        """Ask by the terms of each virtual server, of which there is at least one; raises OSError without memory."""
        self.policies = policies
        self.trouble = PolicyTrouble(log)
        self.timeout = max(terms.timeout for terms in policies.values())
        servers = {terms: PolicyServer(terms, self.trouble.tell) for terms in policies.values()}
        self._servers = {vserv: servers[terms] for vserv, terms in policies.items()}

    def prepare(self) -> None:
        """Load the driver and read the secrets, before there are questions; they try again if that fails."""
        for server in self._servers.values():
            server.prepare()

    def reply(self, packet: bytes) -> bytes | None:
        """Return the answer to a packet; None: there is none. Raises ValueError if the packet cannot be read."""
        question = PolicyQuestion.unpacked(packet)
        server = self._servers.get(question.vserv)
        if not time.monotonic() < question.deadline:
            return None
        answer = PolicyAnswer() if server is None else server.answer(question)    # none: asked no more
        return answer.packed() if question.result is None else None

    def close(self) -> None:
        """Close the connections."""
        for server in self._servers.values():
            server.close()


class PolicyServer:
    """One policy server."""

    def __init__(self, terms: PolicyTerms, complain: Callable[[str, str], None]) -> None:
        """Ask by these terms; `complain` gets the URL, and why the server was not understood.  Raises OSError."""
        self._terms = terms
        self._complain = complain
        self._health = ServiceHealth(
            memoryview(mmap.mmap(-1, HEALTH_SIZE)).cast("d"), 0,
            HealthTerms(terms.timeout + 1.0, _TRIES, _LONGEST_PAUSE), lambda state, was, why: None)
        self._client: HttpClient | None = None
        self._headers: dict[str, str] = {}
        self._nonce = b""

    def open(self) -> HttpClient:
        """Load the driver, and read the secrets; raises PdmError."""
        terms = self._terms
        self._nonce = read_secret(terms.noncefile).encode()
        self._headers = {"User-Agent": "POPular", "Content-Type": "application/json"}
        if terms.headerfile is not None:
            self._headers.update([_header(terms.headerfile)])
        self._client = HttpClient([server_of(terms.url, PolicyUrl.wanted)], terms.timeout, terms.cafile,
                                  MAX_POLICY_ANSWER)
        return self._client

    def prepare(self) -> None:
        """Do the same, but raise nothing."""
        try:
            self.open()
        except PdmError:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def answer(self, question: PolicyQuestion) -> PolicyAnswer:
        """Ask the server, and log why it could not be understood; raises nothing."""
        if not self._health.ask(time.monotonic()):
            return PolicyAnswer(has_failed=True)
        try:
            reply = self._asked(question)
            return policy_answer(reply) if question.result is None else PolicyAnswer()
        except ValueError as why:
            text = f"{self._terms.url}: {why}"
        except Exception as why:
            self._health.failed(time.monotonic(), "")
            self.close()
            text = reason(why)
        self._complain(self._terms.url, text.removeprefix(f"{self._terms.url}: "))
        return PolicyAnswer(has_failed=True)

    def _asked(self, question: PolicyQuestion) -> HttpReply:
        """Return what the server has sent; raises ValueError for a status that is not 2xx, and PdmError."""
        client = self._client or self.open()
        command = "allow" if question.result is None else "report"
        query = f"{'' if self._terms.url.endswith('&') else '?'}command={command}"
        reply = client.ask("POST", self._headers, question.deadline, policy_json(question, self._nonce), _ANY_STATUS,
                           query)
        self._health.answered(time.monotonic())    # whatever it says
        if not 200 <= reply.status <= 299:
            raise ValueError(f"HTTP status {reply.status}")
        return reply


def want_askable(terms: PolicyTerms) -> None:
    """Raise PdmError if files or the driver are missing; the server itself is not asked."""
    server = PolicyServer(terms, lambda url, why: None)
    try:
        server.open()
    finally:
        server.close()


def policy_json(question: PolicyQuestion, nonce: bytes) -> bytes:
    """Return the body of a question: the fields that Dovecot sends by default."""
    fields: dict[str, object] = {
        "login": question.user.decode("utf-8", "replace"),
        "pwhash": password_hash(nonce, question.user, question.password),
        "remote": question.ip,
        "device_id": "",    # POP3 has none
        "protocol": "pop3",
        "session_id": question.session,
        "fail_type": "",
        "tls": question.tls,
    }
    if (result := question.result) is not None:
        fields |= {"success": result.success, "policy_reject": result.policy_reject, "fail_type": result.fail_type}
    return json.dumps(fields).encode("ascii")


def password_hash(nonce: bytes, user: bytes, password: bytes) -> str:
    """Return the first bits of a digest, as Dovecot does it: so few that they tell nothing of the password."""
    import hashlib    # here, because it loads OpenSSL, which the master need not have

    digest = hashlib.sha256(nonce + user + b"\0" + password).digest()
    return f"{int.from_bytes(digest) >> 8 * len(digest) - _HASH_BITS:04x}"


def policy_answer(reply: HttpReply) -> PolicyAnswer:
    """Return what a server means by its answer; raises ValueError."""
    if not reply.is_whole:
        raise ValueError(f"its answer has more than {MAX_POLICY_ANSWER} octets")
    try:
        told: Any = json.loads(reply.body)
    except (ValueError, RecursionError):
        raise ValueError("its answer is not JSON") from None
    status = told.get("status") if isinstance(told, dict) else None
    if type(status) is not int:
        raise ValueError("its answer has no number as status")
    message = told.get("msg", "")
    return PolicyAnswer(status, message[:MAX_MESSAGE] if isinstance(message, str) else "")


def _header(path: str) -> tuple[str, str]:
    """Return name and value of the header in a file; raises PdmError."""
    name, colon, text = read_secret(path).partition(":")
    if not colon:
        name, text = "X-API-Key", name
    if _TOKEN.fullmatch(name) is None or not text.isprintable():
        raise PdmError(f"{path}: not a header, NAME: VALUE")
    return name, text.strip().encode().decode("latin-1")
