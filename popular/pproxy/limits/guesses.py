"""Failed logins, remembered over connections: whoever guesses passwords is refused before anything is asked.

Runs in children of pproxy.  Failures are counted by address, network, user, and user at an address.  One address
has `maxfailures` of them; one is forgotten in `failuretime`.  When a network or a user has very many, each address has
only one, so nobody is locked out by failures of others.  A user who has logged in from an address before is judged
only by failures for their own name there, so whoever guesses at the same address does not lock them out either.
Nothing here depends on whether a user exists.

Everything is forgotten at the daemon's end and in an upgrade, but for what other proxies tell
(sharing/events.py).  Raises nothing.
"""

from dataclasses import dataclass

from popular.pproxy.limits.levels import Levels
from popular.statefile.slot import MakeKey, session_key

CROWD = 10    # times maxfailures: failures of a network or user that are very many
FAILURE_KEYS = 1 << 16    # about how many are remembered
KNOWN_KEYS = 1 << 18

# Times maxfailures: failures of a user at an address, at most.  Logins that are checked at the same moment go beyond
# the limit, and must be made up for; but nobody shall be locked out for hours by others at their address.
_OVERRUN = 2

_KNOWN_SECONDS = 90 * 86_400.0    # for which a login is remembered
_RECENT = 0.99                    # the level of what was noted within the last day: it is not noted again


class Guesses:
    """Failed logins, and from where users have logged in, in memory that all children share."""

    def __init__(self, failures: Levels | None = None, known: Levels | None = None) -> None:
        """Take the memory, or make some; raises OSError."""
        self.failures = failures or Levels(FAILURE_KEYS)
        self.known = known or Levels(KNOWN_KEYS)

    def is_hopeless(self, address: int, most: int, seconds: float) -> bool:
        """Tell whether an address has no try left, and nobody has ever logged in from it."""
        return (most > 0 and self.failures.level(address, seconds) + 1 > most
                and not self.known.level(address, _KNOWN_SECONDS))


@dataclass(frozen=True, slots=True)
class GuessLevels:
    """Failed logins that are not forgotten yet, for administrators."""

    is_checked: bool = True       # a password of the user is checked now
    address: float = 0.0
    network: float = 0.0
    user: float = 0.0             # from all addresses
    user_here: float = 0.0
    is_known: bool = False        # somebody has logged in from the address
    is_user_known: bool = False   # the user has


class LoginGuard:
    """Judges the logins of one client."""

    def __init__(self, guesses: Guesses, address: int, network: int, most: int, seconds: float,
                 key: MakeKey = session_key) -> None:
        """Take the keys of the client, and the limit: `most` failures, of which one is forgotten in `seconds`.

        `key` makes more keys.
        """
        self._guesses = guesses
        self._address, self._network = address, network
        self._most, self._seconds = most, seconds
        self._key = key
        self._who = ("", "")       # namespace and user
        self._pair = 0             # the key of this user at this address
        self._is_recent = False    # they have logged in from it within the last day

    def may_try(self, namespace: str, user: str) -> bool:
        """Tell whether a password of `user` may be checked; what follows is about this user."""
        self._who = namespace, user
        self._pair = self._key("pair", self._address, namespace, user)
        known = self._guesses.known.level(self._pair, _KNOWN_SECONDS)
        self._is_recent = known > _RECENT
        if known:
            return self._level(self._pair) + 1 <= self._most
        is_attacked = max(self._level(self._network), self._level(self._user)) + 1 > self._most * CROWD
        return self._level(self._address) + 1 <= (1 if is_attacked else self._most)

    def failed(self) -> None:
        """Note that the password was wrong, or the user unknown."""
        for key, times in ((self._address, CROWD), (self._pair, _OVERRUN), (self._network, CROWD), (self._user, CROWD)):
            self._guesses.failures.rise(key, self._seconds, most=self._most * times)

    def succeeded(self) -> None:
        """Note that the user has logged in from this address."""
        self._guesses.failures.forget(self._pair)
        if not self._is_recent:
            for key in (self._pair, self._address):
                self._guesses.known.rise(key, _KNOWN_SECONDS, most=1.0)

    def forgive(self, namespace: str, user: str) -> None:
        """Forget the failures of the address, its network and this user, everywhere and here."""
        self.may_try(namespace, user)
        for key in (self._address, self._network, self._user, self._pair):
            self._guesses.failures.forget(key)

    def levels(self, namespace: str, user: str) -> GuessLevels:
        """Return what counts for this user at this address."""
        is_checked, known = self.may_try(namespace, user), self._guesses.known
        return GuessLevels(
            is_checked, self._level(self._address), self._level(self._network), self._level(self._user),
            self._level(self._pair), known.level(self._address, _KNOWN_SECONDS) > 0,
            known.level(self._pair, _KNOWN_SECONDS) > 0)

    @property
    def _user(self) -> int:
        return self._key("user", *self._who)

    def _level(self, key: int) -> float:
        return self._guesses.failures.level(key, self._seconds)
