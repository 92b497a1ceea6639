"""The starter of a successor: begins with what a running master leaves to it, not with options and INI file.

Run by that master (succession.py) in a process of its own; standard error leads to it.  It reads the
configuration of the moment, finds its listeners among those it was given, and becomes the master by exec.
Raises PopularError, and the old master goes on.
"""

import os
import sys
from typing import NoReturn

from popular.config.store import Config, dump, load
from popular.daemon.master.listeners import Exchange, OwnPorts
from popular.daemon.spec import Listener, Startable
from popular.daemon.start.handover import HandOver
from popular.daemon.start.launch import check_library, exec_master, handles, limit_children, search_path
from popular.daemon.upgrade.estate import WORD, Estate
from popular.errors import ConfigError, UsageError
from popular.unix.pidfile import NEW, PidFile
from popular.unix.rights import own_rights


def succeed(spec: Startable, words: list[str]) -> NoReturn:
    """Become the successor of the master whose estate is in the descriptor that `words` names."""
    if len(words) != 1 or not words[0].isdigit():
        raise UsageError(f"{WORD} is no option")
    estate = Estate.read(int(words[0]), spec.name)
    config = load(estate.config, spec.schema)
    mistakes = spec.check(config)
    if mistakes:
        raise ConfigError(mistakes)
    rights = own_rights()
    check_library(rights)
    listeners = _listeners(spec, config, estate)
    pidfile = PidFile.claim(estate.pid_path + NEW)
    pidfile.write(os.getpid())
    limit_children(config)
    exec_master(HandOver(
        program=spec.name, module=spec.import_name, config=dump(config, spec.schema),
        path=search_path(), prefix=sys.prefix, rights=rights, drops=False, capabilities=(), detached=True,
        log_fd=estate.log_fd, pid_path=pidfile.path, pid_fd=pidfile.fd, ready_fd=estate.channel,
        reserved=estate.reserved, handles=handles(listeners), rings=estate.rings, argv=estate.argv,
        folder=estate.folder, base=dump(load(estate.base, spec.schema), spec.schema), channel=estate.channel,
        notify=estate.notify, watchdog=estate.watchdog))


def _listeners(spec: Startable, config: Config, estate: Estate) -> list[Listener]:
    """Return the listeners that the configuration wants, in its order; raises StartError.

    They are all there, unless this version wants others than the last one did.
    """
    exchange = Exchange([each.listener() for each in estate.heirlooms], spec.listens(config), OwnPorts())
    exchange.begin()
    return exchange.listeners
