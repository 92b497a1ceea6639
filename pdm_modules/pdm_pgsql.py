"""Database module `pgsql`: users in a PostgreSQL database, found by one query.

    pgsql hosts=HOST[:PORT],… database=NAME user=NAME passwordfile=FILE [KEY=VALUE …]

OPTIONS lists all keys; `popular.pdm.databases.sql` explains the query.  Without `query`:

    SELECT * FROM users WHERE "user" = :user AND namespace = :namespace

Several hosts are servers with the same data; a standby, which can only be read, is as good as any.  The query is
prepared once for each connection.  It needs the Python package psycopg; of that, only the part which is close to the C
library is used, so that no wait is longer than wanted and all values come as text.  Runs in a PDM worker.
"""

import os
import re
import select
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from popular.addresses import Endpoint
from popular.pdm.databases import sql
from popular.pdm.drivers import driver
from popular.pdm.options import secret

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

QUERY = 'SELECT * FROM users WHERE "user" = :user AND namespace = :namespace'
OPTIONS = sql.server_options(sql.Hosts(5432), "The servers: HOST, HOST:PORT, or the folder of a unix socket, such as "
                             "/run/postgresql, separated by commas.", QUERY)

_NAME = b"popular"    # of the prepared query
# Instead of ~/.postgresql/postgresql.crt: HOME may be root's, where libpq fails for all other users.
_NO_FILE = "/dev/null/none"

# Classes of SQLSTATE after which another connection may do: connection exception, invalid statement name (of a pooler
# between us and the server), conflict with what a standby applies, insufficient resources, operator intervention,
# system error.  A plan that no longer fits is 0A000.
_OF_CONNECTION = (b"08", b"26", b"40", b"53", b"57", b"58", b"0A")
# Compared without quotes, `user` would be the name under which we have logged in, the same for all.
_CURRENT_USER = re.compile(r"""(?<![\w."])user\s*=\s*\$|\$\d+\s*=\s*user\b(?!\s*\.)""", re.IGNORECASE)

_PLACE = re.compile(r"connection to server .* failed: ")    # which the log has already

_NO_SUCH_TEXT = b"22P05"    # the database's character set lacks a letter


class Module(sql.SqlModule):
    """The users that one query finds in a PostgreSQL database."""

    options = OPTIONS

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the arguments; raises ValueError."""
        super().__init__(ident, args)
        places = {name: f"${place}" for place, name in enumerate(dict.fromkeys(self.query.names), 1)}
        text = self.query.text(places.__getitem__)
        if _CURRENT_USER.search(text):
            raise ValueError('a column called user needs quotes in PostgreSQL: "user" = :user')
        self._psycopg: Any = None
        self._password = ""
        self._text = text.encode()
        self._names = tuple(places)

    def open(self) -> None:
        """Load the driver and read the password; raises PdmError."""
        self._psycopg = driver("psycopg", "psycopg, version 3")
        self._password = secret(self.values, "password")

    def connect(self, host: Endpoint) -> sql.Link:
        """Connect, log in and prepare the query."""
        tls = self.values.flag("tls") and not host.host.startswith("/")
        words = {
            "host": host.host, "port": host.port, "dbname": self.values.text("database"),
            "user": self.values.text("user"), "client_encoding": "UTF8", "application_name": "pproxy",
            "gssencmode": "disable", "sslmode": "verify-full" if tls else "disable",
            **({"sslrootcert": self.values.text("cafile"), "sslcert": _NO_FILE} if tls else {}),
            **({"password": self._password} if self._password else {})}
        info = self._psycopg.conninfo.make_conninfo("", **words)
        link = _Link(self._psycopg, info.encode(), self._names, self.timeout)
        try:
            link.prepare(self._text)
        except BaseException:
            link.close()
            raise
        return link


class _Link:
    """A connection to one server that has prepared the query; never waits in C."""

    def __init__(self, psycopg: Any, info: bytes, names: Sequence[str], seconds: float) -> None:
        """Connect and log in; `seconds` is the longest wait of either side."""
        self._psycopg, self._names, self._seconds = psycopg, names, seconds
        self._connection: PGconn = psycopg.pq.PGconn.connect_start(info)
        try:
            self._finish()
        except BaseException:
            self.close()
            raise

    def prepare(self, text: bytes) -> None:
        """Prepare the query, and let the server give it up after some time."""
        self._connection.send_query(b"SET statement_timeout = %d" % (self._seconds * 1000))
        self._result()
        self._connection.send_prepare(_NAME, text)
        self._result()

    def ask(self, values: Mapping[str, str]) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
        """Run the query."""
        try:
            self._connection.send_query_prepared(_NAME, [values[name].encode() for name in self._names])
        except self._psycopg.Error as why:
            raise sql.Broken(str(why)) from None
        result = self._result()
        columns = [(result.fname(place) or b"").decode() for place in range(result.nfields)] if result else []
        rows = [[result.get_value(row, place) for place in range(len(columns))]
                for row in range(min(result.ntuples, 2))] if result else []
        return columns, rows

    def close(self) -> None:
        """Close it."""
        self._connection.finish()

    def abandon(self) -> None:
        """Close the descriptor: the farewell of the C library goes nowhere."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, self._connection.socket, inheritable=False)
        os.close(null)
        self.close()

    def _finish(self) -> None:
        """Wait until we are logged in."""
        polling = self._psycopg.pq.PollingStatus
        try:
            while (state := self._connection.connect_poll()) != polling.OK:
                if state == polling.FAILED:
                    raise sql.Broken(self._complaint())
                self._wait(select.POLLIN if state == polling.READING else select.POLLOUT)
        except self._psycopg.Error:
            raise sql.Broken(self._complaint()) from None
        self._connection.nonblocking = 1

    def _result(self) -> "PGresult | None":
        """Wait for the only result of what was sent; None: the database cannot have such a text."""
        results: list[PGresult] = []
        try:
            while self._connection.flush():
                self._wait(select.POLLIN | select.POLLOUT)
                self._connection.consume_input()
            while True:
                while self._connection.is_busy():
                    self._wait(select.POLLIN)
                    self._connection.consume_input()
                result = self._connection.get_result()
                if result is None:
                    break
                results.append(result)
        except self._psycopg.Error:
            raise sql.Broken(self._complaint()) from None
        return self._checked(results[0]) if results else None

    def _checked(self, result: "PGresult") -> "PGresult | None":
        """Return a result that is none of an error; raises Broken and QueryRefused."""
        pq = self._psycopg.pq
        if result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            return result
        state = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
        text = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"no reason").decode("utf-8", "replace")
        if self._connection.status != pq.ConnStatus.OK or state[:2] in _OF_CONNECTION:
            raise sql.Broken(text)
        if state == _NO_SUCH_TEXT:
            return None
        raise sql.QueryRefused(f"PostgreSQL says: {text}")

    def _wait(self, events: int) -> None:
        """Wait until the socket is ready; an earlier deadline interrupts it."""
        poll = select.poll()
        poll.register(self._connection.socket, events)
        if not poll.poll(self._seconds * 1000):
            raise sql.Broken(f"no answer within {self._seconds:.2g} s")

    def _complaint(self) -> str:
        """Return the first line of what libpq says; others give advice."""
        text = self._connection.error_message.decode("utf-8", "replace").strip().partition("\n")[0]
        return _PLACE.sub("", text) or "the connection was closed"
