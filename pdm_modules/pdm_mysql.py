"""Database module `mysql`: users in a MariaDB or MySQL database, found by one query.

    mysql hosts=HOST[:PORT],… database=NAME user=NAME passwordfile=FILE [KEY=VALUE …]

OPTIONS lists all keys; `popular.pdm.databases.sql` explains the query.  Without `query`:

    SELECT * FROM users WHERE user = :user AND namespace = :namespace

Several hosts are servers with the same data; a replica, which can only be read, is as good as any.  It needs the Python
package PyMySQL, which cannot prepare a query at the server.  The values of parameters are written into the query as
hexadecimal digits, in which nothing can be taken for SQL.  Runs in a PDM worker.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from popular.addresses import Endpoint
from popular.pdm.api import PdmError
from popular.pdm.databases import sql
from popular.pdm.drivers import driver
from popular.pdm.options import secret

QUERY = "SELECT * FROM users WHERE user = :user AND namespace = :namespace"
OPTIONS = sql.server_options(sql.Hosts(3306), "The servers: HOST, HOST:PORT, or the path of a unix socket, such as "
                             "/run/mysqld/mysqld.sock, separated by commas.", QUERY)

# Errors of servers after which another connection may do: too many connections, not in the cluster, shutdown, killed,
# time of a statement is over (in MariaDB, in MySQL).  Those from 2000 to 2999 are the driver's: no connection, or none
# any more.
_OF_CONNECTION = (0, 1040, 1047, 1053, 1317, 1927, 1969, 3024)
_NO_SUCH_TEXT = 1267    # the character set of a column lacks a letter


class Module(sql.SqlModule):
    """The users that one query finds in a MariaDB or MySQL database."""

    options = OPTIONS

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the arguments; raises ValueError."""
        super().__init__(ident, args)
        self._driver: Any = None
        self._connection_class: Any = None
        self._context: Any = None
        self._password = ""

    def open(self) -> None:
        """Load the driver, and read the password and the file of authorities; raises PdmError."""
        self._driver = driver("pymysql", "PyMySQL")
        self._connection_class = _connection_class(self._driver)
        self._context = self._trusting() if self.values.flag("tls") else None
        self._password = secret(self.values, "password")

    def connect(self, host: Endpoint) -> sql.Link:
        """Connect and log in."""
        is_local = host.host.startswith("/")
        context = None if is_local else self._context
        connection = self._connection_class(
            host="localhost" if is_local else host.host, port=host.port, unix_socket=host.host if is_local else None,
            user=self.values.text("user"), password=self._password, database=self.values.text("database"),
            ssl=context, ssl_disabled=context is None, connect_timeout=self.timeout, read_timeout=self.timeout,
            write_timeout=self.timeout, charset="utf8mb4", autocommit=True, conv={}, defer_connect=True,
            program_name="pproxy")
        return _Link(self._driver, connection, self.query, self.timeout)

    def _trusting(self) -> Any:
        """Return a context that trusts the authorities and compares names."""
        import ssl
        path = self.values.text("cafile")
        try:
            return ssl.create_default_context(cafile=path)
        except ssl.SSLError:
            raise PdmError(f"{path}: no certificate of an authority in it") from None
        except OSError as why:
            raise PdmError(f"{path}: {why.strerror}") from None


class _Link:
    """A connection to one server."""

    def __init__(self, driver: Any, connection: Any, query: sql.Query, seconds: float) -> None:
        """Connect, log in, and let the server give up queries after some time."""
        self._driver, self._connection, self._query = driver, connection, query
        try:
            self._log_in()
            is_mariadb = "MariaDB" in connection.get_server_info()
            limit = f"max_statement_time = {seconds}" if is_mariadb else f"max_execution_time = {round(seconds * 1000)}"
            self._do(connection.query, f"SET SESSION {limit}")
        except BaseException:
            self.close()
            raise

    def ask(self, values: Mapping[str, str]) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
        """Run the query."""
        cursor = self._connection.cursor()
        if self._do(cursor.execute, self._query.text(lambda name: literal(values[name]))) is None:
            return (), ()
        columns, rows = [column[0] for column in cursor.description or ()], cursor.fetchall()
        self._do(cursor.close)    # which reads the other results of a procedure
        return columns, rows

    def close(self) -> None:
        """Close it."""
        with suppress(self._driver.err.Error):
            self._connection.close()

    def abandon(self) -> None:
        """Close the descriptor: without an explicit close the driver sends no farewell."""
        self._connection = None

    def _log_in(self) -> None:
        """Connect and log in; raises Broken and PdmError."""
        try:
            self._connection.connect()
        except self._driver.err.MySQLError as why:
            raise sql.Broken(str(why.args[-1]) if why.args else "no connection") from None
        except RuntimeError as why:    # a way to log in without TLS that needs one more package
            raise PdmError(str(why)) from None

    def _do(self, call: Any, *words: object) -> Any:
        """Return what a call of the driver returns; None: the database cannot have such a text.

        Raises Broken and QueryRefused.
        """
        try:
            return call(*words)
        except self._driver.err.MySQLError as why:
            code = why.args[0] if why.args and isinstance(why.args[0], int) else 0
            text = str(why.args[-1]) if why.args else ""
            if code == _NO_SUCH_TEXT:
                return None
            if code in _OF_CONNECTION or 2000 <= code < 3000 or not self._connection.open:
                raise sql.Broken(text or "the connection was closed") from None
            raise sql.QueryRefused(f"the server says: {text}") from None


def literal(text: str) -> str:
    """Return a text as SQL."""
    return f"_utf8mb4 0x{text.encode().hex()}" if text else "''"


def _connection_class(driver: Any) -> Any:
    """Return the driver's class of connections, which goes on without TLS in no version."""

    class Connection(driver.connections.Connection):    # type: ignore[misc]
        def _request_authentication(self) -> None:
            if self.ssl and not self.server_capabilities & driver.constants.CLIENT.SSL:
                raise driver.err.OperationalError(2026, "the server has no TLS")
            super()._request_authentication()

    return Connection
