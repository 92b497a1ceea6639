"""Which connections are served: lists of networks, sessions at once and new ones in a minute (pproxy's children).

The order: lists; `exempt` networks, for which nothing else counts; failed logins; new connections; open sessions.
A connection that is refused counts for none of them.  Raises nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from popular.networks import Networks, ClientAddress, PrefixLengths
from popular.pproxy.limits.guesses import Guesses, LoginGuard
from popular.pproxy.limits.levels import Levels
from popular.statefile.layout import CountedBy
from popular.statefile.slot import Elsewhere, MakeKey, session_key

STALL_SECONDS = 600.0    # for which a network counts as one that stalls
RATE_KEYS = 1 << 16      # about how many addresses and networks are remembered
DELAY_KEYS = 1 << 18     # and mailboxes, where there is a delay between logins

_MINUTE = 60.0

# Why a connection is refused: the ends of counters' names, and the words of the log.
DENIED, GUESSES, ADDRESS_RATE, NETWORK_RATE, ADDRESS, NETWORK = (
    "denied", "failed_logins", "address_rate", "network_rate", "address", "network")


AreTooMany = Callable[[CountedBy, int, int], bool]    # gets a key, and how many there may be; 0: any number


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """The limits of one virtual server; 0: no limit."""

    allow: Networks = Networks()         # empty: all
    deny: Networks = Networks()
    denied_by_file: Networks = Networks()    # its text is the file's name
    exempt: Networks = Networks()
    addressprefix: PrefixLengths = PrefixLengths(32, 64)
    networkprefix: PrefixLengths = PrefixLengths(24, 48)
    addresssessions: int = 0             # open at once
    networksessions: int = 0
    addressrate: int = 0                 # new ones in a minute
    networkrate: int = 0
    maxfailures: int = 0
    failuretime: float = 60.0            # seconds
    usersessions: int = 0
    key: MakeKey = session_key           # makes the keys by which all of this is counted

    def keys(self, origin: ClientAddress) -> tuple[int, int]:
        """Return the keys of the address and of the network of a client."""
        return (self.key("address", *self.addressprefix.key(origin)),
                self.key("network", *self.networkprefix.key(origin)))

    def is_denied(self, origin: ClientAddress) -> bool:
        """Tell whether the lists refuse a client."""
        return bool(self.deny.numbers and origin in self.deny
                    or self.denied_by_file.numbers and origin in self.denied_by_file
                    or self.allow.numbers and origin not in self.allow)


class ClientCounts:
    """What is remembered of all clients, in memory that the children share."""

    def __init__(self, rates: Levels | None = None, guesses: Guesses | None = None,
                 elsewhere: Elsewhere | None = None, delays: Levels | None = None) -> None:
        """Take the memory, or make some; raises OSError.  `elsewhere`: open sessions of other proxies, if known."""
        self._guesses = guesses or Guesses()
        self._rates = rates or Levels(RATE_KEYS)
        self._stalls = Levels(RATE_KEYS)
        self._delays = delays
        self._elsewhere = elsewhere

    def objection(self, limits: ClientLimits, host: str, are_too_many: AreTooMany) -> str:
        """Return why a connection from `host` is refused; empty: it is served.

        `are_too_many` is asked last, and counts the connection unless it says yes.
        """
        origin = ClientAddress.of(host)
        if limits.is_denied(origin):
            return DENIED
        if origin in limits.exempt:
            return ""
        address, network = limits.keys(origin)
        if self._guesses.is_hopeless(address, limits.maxfailures, limits.failuretime):
            return GUESSES
        why = self._too_often(limits, address, network)
        if not why and are_too_many(CountedBy.ADDRESS, address, limits.addresssessions):
            why = ADDRESS
        if not why and are_too_many(CountedBy.NETWORK, network, limits.networksessions):
            why = NETWORK
        return why

    def guard(self, limits: ClientLimits, address: int, network: int) -> LoginGuard | None:
        """Return what judges the logins of a client with these keys; None: they have no limit."""
        if not limits.maxfailures or not address:
            return None
        return LoginGuard(self._guesses, address, network, limits.maxfailures, limits.failuretime, limits.key)

    def forgive(self, limits: ClientLimits, keys: tuple[int, int], names: Iterable[tuple[str, str]]) -> None:
        """Forget the failed logins of an address and its network (0: of none), and of users with their namespaces."""
        guard = LoginGuard(self._guesses, *keys, limits.maxfailures, limits.failuretime)
        for namespace, user in names:
            guard.forgive(namespace, user)

    def connections(self, limits: ClientLimits, keys: tuple[int, int]) -> tuple[float, float]:
        """Return how many new connections of an address and of its network count now."""
        address, network = (self._rates.level(key, _MINUTE / most) if most else 0.0
                            for key, most in zip(keys, (limits.addressrate, limits.networkrate)))
        return address, network

    def sessions_elsewhere(self, keys: tuple[int, int]) -> tuple[int, int]:
        """Return how many sessions of an address and of a network other proxies have, as far as that is known."""
        if self._elsewhere is None:
            return 0, 0
        address, network = keys
        return self._elsewhere(CountedBy.ADDRESS, address), self._elsewhere(CountedBy.NETWORK, network)

    def delays(self) -> Levels:
        """Return where logins to mailboxes are counted; memory is made at the first call, by the master."""
        if self._delays is None:
            self._delays = Levels(DELAY_KEYS)
        return self._delays

    def stalled(self, network: int) -> None:
        """Note that a client of a network was given a child and did not log in until others needed it."""
        if network:
            self._stalls.rise(network, STALL_SECONDS, most=1.0)

    def has_stalled(self, network: int) -> bool:
        """Tell whether this happened lately."""
        return self._stalls.level(network, STALL_SECONDS) > 0

    def _too_often(self, limits: ClientLimits, address: int, network: int) -> str:
        rate, of_network = limits.addressrate, limits.networkrate
        if rate and not self._rates.take(address, _MINUTE / rate, rate):
            return ADDRESS_RATE
        if of_network and not self._rates.take(network, _MINUTE / of_network, of_network):
            if rate:
                self._rates.rise(address, _MINUTE / rate, -1.0)
            return NETWORK_RATE
        return ""


def keys_counted(limits: ClientLimits, host: str) -> tuple[int, int]:
    """Return the keys by which a client's connections are counted; 0, 0: they are not."""
    origin = ClientAddress.of(host)
    return (0, 0) if origin in limits.exempt else limits.keys(origin)
