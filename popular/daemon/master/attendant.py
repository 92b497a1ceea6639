"""The tasks in a master's loop, as the loop sees them (lean: protocols only)."""

import signal
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from popular.statefile.reader import Row


class Attendant(Protocol):
    """A task beside the children."""

    def patience(self, now: float) -> float | None:
        """Return the seconds after which `attend` is due even without an event; None: never."""

    def attend(self) -> None:
        """Do what is due; must not block."""

    def close(self) -> None:
        """End everything."""


class HelperPool(Attendant, Protocol):
    """Processes beside the children: hears of deaths."""

    def bury(self, pid: int, code: int) -> None:
        """Note the end of a process that is not one of the children."""


class SessionHolder(HelperPool, Protocol):
    """Processes beside the children that have sessions, too; the daemon ends with the last of them."""

    @property
    def count(self) -> int:
        """How many processes there are."""

    def status(self) -> str:
        """Describe how many sessions they have."""

    def sessions(self) -> "list[Row]":
        """Return the sessions as they describe them; the process ids are the master's own data."""

    def end(self, row: "Row", why: str) -> bool:
        """Have one session ended; return False if that is not possible."""

    def kill_all(self, number: signal.Signals, why: str) -> None:
        """End all processes by a signal; `why` is for the log."""

    def give_up(self) -> None:
        """Sum up the sessions of processes that no signal ends."""


class OtherMaster(Attendant, Protocol):
    """The master before or after this one, while both run (daemon.upgrade)."""

    @property
    def pid(self) -> int:
        """Its process id; 0: there is no other master."""

    @property
    def objection(self) -> str:
        """Why a change made now would be lost; empty: it would not."""

    def end_begins(self, command: str) -> None:
        """Do what is due when this master begins to end by `command`."""

    @property
    def is_awaited(self) -> bool:
        """Tell whether this master has to wait for its end."""
