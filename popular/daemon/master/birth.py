"""The start of a master, from its loop's first turn until it reports that it is ready.

A daemon that listens but has no working children would look healthy, and its clients would hang.
So it reports that it is ready once a child is, and ends if none becomes ready.  In an upgrade, its children must
also work for a while beside the old master, without any failure.  Master only.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from popular.errors import StartError

if TYPE_CHECKING:
    from popular.daemon.master.loop import Master

SECONDS = 20.0    # for the first child; the starter waits longer (daemon.start.starter)


class Stillborn(StartError):
    """The daemon ends before it has reported that it is ready."""


class Birth:
    """An attendant of the master until it has started."""

    def __init__(self, master: "Master", announce: Callable[[], bool]) -> None:
        """Begin to wait; `announce` reports that it is ready, and returns False if nobody waits for that any more."""
        self.is_over = False
        self._master = master
        self._announce = announce
        self._until = time.monotonic() + SECONDS
        self._proved_at: float | None = None    # monotonic

    def patience(self, now: float) -> float | None:
        """Return the seconds until the start has failed or succeeded; None: it is over."""
        due = self._until if self._proved_at is None else self._proved_at + self._master.proof_seconds
        return None if self.is_over else max(0.0, due - now)

    def attend(self) -> None:
        """Report that the master is ready, once it is; raises Stillborn if the start has failed."""
        master, children = self._master, self._master.supervisor
        if self.is_over or master.is_ending:
            return
        if master.proof_seconds and children.losses:
            raise Stillborn("its children die")
        if children.has_proved:
            now = time.monotonic()
            self._proved_at = self._proved_at or now
            if now >= self._proved_at + master.proof_seconds:
                self.is_over = True
                if not self._announce():
                    raise Stillborn("whoever waited for the start has given up")
        elif children.trouble and not children.count:
            raise Stillborn(f"no child can be started: {children.trouble}")
        elif time.monotonic() >= self._until:
            raise Stillborn(f"no child is ready for work after {SECONDS:g} s")

    def close(self) -> None:
        """Do nothing: nothing is open."""
