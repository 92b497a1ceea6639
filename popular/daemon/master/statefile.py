"""Which state file a daemon has (spec 6): those without one have its memory all the same.

Runs in the master, before its first child.  Raises nothing: without a state file a daemon serves all the same.
"""

import os
import re

from popular.config.store import Config
from popular.daemon.spec import DaemonSpec
from popular.statefile.layout import SERVER
from popular.statefile.writer import StateFile


def state_path(program: str, rundir: str) -> str:
    """Return where the state file of a daemon lies."""
    return os.path.join(rundir, f"{program}.state")


def aside_path(program: str, rundir: str) -> str:
    """Return where the state file of this master lies when a new master's has taken its place."""
    return os.path.join(rundir, f"{program}.{os.getpid()}.state")


def make_statefile(spec: DaemonSpec, config: Config, *, publish: bool = True) -> StateFile:
    """Return the state file of a new master, large enough for all children there may ever be.

    A new master of an upgrade does not `publish` its state file yet.
    """
    limit, room = config.variables.get("sessionlimit"), spec.pool(config).limit
    slots = limit if isinstance(limit, int) else room
    if spec.statefile is None:
        return StateFile(SERVER, slots)
    rundir = config.variables.text("rundir")
    _remove_leftovers(spec.name, rundir)
    return StateFile(spec.statefile, slots, state_path(spec.name, rundir), publish=publish, room=room)


def learn_names(statefile: StateFile, spec: DaemonSpec, config: Config) -> None:
    """Let the state file count the sessions of all objects of a configuration that are counted."""
    if spec.statefile is not None:
        statefile.learn((cls, item.ident) for cls in spec.statefile.classes for item in config.items(cls))


def _remove_leftovers(program: str, rundir: str) -> None:
    """Remove the state files that masters set aside and could not remove: they were killed."""
    name = re.compile(rf"{re.escape(program)}\.([1-9][0-9]{{0,9}})\.state", re.ASCII)
    try:
        for found in filter(None, map(name.fullmatch, os.listdir(rundir))):
            if not os.path.exists(f"/proc/{found[1]}"):
                os.unlink(os.path.join(rundir, found[0]))
    except OSError:    # they do no harm
        pass
