"""The starter: it does all heavy work of a start, and everything that can fail.

It reads options and INI file, reports all mistakes, takes lock, log and ports, detaches, and becomes
the master by exec.  The process that was started waits until the master is ready, so a start
that returns 0 means that the daemon accepts connections.  Exit codes: 64 usage, 69 the system refused something,
70 the master died, 78 wrong settings.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn

from daemon import DaemonContext
from daemon.daemon import DaemonError

from popular.config.cmdline import Startup, conf_path, read_config
from popular.config.ini.text import render_ini
from popular.config.mistakes import ConfigError, Findings, Mistake
from popular.config.setting import place
from popular.config.store import Config, dump, gather, load, sound
from popular.daemon.confinement import is_confined
from popular.daemon.logs import TO_STDERR, open_sink
from popular.daemon.master.listeners import Exchange, OwnPorts
from popular.daemon.master.rings import StartRings
from popular.daemon.messages import START_DOUBTFUL
from popular.daemon.reload.reload import RESULT
from popular.daemon.spec import Startable
from popular.daemon.start.activation import ActivatedSockets, given_sockets
from popular.daemon.start.handover import WORD, Handle, HandOver
from popular.daemon.start.launch import (
    LEAVING, bind_all, check_library, claim_pidfile, exec_master, limit_children, make_rundir, search_path)
from popular.daemon.start.trial import (
    nothing_listens, try_as, try_files, try_folders, try_ports, try_trust, unused_values)
from popular.errors import PopularError, StartError, UsageError
from popular.log.writer import Log
from popular.stderr import INTERRUPTED, complain
from popular.unix.descriptors import ReservedDescriptors
from popular.unix.notify import watchdog_seconds
from popular.unix.pidfile import PidFile
from popular.unix.ready import Ready, StartOutcome, await_ready
from popular.unix.rights import Rights, find_rights, own_rights
from popular.version import VERSION

_PATIENCE = 30.0    # seconds from the fork to a master that is ready
_UMASK = 0o027

_Prepare = Callable[[Config, list[Mistake]], Config]
_Attempt = Callable[[Config, Findings, bool], None]


def main(spec: Startable, argv: Sequence[str], *, prepare: _Prepare | None = None,
         attempt: _Attempt | None = None) -> int:
    """Start the daemon that `spec` describes, with the arguments `argv`; return the exit code.

    `prepare` completes the configuration by steps that only a starter may do, such as resolving names; it adds
    errors to a list, so that all mistakes are reported at once.  `attempt` tries, with the rights of the service
    user, what the program's master will do beyond `spec.check`; if its third argument is true, it also tries what
    its children will do.  In the foreground, this does not return: the process becomes the master.
    """
    _open_missing_streams()
    try:
        if argv[:1] == [WORD]:
            _upgrade(spec, list(argv[1:]))
        startup = read_config(spec.schema, argv, conf_path(spec.name))
        if startup.dump:
            return _dump(spec, startup, prepare, attempt)
        if startup.print:
            if startup.mistakes:
                raise ConfigError(startup.mistakes)
            print(render_ini(startup.config, spec.schema), end="")
            return os.EX_OK
        config, rights, given, findings = _complete(spec, startup, prepare, attempt)
        if startup.check:
            return _check(spec, startup, config, rights, given, findings)
        return _start(spec, startup, config, rights, given, findings)
    except PopularError as why:
        _complain(spec.name, str(why))
        return _exit_code(why)
    except KeyboardInterrupt:    # while waiting: the master sees this and ends
        return INTERRUPTED


def _complete(spec: Startable, startup: Startup, prepare: _Prepare | None,
              attempt: _Attempt | None) -> tuple[Config, Rights, ActivatedSockets, Findings]:
    """Return the completed configuration, the daemon's rights, the sockets that it was given, and all findings.

    Raises ConfigError, StartError.
    """
    findings = Findings([*startup.mistakes])
    mistakes = findings.mistakes
    config = startup.config if prepare is None else prepare(startup.config, mistakes)
    nothing: ActivatedSockets = {}
    given = sound(lambda: given_sockets(spec.name, spec.listens(config), os.environ, mistakes), nothing)
    if not startup.foreground and not startup.dump and sound(lambda: config.variables.text("logto"), "") == TO_STDERR:
        mistakes.append(Mistake(place(spec.name, "logto"), f"logto = {TO_STDERR} needs --foreground"))
    by_root = own_rights().is_root
    rights = sound(lambda: _rights(spec, config, mistakes), own_rights())

    def work(found: Findings) -> None:
        found.mistakes.extend(gather([lambda: spec.check(config)]))
        if not startup.dump:
            sound(lambda: try_files(spec.name, config.variables, rights, found), None)
            try_trust(startup.config_path, config, rights, found, by_root=by_root)
        if attempt is not None:
            attempt(config, found, not startup.dump)

    try:
        check_library(rights)
    except StartError as why:
        findings.refused.append(Mistake("", str(why)))
        rights = own_rights()    # for trying the rest
    try_as(rights, work, findings)
    findings.warnings.extend(gather([lambda: unused_values(spec.schema, startup, config)]))
    _find_places(findings, startup)
    if not startup.check:
        if mistakes:
            raise ConfigError(mistakes)
        if findings.refused:
            raise StartError("\n".join(map(str, findings.refused)))
    if not mistakes:
        findings.warnings.extend(nothing_listens(spec, startup, config))
    return config, rights, given, findings


def _find_places(findings: Findings, startup: Startup) -> None:
    """Add file and line to findings about values from the INI file, where they are known."""
    for some in findings.lists:
        for number, found in enumerate(some):
            line = startup.places.get(found.where) or startup.places.get(found.where.rpartition(": ")[0])
            if line is not None:
                some[number] = Mistake(f"{line}: {found.where}", found.what)


def _rights(spec: Startable, config: Config, mistakes: list[Mistake]) -> Rights:
    """Return the rights that the daemon will have; our own if user or group of the settings do not exist."""
    rights = own_rights()
    user, group = config.variables.optional_text("user"), config.variables.optional_text("group")
    if rights.is_root and user is not None:
        try:
            return find_rights(user, group)
        except KeyError as why:
            name = "user" if "user" in why.args[0] else "group"
            mistakes.append(Mistake(place(spec.name, name), why.args[0]))
    return rights


def _check(spec: Startable, startup: Startup, config: Config, rights: Rights, given: ActivatedSockets,
           findings: Findings) -> int:
    """Try the remaining steps of a start and report everything; return the exit code that a start would have."""
    sound(lambda: try_folders(spec.name, config.variables, findings), None)
    sound(lambda: try_ports(spec.name, spec.listens(config), given, rights, config.variables.text("rundir"), findings),
          None)
    for line in (*findings.mistakes, *findings.faults, *findings.refused):
        _complain(spec.name, str(line))
    _warn(spec.name, findings.warnings + findings.remarks)
    if findings.mistakes or findings.faults:
        return os.EX_CONFIG
    return os.EX_UNAVAILABLE if findings.refused else os.EX_OK


def _dump(spec: Startable, startup: Startup, prepare: _Prepare | None, attempt: _Attempt | None) -> int:
    """Print the configuration, for a master that reloads its file; raises ConfigError, StartError."""
    config, _, _, _ = _complete(spec, startup, prepare, attempt)
    print(RESULT + json.dumps({"config": dump(config, spec.schema), "given": sorted(startup.given)}))
    return os.EX_OK


def _start(spec: Startable, startup: Startup, config: Config, rights: Rights, given: ActivatedSockets,
           findings: Findings) -> int:
    """Take what the daemon needs from the system, then become the master, or wait for it."""
    _check_descriptor(startup.ready_fd)
    os.umask(_UMASK)
    reserved = ReservedDescriptors.reserve()    # before the listeners, which may be many, as the numbers must be low
    limit_children(config)
    rundir = config.variables.text("rundir")
    make_rundir(rundir, rights)
    pidfile = claim_pidfile(os.path.join(rundir, f"{spec.name}.pid"), rights)
    try:
        sink = open_sink(config, rights)
        doubts = findings.faults + findings.warnings
        if config.variables.text("logto") != TO_STDERR:    # else the log shows them
            _warn(spec.name, doubts + findings.remarks)
        for doubt in doubts:
            Log(spec.name, sink).note(START_DOUBTFUL, what=str(doubt))
        rings = StartRings(rights)
        listeners = bind_all(spec.listens(config), LEAVING if pidfile.was_stale else 0.0, rings, given, rights)
    except StartError:
        pidfile.remove()
        raise
    hand = HandOver(
        program=spec.name, version=VERSION, module=spec.import_name, config=dump(config, spec.schema),
        path=search_path(), prefix=sys.prefix, rights=rights, drops=os.geteuid() == 0,
        capabilities=spec.capabilities, is_confined=is_confined(config), detached=not startup.foreground,
        log_fd=sink.fileno(), pid_path=pidfile.path, pid_fd=pidfile.fd,
        ready_fd=startup.ready_fd, reserved=reserved, handles=tuple(map(Handle.of, listeners)),
        rings=tuple(map(Handle.of_ring, rings.clients)),
        argv=startup.argv, folder=os.getcwd(), notify=os.environ.get("NOTIFY_SOCKET", ""),
        watchdog=watchdog_seconds(os.environ, os.getpid()))
    if startup.foreground:
        exec_master(hand)
    return _detach(hand)


def _upgrade(spec: Startable, words: list[str]) -> NoReturn:
    """Become the new master of an upgrade, with what the old one hands over instead of options and INI file.

    Standard error is connected to the old master.  Raises PopularError; the old master then goes on.
    """
    if len(words) != 1 or not words[0].isdigit():
        raise UsageError(f"{WORD} is no option")
    hand = HandOver.read(int(words[0]), spec.name)
    config = load(hand.config, spec.schema)
    mistakes = spec.check(config)
    if mistakes:
        raise ConfigError(mistakes)
    rights = own_rights()
    check_library(rights)
    exchange = Exchange([each.listener() for each in hand.handles], spec.listens(config), OwnPorts())
    exchange.begin()    # changes nothing, unless this version needs other ports
    limit_children(config)
    exec_master(replace(
        hand, module=spec.import_name, path=search_path(), prefix=sys.prefix, rights=rights,
        config=dump(config, spec.schema), base=dump(load(hand.base, spec.schema), spec.schema),
        handles=tuple(map(Handle.of, exchange.listeners))))


def _detach(hand: HandOver) -> int:
    """Become the master in the background; return its exit code in the process that was started."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        _become_daemon(hand, write_end)
    os.close(write_end)
    try:
        outcome = await_ready(read_end, _PATIENCE)
    finally:
        os.close(read_end)    # a master that is not ready yet sees this and ends
    os.waitpid(pid, 0)
    if outcome.code != os.EX_OK:
        _complain(hand.program, outcome.text)
    else:
        _pass_on(outcome, hand.ready_fd)
    return outcome.code


def _become_daemon(hand: HandOver, ready_fd: int) -> NoReturn:
    """Detach and exec, in the forked process; report failures to the process that waits.

    python-daemon only detaches; the master changes the user and handles signals.
    """
    try:
        hand = replace(hand, ready_fd=ready_fd)
        DaemonContext(files_preserve=hand.descriptors, signal_map={}, umask=_UMASK, detach_process=True).open()
        PidFile(hand.pid_path, hand.pid_fd).write(os.getpid())
        os.dup2(ready_fd, 2)    # an interpreter that dies at once can say why
        exec_master(hand)
    except (OSError, StartError, DaemonError) as why:
        Ready(ready_fd).tell_failed(os.EX_UNAVAILABLE, f"cannot detach: {why}")
    finally:
        os._exit(os.EX_UNAVAILABLE)


def _pass_on(outcome: StartOutcome, fd: int | None) -> None:
    """Report to the descriptor of --ready-fd what the master reported."""
    lines = [line.partition(" ") for line in outcome.text.splitlines()]
    Ready(fd).tell_ready((owner, address) for owner, _, address in lines)


def _check_descriptor(fd: int | None) -> None:
    if fd is None:
        return
    try:
        os.fstat(fd)
    except OSError as why:
        raise UsageError(f"--ready-fd: {fd} is not the number of an open descriptor") from why


def _open_missing_streams() -> None:
    """Open /dev/null for closed standard descriptors, or listeners would get their numbers."""
    for fd, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)    # the lowest free number, which is `fd`
            setattr(sys, name, open(fd, mode, encoding="utf-8", closefd=False))


def _warn(program: str, warnings: Sequence[Mistake]) -> None:
    for each in warnings:
        _complain(program, f"warning: {each}")


def _complain(program: str, text: str) -> None:
    for line in text.splitlines():
        complain(f"{program}: {line}")


def _exit_code(why: PopularError) -> int:
    if isinstance(why, UsageError):
        return os.EX_USAGE
    return os.EX_CONFIG if isinstance(why, ConfigError) else os.EX_UNAVAILABLE
