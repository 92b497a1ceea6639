"""MariaDB, set up as docs/databases/mysql.md says: over TCP with TLS and a password; it has a unix socket, too."""

import os
import socket
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

from demo.accounts import salted
from tests.harness.certificates import Authority
from tests.harness.databases import UserRow
from tests.harness.databases.keeper import Keeper, KeptServer, give, own_user
from tests.harness.databases.page import type_commands
from tests.harness.databases.promises import LACKS
from tests.harness.needs import need_module, need_program
from tests.harness.ports import free_port
from tests.harness.system import wait_for

_NO_NATIVE_AIO = "--innodb-use-native-aio=0"    # the kernel has room for that of two or three servers (fs.aio-max-nr)
_INSERT = ("INSERT INTO users "
           "(password, user, backend, protocol, mailbox, buser, bpass, namespace, passwords, disabled) "
           "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)")


class MariaDb(KeptServer):
    """One server."""

    module = "mysql"
    driver = "pymysql"
    secret = "pass'word \\ of pproxy"
    lacks = LACKS["mysql"]

    def __init__(self, folder: Path, cafile: str, port: int, keeper: Keeper) -> None:
        self.folder, self.cafile, self.port = folder, cafile, port
        self.socket = folder / "socket"
        self.local = str(self.socket)    # as one of the module's hosts
        self.passwordfile = folder / "mysql.secret"
        super().__init__(keeper)

    def words(self) -> list[str]:
        """Return the arguments of the module."""
        return [f"hosts=localhost:{self.port}", "database=mail", "tls=on", f"cafile={self.cafile}",
                f"passwordfile={self.passwordfile}", "user=pproxy"]

    def add(self, *rows: UserRow) -> None:
        """Add users."""
        with closing(self.admin()) as connection, connection.cursor() as cursor:
            cursor.executemany(_INSERT, [
                (row.stored, row.user, row.backend, row.protocol, row.mailbox, row.buser, row.bpass,
                 row.namespace, *row.rules().values()) for row in rows])

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._keeper.start()
        wait_for(self._answers, 10.0, f"MariaDB in {self.folder}")

    def connections(self) -> int:
        """Return how many connections the module has."""
        with closing(self.admin()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM information_schema.processlist WHERE user = 'pproxy'")
            return int(cursor.fetchone()[0])

    def admin(self, database: str | None = "mail") -> Any:
        """Return a connection of the administrator, without transactions."""
        return need_module("pymysql").connect(unix_socket=str(self.socket), user="root", database=database,
                                              charset="utf8mb4", autocommit=True)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as first:    # PyMySQL leaves one open that cannot connect
            if first.connect_ex(str(self.socket)) != 0:
                return False
        self.admin(None).close()
        return True


def launch(folder: Path) -> MariaDb:
    """Start a server with the table of the example, empty but for the users of the page."""
    need_module("pymysql")
    server, install = need_program("mariadbd"), need_program("mariadb-install-db")
    need_program("mariadb")
    user, data, port = own_user(), folder / "data", free_port()
    give(folder, user)
    subprocess.run([install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal",
                    "--skip-test-db", "--skip-name-resolve", _NO_NATIVE_AIO], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL, user=user, extra_groups=None if user is None else (), cwd=folder)
    authority = Authority.make(folder)
    os.chmod(authority.cafile, 0o644)
    pair = authority.sign("localhost")
    give(Path(pair.key), user)
    os.chmod(pair.certificate, 0o644)
    command = [server, "--no-defaults", f"--datadir={data}", f"--socket={folder}/socket", f"--port={port}",
               _NO_NATIVE_AIO, "--bind-address=127.0.0.1", f"--pid-file={folder}/pid", f"--ssl-cert={pair.certificate}",
               f"--ssl-key={pair.key}", "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=8M",
               "--performance-schema=OFF", "--local-infile=ON", "--skip-name-resolve"]
    made = MariaDb(folder, authority.cafile, port, Keeper(command, folder / "log", user))
    try:
        made.start()
        _fill(made)
    except BaseException:
        made.close()
        raise
    return made


def _fill(server: MariaDb) -> None:
    """Do what the page says, then choose a password that is harder to quote."""
    (server.folder / "users").write_text(f"filed:{salted('passwd')}:store::filed\n")
    (server.folder / ".my.cnf").write_text(f"[client]\nsocket = {server.socket}\nuser = root\nskip-ssl\n")
    type_commands("mysql", server.folder, {"HOME": str(server.folder)})
    with closing(server.admin()) as connection, connection.cursor() as cursor:
        cursor.execute("RENAME USER pproxy@'192.0.2.%' TO pproxy")
        cursor.execute("ALTER USER pproxy IDENTIFIED BY %s", (server.secret,))
        cursor.execute("CREATE USER pproxy@localhost IDENTIFIED BY %s", (server.secret,))    # over the socket
        cursor.execute("GRANT SELECT ON *.* TO pproxy@localhost")
    server.passwordfile.chmod(0o600)
    server.passwordfile.write_text(f"{server.secret}\n")
