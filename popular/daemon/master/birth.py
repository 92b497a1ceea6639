"""The start of a master, from its loop's first turn to the word that it is ready: when a child can accept.

A daemon that listens and whose children cannot live would look well to whoever started it, and hang its
clients.  So it says that it is ready when a child has reported, and ends when none does.  Beside the old master
of an upgrade, its children must also work for a while, and none may fail.  Master only.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from popular.errors import StartError

if TYPE_CHECKING:
    from popular.daemon.master.loop import Master

SECONDS = 20.0    # that the first child may take; who waits for the start waits longer (daemon.start.starter)


class Stillborn(StartError):
    """The daemon ends before anybody was told that there is one."""


class Birth:
    """An attendant of the master until it has started."""

    def __init__(self, master: "Master", announce: Callable[[], bool]) -> None:
        """Begin to wait; `announce` says that it is ready, and returns False when nobody waits for that any more."""
        self.is_over = False
        self._master = master
        self._announce = announce
        self._until = time.monotonic() + SECONDS
        self._proved_at: float | None = None    # monotonic

    def patience(self, now: float) -> float | None:
        """Return the seconds until the start has failed, or is proved; None: it is over."""
        due = self._until if self._proved_at is None else self._proved_at + self._master.proof_seconds
        return None if self.is_over else max(0.0, due - now)

    def attend(self) -> None:
        """Say that the master is ready, once it is; raises Stillborn when it will not be."""
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
        """There is nothing to close."""
