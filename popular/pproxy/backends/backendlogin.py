"""Logins at pop3 backends by other means than USER and PASS: SASL (RFC 5034), APOP, and a master account.

Runs in the children of pproxy, loaded in the master if a backend has such a setting.  As always, a backend is not
trusted, and a secret that it repeats is not passed on.
"""

import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module

from popular.errors import BackendError
from popular.net.wire import Wire
from popular.pop3.response import Response
from popular.pproxy.backends.link import (
    BackendRefused, backend_capabilities, final_answer, judged, line_for, send_step, show_password, unanswered)
from popular.pproxy.objects import TOKEN_LOGINS
from popular.sasl.client import ClientMechanism, ExternalClient, PlainClient, ServerFault, TokenClient
from popular.sasl.mechanism import Credentials

_MAX_AUTH = 255 - 2    # octets of AUTH with an initial response (RFC 5034 section 4), without CRLF
_MAX_CHALLENGE = 4096    # octets of a line with one
_MAX_CHALLENGES = 4
_STAMP = re.compile(r"<[!-;=?-~]+@[!-;=?-~]+>")
_CLASSES: dict[str, Callable[[str, Credentials], ClientMechanism]] = {
    "plain": PlainClient, "external": ExternalClient, "xoauth2": TokenClient, "oauthbearer": TokenClient}


@dataclass(frozen=True, slots=True)
class Account:
    """A master account at a backend, which opens all mailboxes there."""

    name: str = ""    # empty: there is none
    password: bytes = field(default=b"", repr=False)
    separator: str = "*"    # between the names of user and master in USER


@dataclass(frozen=True, slots=True)
class BackendLogin:
    """How the proxy logs in at one backend."""

    how: str           # the value of `auth`
    account: Account = Account()

    @classmethod
    def loaded(cls, how: str, account: Account) -> "BackendLogin":
        """Return a login with the code that it needs; called in the master."""
        if how == "scram":
            import_module("popular.sasl.scramclient")    # only then, as it brings OpenSSL
        return cls(how, account)

    @property
    def takes_token(self) -> bool:
        """Tell whether the login needs an access token."""
        return self.how in TOKEN_LOGINS

    @property
    def sends_password(self) -> bool:
        """Tell whether the backend gets a password of the user's own, by which it may judge the client."""
        return not (self.account.name or self.takes_token or self.how == "external")

    def log_in(self, wire: Wire, greeting: Response, user: str, secret: bytes) -> bytes:
        """Log `user` in with a `secret` of their own or of the master account; return the line that accepts them.

        Raises BackendRefused, and BackendError if the backend cannot do it or its answer is none.
        """
        credentials = Credentials(user, secret)
        if self.account.name:
            credentials = replace(credentials, password=self.account.password, master=self.account.name)
        match self.how:
            case "user":
                return self._show(wire, credentials)
            case "apop":
                return _digest(wire, greeting, credentials)
            case "scram":
                mechanism = _scram(wire, credentials)
            case _:
                mechanism = _CLASSES[self.how](self.how.upper(), credentials)
        return _exchange(wire, mechanism)

    def _show(self, wire: Wire, credentials: Credentials) -> bytes:
        """USER and PASS, for a master as Dovecot has it: `user*master` (auth_master_user_separator)."""
        name = credentials.user + (f"{self.account.separator}{credentials.master}" if credentials.master else "")
        return show_password(wire, name, credentials.password)


def _digest(wire: Wire, greeting: Response, credentials: Credentials) -> bytes:
    stamp = _STAMP.search(str(greeting))
    if stamp is None:
        raise BackendError("its greeting has no timestamp for APOP")
    digest = hashlib.md5(stamp[0].encode() + credentials.password, usedforsecurity=False).hexdigest()
    name = credentials.user.encode("utf-8", "surrogateescape")
    return final_answer(wire, b"APOP " + name + b" " + digest.encode() + b"\r\n", "APOP", digest.encode())


def _scram(wire: Wire, credentials: Credentials) -> ClientMechanism:
    """Return the best SCRAM that the backend offers."""
    from popular.sasl.scramclient import HASHES, ScramClient

    offered = {word for line in backend_capabilities(wire) if line.startswith(b"SASL ") for word in line.split()}
    for name in HASHES:
        if name.encode() in offered:
            return ScramClient(name, credentials)
    raise BackendError("it does not offer SCRAM")


def _exchange(wire: Wire, mechanism: ClientMechanism) -> bytes:
    """Have the conversation of a SASL mechanism; return the line that ends it well.

    Raises BackendRefused, and Unanswered for all else that a backend may do: it may have got a secret.
    """
    usual, wire.maxline = wire.maxline, _MAX_CHALLENGE
    try:
        line = judged(_last_line(wire, mechanism), mechanism.name, mechanism.secret)
        if not mechanism.is_proven:
            raise BackendError(f"it accepted {mechanism.name} without showing that it knows the password")
        return line
    except BackendRefused:
        raise
    except BackendError as why:
        raise unanswered(why) from why.__cause__
    finally:
        wire.maxline = usual


def _last_line(wire: Wire, mechanism: ClientMechanism) -> bytes:
    """Answer all challenges; return the first line that is none."""
    step = f"AUTH {mechanism.name}"
    command, message = step.encode(), mechanism.initial()
    begin = command + b" " + (_base64(message) or b"=")
    is_said = len(begin) <= _MAX_AUTH    # else after a challenge
    send_step(wire, (begin if is_said else command) + b"\r\n", step)
    for _ in range(_MAX_CHALLENGES):
        line = line_for(wire, step)
        if not line.startswith(b"+ ") and line != b"+":
            return line
        if is_said:
            message = _answered(mechanism, step, line[2:])
        is_said = True
        send_step(wire, _base64(message) + b"\r\n", step)
    raise BackendError(f"its challenges to {step} have no end")


def _answered(mechanism: ClientMechanism, step: str, challenge: bytes) -> bytes:
    try:
        return mechanism.step(binascii.a2b_base64(challenge, strict_mode=True))
    except (ServerFault, binascii.Error) as why:
        raise BackendError(f"its answer to {step}: {why}") from None


def _base64(octets: bytes) -> bytes:
    return binascii.b2a_base64(octets, newline=False)
