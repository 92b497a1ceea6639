"""The settings of the policy hook, and the terms made of them (starter and master; lean)."""

from dataclasses import dataclass
from typing import ClassVar

from popular.config.kinds import Bool, File, Time
from popular.config.setting import Setting
from popular.config.store import Values

_NONE = "none"


@dataclass(frozen=True, slots=True)
class PolicyUrl:
    """The URL of a policy server, or none: an empty text."""

    name: ClassVar[str] = "Url"
    wanted: ClassVar[str] = "an http:// or https:// URL without a user, or none"

    def parse(self, text: str) -> str:
        """Return the URL as it is written; the word `none` is the empty text."""
        if text.strip() == _NONE:
            return ""
        from popular.pdm.databases.httpclient import server_of    # here, because few configurations have a URL

        return server_of(text, self.wanted).url

    def show(self, value: str) -> str:
        """Return the URL, or none."""
        return value or _NONE


@dataclass(frozen=True, slots=True)
class PolicyTerms:
    """How one policy server is asked; times in seconds."""

    url: str
    timeout: float
    delay: float         # the longest that a login is delayed
    asks: bool           # before the password is checked
    reports: bool        # afterwards
    noncefile: str
    headerfile: str | None = None
    cafile: str | None = None


POLICY_ROWS = (
    Setting("policyurl", PolicyUrl(), None,
            "URL of a server that is asked about each login, as Dovecot's auth_policy does; ?command=allow or "
            "?command=report is appended, without the question mark if it ends with &.  See `Policy server` above.",
            root_only=True),
    Setting("policynoncefile", File(), None,
            "File with a secret as its only line, the nonce that is hashed with each password; the same for all "
            "servers that ask.  Needed with policyurl.", root_only=True),
    Setting("policyheaderfile", File(), None,
            "File with one header as its only line, NAME: VALUE, that is sent with each question, such as an "
            "Authorization; without a NAME, it is the value of X-API-Key.", root_only=True),
    Setting("policycafile", File(), None,
            "PEM file of the authorities that may have issued the certificate of the server; when not set, the "
            "system's.", root_only=True),
    Setting("policytimeout", Time(0.05, 60), 2.0,
            "Time to wait for an answer; then the login goes on as if the server had allowed it."),
    Setting("policydelay", Time(0, 15), 5.0,
            "The longest time by which the server can delay a login; the child is held, so a longer delay is cut."),
    Setting("policycheck", Bool(), True,
            "Whether the server is asked before the password is checked, and can refuse or delay the login."),
    Setting("policyreport", Bool(), True, "Whether the server is told how each login ended."),
)


def policy_of(values: Values) -> PolicyTerms | None:
    """Return the terms that variables give, some of them overridden by a virtual server; None: nobody is asked."""
    url = values.optional_text("policyurl")
    asks, reports = values.flag("policycheck"), values.flag("policyreport")
    if not url or not (asks or reports):
        return None
    return PolicyTerms(url, values.seconds("policytimeout"), values.seconds("policydelay"), asks, reports,
                       values.optional_text("policynoncefile") or "", values.optional_text("policyheaderfile"),
                       values.optional_text("policycafile"))
