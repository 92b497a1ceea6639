"""Redis that a Sentinel watches, which knows where the master is."""

from pathlib import Path

from tests.harness.databases import UserRow
from tests.harness.databases.promises import LACKS
from tests.harness.databases.redis import Redis, RedisServer
from tests.harness.system import wait_for

_WATCH = """\
sentinel monitor users 127.0.0.1 {port} 1
sentinel down-after-milliseconds users {patience}
sentinel failover-timeout users 3000
"""


class Watched(Redis):
    """A master and a Sentinel."""

    lacks = LACKS["redis_sentinel"]
    patience = 60_000                     # milliseconds before the Sentinel calls the master dead

    def launched(self, folder: Path) -> list[RedisServer]:
        """Start the master, then the Sentinel."""
        master = RedisServer(folder / "master", self.user)
        return [master, self.sentinel(folder, master)]

    def sentinel(self, folder: Path, master: RedisServer) -> RedisServer:
        """Start a Sentinel."""
        watch = _WATCH.format(port=master.port, patience=self.patience)
        return RedisServer(folder / "sentinel", watch, options=["--sentinel"])

    def words(self) -> list[str]:
        """Return the arguments of the module."""
        return [f"servers=127.0.0.1:{self.servers[-1].port}", "master=users", *self.login()]


class Replicated(Watched):
    """A master, its replica, and a Sentinel of little patience, which puts one into the place of the other."""

    patience = 2000

    def launched(self, folder: Path) -> list[RedisServer]:
        """Start the master, then the replica, and tell the Sentinel of them."""
        master = RedisServer(folder / "master", self.user, "repl-diskless-sync-delay 0")
        replica = RedisServer(folder / "replica", self.user, f"replicaof 127.0.0.1 {master.port}",
                              "repl-diskless-sync-delay 0")
        wait_for(master.has_replica, 10.0, "the replica's first copy")
        sentinel = self.sentinel(folder, master)
        with sentinel.admin() as admin:
            wait_for(lambda: int(admin.sentinel_master("users")["num-slaves"]) == 1, 15.0, "the replica to be known")
        return [master, replica, sentinel]

    def serving(self, _: UserRow) -> RedisServer:
        """Return the master, as the Sentinel sees it."""
        *servers, sentinel = self.servers
        with sentinel.admin() as admin:
            _, port = admin.sentinel_get_master_addr_by_name("users")
        return next(server for server in servers if server.port == port)


def launch(folder: Path) -> Watched:
    """Start both."""
    return Watched(folder)
