"""PostgreSQL, set up as docs/databases/pgsql.md says: over TCP with TLS and a password; it has a unix socket, too."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from demo.accounts import salted
from popular.net.tls.context import KeyPair
from tests.harness.certificates import Authority
from tests.harness.databases import UserRow
from tests.harness.databases.keeper import Keeper, KeptServer, give, own_user
from tests.harness.databases.page import type_commands
from tests.harness.databases.promises import LACKS
from tests.harness.needs import lacking, need_module
from tests.harness.ports import free_port
from tests.harness.system import wait_for

_PROGRAMS = Path("/usr/lib/postgresql")
_SETTINGS = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
ssl = on
ssl_cert_file = '{pair.certificate}'
ssl_key_file = '{pair.key}'
password_encryption = 'scram-sha-256'
max_connections = 30
shared_buffers = 4MB
fsync = off
autovacuum = off
"""
_ACCESS = """\
local all,replication postgres trust
local all pproxy scram-sha-256
hostssl all pproxy 127.0.0.1/32 scram-sha-256
"""
_COPY = ('COPY users (password, "user", backend, protocol, mailbox, buser, bpass, namespace, passwords, disabled) '
         "FROM STDIN")


class Postgres(KeptServer):
    """One server."""

    module = "pgsql"
    driver = "psycopg"
    secret = "pass'word \\ of pproxy"
    lacks = LACKS["pgsql"]
    farewell = signal.SIGINT    # SIGTERM would wait for the clients

    def __init__(self, folder: Path, cafile: str, port: int, keeper: Keeper, programs: Path) -> None:
        self.folder, self.cafile, self.port = folder, cafile, port
        self.local = f"{folder}:{port}"    # as one of the module's hosts
        self.passwordfile = folder / "pgsql.secret"
        super().__init__(keeper)
        self._programs = programs

    def words(self) -> list[str]:
        """Return the arguments of the module."""
        return [f"hosts=localhost:{self.port}", "database=mail", "tls=on", f"cafile={self.cafile}",
                f"passwordfile={self.passwordfile}", "user=pproxy"]

    def add(self, *rows: UserRow) -> None:
        """Add users."""
        with closing(self.admin()) as connection, connection.cursor().copy(_COPY) as copy:
            for row in rows:
                copy.write_row((row.stored, row.user, row.backend, row.protocol, row.mailbox, row.buser,
                                row.bpass, row.namespace, *row.rules().values()))

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._keeper.start()
        wait_for(self._answers, 10.0, f"PostgreSQL in {self.folder}")

    def connections(self) -> int:
        """Return how many connections the module has."""
        with closing(self.admin()) as connection:
            row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'pproxy'").fetchone()
            return int(row[0])

    def admin(self, database: str = "mail") -> Any:
        """Return a connection of the administrator, without transactions."""
        return need_module("psycopg").connect(host=str(self.folder), port=self.port, user="postgres",
                                              dbname=database, autocommit=True)

    @contextmanager
    def standby(self) -> Iterator["Postgres"]:
        """Run a standby, which follows this server and can only be read."""
        user, data, port = own_user(), self.folder / "standby", free_port()
        subprocess.run([self._programs / "pg_basebackup", "-h", self.folder, "-p", str(self.port), "-U", "postgres",
                        "-D", data, "-R", "-X", "stream", "-c", "fast", "--no-sync"], check=True, user=user,
                       extra_groups=None if user is None else (), cwd=self.folder)
        with (data / "postgresql.conf").open("a") as file:
            file.write(f"port = {port}\n")
        keeper = Keeper([self._programs / "postgres", "-D", data], self.folder / "standby.log", user)
        standby = Postgres(self.folder, self.cafile, port, keeper, self._programs)
        try:
            standby.start()
            yield standby
        finally:
            standby.close()

    def _answers(self) -> bool:
        try:
            self.admin("postgres").close()
        except need_module("psycopg").OperationalError:
            return False
        return True


def launch(folder: Path) -> Postgres:
    """Start a server with the table of the example, empty."""
    need_module("psycopg")
    found = sorted(_PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    programs = found[-1].parent if found else lacking("PostgreSQL")
    user, data, port = own_user(), folder / "data", free_port()
    give(folder, user)
    subprocess.run([programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8",
                    "--no-sync", "--no-instructions"], check=True, stdout=subprocess.DEVNULL, user=user,
                   extra_groups=None if user is None else (), cwd=folder)
    authority = Authority.make(folder)
    os.chmod(authority.cafile, 0o644)
    pair: KeyPair = authority.sign("localhost")
    give(Path(pair.key), user)
    os.chmod(pair.certificate, 0o644)
    os.chmod(pair.key, 0o600)
    with (data / "postgresql.conf").open("a") as file:
        file.write(_SETTINGS.format(port=port, folder=folder, pair=pair))
    (data / "pg_hba.conf").write_text(_ACCESS)
    keeper = Keeper([programs / "postgres", "-D", data], folder / "log", user)
    server = Postgres(folder, authority.cafile, port, keeper, programs)
    try:
        server.start()
        _fill(server)
    except BaseException:
        server.close()
        raise
    return server


def _fill(server: Postgres) -> None:
    """Do what the page says, then choose a password that is harder to quote."""
    (server.folder / "users").write_text(f"filed:{salted('passwd')}:store::filed\n")
    type_commands("pgsql", server.folder, {"PGHOST": str(server.folder), "PGPORT": str(server.port),
                                           "PGUSER": "postgres"})
    quoted = server.secret.replace("'", "''")
    with closing(server.admin()) as connection:
        connection.execute(f"ALTER ROLE pproxy PASSWORD '{quoted}'")
    server.passwordfile.chmod(0o600)
    server.passwordfile.write_text(f"{server.secret}\n")
