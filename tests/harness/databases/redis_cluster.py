"""A Redis Cluster of three nodes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.harness.databases import UserRow
from tests.harness.databases.promises import LACKS
from tests.harness.databases.redis import Redis, RedisServer, key_of, write
from tests.harness.needs import need_module
from tests.harness.ports import free_port
from tests.harness.system import wait_for

NODES = 3
SLOTS = 16384


class Cluster(Redis):
    """Three masters without replicas."""

    lacks = LACKS["redis_cluster"]
    replicas = 0    # besides the masters

    def launched(self, folder: Path) -> list[RedisServer]:
        """Start the nodes and tell them of each other."""
        buses = [free_port() for _ in range(NODES + self.replicas)]    # by default port + 10,000: perhaps none
        nodes = [RedisServer(folder / f"node{number}", self.user, "cluster-enabled yes", "cluster-node-timeout 2000",
                             f"cluster-port {bus}") for number, bus in enumerate(buses)]
        for number, node in enumerate(nodes):
            with node.admin() as client:
                first, end = (min(SLOTS, SLOTS * count // NODES) for count in (number, number + 1))
                if first < end:
                    client.execute_command("CLUSTER", "ADDSLOTS", *range(first, end))
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
                for other, bus in zip(nodes[:number], buses):
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port, bus)
        wait_for(lambda: all(_is_whole(node, len(nodes)) for node in nodes), 10.0, "the cluster")
        return nodes

    def words(self) -> list[str]:
        """Return the arguments of the module."""
        servers = ",".join(f"127.0.0.1:{node.port}" for node in self.servers)
        return [f"servers={servers}", "cluster=on", *self.login()]

    def store(self, rows: Sequence[UserRow]) -> None:
        """Write users, wherever they belong."""
        wait_for(lambda: all(_is_whole(node, len(self.servers)) for node in self.servers), 10.0, "the cluster")
        with self.client() as client:
            write(client, rows)

    def client(self) -> Any:
        """Return a client of all nodes with all rights; to be closed."""
        return need_module("redis").RedisCluster(host="127.0.0.1", port=self.servers[0].port)


class ReplicatedCluster(Cluster):
    """Three masters with a replica of each, which takes over when its master is away."""

    replicas = NODES

    def launched(self, folder: Path) -> list[RedisServer]:
        """Start the nodes, and tell the later ones whose replicas they are."""
        nodes = super().launched(folder)
        for master, replica in zip(nodes, nodes[NODES:]):
            with master.admin() as other, replica.admin() as client:
                client.execute_command("CLUSTER", "REPLICATE", other.execute_command("CLUSTER MYID"))
        wait_for(lambda: all(node.has_replica() for node in nodes[:NODES]), 10.0, "the replicas")
        return nodes

    def serving(self, row: UserRow) -> RedisServer:
        """Return the master that has a user."""
        with self.client() as client:
            port = client.get_node_from_key(key_of(row)).port
        return next(server for server in self.servers if server.port == port)


def _is_whole(node: RedisServer, nodes: int) -> bool:
    """Tell whether a node knows all others and serves."""
    with node.admin() as client:
        told = client.execute_command("CLUSTER INFO")
        return (told["cluster_state"], told["cluster_known_nodes"]) == ("ok", str(nodes))


def launch(folder: Path) -> Cluster:
    """Start the cluster."""
    return Cluster(folder)
