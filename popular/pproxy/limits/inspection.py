"""What the limits say about one client now, for the command `client show` (pproxy's master).

The words are those of the log: `failed_logins`, `address_rate` and so on; each number stands before its limit.
"""

from collections.abc import Iterator, Sequence

from popular.log.line import value
from popular.networks import ClientAddress
from popular.pproxy.limits.clients import (
    ADDRESS, ADDRESS_RATE, DENIED, GUESSES, NETWORK, NETWORK_RATE, ClientCounts, ClientLimits, keys_counted)
from popular.pproxy.limits.guesses import CROWD, GuessLevels

_YES = {True: "yes", False: "no"}


def client_line(counts: ClientCounts, limits: ClientLimits, host: str, others: Sequence[str], namespace: str,
                user: str) -> str:
    """Return whether a client at `host` is served, and with `user` whether their password is checked.

    `others` are the addresses of all running sessions.  Raises ValueError for an address that is not numeric.
    """
    return " ".join(_words(counts, limits, host, others, namespace, user))


def _words(counts: ClientCounts, limits: ClientLimits, host: str, others: Sequence[str], namespace: str,
           user: str) -> Iterator[str]:
    origin = ClientAddress.of(host)
    keys = keys_counted(limits, host)
    if limits.is_denied(origin):
        yield f"refused why={DENIED}"
        return
    if not any(keys):
        yield "served exempt=yes"
        return
    guard = counts.guard(limits, *keys)
    guesses = guard.levels(namespace, user) if guard is not None else GuessLevels()
    sessions = [sum(key == wanted for key in found) for wanted, found in zip(
        keys, zip(*(keys_counted(limits, other) for other in others)))] or [0, 0]
    sessions = [here + there for here, there in zip(sessions, counts.sessions_elsewhere(keys))]
    new = counts.connections(limits, keys)
    numbers = (
        (GUESSES, guesses.address, limits.maxfailures),
        (ADDRESS_RATE, new[0], limits.addressrate), (NETWORK_RATE, new[1], limits.networkrate),
        (ADDRESS, sessions[0], limits.addresssessions), (NETWORK, sessions[1], limits.networksessions))
    why = next((name for name, number, most in numbers
                if most and number + 1 > most and not (name == GUESSES and guesses.is_known)), "")
    yield f"refused why={why}" if why else "served"
    yield from (f"{name}={number:.3g}/{most}" for name, number, most in numbers)
    yield f"network_failed_logins={guesses.network:.3g}/{limits.maxfailures * CROWD}"
    yield f"known={_YES[guesses.is_known]}"
    if user:
        yield f"user={value(user)} password={'checked' if guesses.is_checked else 'not-checked'}"
        yield f"user_known_here={_YES[guesses.is_user_known]} user_failed_here={guesses.user_here:.3g}"
        yield f"user_failed={guesses.user:.3g}/{limits.maxfailures * CROWD}"
