"""What a start needs from the system: run folder, lock, ports; and the exec of the master.

Runs in the starter, possibly as root.  Files in folders of the service user are opened with that user's
rights, never with root's, because a symbolic link could point root to another file.
Raises StartError with everything that was refused.
"""

import math
import os
import resource
import socket
import sys
import time
from collections.abc import Iterable
from functools import partial
from types import MappingProxyType
from typing import NoReturn

from popular.config.store import Config
from popular.daemon.confinement import is_confined
from popular.daemon.master.listeners import OwnPorts, close_all, fall_back, is_in_use, ring_listener
from popular.daemon.master.rings import StartRings
from popular.daemon.spec import Listen, Listener
from popular.daemon.start.activation import ActivatedSockets
from popular.daemon.start.handover import HandOver
from popular.errors import StartError
from popular.net.holder import who_has
from popular.net.listen import bound_endpoint
from popular.paths import package_path
from popular.unix.pidfile import PidFile
from popular.unix.rights import Rights, acting_as

LEAVING = 5.0      # seconds that children of a killed master have to leave its ports
_AGAIN = 0.05      # seconds between two tries to bind

# Room for process titles: setproctitle can overwrite only arguments and environment.
_PADDING = {"POPULAR_PADDING": "." * 400}
# Library functions are resolved at the start, not in each child at the first call, which would copy a page.
_LINKING = {"LD_BIND_NOW": "1"}
_ENVIRONMENT = ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH")    # and LC_*: libraries read them

_BOOTSTRAP = """\
import json, sys
with open(int(sys.argv[2]), "rb") as hand:
    raw = json.load(hand)
sys.path[:] = raw["path"]
from popular.daemon.start.slim import import_dataclasses
import_dataclasses()
from popular.daemon.start.boot import boot
boot(raw)
"""


def check_library(rights: Rights) -> None:
    """Check that the service user may read Python's modules, which a Python in root's home does not allow."""
    with acting_as(rights):
        for folder in search_path():
            try:
                os.stat(folder)
            except PermissionError:
                raise StartError(f"user {rights.user} may not read {folder}, where modules of Python are") from None
            except OSError:    # no such folder, which is allowed in sys.path
                continue


def make_rundir(path: str, rights: Rights) -> None:
    """Make the run folder if it is missing, owned by the service user.

    Others may reach a socket in it that is opened to them (plmtpd), but not list it.
    """
    try:
        os.mkdir(path, 0o750)
    except FileExistsError:
        return
    except OSError as why:
        raise StartError(f"cannot make the run folder {path}: {why.strerror}") from why
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if os.geteuid() == 0:
        os.fchown(fd, rights.uid, rights.gid)
    os.fchmod(fd, 0o751)
    os.close(fd)


def claim_pidfile(path: str, rights: Rights) -> PidFile:
    """Lock the pid file; raises AlreadyRunning if the daemon runs."""
    with acting_as(rights):
        pidfile = PidFile.claim(path)
        pidfile.write(os.getpid())
    return pidfile


def bind_all(listens: Iterable[Listen], patience: float, rings: StartRings | None = None,
             given: ActivatedSockets = MappingProxyType({}), owner: Rights | None = None) -> list[Listener]:
    """Bind everything, or let ringd do it; raises StartError with one line for each refused address.

    Unix sockets are made for `owner`.

    Sockets `given` by a service manager are bound already.

    A port in use is tried again for `patience` seconds: children of a master that was killed need a moment to
    notice that and leave.
    """
    deadline = time.monotonic() + patience
    bound: list[Listener] = []
    refused: list[str] = []
    for listen in listens:
        try:
            if listen in given:
                bound.append(_from_manager(listen, given[listen]))
            elif rings and listen.ringd:
                bound.append(from_ringd(listen.ringd, listen, rings))
            else:
                bound.append(_bind_patiently(listen, deadline, rings, OwnPorts(owner)))
        except StartError as why:
            refused.append(who_has(listen.kind, listen.endpoint, str(why)) if is_in_use(why) else str(why))
    if refused:
        close_all(bound, OwnPorts())    # Unix sockets would stay
        raise StartError("\n".join(refused))
    return bound


def _from_manager(listen: Listen, sock: socket.socket) -> Listener:
    return Listener(listen.owner, bound_endpoint(sock), sock, listen, ours=False, given=True)


def from_ringd(path: str, listen: Listen, rings: StartRings) -> Listener:
    """Let the ringd at `path` open a port; raises StartError."""
    return ring_listener(path, listen, rings.bind(path, listen))


def _bind_patiently(listen: Listen, deadline: float, rings: StartRings | None, ports: OwnPorts) -> Listener:
    while True:
        try:
            return ports.bind(listen)
        except StartError as why:
            if rings is not None and not is_in_use(why):
                return fall_back(listen, why, partial(from_ringd, rings=rings))
            if not is_in_use(why) or time.monotonic() >= deadline:
                raise
        time.sleep(_AGAIN)


def search_path() -> tuple[str, ...]:
    """Return sys.path for the master: only absolute folders, always with that of this package.

    The latter may be missing, because Python finds an editable installation by a finder, not by a path.
    """
    folders = [folder for folder in sys.path if os.path.isabs(folder)]
    own = package_path()
    return tuple(folders if own in folders else [own, *folders])


def limit_children(config: Config) -> None:
    """Set resource limits for this process, which the children of the master inherit.

    A master needs far less memory than a child may have, and blocks the signal of the other limit
    (daemon.master.loop).
    """
    if is_confined(config):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))    # memory has passwords and keys
    if "maxmemory" not in config.variables:    # a daemon of one process
        return
    memory, cpu = config.variables.integer("maxmemory") << 20, math.ceil(config.variables.seconds("maxcpu"))
    for kind, limit in ((resource.RLIMIT_DATA, memory), (resource.RLIMIT_CPU, cpu)):
        hard = resource.getrlimit(kind)[1]
        wanted = limit if limit and (hard == resource.RLIM_INFINITY or limit < hard) else hard
        resource.setrlimit(kind, (wanted, hard))    # the hard limit stays, for an upgrade with higher limits


def exec_master(hand: HandOver) -> NoReturn:
    """Become the master in a fresh interpreter: isolated, without site, without the starter's modules.

    The first argument must be the interpreter's own path, by which it finds its library.
    """
    fd = hand.write()
    wanted = sorted({0, 1, 2, fd, *hand.descriptors})    # python-daemon opens the first three close-on-exec
    for each in wanted:
        os.set_inheritable(each, True)
    for last, following in zip(wanted, (*wanted[1:], os.sysconf("SC_OPEN_MAX"))):
        os.closerange(last + 1, following)    # those inherited by the starter, such as a script's lock file
    kept = {name: value for name, value in os.environ.items() if name in _ENVIRONMENT or name.startswith("LC_")}
    if hand.drops:    # not root's, where libraries of database modules may find, but not read, files
        kept["HOME"] = hand.rights.home
    words = [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, hand.program, str(fd)]
    os.execve(sys.executable, words, {**kept, **_LINKING, **_PADDING})
