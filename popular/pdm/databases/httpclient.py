"""A client for HTTP servers that serve alike: each has one kept connection, and those after the first stand in for it.

For database modules that ask over HTTP, such as `http` and `oauth`, and for what else pproxy asks in its PDM workers.
`Urls` is the kind of a setting, read in the starter and the lean master, which need neither the driver nor TLS.
`HttpClient` loads both, so it is made in the process that asks.
"""

import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, ClassVar
from urllib.parse import urlsplit

from popular.errors import PdmError
from popular.pdm.drivers import driver
from popular.pdm.timelimit import within

MAX_BODY = 1 << 16              # octets of an answer's body, unless a client takes more
HTTP_SUCCESS = range(200, 300)       # statuses; nginx's own `return 204` is usual

_CHUNK = 4096


@dataclass(frozen=True, slots=True)
class HttpServer:
    """One URL, taken apart."""

    url: str
    is_tls: bool
    host: str
    port: int
    path: str    # with the query


@dataclass(frozen=True, slots=True)
class Urls:
    """URLs of HTTP servers, separated by commas."""

    name: ClassVar[str] = "Urls"
    wanted: ClassVar[str] = "a list of http:// or https:// URLs without a user, separated by commas"

    def parse(self, text: str) -> tuple[HttpServer, ...]:
        """Read `URL,URL,…`."""
        return tuple(server_of(word, self.wanted) for word in text.split(","))

    def show(self, value: tuple[HttpServer, ...]) -> str:
        """Return the URLs."""
        return ",".join(server.url for server in value)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What a server has answered."""

    server: HttpServer
    status: int
    headers: Mapping[str, list[str]]    # names in lower case
    body: bytes = field(repr=False)     # as sent: a Content-Encoding, for which nobody asked, is not undone
    is_whole: bool = True               # False: the body is longer than the client takes


@dataclass(frozen=True, slots=True)
class _Question:
    method: str
    query: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)


class HttpClient:
    """Connections to servers that serve alike; the one that has answered last is asked first."""

    def __init__(self, servers: Sequence[HttpServer], timeout: float, cafile: str | None = None,
                 max_body: int = MAX_BODY) -> None:
        """Load urllib3 and the certificates; connections are made by the questions.  Raises PdmError.

        A server has at most `timeout` seconds for an answer.  `cafile` has the certificates of the authorities that
        may have signed the servers'; None: those that the system trusts.
        """
        self._urllib3 = driver("urllib3", "urllib3")
        self._timeout, self._cafile, self._max_body = timeout, cafile, max_body
        self._pools = [(server, self._pool(server)) for server in servers]

    def close(self) -> None:
        """Close the connections."""
        pools, self._pools = self._pools, []
        for _, pool in pools:
            pool.close()

    def ask(self, method: str, headers: Mapping[str, str], deadline: float, body: bytes | None = None,
            statuses: Container[int] = HTTP_SUCCESS, query: str = "") -> HttpReply:
        """Ask the servers in turn until one answers with one of `statuses`, until `deadline` (time.monotonic).

        `query` is appended to their paths.  A server may get the question twice, if it closes a kept connection at this
        moment.  Redirections are not followed.  Raises PdmError, which tells nothing that was sent or received.
        """
        question, faults = _Question(method, query, headers, body), list[str]()
        for turn, (server, pool) in enumerate(list(self._pools)):
            try:
                reply = self._reply(server, pool, question, deadline)
                if reply.status not in statuses:
                    raise PdmError(f"HTTP status {reply.status}")
            except PdmError as why:
                faults.append(f"{server.url}: {why}")
                continue
            self._pools.insert(0, self._pools.pop(turn))
            return reply
        raise PdmError("; ".join(faults))

    def _pool(self, server: HttpServer) -> Any:
        """Return what keeps the one connection to a server; raises PdmError."""
        if not server.is_tls:
            return self._urllib3.HTTPConnectionPool(server.host, server.port, maxsize=1)
        from ssl import create_default_context    # here, because it loads OpenSSL, which every fork would copy

        try:
            context = create_default_context(cafile=self._cafile)
        except OSError as why:
            raise PdmError(f"cafile: {why.strerror}") from None
        if _is_address(server.host):
            context.check_hostname = False    # urllib3 does it: its version 1.26 does not tell OpenSSL the address
        return self._urllib3.HTTPSConnectionPool(server.host, server.port, maxsize=1, ssl_context=context)

    def _reply(self, server: HttpServer, pool: Any, question: _Question, deadline: float) -> HttpReply:
        """Return one server's answer; raises PdmError."""
        made = pool.num_connections
        ends = min(deadline, time.monotonic() + self._timeout)
        for is_last in (False, True):
            try:
                response, body = within(ends - time.monotonic(), ends, self._response, pool, server.path, question)
                break
            except self._urllib3.exceptions.ProtocolError as why:
                if is_last or pool.num_connections != made:
                    raise PdmError(_reason(why)) from None
                # the server has closed a kept connection, perhaps at this moment
            except (self._urllib3.exceptions.HTTPError, OSError) as why:
                raise PdmError(_reason(why)) from None
        headers = {name.lower(): response.headers.getlist(name) for name in response.headers}
        return HttpReply(server, response.status, headers, body[:self._max_body], len(body) <= self._max_body)

    def _response(self, pool: Any, path: str, question: _Question) -> tuple[Any, bytes]:
        """Send a question and receive the answer, with one octet more of its body than is taken."""
        response = pool.urlopen(question.method, path + question.query, question.body, question.headers, retries=False,
                                redirect=False, preload_content=False)
        body = b""
        while len(body) <= self._max_body:
            octets = response.read(min(self._max_body + 1 - len(body), _CHUNK), decode_content=False)
            if not octets:
                response.release_conn()
                return response, body
            body += octets
        response.close()
        return response, body


def server_of(url: str, wanted: str) -> HttpServer:
    """Take a URL apart; raises ValueError with the text `wanted`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    if (parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.fragment
            or not url.isascii() or not url.isprintable() or " " in url):
        raise ValueError(wanted)
    is_tls = parts.scheme == "https"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return HttpServer(url, is_tls, parts.hostname, port or (443 if is_tls else 80), path)


def _is_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False


def _reason(why: BaseException) -> str:
    """Return why a server could not be asked, without anything that it has sent."""
    from ssl import SSLCertVerificationError    # urllib3 has loaded it

    cause: BaseException | None = why
    while cause is not None:
        if isinstance(cause, SSLCertVerificationError):
            return f"its certificate: {cause.verify_message or cause}"
        if isinstance(cause, ValueError) and type(cause).__name__ == "CertificateError":    # of urllib3
            return f"its certificate: {cause}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(why).__name__
