"""What several proxies know of each other's clients: the part that the children of one of them share.

Made by the master at its start if `sharewith` is set, else not even imported.  Children talk to no server: they look up
the sessions of other proxies in a table (others.py), and report events by a pipe (events.py).  One process
(process.py) fills the table, sends the events to the other proxies, and applies theirs.
"""

import os
import shlex
from _blake2 import blake2b    # hashlib would load OpenSSL, and every fork copy its mappings
from dataclasses import replace

from popular.config.store import Values
from popular.pdm.databases.redisservers import ROWS, RedisServers
from popular.pdm.options import Id, Options, Setting, Time
from popular.pproxy.limits.clients import DELAY_KEYS, RATE_KEYS, ClientCounts
from popular.pproxy.limits.guesses import FAILURE_KEYS, KNOWN_KEYS, Guesses
from popular.pproxy.limits.sharing.events import EventPipe, SharedLevels
from popular.pproxy.limits.sharing.others import OthersTable

OPTIONS = Options(
    # Secrets that are given directly are seen by others: here they are only read from files.
    *(replace(row, kind=Time(0.05, 2), default=1.0) if row.name == "timeout" else row for row in ROWS
      if not row.secret),
    Setting("prefix", Id(), "popular", "What the names of the keys begin with: the same for all proxies that share, "
            "and another one for other proxies with the same server."),
)


def common_key(*words: object) -> int:
    """Return the key for what `words` say, which is the same in all proxies."""
    digest = blake2b(ascii(words).encode("ascii"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


class Sharing:
    """All of it, for one master."""

    def __init__(self, text: str, values: Values) -> None:
        """Make the memory and the pipe; raises OSError.  `sharewith` is `text`, and `values` is what it says."""
        self.text = text
        self.values = values
        self.member = os.urandom(8)    # its name among the proxies
        self.others = OthersTable()
        self.pipe = EventPipe()
        # A table's place is its number in events, also in those of other versions.
        self.tables = [SharedLevels(keys, number, self.pipe)
                       for number, keys in enumerate((RATE_KEYS, FAILURE_KEYS, KNOWN_KEYS, DELAY_KEYS))]

    def counts(self) -> ClientCounts:
        """Return what is remembered of clients: with the shared levels."""
        rates, failures, known, delays = self.tables
        return ClientCounts(rates, Guesses(failures, known), self.others.sessions_with, delays)


def read_options(text: str) -> Values:
    """Return the values of `sharewith`; raises ValueError."""
    values = OPTIONS.parse(shlex.split(text))
    RedisServers(values)
    return values
