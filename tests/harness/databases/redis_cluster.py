"""A Redis Cluster of three nodes."""

from collections.abc import Sequence
from pathlib import Path

from tests.harness.databases import UserRow
from tests.harness.databases.promises import LACKS
from tests.harness.databases.redis import Redis, RedisServer, write
from tests.harness.needs import need_module
from tests.harness.ports import free_port
from tests.harness.system import wait_for

NODES = 3
SLOTS = 16384


class Cluster(Redis):
    """Three masters without replicas."""

    lacks = LACKS["redis_cluster"]

    def launched(self, folder: Path) -> list[RedisServer]:
        """Start the nodes and tell them of each other."""
        buses = [free_port() for _ in range(NODES)]    # by default 10,000 more than the other port: perhaps no port
        nodes = [RedisServer(folder / f"node{number}", self.user, "cluster-enabled yes", "cluster-node-timeout 2000",
                             f"cluster-port {bus}") for number, bus in enumerate(buses)]
        for number, node in enumerate(nodes):
            with node.admin() as client:
                first, end = SLOTS * number // NODES, SLOTS * (number + 1) // NODES
                client.execute_command("CLUSTER", "ADDSLOTS", *range(first, end))
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                for other, bus in zip(nodes[:number], buses):
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port, bus)
        wait_for(lambda: all(map(_is_whole, nodes)), 10.0, "the cluster")
        return nodes

    def words(self) -> list[str]:
        """Return the arguments of the module."""
        servers = ",".join(f"127.0.0.1:{node.port}" for node in self.servers)
        return [f"servers={servers}", "cluster=on", *self.login()]

    def store(self, rows: Sequence[UserRow]) -> None:
        """Write users, wherever they belong."""
        wait_for(lambda: all(map(_is_whole, self.servers)), 10.0, "the cluster")
        with need_module("redis").RedisCluster(host="127.0.0.1", port=self.servers[0].port) as client:
            write(client, rows)


def _is_whole(node: RedisServer) -> bool:
    """Tell whether a node knows all others and serves."""
    with node.admin() as client:
        told = client.execute_command("CLUSTER INFO")
        return (told["cluster_state"], told["cluster_known_nodes"]) == ("ok", str(NODES))


def launch(folder: Path) -> Cluster:
    """Start the cluster."""
    return Cluster(folder)
