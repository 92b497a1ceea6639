"""Putting a new Config into force while children run: all of it, or nothing (design 5.3, 6.2; master only).

The steps: check; make the job; bind new ports; swap; close old ports.  Before the swap nothing is changed,
and if a step fails, what was opened is closed again; after the swap nothing can fail.  Children keep the
Config of their fork.  Idle ones are replaced when no command has come for a moment, not after each command.
"""

import gc
import time
from dataclasses import replace

from popular.config.mistakes import ConfigError
from popular.config.store import Config
from popular.control.answer import ControlAnswer
from popular.daemon.master.listeners import Exchange
from popular.daemon.master.loop import Master
from popular.errors import StartError
from popular.proc.supervisor import Supervisor

SETTLE_SECONDS = 0.05     # without a command, before idle children are replaced
LONGEST_SECONDS = 1.0     # for which children may lag behind a series of commands
SYNC_SECONDS = 1.0        # for which `sync` waits at most


class Changes:
    """The Configs of one master, one after the other."""

    def __init__(self, master: Master) -> None:
        """Begin with the one that is in force."""
        self._master = master
        self._first: float | None = None    # time of the first change that has not reached the children
        self._last = 0.0

    def put(self, config: Config) -> None:
        """Put `config` into force; raises ConfigError, PdmError and StartError, and then nothing has changed."""
        master = self._master
        spec = master.spec
        mistakes = spec.check(config)
        if mistakes:
            raise ConfigError(mistakes)
        job = spec.make_job(config, master.log, master.job)
        exchange = Exchange(master.listeners, spec.listens(config), master.ports)
        try:
            exchange.begin()
        except StartError:
            if exchange.disturbed:
                master.supervisor.renew()
            raise
        config = replace(config, generation=master.config.generation + 1)
        master.adopt(config, job, spec.pool(config), exchange.listeners)
        exchange.finish()
        self._last = time.monotonic()
        self._first = self._last if self._first is None else self._first

    def patience(self, now: float) -> float | None:
        """Return the seconds until children are to be replaced; None: not needed."""
        if self._first is None:
            return None
        return max(0.0, min(self._last + SETTLE_SECONDS, self._first + LONGEST_SECONDS) - now)

    def attend(self, is_quiet: bool) -> None:
        """Replace children when it is time; `is_quiet`: no command is waiting."""
        now = time.monotonic()
        wait = self.patience(now)
        if wait == 0.0 and (is_quiet or self._first is None or now >= self._first + LONGEST_SECONDS):
            self.settle()

    def settle(self) -> None:
        """Replace idle children of older Configs now; busy ones leave after their session."""
        if self._first is None:
            return
        self._first = None
        gc.unfreeze()    # free old objects before all are shared with new children
        gc.collect()
        gc.freeze()
        self._master.supervisor.retire_old()


class Sync:
    """The late answer to `sync`, which comes when no child can accept a connection with an older Config."""

    def __init__(self, changes: Changes, supervisor: Supervisor) -> None:
        """Begin to wait."""
        changes.settle()
        self._supervisor = supervisor
        self.deadline = time.monotonic() + SYNC_SECONDS

    def look(self) -> ControlAnswer | None:
        """Return the answer when the condition is met."""
        return None if self._supervisor.has_old_spares else ControlAnswer(True)

    def give_up(self) -> ControlAnswer:
        """Answer nevertheless: children that cannot leave at once will do so soon."""
        return ControlAnswer(True, "children of an older configuration are still leaving")

    def abandon(self) -> bool:
        """Return False: there is nothing to stop."""
        return False
