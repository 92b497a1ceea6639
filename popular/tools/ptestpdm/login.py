"""All steps of one login, for `ptestpdm -c FILE USER`: modules, route, mail check and, if requested, the backend.

Part of the tool ptestpdm.  It asks everything that pproxy would ask, with its configuration and, if root runs it, with
the rights of its user.  No client is served and no mail is touched.  Raises PopularError, KeyError and OSError.
"""

import getpass
import os
import socket
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from popular.addresses import Endpoint
from popular.config.ini.file import read_ini
from popular.config.mistakes import ConfigError, Mistake
from popular.config.store import Config, default_config, with_fact
from popular.daemon.admin.capa import read_lists
from popular.daemon.start.launch import check_library
from popular.errors import BackendError, Gone, MailcheckError, PdmError, UsageError
from popular.log.line import value
from popular.mailcheck.client import ask_pcheckd
from popular.mailcheck.packet import MailState
from popular.pdm.api import NoConsent, Outcome, Request
from popular.pdm.asking.chain import Chain, Step
from popular.pdm.asking.configured import configured_module
from popular.pproxy.backends.link import BackendLink, BackendRefused
from popular.pproxy.backends.routing import NoRoute, Route, find_route, route_remarks, step_line
from popular.pproxy.main import resolve_backends
from popular.pproxy.objects import ProxyConfig, name_asked, proxy_config
from popular.pproxy.settings import SCHEMA
from popular.unix.rights import drop, find_rights

_MAX_PASSWORD = 1 << 15    # octets that are read; tokens are long

_MAIL = {MailState.EMPTY: "no-mail: they see an empty mailbox", MailState.OLD_MAIL: "read-mail",
         MailState.NEW_MAIL: "new-mail", MailState.OVERLOADED: "overloaded: they see an empty mailbox"}


@dataclass(frozen=True, slots=True)
class Login:
    """The login to try."""

    config: str          # the INI file of pproxy
    user: str
    namespace: str       # empty: that of the virtual servers, if they have the same
    client: str          # the client's address
    pdmdir: str          # empty: as the file says
    asks_backend: bool
    mechanism: str       # of AUTH, that has what is asked for; empty: a password


@dataclass(frozen=True, slots=True)
class Finding:
    """A line to show, and whether the login can succeed so far."""

    line: str
    is_good: bool = True


def try_login(login: Login, note: Callable[..., None]) -> Iterator[Finding]:
    """Yield the result of each step up to the last possible one; `note` is called with what pproxy would log."""
    config = _read(login)
    namespace = login.namespace or _namespace(config)
    password = read_password(login.user, "Token" if login.mechanism else "Password")
    proxy = _become_proxy(config)
    modules = []
    for item in config.items("pdm"):
        try:
            modules.append(configured_module(item, config))
        except PdmError as why:
            yield Finding(f"{item.ident} not-loaded why={value(str(why))}", is_good=False)
    chain = Chain(modules, config.variables.seconds("pdmtimeout"), note)
    request = Request(name_asked(config, login.user, namespace) if login.user else "", password, login.client, "pop3",
                      namespace, mechanism=login.mechanism)
    with closing(chain):
        yield from _steps(config, proxy, chain, request, login)


def _steps(config: Config, proxy: ProxyConfig, chain: Chain, request: Request, login: Login) -> Iterator[Finding]:
    """Ask the modules, and yield the results of all steps."""
    verdict = chain.check(request, lambda name: name_asked(config, name, request.namespace))
    for step in verdict.steps:
        yield Finding(step_line(step, step.answer.outcome.value) + (" round=2" if step.is_second else ""))
    is_told = any(step.answer.why == verdict.why for step in verdict.steps)
    yield Finding(f"login {verdict.outcome.value} namespace={value(request.namespace)} by={value(verdict.module)}"
                  + ("" if is_told or not verdict.why else f" why={value(verdict.why)}"),
                  verdict.outcome is Outcome.OK)
    if verdict.found is not None:
        step = next(step for step in verdict.steps if step.answer.found == verdict.found
                    and step.module == verdict.module)
        yield from _go_on(proxy, chain, step, request, login)


def read_password(user: str, what: str = "Password") -> bytes:
    """Return a password, or `what` else there is, from the terminal without echo or from a line of standard input."""
    if sys.stdin is not None and sys.stdin.isatty():
        return getpass.getpass(f"{what} of {value(user)}: ").encode("utf-8", "surrogateescape")
    return b"" if sys.stdin is None else sys.stdin.buffer.readline(_MAX_PASSWORD).rstrip(b"\r\n")


def _read(login: Login) -> Config:
    """Return pproxy's configuration, with numeric addresses; raises ConfigError."""
    config = read_ini(os.path.abspath(login.config), SCHEMA, default_config(SCHEMA))
    if login.pdmdir:
        config = with_fact(config, "pdmdir", login.pdmdir)
    mistakes: list[Mistake] = []
    config = resolve_backends(read_lists(config, SCHEMA, mistakes), mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    return config


def _namespace(config: Config) -> str:
    """Return the one namespace of all virtual servers; raises UsageError if there are several."""
    names = list(dict.fromkeys(item.values.text("namespace") for item in config.items("vserv")))
    if len(names) > 1:
        raise UsageError(f"there are several namespaces: give -n and one of {', '.join(names)}")
    return names[0] if names else "default"


def _become_proxy(config: Config) -> ProxyConfig:
    """Take the rights of pproxy's user if we are root; raises StartError, KeyError and ConfigError."""
    user, group = config.variables.text("user"), config.variables.optional_text("group")
    if os.geteuid() == 0 and user != "root":
        rights = find_rights(user, group)
        check_library(rights)    # some modules are imported later
        drop(rights)
    return proxy_config(config)


def _go_on(proxy: ProxyConfig, chain: Chain, step: Step, request: Request, login: Login) -> Iterator[Finding]:
    """Yield the results of the steps after a login was granted."""
    assert step.answer.found is not None    # with OK
    remarks = route_remarks(proxy, step, request.namespace, request.password, request.mechanism)
    try:
        route = find_route(proxy.backends, step.answer.found, request.password, request.mechanism)
    except NoRoute:
        yield from (Finding(line, is_good=False) for line in remarks)
        return
    yield from map(Finding, remarks)
    if route.protocol == "cxpop":
        yield Finding(_mail_check(route))
    if not login.asks_backend:
        return
    client = Endpoint(login.client, 0)
    yield from _ask_with_token(chain, route, client) if route.lacks_token else _ask_backend(route, client)


def _mail_check(route: Route) -> str:
    backend = route.backend
    try:
        state = ask_pcheckd(backend.check, route.mailbox, backend.checktimeout, backend.checktries, backend.source)
        word = _MAIL[state]
    except MailcheckError as why:
        word = f"no-answer: the backend is asked nevertheless why={value(str(why))}"
    return f"mailcheck address={value(str(backend.check))} {word}"


def _ask_with_token(chain: Chain, route: Route, client: Endpoint) -> Iterator[Finding]:
    """Log in at the backend with an access token, and with another one if it refuses the first, as pproxy does."""
    refused = b""
    while True:
        try:
            token = chain.token(route.user, route.backend.ident, refused=refused)
        except PdmError as why:
            word = "refused" if isinstance(why, NoConsent) else "failed"
            yield Finding(f"token {word} why={value(str(why))}", is_good=False)
            return
        if token == refused:
            yield Finding("token failed why='there is no other one'", is_good=False)
            return
        yield Finding("token ok")
        is_void = yield from _ask_backend(replace(route, password=token), client, is_last=bool(refused))
        if not is_void:
            return
        refused = token


def _ask_backend(route: Route, client: Endpoint, *, is_last: bool = True) -> Generator[Finding, None, bool]:
    """Log in at the backend for a client, and leave at once; return whether another password is to be tried.

    That is so if the backend refuses this one, and it `is_last` not.
    """
    sid, complaints = f"ptestpdm-{os.getpid()}", list[str]()
    announce = route.backend.announce
    announcement = announce(client, route.backend.address, "", 0, sid, complaints.append) if announce else None
    try:
        link = BackendLink.open(route, sid, _place, announcement=announcement)
    except BackendError as why:
        is_void = not is_last and isinstance(why, BackendRefused) and why.is_guess
        yield Finding(f"backend {'refused' if is_void else 'failed'} why={value(_masked(str(why), route))}", is_void)
        return is_void
    finally:
        yield from (Finding(f"backend does not know the client why={value(why)}") for why in complaints)
    try:
        link.wire.send(b"QUIT\r\n")
    except Gone:    # the answer to the login is known already
        pass
    finally:
        link.close()
    yield Finding(f"backend ok answer={value(_masked(link.first_line.decode('latin-1'), route))}")
    return False


def _place(sock: socket.socket) -> socket.socket:
    """Make a connection like that of a child."""
    sock.setblocking(False)
    return sock


def _masked(text: str, route: Route) -> str:
    """Return a backend's text without the password that was sent to it."""
    password = route.password.decode("latin-1")
    return text.replace(password, "***") if password else text
