"""Signs of life for a service manager: its watchdog is fed, and a line of status told (unix.notify).

Has its turn in the loop of a master or of a daemon of one process, so that a loop that hangs feeds
nobody.  Of two masters the one in charge does it.  Raises nothing.
"""

import time
from collections.abc import Callable

from popular.unix.notify import Notify

STATUS_SECONDS = 5.0    # between two lines of status; one that does not change is told once


class Heartbeat:
    """What is told again and again (master.Attendant)."""

    def __init__(self, notify: Notify, status: Callable[[], str]) -> None:
        """Begin; `status` returns the line, empty: there is nothing to tell."""
        self._notify = notify
        self._status = status
        self._beat = notify.watchdog / 2    # half of the time that it waits, as sd_watchdog_enabled(3) wants it
        self._beat_at = 0.0                 # monotonic
        self._told = ""
        self._tell_at = 0.0

    def patience(self, now: float) -> float | None:
        """Return the seconds until something is to be told; None: nothing."""
        if not self._notify.is_heard:
            return None
        dues = [self._beat_at] if self._beat else []
        if self._status() != self._told:
            dues.append(self._tell_at)
        return max(0.0, min(dues) - now) if dues else None

    def attend(self) -> None:
        """Tell what is due."""
        if not self._notify.is_heard:
            self._told = ""    # if it is to speak again, another has spoken meanwhile
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
        """There is nothing to close."""
