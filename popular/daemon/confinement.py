"""The walls around the processes of a daemon: raising them, and telling which there are (`confinement`).

Runs in the master.
"""

from dataclasses import replace

from popular.config.store import Config
from popular.daemon.messages import WALLS_MISSING, WALLS_RAISED
from popular.log.writer import Log
from popular.unix.descriptors import MastersOwn
from popular.unix.walls.walls import ON, Policy, Walls, raise_walls

NO_WALLS, LIGHT_WALLS = "off", "light"    # values of the setting

_OF_OTHERS = 4000    # processes and threads that the service user may have beside those of two full pools

_SINCE = ((4, "ports"), (6, "signals"))    # of the ABI of Landlock


def is_confined(config: Config) -> bool:
    """Tell whether the daemon has walls."""
    return "confinement" in config.variables and config.variables.text("confinement") != NO_WALLS


def confine(config: Config, log: Log, own: MastersOwn) -> Walls:
    """Raise the walls if the daemon has the setting and it is on, and log which there are; raises OSError."""
    if "confinement" not in config.variables:
        return Walls()
    walls = raise_walls(own) if is_confined(config) else Walls()
    walls.policy = _adapted(walls.policy, config)
    states = walls_of(walls)
    missing = [f"{name}: {state.removeprefix('missing: ')}" for name, state in states if state.startswith("missing")]
    if missing:
        log.note(WALLS_MISSING, walls="; ".join(missing))
    else:
        left_out = [f"{name}: {state.removeprefix('off, ')}" for name, state in states if not state.startswith(ON)]
        log.note(WALLS_RAISED, walls=" ".join(name for name, state in states if state.startswith(ON)),
                 off="; ".join(left_out).replace(": off", ""))
    return walls


def renew_walls(walls: Walls, policy: Policy, config: Config) -> None:
    """Have children begin with this policy; raises OSError if there was none before, else the former one stays."""
    try:
        walls.prepare(_adapted(policy, config))
    except OSError:    # no descriptors
        if not walls.is_prepared:
            raise


def most_processes(sessions: int) -> int:
    """Return how many processes and threads the service user may have before those with modules can start no more.

    Children of `sessions`, twice during an upgrade, are below it.  The master has no such limit, and those of the unit
    and the init scripts are higher: a child that starts as many as it can does not keep the master from forking.
    """
    return 2 * sessions + _OF_OTHERS


def _adapted(policy: Policy, config: Config) -> Policy:
    """Return the policy with a filter, unless confinement is light and the filter would be for a single session."""
    values = config.variables
    is_light = "maxuse" in values and values.integer("maxuse") == 1 and values.get("confinement") == LIGHT_WALLS
    return replace(policy, is_filtered=not is_light)


def walls_of(walls: Walls) -> list[tuple[str, str]]:
    """Return each wall with `on`, `off`, or `missing` and the reason."""
    inherited = ON if walls.is_raised else "off"
    found = walls.found
    states = [(name, inherited) for name in ("no_new_privileges", "no_core_dumps", "no_access_by_others")]
    is_off = found.seccomp == ON and not walls.policy.is_filtered
    states.append(("seccomp", "off, since confinement is light" if is_off else found.seccomp))
    states.append(("landlock", f"{ON}, ABI {found.abi}" if found.landlock == ON else found.landlock))
    for since, name in _SINCE:
        lacks = f"missing: ABI {since} of Landlock is needed"
        states.append((f"landlock_{name}", found.landlock if found.landlock != ON or found.abi >= since else lacks))
    states.append(("no_capabilities", found.capabilities))
    states.append(("empty_bounding_set", found.bounding))
    states.append(("process_limit", found.processes))
    states.append(("descriptor_limit", found.descriptors))
    if walls.policy.encloses is not None:
        states.append(("own_mailbox", found.landlock if walls.policy.encloses else "off, since maxuse is above 1"))
    return states
