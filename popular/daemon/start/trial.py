"""Trying what a start and the first login will need, before anything is taken or ended.

Runs in the starter, for `--check-config` and before each start.  What the master and its children will do as the
service user is tried in a forked process that becomes that user for good, as the master does.  The starter tries
its own steps itself.  Nothing is made or changed, and no port listens.
"""

import errno
import json
import os
import select
import signal
import stat
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import NoReturn

from popular.config.cmdline import Startup
from popular.config.mistakes import Findings, Mistake
from popular.config.setting import Schema, place, similar
from popular.config.store import WRONG, Config, Values
from popular.control.place import MAX_PATH, Place
from popular.daemon.logs import TO_FILE
from popular.daemon.master.listeners import fall_back, is_in_use
from popular.daemon.master.rings import StartRings
from popular.daemon.spec import METRICS, Listen, Startable
from popular.daemon.start.activation import ActivatedSockets
from popular.daemon.start.launch import from_ringd
from popular.daemon.tls import OFF, ONLY_WITH_TLS
from popular.errors import StartError
from popular.log.trace import places
from popular.net.holder import can_look_into, holders, who_has
from popular.net.listen import try_bind
from popular.net.unixsocket import try_unix
from popular.unix.pidfile import running_pid
from popular.unix.rights import Rights, acting_as, drop, own_rights

_PATIENCE = 60.0    # seconds for everything that is tried as the service user
_MAX_OUTPUT = 1 << 20

_BLOCK = 65536
_PROGRAMS = ("pproxy", "pserv", "plmtpd", "pcheckd", "ringd", "pclean")    # those with INI files
_MANAGER, _MANAGED = 1, "/run/systemd/system"    # pid and folder of systemd, whose socket units hold ports


def nothing_listens(spec: Startable, startup: Startup, config: Config) -> list[Mistake]:
    """Return a warning for a daemon that listens nowhere, like the original before its first command."""
    if not spec.schema.classes or any(listen.owner != METRICS for listen in spec.listens(config)):
        return []
    cls, path = spec.schema.classes[0].name, startup.config_path
    until = f"no port is open until control commands add a {cls}"
    if not os.path.lexists(path):
        return [Mistake(path, f"no such file, and nothing is configured: {until}{_near(path)}")]
    return [Mistake(path, f"every [{cls}] is off: {until}" if config.items(cls) else f"there is no [{cls}]: {until}")]


def _near(path: str) -> str:
    """Return a hint at a file with a name similar to `path`, which is not that of another program."""
    folder, name = os.path.split(path)
    names = {*os.listdir(folder)} - {f"{each}.conf" for each in _PROGRAMS} if os.path.isdir(folder) else ()
    meant = similar(name, names)
    return f"; did you mean {os.path.join(folder, meant)}?" if meant else ""


def unused_values(schema: Schema, startup: Startup, config: Config) -> list[Mistake]:
    """Return a warning for each given value that has no effect."""
    found = [Mistake(place(cls.name, item.ident, row.name), f"'{row.name}' is not used, because tls is off")
             for cls in schema.classes for item in config.items(cls.name) if item.values.get("tls") == OFF
             for row in cls.rows if row.name in ONLY_WITH_TLS and item.values[row.name] not in (row.default, WRONG)]
    if "maxsession" in startup.given:
        wanted, limit = (config.variables.integer(name) for name in ("maxsession", "sessionlimit"))
        if wanted > limit:
            found.append(Mistake(place(schema.program, "maxsession"),
                                 f"maxsession = {wanted} is more than sessionlimit: there can be {limit} sessions"))
    return found


def try_as(rights: Rights, work: Callable[[Findings], None], findings: Findings) -> None:
    """Let `work` add to `findings` in a process with only `rights`; raises StartError if that fails.

    Root becomes the user there; other users work with their own rights, which the daemon will have, too.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _work_and_tell(rights, work, write_end)
    os.close(write_end)
    try:
        output = _read_all(read_end)
    finally:
        os.close(read_end)
        if output is None:
            os.kill(pid, signal.SIGKILL)    # it is ours and not reaped yet
        os.waitpid(pid, 0)
    try:
        found = json.loads(output.decode() if output is not None else "")
    except ValueError:
        said = "it takes too long" if output is None else output.decode("utf-8", "replace") or "ended early"
        raise StartError(f"the configuration cannot be tried with the rights of {rights.user}: {said}") from None
    for mine, some in zip(findings.lists, found, strict=True):
        mine.extend(Mistake(where, what) for where, what in some)


def _work_and_tell(rights: Rights, work: Callable[[Findings], None], fd: int) -> NoReturn:
    """Do the work of the forked process."""
    try:
        try:
            if os.geteuid() == 0:
                drop(rights)
            found = Findings()
            work(found)
            text = json.dumps([[[each.where, each.what] for each in some] for some in found.lists])
        except StartError as why:
            text = str(why)
        except BaseException as why:    # modules are foreign code; the starter must report any error
            text = f"{type(why).__name__} at {places(why)}"
        with open(fd, "wb") as pipe:
            pipe.write(text.encode("utf-8", "backslashreplace"))
    finally:
        os._exit(os.EX_OK)


def _read_all(fd: int) -> bytes | None:
    """Return what is written until the other end closes, or None if that takes too long."""
    deadline = time.monotonic() + _PATIENCE
    output = b""
    while select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
        block = os.read(fd, _BLOCK)
        if not block or len(output) > _MAX_OUTPUT:
            return output
        output += block
    return None


def try_files(program: str, values: Values, rights: Rights, findings: Findings) -> None:
    """Check that run folder, pid file, control socket and log file can be used (with the user's rights)."""
    rundir = values.text("rundir")
    where = place(program, "rundir")
    if os.path.isdir(rundir) and (why := why_not(rundir, os.W_OK | os.X_OK)):
        findings.refused.append(Mistake(where, f"run folder {rundir}: user {rights.user!r} cannot write to it: {why}"))
    path = os.path.join(rundir, f"{program}.pid")
    if os.path.lexists(path) and (why := "a link" if os.path.islink(path) else why_not(path, os.R_OK | os.W_OK)):
        findings.refused.append(Mistake(where, f"pid file {path}: user {rights.user!r} cannot write to it: {why}"))
    socket = Place(rundir, program).path
    if len(os.fsencode(socket)) > MAX_PATH:
        what = f"{socket} is longer than the {MAX_PATH} octets that a socket's name may have; give a shorter folder"
        findings.refused.append(Mistake(where, what))
    log = values.text("logfile")
    is_there = os.path.isfile(log) or why_not(os.path.dirname(log), os.X_OK) == os.strerror(errno.EACCES)
    if values.text("logto") == TO_FILE and is_there and (why := why_not(log, os.W_OK)):
        what = f"log file {log}: user {rights.user!r} cannot write to it: {why}"
        findings.refused.append(Mistake(place(program, "logfile"), what))


def try_folders(program: str, values: Values, findings: Findings) -> None:
    """Check that missing folders and files can be made (with the starter's own rights)."""
    rundir, log = values.text("rundir"), values.text("logfile")
    if not os.path.isdir(rundir) and (why := "not a folder" if os.path.lexists(rundir) else _why_not_made(rundir)):
        findings.refused.append(Mistake(place(program, "rundir"), f"run folder {rundir} cannot be made: {why}"))
    if values.text("logto") == TO_FILE and not os.path.exists(log) and (why := _why_not_made(log)):
        findings.refused.append(Mistake(place(program, "logfile"), f"log file {log} cannot be made: {why}"))


def try_spool(program: str, values: Values, findings: Findings) -> None:
    """Check that the folder of all mailboxes can be entered (with the user's rights)."""
    folder = values.text("mailboxdir")
    if os.path.isdir(folder) and (why := why_not(folder, os.X_OK)):
        findings.faults.append(Mistake(place(program, "mailboxdir"),
                                       f"folder {folder}: user {own_rights().user!r} cannot enter it: {why}"))


def try_trust(config_path: str, config: Config, rights: Rights, findings: Findings, *, by_root: bool) -> None:
    """Warn of files that decide what the daemon does, if its user can change them (with the user's rights).

    `by_root`: root starts it.  Other users may own their configuration.
    """
    folder = config.variables.get("pdmdir")
    paths = [config_path, os.path.dirname(config_path)]
    if isinstance(folder, str):
        modules = (os.path.join(folder, f"pdm_{item.values['module']}.py") for item in config.items("pdm"))
        paths += [folder, *dict.fromkeys(modules)]
    for path in paths:
        if os.path.exists(path) and not rights.is_root and _can_change(path, rights, by_root):
            findings.warnings.append(Mistake(path, f"user {rights.user!r} can change it, and so what the daemon does; "
                                                   "it should belong to root, and nobody else should write to it"))


def _can_change(path: str, rights: Rights, by_root: bool) -> bool:
    status = os.stat(path)
    if status.st_uid == rights.uid:
        return by_root
    return os.access(path, os.W_OK) and not status.st_mode & stat.S_ISVTX    # in /tmp, only owners replace files


def why_not(path: str, mode: int) -> str:
    """Return why this process may not access a file or folder with `mode` of os.access; empty: it may."""
    try:
        os.stat(path)
    except OSError as why:
        return os.strerror(why.errno or 0)
    if os.access(path, mode):
        return ""
    return "Read-only file system" if os.statvfs(path).f_flag & os.ST_RDONLY else "Permission denied"


def _why_not_made(path: str) -> str:
    folder = os.path.dirname(path)
    why = why_not(folder, os.W_OK | os.X_OK)
    return f"{folder}: {why}" if why else ""


def try_ports(program: str, listens: Iterable[Listen], given: ActivatedSockets, rights: Rights, rundir: str,
              findings: Findings) -> None:
    """Check that the starter could take each port.

    Ports of the daemon that runs in this run folder, and those that systemd holds for it, count as available: a
    restart frees them or hands them over.
    """
    with acting_as(rights):    # the folder is the user's, who could place a link to one of root's files
        running = running_pid(os.path.join(rundir, f"{program}.pid"))
    rings = StartRings(rights)
    ours: list[Listen] = []
    for listen in listens:
        if listen in given:
            continue
        if clash := next((each for each in ours if _overlap(each, listen)), None):    # only listen(2) would fail
            what = f"cannot listen on {listen.endpoint}: {clash.owner} listens on {clash.endpoint}"
            findings.refused.append(Mistake("", what))
        if not listen.ringd:    # ringd shares a port between its users
            ours.append(listen)
        try:
            _try_port(listen, rings)
        except StartError as why:
            if not is_in_use(why):
                findings.refused.append(Mistake("", str(why)))
            elif not _is_ours(listen, running):
                findings.refused.append(Mistake("", who_has(listen.kind, listen.endpoint, str(why))))
    for client in rings.clients:
        client.close()


def _try_port(listen: Listen, rings: StartRings) -> None:
    """Take a port as the starter does, and release it; raises StartError."""
    if listen.ringd:
        rings.bind(listen.ringd, listen).close()
        return
    if listen.endpoint.is_unix:
        try_unix(listen.endpoint, listen.access)
        return
    try:
        try_bind(listen.kind, listen.endpoint).close()
    except StartError as why:
        if is_in_use(why):
            raise
        fall_back(listen, why, partial(from_ringd, rings=rings)).sock.close()


def _overlap(one: Listen, other: Listen) -> bool:
    """Tell whether two addresses exclude each other; an IPv6 socket is for IPv6 only."""
    if one.endpoint.is_unix:
        return one.endpoint == other.endpoint
    hosts = one.endpoint.host, other.endpoint.host
    return (one.kind == other.kind and one.endpoint.port == other.endpoint.port != 0
            and one.endpoint.is_ipv6 == other.endpoint.is_ipv6 and (hosts[0] == hosts[1] or "0.0.0.0" in hosts
                                                                    or "::" in hosts))


def _is_ours(listen: Listen, running: int | None) -> bool:
    pids = [holder.pid for holder in holders(listen.kind, listen.endpoint)]
    if running is not None and (running in pids or not can_look_into(running)):
        return True
    return _MANAGER in pids and os.path.isdir(_MANAGED)
