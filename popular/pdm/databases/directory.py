"""Connections to LDAP servers, for the database module ldap.

A link has several servers and stays connected to the one that answered last.  If it fails, the others are tried, each
with its share of the time until the deadline, so that the last one can still answer.  Referrals are not followed,
because they would send passwords to servers that nobody has configured.

Runs in a PDM worker, which imports the driver (python-ldap) and passes it.  Its library, libldap, reads ldap.conf(5),
but only the certificate authorities there count, and only if `cafile` is not given.
"""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from popular.config.store import Values
from popular.errors import StartError
from popular.pdm.api import PdmError
from popular.pdm.timelimit import undisturbed

T = TypeVar("T")

CLOSED = {"530": "not allowed at this time", "531": "not allowed from here", "532": "the password has expired",
          "533": "the account is disabled", "701": "the account has expired", "773": "the password must be changed",
          "775": "the account is locked"}    # what Active Directory adds to "invalid credentials"

PORTS = {"ldap": 389, "ldaps": 636, "ldapi": 0}

_URI = re.compile(r"(ldaps?)://(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::([0-9]{1,5}))?/?|(ldapi)://[^/?,\s]*/?",
                  re.ASCII)
_STARTTLS = bytes.fromhex("301d02010177188016") + b"1.3.6.1.4.1.1466.20037"    # the request (RFC 4511 section 4.14.1)
_UNSAFE = re.compile(rb"[^A-Za-z0-9@._-]")
_REASON = re.compile(r"AcceptSecurityContext error, data ([0-9a-f]+)", re.ASCII)
_OPENLDAP_2_6 = 20_600    # as VENDOR_VERSION has it
_LEAST = 0.01    # seconds: a limit of 0 would mean that there is none
_MOST = 0.95     # of the time until the deadline, so that there is some left to say which server was silent


@dataclass(frozen=True, slots=True)
class LdapUri:
    """Where a server is."""

    uri: str
    scheme: str    # one of PORTS
    host: str      # without brackets
    port: int

    @classmethod
    def parse(cls, uri: str) -> "LdapUri":
        """Read a URI; raises ValueError."""
        match = _URI.fullmatch(uri)
        if match is None or int(match[4] or 0) > 65535:
            raise ValueError(f"{uri!a} is not ldaps://HOST[:PORT], ldap://HOST[:PORT] or ldapi://PATH")
        scheme = match[1] or match[5]
        return cls(uri, scheme, match[2] or match[3] or "", int(match[4] or PORTS[scheme]))


@dataclass(frozen=True, slots=True)
class LdapEntry:
    """What a search has found."""

    dn: str
    values: Mapping[str, list[str]]    # by the attribute's name in lower case


class Unreachable(Exception):
    """A server cannot answer, but another one may; says why."""


class Silent(Unreachable):
    """A server did not answer in time."""


class LdapLink:
    """A connection that is kept, to whichever server answered last."""

    def __init__(self, ldap: Any, places: Sequence[LdapUri], options: Values, bindpassword: bytes = b"") -> None:
        """Connect with `options`, and bind as `binddn` if there is a password."""
        self._ldap, self._options, self._bindpassword = ldap, options, bindpassword
        self._places = list(places)
        self._server: LdapServer | None = None
        self._pid = os.getpid()

    def ask(self, question: "Callable[[LdapServer], T]", deadline: float) -> T:
        """Return the answer of the first server that can answer.

        Raises PdmError if none can by the deadline (of time.monotonic()), or if the answer of one is an error.
        """
        with undisturbed():    # or a lock of the driver could stay closed; waits are bounded, but for a host's look-up
            return self._ask(question, deadline)

    def _ask(self, question: "Callable[[LdapServer], T]", deadline: float) -> T:
        kept = self._server is not None
        tries = [self._places[0]] * kept + self._places    # the server may have closed the kept connection meanwhile
        failures: dict[LdapUri, str] = {}
        for number, place in enumerate(tries):
            now = time.monotonic()
            share = min(self._options.seconds("timeout"), _MOST * (deadline - now) / (len(tries) - number))
            if share <= 0 or place in failures:
                continue
            try:
                answer = question(self._connected(place, now + share))
            except Unreachable as why:
                if number >= kept or isinstance(why, Silent):
                    failures[place] = f"{place.uri}: {self._explained(why)}"
                self.close()
            except self._ldap.LDAPError as why:
                raise PdmError(f"{place.uri}: {text_of(why)}") from None
            else:
                self._places.remove(place)
                self._places.insert(0, place)
                return answer
        raise PdmError("; ".join(failures.values()) or "no time was left to ask")

    def close(self) -> None:
        """Close the connection, or let go of it if it is another process's."""
        with undisturbed():
            server, self._server = self._server, None
            if server is not None:
                server.close(is_ours=self._pid == os.getpid())

    def _connected(self, place: LdapUri, until: float) -> "LdapServer":
        """Return the kept connection or a new one, for questions that end at `until`."""
        if self._server is None:
            self._server = LdapServer(self._ldap, place, self._options)
            self._server.until = until
            self._server.connect(self._bindpassword)
        self._server.until = until
        return self._server

    def _explained(self, why: Unreachable) -> str:
        return (not isinstance(why, Silent) and self._server is not None and self._server.tls_fault()) or str(why)


class LdapServer:
    """One connection."""

    def __init__(self, ldap: Any, place: LdapUri, options: Values) -> None:
        """Do not connect yet."""
        self.until = 0.0    # when an answer is due, in seconds of time.monotonic()
        self._ldap, self._place, self._options = ldap, place, options
        self._starts_tls = place.scheme == "ldap" and options.flag("starttls")
        self._handle: Any = None
        self._has_answered = False

    def connect(self, bindpassword: bytes) -> None:
        """Connect with TLS, if demanded, and bind as `binddn` if there is a password; raises PdmError.

        With ldaps:// and ldapi:// the library connects only when it has something to send.
        """
        handle = self._handle = self._initialized()
        if self._starts_tls:
            self._call("StartTLS", handle.start_tls_s)
        if bindpassword:
            binddn = self._options.text("binddn")
            try:
                self._call("bind", self._bind, binddn, bindpassword)
            except self._ldap.LDAPError as why:
                raise PdmError(f"{self._place.uri}: cannot bind as {binddn}: {text_of(why)}") from None

    def _initialized(self) -> Any:
        """Return a handle of the library with all its options."""
        ldap, place = self._ldap, self._place
        handle = ldap.initialize(place.uri, fileno=self._dial() if place.scheme == "ldap" else None)
        files = {ldap.OPT_X_TLS_CACERTFILE: "cafile", ldap.OPT_X_TLS_CERTFILE: "certificate",
                 ldap.OPT_X_TLS_KEYFILE: "key"}
        for option, value in (
                (ldap.OPT_REFERRALS, 0), (ldap.OPT_DEREF, ldap.DEREF_NEVER), (ldap.OPT_NETWORK_TIMEOUT, self._left),
                (ldap.OPT_TIMEOUT, self._left), (ldap.OPT_X_TLS_REQUIRE_CERT, ldap.OPT_X_TLS_DEMAND),
                # before OpenLDAP 2.6, a handshake would wait forever, busily, without it; since then none waits with it
                (ldap.OPT_CONNECT_ASYNC, int(place.scheme != "ldapi" and ldap.VENDOR_VERSION < _OPENLDAP_2_6)),
                *((option, path) for option, name in files.items() if (path := self._options.optional_text(name))),
                (ldap.OPT_X_TLS_NEWCTX, 0)):    # the last, which makes those for TLS count
            try:
                handle.set_option(option, value)
            except (ValueError, ldap.LDAPError) as why:    # with OpenSSL, files are read at once
                raise Unreachable(f"TLS settings: {text_of(why)}") from None
        return handle

    def _dial(self) -> int:
        """Return a connected socket, which does not block; before 2.6 the library cannot connect without waiting."""
        import socket    # here, as everything else that only workers need

        try:
            with socket.create_connection((self._place.host, self._place.port), self._left) as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                sock.setblocking(False)
                return sock.detach()
        except TimeoutError:
            raise Silent("connection timed out") from None
        except OSError as why:
            raise Unreachable(why.strerror or str(why)) from None

    def search(self, base: str, scope: str, words: str, attributes: Sequence[str]) -> list[LdapEntry] | None:
        """Return at most two entries; None if there is no entry `base`."""
        ldap, handle = self._ldap, self._handle
        depth = {"sub": ldap.SCOPE_SUBTREE, "one": ldap.SCOPE_ONELEVEL, "base": ldap.SCOPE_BASE}[scope]
        try:
            number = self._call("search", lambda: handle.search_ext(base, depth, words, attributes, sizelimit=2))
            _, found, *_ = self._call("search", lambda: handle.result3(number, 1, self._left))
        except (ldap.NO_SUCH_OBJECT, ldap.INVALID_DN_SYNTAX):
            return None
        except ldap.SIZELIMIT_EXCEEDED:
            raise ValueError(f"more than one entry matches {words}") from None
        entries = [(dn, values) for dn, values in found if dn is not None]    # those without one are referrals
        return [LdapEntry(dn, {name.lower(): [octets.decode("utf-8", "surrogateescape") for octets in several]
                               for name, several in values.items()}) for dn, values in entries]

    def refusal(self, dn: str, password: bytes) -> str:
        """Return why the directory refuses a password, which is not empty; nothing if it is right."""
        ldap = self._ldap
        try:
            self._call("bind", self._bind, dn, password)
        except ldap.INVALID_CREDENTIALS as why:
            reason = _REASON.search(text_of(why))
            return CLOSED.get(reason[1] if reason else "", "wrong password")
        except ldap.INAPPROPRIATE_AUTH:
            return "the entry has no password"
        return ""

    def tls_fault(self) -> str:
        """Return why TLS with this server fails, which libldap with GnuTLS does not say; empty if it is not that."""
        import socket
        import ssl

        from popular.net.tls.context import KeyPair, client_context
        from popular.net.tls.stream import reason_of

        if self._has_answered or not (self._starts_tls or self._place.scheme == "ldaps"):
            return ""
        cafile, certificate, key = (self._options.optional_text(name) for name in ("cafile", "certificate", "key"))
        try:
            context = client_context("1.2", cafile or "",
                                     pair=KeyPair(certificate, key) if certificate and key else None)
            with socket.create_connection((self._place.host, self._place.port), self._left) as sock:
                if self._starts_tls:
                    sock.sendall(_STARTTLS)
                    sock.recv(4096)
                context.wrap_socket(sock, server_hostname=self._place.host).close()
        except ssl.SSLError as why:
            return f"TLS: {reason_of(why)}"
        except TimeoutError:
            return "TLS: no answer in time"
        except OSError as why:
            return why.strerror or str(why)
        except StartError as why:
            return str(why)
        return ""

    def close(self, *, is_ours: bool) -> None:
        """Close the connection; one that is another process's stays open there."""
        if self._handle is None:
            return
        if not is_ours:    # the library would write to it when the object goes
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            os.dup2(null, self._handle.fileno(), inheritable=False)
            os.close(null)
        with suppress(self._ldap.LDAPError):
            self._handle.unbind_s()

    def _bind(self, dn: str, password: bytes) -> None:
        if not (dn and password):
            raise ValueError("this would be an anonymous bind")
        self._handle.result3(self._handle.simple_bind(dn, password), 1, self._left)

    def _call(self, what: str, call: Callable[..., T], *words: object) -> T:
        """Return what `call` returns; raises Unreachable if the server is, and LDAPError."""
        ldap = self._ldap
        try:
            answer = call(*words)
        except ldap.TIMEOUT:
            raise Silent(f"{what}: no answer in time") from None
        except (ldap.SERVER_DOWN, ldap.CONNECT_ERROR, ldap.BUSY, ldap.UNAVAILABLE) as why:
            raise Unreachable(f"{what}: {text_of(why)}") from None
        self._has_answered = True
        return answer

    @property
    def _left(self) -> float:
        return max(_LEAST, self.until - time.monotonic())


def escape(text: str) -> str:
    """Return `text` as it must stand in a filter or a DN, the escapes of which are the same: `\\XX` for each octet.

    Spaces, too, are escaped, as they may count or not in both.  Raises UnicodeEncodeError for what is not UTF-8.
    """
    return _UNSAFE.sub(lambda octet: b"\\%02x" % ord(octet[0]), text.encode()).decode("ascii")


def text_of(why: Exception) -> str:
    """Return what the library and the server say about an error, on one line."""
    about = why.args[0] if why.args and isinstance(why.args[0], dict) else {"desc": str(why)}
    words = (" ".join(str(about.get(key, "")).split()) for key in ("desc", "info"))
    return ": ".join(word for word in words if word and "unknown error" not in word)[:300]
