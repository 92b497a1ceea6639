"""Database module `http`: users that an HTTP server knows, asked as nginx's mail proxy asks its `auth_http`.

    http url=URL[,URL…] [backends=ADDRESS:PORT=ID,…] [timeout=TIME] [cafile=FILE] [header=NAME secretfile=FILE]

A question is a GET with the headers of nginx: Auth-Method (plain), Auth-User, Auth-Pass, Auth-Protocol,
Auth-Login-Attempt (always 1) and Client-IP; user and password are escaped as nginx does it, control
characters, blank and `%` as `%XX`.  X-POPular-Namespace is sent, too.

    Auth-Status: OK        OK; without other headers below, the session goes on at a pop3 backend with the
                           name and password of the client
    Auth-Status: TEXT      DENIED with TEXT for the log, whether the user is unknown or the password wrong;
                           FAILED if Auth-Error-Code begins with 4, as for a temporary error in SMTP
    Auth-Server Auth-Port  the backend: `backends` says which id is at this address
    Auth-User Auth-Pass    the login at that backend, as they are, not escaped
    Auth-Wait              not used: `authdelay` of pproxy slows down guessing
    X-POPular-NAME         a field of the record, as in `popular.pdm.records` and `rules`: Backend (an id, instead
                           of Auth-Server and Auth-Port), Mailbox (also with a refusal, for master passwords), …
    X-POPular-Label        the label of the password that was right, if users have several

Anything else is FAILED: a status that is not 2xx, no or two Auth-Status, an address that `backends` lacks.
With several URLs the next one is asked when one does not answer or its status is not 2xx; the one that has
answered last is asked first.  Connections are kept; redirections are not followed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import ClassVar, cast

from popular.pdm import records
from popular.pdm.api import UNKNOWN, Answer, Outcome, PdmModule, Request
from popular.pdm.databases.httpclient import HttpClient, HttpServer, Urls
from popular.pdm.options import Addresses, File, Id, Options, Setting, String, Time, Values, secret, secret_rows

MAX_VALUE = 4096    # octets of one header's value

_SPECIAL = re.compile(rb"[\0-\x20%]")    # ngx_escape_uri, NGX_ESCAPE_MAIL_AUTH
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
_OURS = "x-popular-"


@dataclass(frozen=True, slots=True)
class Backends:
    """Addresses of backends with their ids, separated by commas."""

    name: ClassVar[str] = "Backends"
    wanted: ClassVar[str] = "a list of ADDRESS:PORT=ID, separated by commas"

    def parse(self, text: str) -> Mapping[tuple[str, int], str]:
        """Read `ADDRESS:PORT=ID,…`; an address has one id, an id may have several addresses."""
        found: dict[tuple[str, int], str] = {}
        for word in text.split(","):
            address, _, ident = word.partition("=")
            try:
                [endpoint] = Addresses().parse(address)
                place = _place(endpoint.host, endpoint.port)
                if place in found:
                    raise ValueError
                found[place] = Id().parse(ident)
            except ValueError:
                raise ValueError(self.wanted) from None
        return found

    def show(self, value: Mapping[tuple[str, int], str]) -> str:
        """Return the list."""
        return ",".join(f"[{host}]:{port}={ident}" if ":" in host else f"{host}:{port}={ident}"
                        for (host, port), ident in value.items())


OPTIONS = Options(
    Setting("url", Urls(), None, "The URL that is asked, or several, separated by commas: the others are asked when "
            "one does not answer.", required=True),
    Setting("backends", Backends(), {}, "The ids of the backends that Auth-Server and Auth-Port may name: "
            "10.0.0.5:110=store1,10.0.0.6:110=store2."),
    Setting("timeout", Time(0.05, 60), 3.0, "Time to wait for one server."),
    Setting("cafile", File(), None, "The certificates of the authorities that may have signed those of the servers.  "
            "By default those that the system trusts."),
    Setting("header", String(), None, "The name of one more header, with the value of `secret`."),
    *secret_rows("secret", "value of the header that `header` names"),
)


class Module(PdmModule):
    """The users that one HTTP service knows, on one server or several."""

    API = (1, 1)
    blocking = True

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the words described above; raises ValueError."""
        super().__init__(ident, args)
        self._values: Values = OPTIONS.parse(args)
        self._ids = cast(Mapping[tuple[str, int], str], self._values["backends"])
        self.backends = tuple(sorted(set(self._ids.values())))
        header = self._values.optional_text("header")
        has_secret = any(self._values.optional_text(name) is not None for name in ("secret", "secretfile"))
        if (header is not None) is not has_secret:
            raise ValueError("header and secret, or header and secretfile, belong together")
        if header is not None and _TOKEN.fullmatch(header) is None:
            raise ValueError(f"header: {header!a} cannot be the name of a header")
        self._headers: dict[str, str] = {}    # of every question
        self._client: HttpClient | None = None

    def open(self) -> None:
        """Load urllib3, the certificates and the secret; connections are made by the questions."""
        self._headers = {"User-Agent": "POPular", "Auth-Method": "plain", "Auth-Login-Attempt": "1"}
        header = self._values.optional_text("header")
        if header is not None:
            self._headers[header] = _latin(secret(self._values, "secret").encode())
        self._client = HttpClient(cast(tuple[HttpServer, ...], self._values["url"]), self._values.seconds("timeout"),
                                  self._values.optional_text("cafile"))

    def probe(self) -> None:
        """Ask for a user who does not exist."""
        self.open()
        try:
            records.probe_server(self.check)
        finally:
            self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def describe(self) -> str:
        """Return the arguments; a secret that was given directly is masked."""
        return OPTIONS.describe(self.args)

    def check(self, request: Request) -> Answer:
        """Ask the servers in turn until one answers."""
        user = records.user_octets(request.user)
        if user is None:
            return UNKNOWN
        headers = {**self._headers, "Auth-User": _escaped(user), "Auth-Pass": _escaped(request.password),
                   "Auth-Protocol": request.protocol, "Client-IP": request.ip,
                   "X-POPular-Namespace": _escaped(request.namespace.encode("utf-8", "surrogateescape"))}
        assert self._client is not None, "open was not called"
        reply = self._client.ask("GET", headers, request.deadline)
        try:
            return self._answer(request, reply.headers)
        except ValueError as why:
            return Answer(Outcome.FAILED, why=f"{reply.server.url}: {why}")

    def _answer(self, request: Request, told: Mapping[str, list[str]]) -> Answer:
        """Return the answer that the headers make; raises ValueError if they make none."""
        status = _only(told, "auth-status")
        if not status:
            raise ValueError("no Auth-Status in the answer")
        if status == "OK":
            return records.accepted(request, self._record(request, told), _only(told, "x-popular-label"))
        if status == "WAIT" or _only(told, "auth-error-code").startswith("4"):
            return Answer(Outcome.FAILED, why=status)
        found = self._record(request, told).found if "x-popular-mailbox" in told else None
        return Answer(Outcome.DENIED, found, status)

    def _record(self, request: Request, told: Mapping[str, list[str]]) -> records.Record:
        """Return what the headers say about a user, without a password; raises ValueError."""
        values = {name.removeprefix(_OURS): _only(told, name) for name in told if name.startswith(_OURS)}
        if not values.get("backend"):
            values["backend"] = self._backend(told)
        if not values.get("mailbox"):
            values.setdefault("protocol", "pop3")
            values.setdefault("buser", _only(told, "auth-user") or request.user)
            values.setdefault("bpass", _only(told, "auth-pass") or request.password.decode("utf-8", "surrogateescape"))
        return records.record_of({**values, "password": "*"})

    def _backend(self, told: Mapping[str, list[str]]) -> str:
        """Return the id of the backend that Auth-Server and Auth-Port name; raises ValueError."""
        host, port = _only(told, "auth-server"), _only(told, "auth-port")
        if not host or not port:
            raise ValueError("neither X-POPular-Backend nor Auth-Server and Auth-Port in the answer")
        digits = port if port.isascii() and port.isdigit() and len(port) <= 5 else "0"
        ident = self._ids.get(_place(host.removeprefix("[").removesuffix("]"), int(digits)))
        if ident is None:
            raise ValueError(f"Auth-Server {host!a} with Auth-Port {port!a} is not among backends=")
        return ident


def _place(host: str, port: int) -> tuple[str, int]:
    """Return host and port in the form in which they are compared."""
    try:
        return str(ip_address(host)), port
    except ValueError:
        return host.lower(), port


def _only(told: Mapping[str, list[str]], name: str) -> str:
    """Return the value of a header, empty if there is none; raises ValueError for several, or a value too long."""
    values = told.get(name, [""])
    if len(values) != 1:
        raise ValueError(f"several headers {name} in the answer")
    if len(values[0]) > MAX_VALUE:
        raise ValueError(f"the header {name} of the answer has more than {MAX_VALUE} octets")
    return values[0].strip().encode("latin-1", "replace").decode("utf-8", "surrogateescape")


def _escaped(octets: bytes) -> str:
    """Return a value for a header as nginx writes it."""
    return _latin(_SPECIAL.sub(lambda match: b"%%%02X" % match[0][0], octets))


def _latin(octets: bytes) -> str:
    """Return octets as the text that http.client sends as these octets."""
    return octets.decode("latin-1")
