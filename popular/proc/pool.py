"""How many children there should be: pure arithmetic on counts, no processes (master only)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What the administrator allows.  A pool of fixed size has minspare == maxspare == limit."""

    minspare: int    # idle children kept ready at least
    maxspare: int    # idle children kept at most
    limit: int       # children in all
    maxuse: int      # sessions that one child serves before it leaves


@dataclass(frozen=True, slots=True)
class Census:
    """How many children there are."""

    booting: int = 0
    idle: int = 0       # except those that were told to leave
    busy: int = 0
    leaving: int = 0    # told to leave while idle, and not yet gone

    @property
    def total(self) -> int:
        """All children, which count against the limit."""
        return self.booting + self.idle + self.busy + self.leaving


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do: one of the two is 0."""

    fork: int = 0
    retire: int = 0


def decide(limits: PoolLimits, census: Census, is_rush: bool = False) -> Decision:
    """Return how many children to add, or how many idle ones to retire.

    In a rush, if each child serves one session, as many as may be idle are forked ahead: a batch costs the master
    less than single forks, after each of which it would wake and write to its memory again.
    """
    spare = census.booting + census.idle
    if spare < limits.minspare:
        wanted = max(limits.minspare, limits.maxspare) if is_rush and limits.maxuse == 1 else limits.minspare
        return Decision(fork=max(0, min(wanted - spare, limits.limit - census.total)))
    return Decision(retire=min(census.idle, max(0, spare - max(limits.maxspare, limits.minspare))))
