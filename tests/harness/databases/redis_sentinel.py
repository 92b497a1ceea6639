"""Redis that a Sentinel watches, which knows where the master is."""

from pathlib import Path

from tests.harness.databases.promises import LACKS
from tests.harness.databases.redis import Redis, RedisServer

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


def launch(folder: Path) -> Watched:
    """Start both."""
    return Watched(folder)
