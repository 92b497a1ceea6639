"""A line in the log, each day, for certificates that end soon (master only)."""

import time
from collections.abc import Callable, Mapping

from popular.daemon.tls import Tls, note_ending
from popular.log.writer import Log

DAY = 86400.0    # seconds between two looks at the days that are left


class CertificateWatch:
    """Has its turn in the master's loop: once a day certificates that end soon are logged."""

    def __init__(self, owners: Callable[[], Mapping[str, Tls]], log: Log) -> None:
        """Watch what `owners` returns; they were logged just now."""
        self._owners = owners
        self._log = log
        self._due = time.monotonic() + DAY

    def patience(self, now: float) -> float | None:
        """Return the seconds until the next look; None without certificates."""
        return max(0.0, self._due - now) if self._owners() else None

    def attend(self) -> None:
        """Look when it is time."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + DAY
            note_ending(self._owners(), self._log)

    def close(self) -> None:
        """Nothing to end."""
