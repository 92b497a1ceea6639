"""OpenLDAP's slapd, over TCP with TLS; the module finds users with an account of its own, and slapd checks passwords.

Users are entries u1, u2 … in a branch for each namespace; the fields of their records are in attributes of a schema
that every slapd has.  Their names are compared octet by octet, which those of `uid` are not.
"""

import base64
import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any

from tests.harness.certificates import Authority
from tests.harness.databases import UserRow
from tests.harness.databases.keeper import Keeper, KeptServer
from tests.harness.databases.promises import LACKS
from tests.harness.needs import need_module, need_program
from tests.harness.ports import free_port
from tests.harness.system import wait_for

SUFFIX = "dc=example,dc=org"
MANAGER = f"cn=manager,{SUFFIX}"
READER = f"cn=popular,{SUFFIX}"
ATTRIBUTES = {"backend": "mailHost", "protocol": "l", "mailbox": "description", "buser": "displayName",
              "bpass": "street"}
RULES = {"passwords": "employeeType", "disabled": "title"}

MANY = 1_000    # users

Value = str | bytes | Sequence[str | bytes]

_CONFIG = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/misc.schema
attributetype ( 1.1.2.1 NAME 'mailLogin' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
modulepath /usr/lib/ldap
moduleload back_mdb
threads 4
allow bind_anon_dn
TLSCACertificateFile {ca}
TLSCertificateFile {pair.certificate}
TLSCertificateKeyFile {pair.key}
TLSVerifyClient try
database config
access to * by * none
database monitor
access to * by dn.exact="{manager}" read
database mdb
suffix "{suffix}"
rootdn "{manager}"
rootpw manager
directory {data}
maxsize 8589934592
dbnosync
index objectClass,uid,mailLogin eq
access to attrs=userPassword by dn.exact="{reader}" read by anonymous auth
access to * by dn.exact="{reader}" read
"""


class Slapd(KeptServer):
    """One server."""

    module = "ldap"
    driver = "ldap"
    secret = "pass'word \\ of ,pproxy"
    lacks = LACKS["ldap"]

    def __init__(self, folder: Path, authority: Authority, ports: Sequence[int], keeper: Keeper) -> None:
        super().__init__(keeper)
        self.folder, self.authority = folder, authority
        self.port, self.tls_port = ports    # for StartTLS, and for TLS from the beginning
        self.passwordfile = folder / "secret"
        self._number = count(1)

    def words(self) -> list[str]:
        """Return the arguments of the module."""
        fields = [f"{field}=%{{{attribute}}}" for field, attribute in (ATTRIBUTES | RULES).items()]
        return [f"uri=ldap://127.0.0.1:{self.port}", *self.access(), f"base=ou=%n,{SUFFIX}",
                "filter=(mailLogin=%u)", *fields]

    def access(self) -> list[str]:
        """Return the arguments with which the module gets access."""
        return [f"cafile={self.authority.cafile}", f"binddn={READER}", f"bindpasswordfile={self.passwordfile}"]

    def add(self, *rows: UserRow) -> None:
        """Add users; many are loaded while the server is stopped, as at a site."""
        ldap = need_module("ldap")
        with closing(self.admin()) as manager:
            for branch in dict.fromkeys(branch_of(row) for row in rows):
                with suppress(ldap.ALREADY_EXISTS):
                    add(manager, branch, objectClass="organizationalUnit")
            if len(rows) < MANY:
                for row in rows:
                    add(manager, self._dn(row), **attributes_of(row))
        if len(rows) >= MANY:
            self._load(rows)

    def _load(self, rows: Sequence[UserRow]) -> None:
        self.stop()
        path = self.folder / "users.ldif"
        with path.open("w") as file:
            file.writelines(ldif(self._dn(row), attributes_of(row)) for row in rows)
        subprocess.run([need_program("slapadd"), "-q", "-b", SUFFIX, "-f", self.folder / "slapd.conf", "-l", path],
                       check=True, stdout=subprocess.DEVNULL)
        path.unlink()
        self.start()

    def _dn(self, row: UserRow) -> str:
        return f"cn=u{next(self._number)},{branch_of(row)}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._keeper.start()
        wait_for(self._answers, 10.0, f"slapd in {self.folder}")

    def connections(self) -> int:
        """Return how many connections there are, but for that which asks."""
        with closing(self.admin()) as manager:
            [(_, entry)] = manager.search_s("cn=Current,cn=Connections,cn=Monitor", 0, attrlist=["monitorCounter"])
        return int(entry["monitorCounter"][0]) - 1

    def admin(self) -> "Manager":
        """Return a connection that may do everything."""
        return Manager(f"ldapi://{str(self.folder / 'ldapi').replace('/', '%2f')}")

    def _answers(self) -> bool:
        try:
            self.admin().close()
        except need_module("ldap").SERVER_DOWN:
            return False
        return True


class Manager:
    """A connection that may do everything."""

    def __init__(self, uri: str) -> None:
        self._connection: Any = need_module("ldap").initialize(uri)
        self._connection.simple_bind_s(MANAGER, "manager")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def close(self) -> None:
        """Close it."""
        self._connection.unbind_s()


def branch_of(row: UserRow) -> str:
    """Return the entry below which a user is."""
    return f"ou={row.namespace},{SUFFIX}"


def attributes_of(row: UserRow) -> dict[str, Value]:
    """Return what is in the entry of a user."""
    values = {attribute: getattr(row, field) for field, attribute in ATTRIBUTES.items()}
    rules = {RULES[name]: text.splitlines() for name, text in row.rules().items()}
    return {"objectClass": ("inetOrgPerson", "extensibleObject"), "sn": "x", "uid": "x",
            "mailLogin": row.user, "userPassword": ssha(row.password), **values, **rules}


def add(manager: Manager, dn: str, **values: Value) -> None:
    """Add an entry; attributes with an empty value are left out."""
    manager.add_s(dn, [(name, several) for name, several in given(values)])


def ldif(dn: str, values: Mapping[str, Value]) -> str:
    """Return an entry as slapadd reads it."""
    lines = [f"{name}:: {base64.b64encode(value).decode()}" for name, several in given(values) for value in several]
    return "\n".join([f"dn: {dn}", *lines, "", ""])


def given(values: Mapping[str, Value]) -> Iterator[tuple[str, list[bytes]]]:
    """Yield attributes that have a value, with all their values."""
    for name, value in values.items():
        if value:
            yield name, [octets(each) for each in ([value] if isinstance(value, str | bytes) else value)]


def octets(text: str | bytes) -> bytes:
    """Return what stands for a text in an entry."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")


def ssha(password: str) -> bytes:
    """Return a hash that every slapd knows."""
    salt = os.urandom(8)
    return b"{SSHA}" + base64.b64encode(hashlib.sha1(octets(password) + salt).digest() + salt)


def launch(folder: Path) -> Slapd:
    """Start a server without users."""
    need_module("ldap")
    program, ports = need_program("slapd"), (free_port(), free_port())
    authority = Authority.make(folder)
    pair = authority.sign("127.0.0.1")
    (folder / "data").mkdir()
    (folder / "slapd.conf").write_text(_CONFIG.format(
        ca=authority.cafile, pair=pair, suffix=SUFFIX, manager=MANAGER, reader=READER, data=folder / "data"))
    names = [f"ldap://127.0.0.1:{ports[0]}", f"ldaps://127.0.0.1:{ports[1]}",
             f"ldapi://{str(folder / 'ldapi').replace('/', '%2f')}"]
    keeper = Keeper([program, "-d0", "-f", folder / "slapd.conf", "-h", " ".join(names)], folder / "log")
    server = Slapd(folder, authority, ports, keeper)
    server.passwordfile.write_text(f"{server.secret}\n")
    server.passwordfile.chmod(0o600)
    try:
        server.start()
        with closing(server.admin()) as manager:
            add(manager, SUFFIX, objectClass=("domain",))
            add(manager, READER, objectClass=("organizationalRole", "simpleSecurityObject"),
                userPassword=ssha(server.secret))
    except BaseException:
        server.close()
        raise
    return server
