"""poauth: the consents of mailboxes' owners, which the database module `poauth` needs: get, show, try and revoke them.

    poauth [-c FILE] [-m MODULE] grant [--code] USER
    poauth [-c FILE] [-m MODULE] list
    poauth [-c FILE] [-m MODULE] test USER
    poauth [-c FILE] [-m MODULE] revoke USER
    poauth [-c FILE] [-m MODULE] rekey

USER is the name at the provider.  The arguments of the module are read from the INI file of pproxy.  Started by root,
it takes the rights of pproxy's user before it asks a provider or opens the store; only the file with the key is made
by root.  Tokens, secrets and keys are never printed.  Exit codes:

    0   it is done
    1   it is not: the owner or the provider refuses, or a file cannot be used
    64  wrong command line
    69  the rights of pproxy's user are not available
    70  an unexpected error
    78  FILE has mistakes, or no such module
"""

import argparse
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from popular.config.ini.file import read_ini
from popular.config.mistakes import ConfigError, Mistake
from popular.config.parser import Parser
from popular.config.setting import place
from popular.config.store import Config, default_config
from popular.errors import PdmError, PopularError
from popular.log.line import value
from popular.paths import CONFDIR
from popular.pdm.asking.configured import configured_module
from popular.pdm.drivers import driver
from popular.pdm.oauth.gateway import GATEWAY_DRIVERS, Gateway, name_of
from popular.pdm.oauth.keyfile import MAX_STORE_KEYS, KeyFile, new_key, write_keys
from popular.pdm.oauth.oauthclient import PENDING, SLOW_DOWN, OAuthClient, Tokens, ProviderTrouble
from popular.pdm.oauth.tokenstore import Consent
from popular.pproxy.settings import SCHEMA
from popular.stderr import complain_as
from popular.tools.printing import main_of_secrets
from popular.unix.rights import Rights, acting_as, drop, find_rights, own_rights
from popular.version import VERSION

COMMANDS = ("grant", "list", "test", "revoke", "rekey")
CONSENT_STATES = OK, TROUBLE, REFUSED = "ok", "trouble", "refused"    # of a consent

ASK_SECONDS = 30.0    # for one answer of a provider
MORE_SECONDS = 5.0    # between two questions, each time the provider wants that (RFC 8628)

_FAILED = 1    # exit code
_MAX_URL = 8192    # characters that are read

_complain = partial(complain_as, "poauth")


def main() -> int:
    """Run `poauth`; returns its exit code."""
    return main_of_secrets(run, _complain)


def run(argv: Sequence[str]) -> int:
    """Do what `argv` says; return the exit code."""
    parser = make_parser()
    arguments = parser.parse_intermixed_args(argv)    # or USER behind --code would not be seen
    if (arguments.user is None) is not (arguments.command in ("list", "rekey")):
        parser.error(f"give {'no' if arguments.user is not None else 'a'} USER with {arguments.command}")
    if arguments.code and arguments.command != "grant":
        parser.error("--code is only allowed with grant")
    try:
        _act(arguments)
    except (PopularError, KeyError) as why:
        for line in str(why.args[0] if isinstance(why, KeyError) else why).splitlines():
            _complain(line)
        if isinstance(why, PdmError):
            return _FAILED
        return os.EX_CONFIG if isinstance(why, ConfigError) else os.EX_UNAVAILABLE
    except OSError as why:
        _complain(f"{why.filename or 'the system'}: {why.strerror}")
        return _FAILED
    return 0


def make_parser() -> Parser:
    """Return the parser of the options."""
    parser = Parser(
        prog="poauth", allow_abbrev=False, add_help=False,
        usage="poauth [-c FILE] [-m MODULE] {grant [--code] USER | list | test USER | revoke USER | rekey}",
        description="Get and manage the consents by which pproxy opens mailboxes at OAuth providers.",
        epilog="Exit code: 0 it is done; 1 the owner or the provider refuses, or a file cannot be used; 64 wrong "
               "usage; 69 the rights of pproxy's user are not available; 78 FILE has mistakes, or no such module.")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND",
                        help="grant: ask the owner of a mailbox for consent, and store it; list: print all; test: get "
                             "a new access token; revoke: forget a consent, here and at the provider; rekey: change "
                             "the key of the store (required)")
    parser.add_argument("user", metavar="USER", nargs="?", help="the name of the mailbox at the provider")
    parser.add_argument("--code", action="store_true", help="with grant: the owner opens a page, and you paste the URL "
                        "that it leads to (default if the provider has no device flow)")
    parser.add_argument("-c", "--config", metavar="FILE", default=f"{CONFDIR}/pproxy.conf",
                        help=f"the INI file of pproxy (default {CONFDIR}/pproxy.conf)")
    parser.add_argument("-m", "--module", metavar="MODULE",
                        help="the id of the database module poauth (default: if there is only one, that one)")
    parser.add_argument("--help", action="help", help="show this help and end")
    parser.add_argument("--version", action="version", version=f"poauth {VERSION}")
    return parser


def _act(arguments: argparse.Namespace) -> None:
    """Carry out the command; raises PopularError, KeyError and OSError."""
    config = read_ini(os.path.abspath(arguments.config), SCHEMA, default_config(SCHEMA))
    module = _module(config, arguments.module)
    keyfile = module.values.text("keyfile")
    for name, package in GATEWAY_DRIVERS:    # now, as that user may be unable to read them
        driver(name, package)
    rights = _service_rights(config)
    if not os.path.lexists(keyfile):
        write_keys(keyfile, [new_key()], rights.uid, rights.gid, is_new=True)

    def opened() -> Gateway:
        return Gateway(module.ident, module.values, module.provider)
    if arguments.command == "rekey":
        rekey(keyfile, rights, opened)
        return
    if os.geteuid() == 0 and not rights.is_root:
        drop(rights)
    gateway = opened()
    try:
        match arguments.command:
            case "grant":
                grant(gateway, arguments.user, is_by_code=arguments.code or gateway.client.provider.device is None)
            case "list":
                show_consents(gateway)
            case "test":
                test(gateway, arguments.user)
            case "revoke":
                revoke(gateway, arguments.user)
    finally:
        gateway.close()


def _module(config: Config, ident: str | None) -> Any:
    """Return the module of the configuration that is meant; raises ConfigError."""
    found = [item for item in config.items("pdm")
             if item.values.text("module") == "poauth" and ident in (None, item.ident)]
    if len(found) != 1:
        ids = ", ".join(item.ident for item in found)
        raise ConfigError([Mistake("", f"there are several modules poauth: give -m and one of {ids}" if found
                                   else f"there is no database module poauth{f' with id {ident}' if ident else ''}")])
    try:
        return configured_module(found[0], config)
    except PdmError as why:
        raise ConfigError([Mistake(place("pdm", found[0].ident), str(why))]) from why


def _service_rights(config: Config) -> Rights:
    """Return the rights of pproxy's user if we are root, else our own."""
    if os.geteuid() != 0:
        return own_rights()
    return find_rights(config.variables.text("user"), config.variables.optional_text("group"))


def grant(gateway: Gateway, user: str, *, is_by_code: bool) -> None:
    """Ask the owner of a mailbox for consent, and store it; raises PdmError."""
    if gateway.is_own:
        raise PdmError("with grant=client_credentials, no consent of users is needed")
    if name_of(user) is None:
        raise PdmError(f"{user!a} cannot be the name of a user")
    tokens = _by_code(gateway.client, user) if is_by_code else _by_device(gateway.client, user)
    gateway.grant(user, tokens)
    print(f"{value(user)} granted", flush=True)


def _by_device(client: OAuthClient, user: str) -> Tokens:
    """Have a device flow (RFC 8628): somebody types a code at a page of the provider."""
    device = client.device(_soon())
    print(f"Log in as {value(user)} at {device.url} and type the code {device.user_code}", flush=True)
    until, interval = time.monotonic() + device.seconds, device.interval
    while time.monotonic() + interval < until:
        time.sleep(interval)
        try:
            return client.device_tokens(device, _soon())
        except ProviderTrouble as why:
            if why.error and why.error not in (PENDING, SLOW_DOWN):
                raise
            if why.error != PENDING:    # also if it did not answer
                interval += MORE_SECONDS
    raise PdmError("the code has expired")


def _by_code(client: OAuthClient, user: str) -> Tokens:
    """Have an authorization code pasted (RFC 6749, RFC 7636)."""
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48)
    print(f"Log in as {value(user)} at\n\n    {client.browser_url(user, state, verifier)}\n\n"
          "The browser ends at a page that may not exist.  Paste its whole URL here:", flush=True)
    pasted = "" if sys.stdin is None else sys.stdin.readline(_MAX_URL)
    try:
        return client.code_tokens(pasted, state, verifier, _soon())
    except ValueError as why:
        raise PdmError(str(why)) from None


def show_consents(gateway: Gateway) -> None:
    """Print a line for each consent, and one for the provider if it is in trouble."""
    common = gateway.store.find("")
    if common is not None and common.trouble:
        print(_line("*", common))
    for kept in gateway.store.users():
        print(_line(value(kept.user), kept))


def _line(name: str, kept: Consent) -> str:
    state = REFUSED if kept.is_refused else TROUBLE if kept.trouble else OK
    words = [name, state, *(f"{key}={_moment(when)}" for key, when in (
        ("granted", kept.granted), ("refreshed", kept.refreshed), ("until", kept.until)) if when)]
    return " ".join(words + [f"why={value(kept.trouble)}"] * bool(kept.trouble))


def test(gateway: Gateway, user: str) -> None:
    """Get a new access token; raises PdmError."""
    kept = gateway.fresh(user, _soon())
    print(f"{value(user)} {OK} until={_moment(kept.until)}")


def revoke(gateway: Gateway, user: str) -> None:
    """Forget a consent, and have the provider forget it; raises PdmError if only the former was possible."""
    name = name_of(user)
    if not name or gateway.store.find(name) is None:
        raise PdmError(f"no consent was given for user {user!a}")
    token = gateway.store.refresh_token(name)
    gateway.store.forget(name)
    try:
        is_revoked = gateway.client.revoke(token, _soon())
    except PdmError as why:
        raise PdmError(f"forgotten here, but the provider may still have it: {why}") from None
    print(f"{value(user)} forgotten here{' and revoked' if is_revoked else '; the provider has no way to revoke it'}")


def rekey(keyfile: str, rights: Rights, opened: Callable[[], Gateway]) -> None:
    """Make a new key, encrypt all tokens with it, and only then remove the former ones; raises PdmError and OSError."""
    fresh = new_key()
    write_keys(keyfile, [fresh, *KeyFile(keyfile).keys()[:MAX_STORE_KEYS - 1]], rights.uid, rights.gid)
    with acting_as(rights):
        gateway = opened()
        try:
            rows = gateway.store.encrypt_anew()
        finally:
            gateway.close()
    write_keys(keyfile, [fresh], rights.uid, rights.gid)
    print(f"encrypted {rows} entries anew")


def _soon() -> float:
    return time.monotonic() + ASK_SECONDS


def _moment(seconds: float) -> str:
    """Return a moment in local time, without blanks."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))
