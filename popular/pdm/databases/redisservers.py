"""Connections to Redis or Valkey: a server alone, several with the same data, those behind Sentinel, or a cluster.

Used by the database module `redis` and by the process that shares the counts of clients (pproxy.limits).
ROWS are the arguments.  It needs the Python package redis, which `open` loads.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from popular.pdm.api import PdmError
from popular.pdm.drivers import driver
from popular.pdm.options import Addresses, Bool, File, Int, Setting, String, Time, Values, secret, secret_rows
from popular.pdm.timelimit import within

_T = TypeVar("_T")

MAX_WHY = 200    # characters of what the driver or the server says of a failure

ROWS = (
    Setting("servers", Addresses(), None, "The servers, or the Sentinels with `master`, or some nodes of the cluster "
            "with `cluster`.  By default 127.0.0.1:6379, if there is no `socket` either."),
    Setting("socket", File(), None, "The unix socket of a server."),
    Setting("master", String(), None, "The name of a master that Sentinels watch."),
    Setting("cluster", Bool(), False, "The servers are a cluster."),
    Setting("db", Int(0, 65535), 0, "The number of the database."),
    Setting("user", String(), None, "The user to log in as, if there are several (ACL)."),
    *secret_rows("password", "password of that user, or of all"),
    *secret_rows("sentinelpassword", "password of the Sentinels"),
    Setting("tls", Bool(), False, "Whether connections are encrypted, and the certificates of servers checked."),
    Setting("cafile", File(), None, "The certificates of the authorities that may have signed those of the servers.  "
            "By default those that the system trusts."),
    Setting("timeout", Time(0.05, 60), 2.0, "Time to wait for one server."),
)

_LOCAL = Addresses().parse("127.0.0.1:6379")


class RedisServers:
    """One connection, to the server that answered last."""

    def __init__(self, values: Values) -> None:
        """Take values of ROWS; raises ValueError for those that exclude each other."""
        self._values = values
        self._is_cluster = values.flag("cluster")
        self._path, self._master = map(values.optional_text, ("socket", "master"))
        if self._is_cluster + (self._master is not None) + (self._path is not None) > 1:
            raise ValueError("cluster, master and socket exclude each other")
        if self._path is not None and values["servers"] is not None:
            raise ValueError("servers and socket exclude each other")
        if self._is_cluster and values.integer("db"):
            raise ValueError("a cluster has no other db than 0")
        self._redis: Any = None
        self._common: dict[str, Any] = {}                         # arguments of every connection
        self._places: list[tuple[str, Callable[[], Any]]] = []    # with what connects; the last to answer is first
        self._client: Any = None                                  # for the first of these places

    def open(self) -> None:
        """Load redis-py and read the secrets, without a connection; raises PdmError."""
        self._redis, self._client = driver("redis", "redis"), None
        # `ask` tries again itself, and `within` limits the time
        never = self._redis.retry.Retry(self._redis.backoff.NoBackoff(), 0)
        self._common = {"retry": never, "socket_timeout": None, "socket_connect_timeout": None}
        if self._values.flag("tls"):
            if self._is_cluster and "ssl_check_hostname" not in self._redis.cluster.REDIS_ALLOWED_KEYS:
                raise PdmError("tls with a cluster needs a newer Python package redis, which checks the servers' names")
            self._common.update(ssl=True, ssl_cert_reqs="required", ssl_check_hostname=True,
                                ssl_ca_certs=self._values.optional_text("cafile"))
        login = {"username": self._values.optional_text("user"), "password": secret(self._values, "password") or None}
        servers = _LOCAL if self._values["servers"] is None else self._values.endpoints("servers")
        if self._path is not None:
            self._places = [(self._path, partial(self._server, unix_socket_path=self._path, **login))]
        elif self._is_cluster:
            self._places = [(str(node), partial(self._cluster, node.host, node.port, login)) for node in servers]
        elif self._master is not None:
            word = secret(self._values, "sentinelpassword")
            self._places = [(f"Sentinel {one}", partial(self._watched, one.host, one.port, word, login))
                            for one in servers]
        else:
            self._places = [(str(one), partial(self._server, host=one.host, port=one.port, **login))
                            for one in servers]

    def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is None:
            return
        if self._is_cluster:
            client.disconnect_connection_pools()
        else:
            client.connection_pool.disconnect()
        client.close()

    def ask(self, deadline: float, call: Callable[[Any], _T]) -> _T:
        """Return what `call` returns, which gets a client of redis-py; raises PdmError.

        It is called with the connection there is, and if that fails with new ones to each server in turn: so it may
        have an effect more than once.
        """
        if self._client is not None:
            try:
                return self._asked(deadline, lambda: call(self._client))
            except PdmError:
                self.close()    # it may have been idle for too long
        faults: list[str] = []
        for place, connect in tuple(self._places):
            try:
                return self._asked(deadline, lambda: call(self._connected(connect)))
            except PdmError as why:
                self.close()
                faults.append(f"{place}: {why}")
                self._places.append(self._places.pop(0))
        raise PdmError("; ".join(faults))

    def _connected(self, connect: Callable[[], Any]) -> Any:
        self._client = connect()
        return self._client

    def _asked(self, deadline: float, call: Callable[[], _T]) -> _T:
        """Return what a call of the driver returns; raises PdmError if it fails or takes too long."""
        try:
            return within(self._values.seconds("timeout"), deadline, call)
        except (self._redis.RedisError, self._redis.exceptions.RedisClusterException, OSError) as why:
            raise PdmError(" ".join(str(why).split())[:MAX_WHY] or type(why).__name__) from None

    def _server(self, **place: Any) -> Any:
        """Return a client of one server."""
        return self._redis.Redis(**self._common, **place, db=self._values.integer("db"))

    def _cluster(self, host: str, port: int, login: Mapping[str, Any]) -> Any:
        """Return a client of the cluster that a node belongs to."""
        node = self._redis.cluster.ClusterNode(host, port)
        return self._redis.RedisCluster(startup_nodes=[node], **self._common, **login)

    def _watched(self, host: str, port: int, word: str, login: Mapping[str, Any]) -> Any:
        """Return a client of the master that a Sentinel names."""
        kwargs = {**self._common, "password": word or None}
        sentinel = self._redis.sentinel.Sentinel([(host, port)], sentinel_kwargs=kwargs)
        try:
            address, number = sentinel.discover_master(self._master)
        finally:
            for client in sentinel.sentinels:
                client.connection_pool.disconnect()
        return self._server(host=address, port=number, **login, redis_connect_func=_Once(self._redis.ConnectionError))


class _Once:
    """Lets a client connect a single time: by the next, a former master may be back at the address, without users."""

    def __init__(self, error: type[Exception]) -> None:
        self._error, self._is_done = error, False

    def __call__(self, connection: Any) -> None:
        if self._is_done:
            raise self._error("the connection was closed")
        self._is_done = True
        connection.on_connect()
