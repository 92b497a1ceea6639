"""The first steps of a master, right after the exec: rights, title, and what the starter handed over.

Only the starter's bootstrap code runs this, in a fresh interpreter (-I -S).  An error here is reported to
the process that waits for the daemon, and ends this process with the matching exit code.
"""

import gc
import importlib
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from popular.config.mistakes import ConfigError
from popular.config.store import Config, load, with_fact
from popular.daemon.admin.control import Control
from popular.daemon.child.accept import tls_of
from popular.daemon.child.warmup import rehearse
from popular.daemon.confinement import confine
from popular.daemon.logs import inherited_log
from popular.daemon.master.birth import Stillborn
from popular.daemon.master.heartbeat import Heartbeat
from popular.daemon.master.loop import Master
from popular.daemon.master.metrics import MetricsKeeper
from popular.daemon.master.single import SingleProcess, SingleProcessSpec
from popular.daemon.master.statefile import make_statefile
from popular.daemon.spec import DaemonSpec, Listen, Listener
from popular.daemon.start.handover import HandOver, Handle
from popular.daemon.tls import CertificateWatch
from popular.daemon.upgrade.new_master import OldMaster
from popular.daemon.upgrade.old_master import Upgrade
from popular.daemon.upgrade.rerun import Origin
from popular.errors import PdmError, PopularError, StartError
from popular.log.once import OnceAMinute
from popular.log.sink import FileSink
from popular.log.writer import Log
from popular.net.listen import bound_endpoint
from popular.net.ring.client import RingClient
from popular.proc.child import Inheritance
from popular.proc.pipes import DeathPipe, Doorbell
from popular.statefile.writer import StateFile
from popular.stderr import complain
from popular.unix.descriptors import MastersOwn
from popular.unix.notify import Notify
from popular.unix.pidfile import PidFile
from popular.unix.ready import Ready
from popular.unix.rights import drop, prove
from popular.unix.title import Title, load_setproctitle
from popular.unix.walls import capabilities


def boot(raw: Mapping[str, Any]) -> NoReturn:
    """Become the master described by `raw`, the parsed hand-over, and run until the end."""
    hand = HandOver.from_raw(raw)
    ready = Ready(hand.ready_fd, hand.detached)
    try:
        master = _build(hand)
    except (ConfigError, PdmError) as why:
        _fail(hand, ready, os.EX_CONFIG, str(why))
    except (PopularError, OSError) as why:
        _fail(hand, ready, os.EX_UNAVAILABLE, str(why))
    gc.freeze()    # all objects so far are shared with the children, and stay shared
    try:
        code = master.run(ready)
    except Stillborn as why:
        code = os.EX_UNAVAILABLE
        _tell_failed(hand, ready, code, str(why))
    sys.exit(code)


def _build(hand: HandOver) -> Master | SingleProcess:
    """Make the daemon from what was handed over, after taking its rights."""
    _take_rights(hand)
    for fd in hand.descriptors:
        os.set_inheritable(fd, False)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())    # the process that started us may have masked some
    sys.prefix = hand.prefix
    spec = _spec(hand.module)
    title = Title(spec.name, load_setproctitle())
    title.set("master")
    config = with_fact(load(hand.config, spec.schema), "pid", os.getpid())
    log = inherited_log(spec.name, config, hand.log_fd)
    listeners = [_listener(listen, handle)
                 for listen, handle in zip(spec.listens(config), hand.handles, strict=True)]
    pidfile = PidFile(hand.pid_path, hand.pid_fd)
    notify = Notify(hand.notify, hand.watchdog)
    if isinstance(spec, SingleProcessSpec):
        return SingleProcess(spec, config, log, hand.rights, pidfile, notify)
    inheritance = _inheritance(hand, config, log, title, make_statefile(spec, config, publish=not hand.is_upgrade))
    gc.collect()    # before the rehearsal, as it also empties Python's lists of free objects
    _rehearse(spec, config, inheritance)
    rings = [RingClient(ring.owner, socket.socket(fileno=ring.fd)) for ring in hand.rings]
    base = load(hand.base, spec.schema) if hand.base else config
    master = Master(spec, config, base, listeners, inheritance, pidfile, rings, notify,
                    is_in_charge=not hand.is_upgrade)
    if notify.address:
        master.attendants.append(Heartbeat(notify, master.status))
    master.attendants.append(CertificateWatch(lambda: tls_of(master.job), log))
    if "metrics" in config.variables:
        keeper = MetricsKeeper(master, inheritance)
        master.attendants.append(keeper)
        master.mourners.append(keeper.bury)
    for pool in spec.helpers(master, inheritance):
        master.attendants.append(pool)
        master.mourners.append(pool.bury)
    _give_control(hand, spec, master, inheritance)
    return master


def _give_control(hand: HandOver, spec: DaemonSpec, master: Master, inheritance: Inheritance) -> None:
    """Set up control and upgrade of the master; raises StartError, OSError."""
    origin = Origin(hand.path, hand.prefix, spec.main_name, hand.argv, hand.folder)
    upgrade = Upgrade(master, hand, origin)
    master.begin_upgrade = upgrade.begin
    master.peers.append(upgrade)
    if hand.line is not None:
        master.peers.append(OldMaster(master, socket.socket(fileno=hand.line), hand.version))
    if spec.commands is not None:
        control = Control(master, spec.commands, origin, inheritance)
        control.open(beside=hand.is_upgrade)
        master.publish.append(control.publish)
        master.attendants.append(control)


def _take_rights(hand: HandOver) -> None:
    """Give up root's rights except the capabilities that the daemon keeps; raises StartError."""
    if hand.drops and (hand.is_confined or hand.capabilities) and not hand.rights.is_root:
        capabilities.bequeath_nothing()
    if hand.drops and hand.capabilities:
        capabilities.survive_change_of_user()
    if hand.drops:
        drop(hand.rights)
    if hand.capabilities:
        capabilities.keep_only(hand.capabilities)
    prove(hand.rights)


def _spec(module: str) -> DaemonSpec | SingleProcessSpec:
    """Import the program's own module."""
    spec = importlib.import_module(module).SPEC
    if not isinstance(spec, DaemonSpec | SingleProcessSpec):
        raise StartError(f"{module}.SPEC is neither DaemonSpec nor SingleProcessSpec")
    return spec


def _listener(listen: Listen, handle: Handle) -> Listener:
    sock = socket.socket(fileno=handle.fd)
    sock.setblocking(False)
    return Listener(listen.owner, bound_endpoint(sock), sock, listen, ours=not (handle.ringd or handle.given),
                    ringd=handle.ringd, given=handle.given)


def _inheritance(hand: HandOver, config: Config, log: Log, title: Title, statefile: StateFile) -> Inheritance:
    """Open what master and children share, and register what belongs only to the master."""
    own = MastersOwn()
    death = DeathPipe()
    own.add(hand.pid_fd, death.masters_end, *statefile.descriptors)
    return Inheritance(log, title, Doorbell(), death, own, hand.rights, hand.reserved, OnceAMinute(), statefile,
                       confine(config, log, own))


def _rehearse(spec: DaemonSpec, config: Config, inheritance: Inheritance) -> None:
    """Rehearse sessions if the program has a stage, and what the stage needs is available."""
    if spec.stage is None or spec.statefile is None:
        return
    with open(os.devnull, "ab", buffering=0) as null:
        try:
            stage = spec.stage(config, Log(spec.name, FileSink(null.fileno())))
        except (OSError, StartError):
            return
        rehearse(stage, spec.statefile, inheritance)
    inheritance.title.set("master")
    gc.enable()    # a child of one session disables it


def _tell_failed(hand: HandOver, ready: Ready, code: int, reason: str) -> None:
    if not hand.detached:
        complain(f"{hand.program}: {reason}")
    ready.tell_failed(code, reason)


def _fail(hand: HandOver, ready: Ready, code: int, reason: str) -> NoReturn:
    """Report the failure to the terminal and the waiting process, and end."""
    _tell_failed(hand, ready, code, reason)
    if not hand.is_upgrade:
        PidFile(hand.pid_path, hand.pid_fd).remove()
    sys.exit(code)
