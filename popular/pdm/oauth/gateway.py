"""Access tokens for mailboxes at a provider: the arguments of the module `poauth`, and the tokens of its users.

`GATEWAY_OPTIONS` and `provider_of` are used in the starter and the lean master, which load no drivers.  A `Gateway` is
made in the process that asks: a PDM worker, or the tool poauth.  It raises PdmError; its texts, for the log, hold no
secrets.
"""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, cast

from popular.pdm import records
from popular.pdm.api import NoConsent, PdmError
from popular.pdm.databases.httpclient import HttpServer
from popular.pdm.oauth.keyfile import KeyFile
from popular.pdm.oauth.oauthclient import (
    MAX_SECONDS, MAX_WAIT, AppCredentials, OAuthClient, Provider, ProviderTrouble, Tokens, Url)
from popular.pdm.oauth.tokenstore import Claim, Consent, TokenStore
from popular.pdm.options import Choice, File, Id, Options, Setting, String, Time, Values, secret, secret_rows

EARLY_SECONDS = 300.0       # before it expires, a token is refreshed; until then it is used if that fails
USABLE_SECONDS = 30.0       # a token must still be valid for, so that the login comes in time
LEAST_SECONDS = 1.0         # that must be left to ask a provider: an answer that comes too late is lost
REFUSED_SECONDS = 600.0     # after a refusal the provider is not asked again
FRESH_SECONDS = 60.0        # a token that is refused at this age or earlier is not replaced: another would not help
LONGEST_PAUSE = 60.0      # between two questions if it is down, unless it wants more

# With their packages.
GATEWAY_DRIVERS = (("sqlite3", "sqlite3"), ("cryptography.fernet", "cryptography"), ("urllib3", "urllib3"))

_CLAIM_SECONDS = 2.0        # of a claim, beside the time for an answer
_PAUSE = 0.05               # seconds between two looks at what another worker does
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*", re.ASCII)
_SHARED = ("common", "organizations", "consumers")    # no tenants, but groups of them

_GOOGLE = {
    "tokenurl": "https://oauth2.googleapis.com/token", "authurl": "https://accounts.google.com/o/oauth2/v2/auth",
    "revokeurl": "https://oauth2.googleapis.com/revoke", "redirect": "http://localhost/",
    "scope": "https://mail.google.com/"}    # its device flow does not allow this scope
_MICROSOFT = {
    "tokenurl": "https://login.microsoftonline.com/%s/oauth2/v2.0/token",
    "deviceurl": "https://login.microsoftonline.com/%s/oauth2/v2.0/devicecode",
    "authurl": "https://login.microsoftonline.com/%s/oauth2/v2.0/authorize",
    "redirect": "https://login.microsoftonline.com/common/oauth2/nativeclient",
    "scope": "https://outlook.office.com/POP.AccessAsUser.All offline_access"}
_MICROSOFT_OWN = "https://outlook.office365.com/.default"    # the scope of an application's own token
_MORE = {"google": (("access_type", "offline"), ("prompt", "consent"))}    # or there is no refresh token


@dataclass(frozen=True, slots=True)
class Ids:
    """Ids of objects, separated by commas."""

    name: ClassVar[str] = "Ids"
    wanted: ClassVar[str] = "a list of ids, separated by commas"

    def parse(self, text: str) -> tuple[str, ...]:
        """Read `ID,ID,…`."""
        try:
            return tuple(map(Id().parse, text.split(",")))
        except ValueError:
            raise ValueError(self.wanted) from None

    def show(self, value: tuple[str, ...]) -> str:
        """Return the list."""
        return ",".join(value)


GATEWAY_OPTIONS = Options(
    Setting("provider", Choice("google", "microsoft", "custom"), "custom", "Who has the mailboxes.  The URLs and the "
            "scope of google (Gmail, Google Workspace) and microsoft (Outlook.com, Microsoft 365) are known."),
    Setting("backends", Ids(), None, "The ids of the provider's backends, separated by commas.  No others are sent "
            "these tokens.", required=True),
    Setting("tenant", String(), None, "With provider=microsoft: the directory, by its id or a domain of it, or common, "
            "the default, which is any."),
    Setting("clientid", String(), None, "The id that the provider has given to this application.", required=True),
    *secret_rows("secret", "secret that the provider has given to this application, if it has one"),
    Setting("clientauth", Choice("post", "basic"), "post", "How id and secret are sent: in the form, or as HTTP Basic "
            "authentication."),
    Setting("grant", Choice("refresh_token", "client_credentials"), "refresh_token", "refresh_token: the owner of each "
            "mailbox has consented, see poauth(8).  client_credentials: the application itself may open the mailboxes; "
            "poauth grant is not needed."),
    Setting("scope", String(), None, "What is asked for, separated by blanks: access to mailboxes by POP3."),
    Setting("tokenurl", Url(), None, "The URL that gives tokens.  Needed with provider=custom."),
    Setting("deviceurl", Url(), None, "The URL of the device flow."),
    Setting("authurl", Url(), None, "The URL for browsers that gives authorization codes."),
    Setting("redirect", String(), None, "The URL to which browsers are sent with the code, as registered at the "
            "provider; nobody need be there."),
    Setting("revokeurl", Url(), None, "The URL that revokes tokens."),
    Setting("store", File(), "/var/lib/popular/oauth/tokens.db", "The file with the tokens, encrypted, in a folder in "
            "which the user that pproxy runs as may make files."),
    Setting("keyfile", File(), "/etc/popular/oauth.key", "The file with the key of the store, which only the user that "
            "pproxy runs as may read.  Keep it out of that folder, and out of the same backup."),
    Setting("timeout", Time(0.05, 60), 5.0, "Time to wait for an answer of the provider."),
    Setting("cafile", File(), None, "The certificates of the authorities that may have signed those of the provider.  "
            "By default those that the system trusts."),
)


def provider_of(values: Values) -> Provider:
    """Return where and for what the provider is asked; raises ValueError for arguments that do not fit."""
    kind, tenant = values.text("provider"), values.optional_text("tenant")
    is_own = values.text("grant") == "client_credentials"
    if tenant is not None and (kind != "microsoft" or not _TENANT.fullmatch(tenant)):
        raise ValueError("tenant: only with provider=microsoft, and must be an id or a domain")
    tenant = tenant or "common"
    if kind == "microsoft" and is_own and tenant in _SHARED:
        raise ValueError("tenant: needed with grant=client_credentials: the directory's id")
    ready: Mapping[str, str] = {"google": _GOOGLE, "microsoft": _MICROSOFT, "custom": {}}[kind]
    if kind == "microsoft" and is_own:
        ready = {**ready, "scope": _MICROSOFT_OWN}
    token, device, authorize, revoke = (_url(values, name, ready.get(name, "").replace("%s", tenant))
                                        for name in ("tokenurl", "deviceurl", "authurl", "revokeurl"))
    scope, redirect = (values.optional_text(name) or ready.get(name, "") for name in ("scope", "redirect"))
    if token is None:
        raise ValueError("tokenurl: needed with provider=custom")
    if authorize is not None and not redirect:
        raise ValueError("redirect: needed with authurl")
    return Provider(token, scope, device, authorize, revoke, redirect, _MORE.get(kind, ()))


def _url(values: Values, name: str, ready: str) -> HttpServer | None:
    """Return a URL that was given, or the ready one, if any."""
    given = cast(HttpServer | None, values[name])
    return Url().parse(ready) if given is None and ready else given


class Gateway:
    """The users of one module at one provider."""

    def __init__(self, ident: str, values: Values, provider: Provider) -> None:
        """Open the store and read the secret, for the module with this id."""
        self.is_own = values.text("grant") == "client_credentials"
        self.store = TokenStore(values.text("store"), KeyFile(values.text("keyfile")), ident)
        try:
            credentials = AppCredentials(values.text("clientid"), secret(values, "secret"),
                                         values.text("clientauth") == "basic")
        except BaseException:
            self.store.close()
            raise
        self._timeout = values.seconds("timeout")
        self.client = OAuthClient(provider, credentials, self._timeout, values.optional_text("cafile"))

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def token(self, user: str, deadline: float, refused: str = "") -> str:
        """Return an access token for a user, fresh if necessary, until `deadline` (time.monotonic).

        If a backend has `refused` the one that is stored, it is not used any more, unless it is fresh itself.
        """
        while True:
            kept = self._kept(user)
            if refused and kept.access == refused:
                if 0 <= time.time() - max(kept.granted, kept.refreshed) < FRESH_SECONDS:
                    return refused
                kept = replace(kept, access="")
            if found := self._ready(kept):
                return found
            if (claim := self._claim(kept)) is not None:
                try:
                    return self._refreshed(claim, deadline)
                except NoConsent:
                    raise
                except PdmError:
                    if usable := _usable(kept):
                        return usable
                    raise
            if usable := _usable(kept):
                return usable
            if time.monotonic() + _PAUSE >= deadline:
                raise PdmError("another session has begun to refresh the token, and there is none yet")
            time.sleep(_PAUSE)

    def fresh(self, user: str, deadline: float) -> Consent:
        """Ask the provider for a new access token of a user, whatever there is; return their row with it."""
        if (claim := self._claim(self._kept(user))) is None:
            raise PdmError("a session is refreshing the token at this moment")
        self._refreshed(claim, deadline)
        return self._kept(user)

    def _kept(self, user: str) -> Consent:
        """Return the row of a user; raises NoConsent if there is none."""
        name = "" if self.is_own else name_of(user)
        kept = None if name is None else self.store.find(name)
        if kept is None:
            raise NoConsent(f"no consent was given for user {user!a}; see poauth(8)")
        return kept

    def _claim(self, kept: Consent) -> Claim | None:
        return self.store.claim(kept, self._timeout + _CLAIM_SECONDS)

    def _ready(self, kept: Consent) -> str:
        """Return a token that need not be refreshed, or cannot be now; empty if it should be.

        Raises NoConsent and PdmError if there is none, and the provider is not to be asked again so soon.
        """
        now = time.time()
        if usable := _usable(kept, EARLY_SECONDS):
            return usable
        for row in (kept, self.store.find("")):
            wait = 0.0 if row is None else row.retry - now
            if row is not None and 0 < wait <= MAX_WAIT:    # not if the clock was wrong
                if usable := _usable(kept):
                    return usable
                if row.is_refused:
                    raise NoConsent(row.trouble)
                raise PdmError(f"{row.trouble} (will be asked again in {wait:.0f} s)")
        return ""

    def _refreshed(self, claim: Claim, deadline: float) -> str:
        """Return a new access token, stored; raises NoConsent and PdmError."""
        kept = claim.kept
        try:
            if deadline - time.monotonic() < LEAST_SECONDS:
                raise PdmError("too little time was left to refresh the token")
            tokens = self.client.own(deadline) if self.is_own else self.client.refreshed(claim.refresh, deadline)
        except NoConsent as why:
            self.store.put_off(kept, kept.user, REFUSED_SECONDS, str(why), is_refused=True)
            raise
        except ProviderTrouble as why:
            user = "" if why.is_common else kept.user
            row = self.store.find(user)
            failures = 0 if row is None else row.failures
            self.store.put_off(kept, user, why.wait or min(2.0 ** failures, LONGEST_PAUSE), str(why))
            raise
        except BaseException:    # also an interruption
            self.store.release(kept)
            raise
        self.store.keep(kept, tokens)
        return tokens.access

    def grant(self, user: str, tokens: Tokens) -> None:
        """Store the tokens of a new consent; raises PdmError also if they can never be refreshed."""
        name = name_of(user)
        if name is None:
            raise PdmError(f"{user!a} cannot be the name of a user")
        if not tokens.refresh:
            raise PdmError("the provider has given no refresh token: check the scope")
        self.store.grant(name, tokens)


def prove_gateway(ident: str, values: Values, provider: Provider) -> None:
    """Raise PdmError if a Gateway could not be made, or has the wrong key; changes nothing, nor asks the provider."""
    path = values.text("store")
    KeyFile(values.text("keyfile")).prove()
    if os.path.lexists(path):
        gateway = Gateway(ident, values, provider)
        try:
            for kept in gateway.store.users()[:1]:
                gateway.store.find(kept.user)
        finally:
            gateway.close()
    elif not os.access(folder := os.path.dirname(path), os.W_OK | os.X_OK):
        raise PdmError(f"{folder}: no such folder, or no files can be made there")


def name_of(user: str) -> str | None:
    """Return the name by which a user's row is found; None if no row can have it."""
    if not user or records.user_octets(user) is None or not user.isprintable():
        return None
    return user.lower()


def _usable(kept: Consent, seconds: float = USABLE_SECONDS) -> str:
    """Return the token of a row if it is valid for more than some seconds; empty if not, or if the clock was wrong."""
    return kept.access if seconds < kept.until - time.time() <= MAX_SECONDS else ""
