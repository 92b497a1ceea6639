"""What the modules sqlite, pgsql and mysql share: their query, the record from its row, and servers that may fail.

A query has the parameters `:user`, `:local` and `:domain` (the parts of the user's name before and after its last
`@`), `:namespace`, `:vserv`, `:ip` and `:protocol`, and must use `:user` or `:local`.  Its columns have the names of
values of `popular.pdm.records`; others are ignored.  Unless there are columns named `password` and `backend`, names do
not count, and the columns are RECORD_FIELDS in this order, of which the last ones may be omitted.  NULL is an empty
text.  No row means that the user is unknown; more than one is a failure.

A `SqlModule` asks one of several servers over one connection, which it keeps.  When that fails it asks the next server,
until the question's deadline; it stays with the server that has answered.  Runs in the process that asks, and its
constructor in the lean master, so drivers are imported in `open`.
"""

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, TypeVar, TypeVarTuple

from popular.addresses import Endpoint, parse_endpoint
from popular.pdm import records
from popular.pdm.api import PdmError, Request
from popular.pdm.bases import RecordModule
from popular.pdm.options import Bool, File, Kind, Options, Setting, String, Time, Values, did_you_mean, secret_rows
from popular.pdm.rules import RULES
from popular.pdm.timelimit import TimeUp, limited

PARAMETERS = ("user", "local", "domain", "namespace", "vserv", "ip", "protocol")
MAX_HOSTS = 16

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

# What may hide a colon in SQL (texts, quoted names, comments, casts), or a parameter.
_TOKEN = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`|--[^\n]*|/\*.*?\*/|::|:([a-z_]\w*)""", re.DOTALL | re.ASCII)


# the query and its row

@dataclass(frozen=True, slots=True)
class Query:
    """A query that was cut at its parameters."""

    pieces: tuple[str, ...]    # of its text, one more than there are names
    names: tuple[str, ...]     # of the parameters, without colons, in their order

    @classmethod
    def parse(cls, text: str) -> "Query":
        """Find the parameters; raises ValueError if they are unknown, or do not tell users apart."""
        pieces, names, end = [], [], 0
        for token in _TOKEN.finditer(text):
            if token[1]:
                pieces.append(text[end:token.start()])
                names.append(token[1])
                end = token.end()
        for name in names:
            if name not in PARAMETERS:
                hint = did_you_mean(name, PARAMETERS) or f"; there are {', '.join(PARAMETERS)}"
                raise ValueError(f"the query has an unknown parameter '{name}'{hint}")
        if not {"user", "local"} & {*names}:
            raise ValueError("the query uses neither :user nor :local, so it cannot tell users apart")
        return cls((*pieces, text[end:]), tuple(names))

    def text(self, mark: Callable[[str], str]) -> str:
        """Return the query with what `mark` returns for the name of each parameter in its place."""
        marks = [*map(mark, self.names), ""]
        return "".join(part for pair in zip(self.pieces, marks, strict=True) for part in pair)


def parameters_of(request: Request) -> dict[str, str] | None:
    """Return the values of PARAMETERS; None if no database can have such a user."""
    user = request.user
    local, _, domain = user.rpartition("@")
    values = {"user": user, "local": local or user, "domain": domain if local else "",
              "namespace": request.namespace, "vserv": request.vserv, "ip": request.ip, "protocol": request.protocol}
    try:
        is_text = b"\0" not in "".join(values.values()).encode() and len(user.encode()) <= records.MAX_KEY
    except UnicodeEncodeError:    # octets that are not UTF-8
        return None
    return values if is_text else None


def names_of(columns: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a record's values in the columns of a query; raises ValueError."""
    names = tuple(column.lower() for column in columns)
    if "password" in names and "backend" in names:
        return names
    if rule := next((name for name in names if name in RULES), ""):    # never ignored: it may keep somebody out
        raise ValueError(f"the query has a column {rule}, so it needs columns named password and backend, too")
    if 2 <= len(names) <= len(records.RECORD_FIELDS):
        return records.RECORD_FIELDS[:len(names)]
    raise ValueError(f"the query has {len(names)} columns; they must be {', '.join(records.RECORD_FIELDS)}")


def record_from(names: Sequence[str], row: Sequence[object]) -> records.Record:
    """Return the record in a row whose values have these names; raises ValueError.

    What is neither text nor a whole number is left out if it has no place in a record.
    """
    values: dict[str, str] = {}
    for name, cell in zip(names, row, strict=True):
        if isinstance(cell, bytes):
            values[name] = cell.decode("utf-8", "surrogateescape")
        elif isinstance(cell, str | int):
            values[name] = str(cell)
        elif cell is not None and name in records.RECORD_FIELDS:
            raise ValueError(f"column {name} is neither text nor a number")
    return records.record_of(values)


# servers

class Broken(Exception):
    """A connection that cannot be made or used (any more); says why.  Another one may do."""


class QueryRefused(ValueError):
    """The server has refused a query; says why.  The connection can be used."""


@dataclass(frozen=True, slots=True)
class Hosts:
    """Kind of a list of servers: host names, addresses, and paths of unix sockets."""

    name: ClassVar[str] = "Hosts"
    wanted: ClassVar[str] = "a list such as db1, db2:PORT, [::1]:PORT, or the path of a unix socket, each once"
    port: int    # where none is given

    def parse(self, text: str) -> tuple[Endpoint, ...]:
        """Read `HOST[:PORT],…`, at most MAX_HOSTS; a path is the host of its Endpoint."""
        try:
            hosts = tuple(self._host(word.strip()) for word in text.split(","))
        except ValueError:
            raise ValueError(self.wanted) from None
        if len(hosts) > MAX_HOSTS or len(set(hosts)) != len(hosts):
            raise ValueError(self.wanted)
        return hosts

    def show(self, value: tuple[Endpoint, ...]) -> str:
        """Return the hosts separated by commas."""
        return ",".join(map(str, value))

    def _host(self, word: str) -> Endpoint:
        if word.startswith("/"):
            path, _, port = word.partition(":")
            return Endpoint(path, parse_endpoint(f"socket:{port}").port if port else self.port)
        bare = word.endswith("]") if word.startswith("[") else ":" not in word
        return parse_endpoint(f"{word}:{self.port}" if bare else word)


def server_options(hosts: Kind, where: str, query: str) -> Options:
    """Return the arguments of a module: `where` is the text for `hosts`, `query` the default one."""
    return Options(
        Setting("hosts", hosts, None, where, required=True),
        Setting("database", String(64), None, "The name of the database.", required=True),
        Setting("user", String(64), None, "The database user; they need no right but to read the table.",
                required=True),
        *secret_rows("password", "password of the database user"),
        Setting("query", String(4096), query, "What finds a user, with the parameters and columns of sqlite."),
        Setting("timeout", Time(0.1, 300.0), 2.0, "The longest wait for one server; then the next one is asked, until "
                "pdmtimeout is over."),
        Setting("tls", Bool(), True, "With on, servers must have a certificate for the host's name or "
                "address as given here.  Connections over unix sockets have no TLS."),
        Setting("cafile", File(), "/etc/ssl/certs/ca-certificates.crt",
                "PEM file of the authorities that may have issued the certificate."),
    )


class Link(Protocol):
    """A connection to one server."""

    def ask(self, values: Mapping[str, str]) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
        """Return the names of the columns and the rows, of which those after the second do not matter.

        Raises Broken and QueryRefused; after any other exception the connection is not used again.
        """

    def close(self) -> None:
        """Close it; never waits nor raises."""

    def abandon(self) -> None:
        """Close only this process's descriptor: the server must not be told, as another process has the connection."""


class SqlModule(RecordModule):
    """A module that asks SQL servers."""

    API = (1, 1)
    blocking = True
    options: ClassVar[Options]

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the arguments; raises ValueError."""
        super().__init__(ident, args)
        self.values: Values = self.options.parse(args)
        self.query = Query.parse(self.values.text("query"))
        self.timeout = self.values.seconds("timeout")
        self._hosts = list(self.values.endpoints("hosts"))    # the first is asked first
        self._link: Link | None = None
        self._pid = 0                                         # of the process that has made the link

    def connect(self, host: Endpoint) -> Link:
        """Return a new connection; raises Broken, QueryRefused, OSError and PdmError.  Interrupted at the deadline."""
        raise NotImplementedError

    def describe(self) -> str:
        """Return the arguments, secrets masked."""
        return self.options.describe(self.args)

    def probe(self) -> None:
        """Look up a user that does not exist."""
        try:
            self.open()
            records.probe_server(self.check)
        finally:
            self.close()

    def close(self) -> None:
        """Close the connection."""
        link, self._link = self._link, None
        if link is not None:
            (link.close if self._pid == os.getpid() else link.abandon)()

    def record(self, request: Request) -> records.Record | None:
        """Return the user's record, or None; raises ValueError and PdmError."""
        values = parameters_of(request)
        if values is None:
            return None
        columns, rows = self._ask(values, request.deadline)
        if len(rows) > 1:
            raise ValueError("more than one row")
        return record_from(names_of(columns), rows[0]) if rows else None

    def _ask(self, values: Mapping[str, str], deadline: float) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
        """Return what a server answers: over the connection there is, or else over a new one to each host in turn."""
        faults: list[str] = []
        if self._pid != os.getpid():
            self.close()
        if self._link is not None and time.monotonic() < deadline:
            try:
                return self._within(deadline, self._link.ask, values)
            except (Broken, OSError) as why:
                self._give_up(str(why), faults)
        for host in tuple(self._hosts):
            if time.monotonic() >= deadline:
                faults.append("no time was left")
                break
            try:
                return self._within(deadline, self._ask_newly, host, values)
            except (Broken, OSError) as why:
                self._give_up(str(why), faults)
        raise PdmError("; ".join(faults))

    def _ask_newly(self, host: Endpoint, values: Mapping[str, str]) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
        self._link, self._pid = self.connect(host), os.getpid()
        return self._link.ask(values)

    def _give_up(self, why: str, faults: list[str]) -> None:
        """Close the connection to the first host, and let that host be the last to be asked again."""
        self.close()
        host = self._hosts.pop(0)
        self._hosts.append(host)
        faults.append(f"{host}: {' '.join(why.split())}")

    def _within(self, deadline: float, call: Callable[[*_Ts], _T], *args: *_Ts) -> _T:
        """Return what `call(*args)` returns; raises Broken if that takes too long, and what it raises."""
        seconds = max(0.001, min(deadline - time.monotonic(), self.timeout))
        try:
            return limited(seconds, call, *args)
        except TimeUp:
            raise Broken(f"no answer within {seconds:.2g} s") from None
        except (Broken, QueryRefused):
            raise
        except BaseException:    # what is still to come would be taken for the answer to the next question
            self.close()
            raise
