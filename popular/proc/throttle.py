"""Patience with children that die before they are ready: pure arithmetic on times (master only)."""

FIRST = 0.2      # seconds of the first delay; each further failure doubles it
LONGEST = 30.0   # seconds


class Throttle:
    """When the next child may be forked.

    Only failures to start count; a child that becomes ready ends the trouble.  Until then, children are
    started one at a time.
    """

    def __init__(self) -> None:
        """Begin without trouble."""
        self.delay = 0.0
        self._until = 0.0

    @property
    def is_troubled(self) -> bool:
        """Tell whether the last child failed to start."""
        return self.delay > 0

    def failed(self, now: float) -> None:
        """Note that a child could not be started at the monotonic time `now`."""
        if now < self._until:    # another one of the same batch
            return
        self.delay = min(LONGEST, self.delay * 2) if self.delay else FIRST
        self._until = now + self.delay

    def succeeded(self) -> None:
        """Note that a child is ready for work."""
        self.delay = 0.0
        self._until = 0.0

    def allowance(self, wanted: int, booting: int, now: float) -> int:
        """Return how many of the `wanted` children may be forked now."""
        if not self.is_troubled:
            return wanted
        return 0 if now < self._until or booting else min(wanted, 1)

    def wait(self, now: float) -> float:
        """Return the seconds until the next try."""
        return max(0.0, self._until - now)
