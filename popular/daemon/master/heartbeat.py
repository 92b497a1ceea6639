"""Signs of life for a service manager: feeding its watchdog and reporting a status line (unix.notify).

Runs in the loop of a master or of a daemon of one process, so that a loop that hangs stops the signs.
Of two masters, only the one in charge sends them.  Raises nothing.
"""

import time
from collections.abc import Callable

from popular.unix.notify import Notify

STATUS_SECONDS = 5.0    # at least, between two status lines; an unchanged one is not repeated


class Heartbeat:
    """The signs of life as an attendant of the master (daemon.master.loop)."""

    def __init__(self, notify: Notify, status: Callable[[], str]) -> None:
        """Begin; `status` returns the status line, empty if there is none."""
        self._notify = notify
        self._status = status
        self._beat = notify.watchdog / 2    # half of its timeout, as sd_watchdog_enabled(3) advises
        self._beat_at = 0.0                 # monotonic
        self._told = ""
        self._tell_at = 0.0

    def patience(self, now: float) -> float | None:
        """Return the seconds until something is to be sent; None: nothing."""
        if not self._notify.is_heard:
            return None
        dues = [self._beat_at] if self._beat else []
        if self._status() != self._told:
            dues.append(self._tell_at)
        return max(0.0, min(dues) - now) if dues else None

    def attend(self) -> None:
        """Send what is due."""
        if not self._notify.is_heard:
            self._told = ""    # another master may have sent its own meanwhile
            return
        now = time.monotonic()
        if self._beat and now >= self._beat_at:
            self._beat_at = now + self._beat
            self._notify.tell("WATCHDOG=1")
        if now >= self._tell_at and (status := self._status()) != self._told:
            self._told = status
            self._tell_at = now + STATUS_SECONDS
            self._notify.tell(f"STATUS={status}")

    def close(self) -> None:
        """Do nothing: nothing is open."""
