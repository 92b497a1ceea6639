"""The state file of a daemon (spec 6); one without a file still has its memory.

Runs in the master, before its first child.  Raises nothing: a daemon also works without a state file.
"""

import os
import re

from popular.config.store import Config, Item
from popular.daemon.settings import relay_limits
from popular.daemon.spec import DaemonSpec
from popular.statefile.layout import SERVER, BackendState
from popular.statefile.writer import StateFile


def state_path(program: str, rundir: str) -> str:
    """Return the path of a daemon's state file."""
    return os.path.join(rundir, f"{program}.state")


def aside_path(program: str, rundir: str) -> str:
    """Return the path of this master's state file after that of a new master has replaced it."""
    return os.path.join(rundir, f"{program}.{os.getpid()}.state")


def make_statefile(spec: DaemonSpec, config: Config, *, publish: bool = True) -> StateFile:
    """Return the state file of a new master, large enough for all children that it may have.

    The new master of an upgrade does not `publish` its state file yet.
    """
    limit, room = config.variables.get("sessionlimit"), spec.pool(config).limit
    slots = limit if isinstance(limit, int) else room
    if spec.statefile is None:
        return StateFile(SERVER, slots)
    rundir = config.variables.text("rundir")
    _remove_leftovers(spec.name, rundir)
    relayed, relays = relay_limits(config)
    return StateFile(spec.statefile, slots, state_path(spec.name, rundir), publish=publish, room=room, relayed=relayed,
                     relays=relays)


def learn_names(statefile: StateFile, spec: DaemonSpec, config: Config) -> None:
    """Make the state file count sessions of objects that have counters, and show which backends are switched off."""
    if spec.statefile is not None:
        statefile.learn((cls, item.ident) for cls in spec.statefile.classes for item in config.items(cls))
        for measure in spec.statefile.measures:
            statefile.learn((measure, item.ident) for item in config.items("pdm"))
        if spec.statefile.failing:
            statefile.set_switches({item.ident: _switch(item) for item in config.items(spec.statefile.failing)})


def _switch(backend: Item) -> BackendState:
    if not backend.values.flag("enabled"):
        return BackendState.DISABLED
    return BackendState.DRAINED if backend.values.flag("drain") else BackendState.UP


def _remove_leftovers(program: str, rundir: str) -> None:
    """Remove the state files that killed masters had set aside."""
    name = re.compile(rf"{re.escape(program)}\.([1-9][0-9]{{0,9}})\.state", re.ASCII)
    try:
        for found in filter(None, map(name.fullmatch, os.listdir(rundir))):
            if not os.path.exists(f"/proc/{found[1]}"):
                os.unlink(os.path.join(rundir, found[0]))
    except OSError:    # they do no harm
        pass
