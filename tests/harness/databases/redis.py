"""Redis with a user of its own for the module (ACL), over TCP; also the parts of Sentinel and Cluster."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.harness.databases import UserRow
from tests.harness.databases.keeper import Keeper, connections_to
from tests.harness.databases.promises import LACKS
from tests.harness.needs import need_module, need_program
from tests.harness.ports import free_port
from tests.harness.system import wait_for

KEY = "key=users:%n:%u"
PORTION = 1_000    # users that are written at once

_CONFIG = """\
bind 127.0.0.1
port {port}
dir {folder}
save ""
{more}
"""
_USER = 'user pproxy on ">{secret}" ~users:* -@all +hgetall +cluster|slots +cluster|shards +command +info'


class RedisServer:
    """One server: Valkey, or Redis where that is not installed."""

    def __init__(self, folder: Path, *more: str, options: Sequence[str] = ()) -> None:
        """Start it in a new folder, with `more` lines of its configuration and `options` of the command line."""
        folder.mkdir()
        self.folder, self.port = folder, free_port()
        self._config = folder / "redis.conf"
        self._config.write_text(_CONFIG.format(port=self.port, folder=folder, more="\n".join(more)))
        program = need_program("valkey-server", "redis-server")
        self.keeper = Keeper([program, self._config, *options], folder / "redis.log")
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.keeper.start()
        wait_for(self._is_up, 10.0, f"Redis in {self.folder}")

    def kill(self) -> None:
        """Kill it."""
        self.keeper.kill()

    def freeze(self) -> None:
        """Stop it."""
        self.keeper.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self.keeper.thaw()

    def admin(self) -> Any:
        """Return a client with all rights; to be closed."""
        return need_module("redis").Redis(port=self.port)

    def has_replica(self) -> bool:
        """Tell whether it is a master with a replica that has its data."""
        with self.admin() as client:
            told = client.info("replication")
        return told["role"] == "master" and told.get("slave0", {}).get("state") == "online"

    def _is_up(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5.0) as sock:
            sock.sendall(b"PING\r\n")
            return sock.recv(64).startswith(b"+PONG")
        return False


class Redis:
    """Servers with the same data, by default one."""

    module = "redis"
    driver = "redis"
    secret = "secret of pproxy"
    lacks = LACKS["redis"]
    user = _USER.format(secret=secret)

    def __init__(self, folder: Path) -> None:
        """Start the servers."""
        need_module(self.driver)
        self._rows: list[UserRow] = []
        self._passwordfile = folder / "secret"
        self._passwordfile.write_text(self.secret)
        self._passwordfile.chmod(0o600)
        self.servers = self.launched(folder)

    def launched(self, folder: Path) -> list[RedisServer]:
        """Start the servers; the first is that of the data, which it keeps."""
        return [RedisServer(folder / "alone", self.user, "appendonly yes")]

    def words(self) -> list[str]:
        """Return the arguments of the module."""
        return [f"servers=127.0.0.1:{self.servers[0].port}", *self.login()]

    def login(self) -> list[str]:
        """Return the arguments about the login and the keys."""
        return [KEY, "user=pproxy", f"passwordfile={self._passwordfile}"]

    def add(self, *rows: UserRow) -> None:
        """Add users."""
        self._rows += rows
        self.store(rows)

    def store(self, rows: Sequence[UserRow]) -> None:
        """Write users."""
        with self.servers[0].admin() as client:
            write(client, rows)

    def start(self) -> None:
        """Start the servers, which may have forgotten all."""
        for server in self.servers:
            server.start()
        self.store(self._rows)

    def stop(self) -> None:
        """Kill them."""
        for server in self.servers:
            server.kill()

    def end(self) -> None:
        """End them in order."""
        for server in self.servers:
            server.keeper.end()

    def freeze(self) -> None:
        """Stop them all."""
        for server in self.servers:
            server.freeze()

    def thaw(self) -> None:
        """Let them go on."""
        for server in self.servers:
            server.thaw()

    def close(self) -> None:
        """End them for good."""
        for server in self.servers:
            server.keeper.close()

    def connections(self) -> int:
        """Return how many connections they have, those among them included."""
        return sum(connections_to(server.port) for server in self.servers)


def write(client: Any, rows: Sequence[UserRow]) -> None:
    """Write users by way of a client, many at once."""
    for first in range(0, len(rows), PORTION):
        pipeline = client.pipeline(transaction=False)
        for row in rows[first:first + PORTION]:
            pipeline.hset(key_of(row), mapping=_fields_of(row))
        pipeline.execute()


def key_of(row: UserRow) -> str:
    """Return the name of a user's hash."""
    return f"users:{row.namespace}:{row.user}"


def _fields_of(row: UserRow) -> dict[str, str]:
    """Return a user's hash."""
    return {"password": row.stored, "backend": row.backend, "protocol": row.protocol,
            "mailbox": row.mailbox, "buser": row.buser, "bpass": row.bpass, **row.rules()}


def launch(folder: Path) -> Redis:
    """Start a server."""
    return Redis(folder)
