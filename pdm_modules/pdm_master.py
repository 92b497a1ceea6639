"""Database module `master`: passwords that open every mailbox, for postmaster and support (spec 7.3).

    master [FILE]              default /etc/popular/masterauth.conf

Each line of FILE is `[NAME@]IP:NAMESPACE:CRYPTED`; empty lines and lines that begin with `#` are skipped.
IP is an address, a network such as `10.0.0.0/8` (IPv6 in brackets: `[2001:db8::/32]`) or `*`;
NAMESPACE is one namespace or `*`; CRYPTED is a form of `popular.pdm.secrets`.

Without NAME, the password does in place of the user's own.  With NAME, it is that of a master user, who logs in under
this name for the mailbox of another (`Request.master`).

The module answers in the second pass only: it vouches for a user whom another module knows and
whose own password did not match, if client, namespace and password all match one line.  The session
is marked: new mail that is read stays new, deleted mail is deleted.  An unreadable file or an invalid
line is FAILED.
"""

import os
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from popular.pdm import records
from popular.pdm.api import CHALLENGES, UNKNOWN, Answer, Found, Outcome, PdmError, PdmModule, Request

DEFAULT = "/etc/popular/masterauth.conf"
MAX_FILE = 1 << 20    # octets


@dataclass(frozen=True, slots=True)
class Grant:
    """One line: who may log in with a master password, and for whom."""

    number: int                                  # of the line
    network: IPv4Network | IPv6Network | None    # None: every client
    namespace: str                               # `*`: every namespace
    stored: str = field(repr=False)
    name: str = ""                               # of the master user

    def covers(self, client: IPv4Address | IPv6Address, request: Request) -> bool:
        """Tell whether the line is for this client, namespace and master user."""
        return (self.name == request.master and (self.network is None or client in self.network)
                and self.namespace in ("*", request.namespace))


class Module(PdmModule):
    """The master passwords of one file."""

    API = (1, 2)
    mechanisms = CHALLENGES    # of master users
    names_masters = True

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the file's name, if there is one; raises ValueError."""
        super().__init__(ident, args)
        self.path = records.file_argument(args or [DEFAULT], "master [FILE]", "the file of master passwords")
        self._seen: tuple[int, ...] = ()
        self._grants: tuple[Grant, ...] = ()

    def probe(self) -> None:
        """Read the file."""
        records.prove_file(self.path)
        self._refresh()

    def find(self, user: str, namespace: str) -> Found | None:
        """Return None: no user is known here."""
        return None

    def auth(self, request: Request, found: Found) -> Answer:
        """Vouch for a known user if the password is a master password for this client and namespace."""
        try:
            client = ip_address(request.ip)
        except ValueError:
            return UNKNOWN
        if request.mechanism and not request.master:
            return UNKNOWN
        if isinstance(client, IPv6Address) and client.ipv4_mapped is not None:
            client = client.ipv4_mapped
        self._refresh()
        fault, proof = "", b""
        for grant in self._grants:
            if not grant.covers(client, request):
                continue
            answer = records.answer_to(request, records.Record(grant.stored, found))
            if answer.outcome is Outcome.OK:
                return replace(answer, found=replace(found, master=True, verified=True))
            if answer.outcome is Outcome.FAILED:
                fault = fault or f"{self.path}: line {grant.number}: {answer.why}"
            proof = proof or answer.proof
        if fault:
            return Answer(Outcome.FAILED, why=fault)
        return Answer(Outcome.DENIED, found, "the salt was asked for", proof=proof) if proof else UNKNOWN

    def _refresh(self) -> None:
        """Read the file if it has changed since it was last read; raises OSError and PdmError."""
        with open(self.path, "rb") as file:
            status = os.fstat(file.fileno())
            seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            if seen == self._seen:
                return
            self._seen, self._grants = (), ()
            text = file.read(MAX_FILE + 1)
        if len(text) > MAX_FILE:
            raise PdmError(f"{self.path}: more than {MAX_FILE} octets")
        self._grants = tuple(_parse(self.path, text))
        self._seen = seen


def _parse(path: str, text: bytes) -> list[Grant]:
    """Read all lines; raises PdmError that names the first bad one."""
    grants: list[Grant] = []
    for number, raw in enumerate(text.split(b"\n"), 1):
        line = raw.decode("utf-8", "surrogateescape").strip()
        if line and not line.startswith("#"):
            try:
                grants.append(_parse_line(number, line))
            except ValueError as why:
                raise PdmError(f"{path}: line {number}: {why}") from None
    return grants


def _parse_line(number: int, line: str) -> Grant:
    """Read `[NAME@]IP:NAMESPACE:CRYPTED`; raises ValueError with what is wanted."""
    name, is_named, _ = line.partition(":")[0].rpartition("@")
    place = line[len(name) + len(is_named):]
    address, _, rest = place[1:].partition("]:") if place.startswith("[") else place.partition(":")
    namespace, _, stored = rest.partition(":")
    if not address or not namespace or not stored or is_named and not name:
        raise ValueError("it is not IP:NAMESPACE:CRYPTED or NAME@IP:NAMESPACE:CRYPTED")
    try:
        network = None if address == "*" else ip_network(address, strict=False)
    except ValueError:
        raise ValueError("before the first colon is no IP address, network or *; IPv6 stands in brackets") from None
    return Grant(number, network, namespace, stored, name)
