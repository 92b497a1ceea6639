"""Database module `ldap`: users in an LDAP directory, such as OpenLDAP or Active Directory.

    ldap uri=ldaps://ldap1.example.org base=ou=people,dc=example,dc=org backend=%{mailHost} mailbox=%{uid}

One search finds the user's entry.  The fields of the record (popular.pdm.records and rules) are patterns
(popular.pdm.pattern), in which `%{NAME}` is an attribute of the entry.  With `password=%{userPassword}` the
password is compared with this attribute; without, the directory checks it: the module binds as the entry.  OPTIONS has
all arguments.

* No entry means that the user is unknown; more than one is FAILED.
* What a user's name brings into filter and base is escaped (RFC 4515 section 3, RFC 4514 section 2.4).
* An empty password is always wrong and is never sent: a server would take such a bind for an anonymous one, and let it
  succeed (RFC 4513 section 5.1.2).
* Searches and the binds of users have a connection each, which are kept.  A search thus never runs with the rights of
  a user, and a refused bind costs neither a new connection nor another bind for the next search.

Runs in a PDM worker.
"""

from collections.abc import Mapping
from dataclasses import replace

from popular.pdm import records
from popular.pdm.api import CHALLENGES, PROVEN, UNKNOWN, Answer, Found, Outcome, PdmError, PdmModule, Request
from popular.pdm.databases.directory import LdapEntry, LdapLink, LdapUri, escape
from popular.pdm.drivers import driver
from popular.pdm.options import Bool, Choice, File, Options, Setting, String, Time, Values, secret, secret_rows
from popular.pdm.pattern import Pattern

FIELDS = (
    Setting("user", String(), None, "The user's name as the directory spells it, for example %{uid}.  The marks in "
            "the patterns below are then filled from it, not from what the client sent."),
    Setting("password", String(), None, "The stored password or hash, for example %{userPassword}; one of several "
            "values must match.  Without it, the directory checks the password, which SCRAM and CRAM-MD5 do not show."),
    Setting("backend", String(), None, "The id of the user's backend.", required=True),
    Setting("protocol", String(), None, "cxpop, xpop or pop3; without it, the backend's own."),
    Setting("mailbox", String(), None, "The mailbox, for cxpop and xpop."),
    Setting("buser", String(), None, "The user's name at a backend with pop3."),
    Setting("bpass", String(), None, "The password at a backend with pop3; without it, the client's own.", secret=True),
    Setting("passwords", String(), None, "More passwords, each value LABEL:HASH.  They are compared first."),
    Setting("disabled", String(), None, "Why the user cannot log in; any text means that they cannot."),
    Setting("until", String(), None, "The last moment at which the user can log in."),
    Setting("networks", String(), None, "The networks from which the user can log in."),
    Setting("vservs", String(), None, "The virtual servers at which the user can log in."),
    Setting("softfail", String(), None, "on or off, instead of the backend's setting."),
    Setting("sessions", String(), None, "The most sessions at once."),
    Setting("missing", String(), None, "What becomes of a user without a mailbox: empty, create or refuse."),
    Setting("quota", String(), None, "How much the mailbox may hold, in units of 1024*1024 octets."),
    Setting("maxnum", String(), None, "How many messages the mailbox may hold."),
    Setting("from", String(), None, "The id of the backend that the mailbox still moves from."),
)
OPTIONS = Options(
    Setting("uri", String(), None, "The servers, separated by commas: ldaps://HOST, ldap://HOST or "
            "ldapi://PATH, each with a port if it is not the usual one.  If one fails, the next is asked.",
            required=True),
    Setting("starttls", Bool(), True, "Whether TLS is demanded of ldap:// servers.  Without it, passwords cross the "
            "network in clear."),
    Setting("cafile", File(), None, "Certificates of the authorities that sign the servers' certificates.  Without "
            "it, those that ldap.conf(5) names."),
    Setting("certificate", File(), None, "The client certificate, if the servers demand one."),
    Setting("key", File(), None, "The key of `certificate`."),
    Setting("binddn", String(), None, "The entry as which searches are made.  Without it, they are anonymous."),
    *secret_rows("bindpassword", "password of `binddn`"),
    Setting("base", String(), None, "The entry below which users are searched, as a pattern.", required=True),
    Setting("scope", Choice("sub", "one", "base"), "sub", "How deep: all entries below `base` and itself, those just "
            "below it, or only `base`."),
    Setting("filter", String(4096), "(uid=%u)", "The filter that finds the user, as a pattern."),
    Setting("timeout", Time(0.05, 300), 3.0, "How long one server may take for a question; the variable pdmtimeout of "
            "pproxy limits all together."),
    *FIELDS,
)

_BETWEEN = {"passwords": "\n", "networks": ",", "vservs": ","}    # what separates several values of an attribute
_ORDER = (Outcome.OK, Outcome.FAILED, Outcome.DENIED)    # of the answers for several passwords, the best first


class Module(PdmModule):
    """The users of one directory."""

    API = (1, 1)
    blocking = True
    mechanisms = frozenset({PROVEN})

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the arguments; raises ValueError."""
        super().__init__(ident, args)
        values = OPTIONS.parse(args)
        self.options = values
        self.places = [LdapUri.parse(uri) for uri in dict.fromkeys(values.text("uri").split(","))]
        self.base, self.filter = Pattern(values.text("base")), Pattern(values.text("filter"))
        self.patterns = {row.name: Pattern(text, with_names=True) for row in FIELDS
                         if (text := values.optional_text(row.name)) is not None}
        _prove(values, self.base, self.filter, self.patterns)
        if "password" in self.patterns:    # or the directory would have to check the proof
            self.mechanisms = CHALLENGES | {PROVEN}
        backend = self.patterns["backend"]
        self.backends = (backend.fill("", ""),) if backend.is_constant else ()
        self._attributes = sorted(set().union(*(pattern.names for pattern in self.patterns.values()))) or ["1.1"]
        self._links: tuple[LdapLink, ...] = ()    # one for searches and one for the binds of users

    def describe(self) -> str:
        """Return the arguments, secrets masked."""
        return OPTIONS.describe(self.args)

    def open(self) -> None:
        """Load the driver and read the secret; raises PdmError.  Connections are made by the first question."""
        ldap = driver("ldap", "python-ldap")
        self.close()
        for name in ("cafile", "certificate", "key"):
            if path := self.options.optional_text(name):
                records.prove_file(path)
        bindpassword = secret(self.options, "bindpassword")
        self._links = (LdapLink(ldap, self.places, self.options, bindpassword.encode()),
                       LdapLink(ldap, self.places, self.options))

    def close(self) -> None:
        """Close the connections."""
        for link in self._links:
            link.close()

    def probe(self) -> None:
        """Look up a user that does not exist."""
        self.open()
        try:
            records.probe_server(self.check)
        finally:
            self.close()

    def check(self, request: Request) -> Answer:
        """Find the user's entry and check the password."""
        try:
            entry = self._entry(request.user, request.namespace, request.deadline)
            if entry is None:
                return UNKNOWN
            if request.mechanism == PROVEN:
                return records.accepted(request, self._record(request, entry, "*"))
            return self._compared(request, entry) if "password" in self.patterns else self._bound(request, entry)
        except ValueError as why:
            return Answer(Outcome.FAILED, why=str(why))

    def find(self, user: str, namespace: str) -> Found | None:
        """Find the user's entry."""
        request = Request(user, b"", "", "pop3", namespace)
        try:
            entry = self._entry(user, namespace, float("inf"))
            return None if entry is None else records.place_of(self._record(request, entry, "*"), request)
        except ValueError as why:
            raise PdmError(str(why)) from None

    def _entry(self, user: str, namespace: str, deadline: float) -> LdapEntry | None:
        """Return the user's entry; None if there is none, or no directory can have such a name.

        Raises ValueError if one cannot be told, and PdmError.
        """
        octets = records.user_octets(user)
        if not octets or octets.decode("utf-8", "ignore") != user:
            return None
        base, words = (pattern.fill(user, namespace, escape=escape) for pattern in (self.base, self.filter))
        scope = self.options.text("scope")
        found = self._links[0].ask(lambda server: server.search(base, scope, words, self._attributes), deadline)
        if found is None and self.base.is_constant:
            raise ValueError(f"the base {base} does not exist, or may not be read")
        if found and len(found) > 1:
            raise ValueError(f"more than one entry matches {words}")
        return found[0] if found else None

    def _compared(self, request: Request, entry: LdapEntry) -> Answer:
        """Compare the password with each of the stored ones; raises ValueError."""
        pattern = self.patterns["password"]
        [name] = pattern.names
        texts = [pattern.fill(request.user, request.namespace, {name: value})
                 for value in entry.values.get(name, [""])]
        answers = [records.answer_to(request, self._record(request, entry, text)) for text in texts]
        return min(answers, key=lambda answer: (_ORDER.index(answer.outcome), not answer.proof))

    def _bound(self, request: Request, entry: LdapEntry) -> Answer:
        """Let the directory check the password; raises PdmError and ValueError."""
        password, record = request.password, self._record(request, entry, "*")
        if record.others:
            answer = records.answer_to(request, replace(record, stored=""))
            if answer.why != records.WRONG_PASSWORD:
                return answer
        if not password or b"\0" in password:
            return Answer(Outcome.DENIED, records.place_of(record, request), records.WRONG_PASSWORD)
        why = self._links[1].ask(lambda server: server.refusal(entry.dn, password), request.deadline)
        return (Answer(Outcome.DENIED, records.place_of(record, request), why) if why
                else records.accepted(request, record))

    def _record(self, request: Request, entry: LdapEntry, stored: str) -> records.Record:
        """Return the user's record with the password `stored`; raises ValueError."""
        user, namespace = request.user, request.namespace
        fields: dict[str, str] = {}
        for key, pattern in self.patterns.items():    # `user` is the first
            if key == "password":
                continue
            values = {name: _joined(key, name, entry) for name in pattern.names}
            fields[key] = pattern.fill(user, namespace, values)
            if key == "user":
                user = fields[key]
            elif key == "mailbox" and fields[key] and pattern.mailbox(user, namespace, values) is None:
                raise ValueError(f"{fields[key]!a} cannot be a mailbox")
        if "buser" in fields and "bpass" not in fields:
            fields["bpass"] = "" if request.mechanism else request.password.decode("utf-8", "surrogateescape")
        return records.record_of({**fields, "password": stored})


def _prove(values: Values, base: Pattern, words: Pattern, patterns: Mapping[str, Pattern]) -> None:
    """Raise ValueError for arguments that do not go together."""
    if not {"u", "l"} & (base.marks | words.marks):
        raise ValueError("neither filter nor base has %u or %l, so they cannot tell users apart")
    has_secret = any(values.optional_text(name) for name in ("bindpassword", "bindpasswordfile"))
    if has_secret != bool(values.optional_text("binddn")):
        raise ValueError("binddn and its password must be given together")
    if bool(values.optional_text("certificate")) != bool(values.optional_text("key")):
        raise ValueError("certificate and key must be given together")
    if "password" in patterns and len(patterns["password"].names) != 1:
        raise ValueError("password must have one attribute, as in password=%{userPassword}")


def _joined(key: str, name: str, entry: LdapEntry) -> str:
    """Return the values of an attribute for the field `key`; raises ValueError if there are too many."""
    values = entry.values.get(name, [])
    if len(values) > 1 and key not in _BETWEEN:
        raise ValueError(f"{name} has {len(values)} values, and must have one")
    return _BETWEEN.get(key, "").join(values)
