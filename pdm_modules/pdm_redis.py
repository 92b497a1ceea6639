"""Database module `redis`: a hash for each user in Redis or Valkey, alone, behind Sentinel or in a cluster.

    redis [servers=HOST:PORT,…] [socket=FILE] [master=NAME] [cluster=on] [KEY=VALUE …]

OPTIONS lists all keys.  `HGETALL` of the name that `key` makes returns the user's record, whose fields are
those of `popular.pdm.records`: password, backend, protocol, mailbox, buser and bpass.  No hash means that
the user is unknown.  Names beginning like those of users must not be used for anything else.

Several servers have the same data, and the next one is asked when one does not answer; a replica among
them needs `replica-serve-stale-data no`, or else it could deny that users exist before it has its data.
With `master` the servers are Sentinels, which know the address of that master; with `cluster` they are
nodes of a cluster, of which the client learns all others.  It needs the Python package redis.  Runs in a
PDM worker.
"""

from collections.abc import Mapping
from typing import Any

from popular.pdm import records
from popular.pdm.api import Request
from popular.pdm.bases import RecordModule
from popular.pdm.databases.redisservers import ROWS, RedisServers
from popular.pdm.options import Options, Setting, String
from popular.pdm.pattern import Pattern

OPTIONS = Options(
    *ROWS,
    Setting("key", String(), "popular:%n:%u", "The name of a user's hash: a pattern as for the mailboxes of any."),
)


class Module(RecordModule):
    """The users in one Redis, or in several with the same data."""

    API = (1, 1)
    blocking = True

    def __init__(self, ident: str, args: list[str]) -> None:
        """Take the words described above; raises ValueError."""
        super().__init__(ident, args)
        values = OPTIONS.parse(args)
        self._key = Pattern(values.text("key"))
        if self._key.fill("one@example.org", "") == self._key.fill("two@example.org", ""):
            raise ValueError("key: it makes the same name for all users; take %u, or %l and %d")
        self._servers = RedisServers(values)

    def open(self) -> None:
        """Load redis-py and read the secrets; connections are made by the questions."""
        self._servers.open()

    def probe(self) -> None:
        """Look up a user who does not exist."""
        self.open()
        try:
            records.probe_server(self.check)
        finally:
            self.close()

    def close(self) -> None:
        """Close the connections."""
        self._servers.close()

    def describe(self) -> str:
        """Return the arguments, secrets masked."""
        return OPTIONS.describe(self.args)

    def record(self, request: Request) -> records.Record | None:
        """Return the record in a user's hash, None without one; raises ValueError and PdmError."""
        if records.user_octets(request.user) is None:
            return None
        key = self._key.fill(request.user, request.namespace).encode("utf-8", "surrogateescape")

        def look(client: Any) -> Mapping[bytes, bytes]:
            fields: Mapping[bytes, bytes] = client.hgetall(key)
            return fields

        found = self._servers.ask(request.deadline, look)
        return records.record_of({_text(name): _text(value) for name, value in found.items()}) if found else None


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")
