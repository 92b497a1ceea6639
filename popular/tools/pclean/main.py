"""pclean: clean up a spool, from cron(8), beside running daemons and deliveries (spec 10.2).

Runs in its own process; nothing else imports it.  It removes old files from tmp/, expires mail by the rules of
its INI file, removes mailboxes that are marked as removed, and lists those that are empty or over quota.  Before that
it removes the expired records of SMTP after POP.  Only one run at a time works on a spool: it locks the folder
mailboxdir itself, so no lock file can be left behind.
Exit codes:

     0  everything was done
     1  everything was done, but some mailboxes, folders or databases had errors, which are in the log
    64  wrong command line
    70  an unexpected error
    75  not begun, because another run has the lock or the spool or the log cannot be used; or ended by a signal: with
        --resume the next run continues
    78  the configuration is wrong
"""

import fcntl
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from functools import partial

from popular.config.cmdline import conf_path, read_config
from popular.config.ini.text import render_ini
from popular.config.mistakes import ConfigError, Mistake
from popular.config.setting import place, quoted
from popular.config.store import Config, Values, gather
from popular.errors import StartError, StoreError
from popular.log.writer import Log
from popular.smtpafterpop.clients import Clients, ClientsError
from popular.tools.pclean import messages as M
from popular.tools.pclean.run import Run, Stop
from popular.tools.pclean.settings import SCHEMA, mistakes, rules_of
from popular.tools.pclean.state import Milestones, ProgressFile, StateError
from popular.tools.screen import Screen, say
from popular.unix.rights import drop, find_rights, own_rights

_ERRORS = 1               # exit code
STATE_NAME = ".pclean"    # in the spool; a file, so not a mailbox
_PATIENCE = 5.0           # seconds to wait for children of pproxy that write into the database of SMTP after POP


def main() -> int:
    """Run `pclean`; returns its exit code."""
    return run(sys.argv[1:])


def run(argv: Sequence[str], clock: Callable[[], float] = time.time) -> int:
    """Clean as `argv` and the INI file say, as of the time of `clock`; return the exit code."""
    try:
        startup = read_config(SCHEMA, argv, conf_path(SCHEMA.program))
        if startup.print and not startup.mistakes:
            print(render_ini(startup.config, SCHEMA), end="")
            return os.EX_OK
        check(startup.config, startup.mistakes)
        if startup.check:
            return os.EX_OK
        take_rights(startup.config.variables)
        return clean(startup.config, clock)
    except ConfigError as why:
        for mistake in why.mistakes:
            say(str(mistake))
        return os.EX_CONFIG
    except StartError as why:
        say(str(why))
        return os.EX_TEMPFAIL


def check(config: Config, known: Sequence[Mistake]) -> None:
    """Raise ConfigError for the mistakes that are `known`, and for those that are not in single values."""
    found = [*known, *gather(partial(check, config) for check in (mistakes, _spool_mistakes, _user_mistakes))]
    if found:
        raise ConfigError(found)


def _spool_mistakes(config: Config) -> list[Mistake]:
    folder = config.variables.text("mailboxdir")
    return [] if os.path.isdir(folder) else [
        Mistake(place("pclean", "mailboxdir"), f"{quoted(folder)} is not a directory that exists")]


def _user_mistakes(config: Config) -> list[Mistake]:
    user, group = config.variables.text("user"), config.variables.optional_text("group")
    try:
        if own_rights().is_root:
            find_rights(user, group)
    except KeyError as why:
        return [Mistake("[pclean] user, group", str(why.args[0]))]
    return []


def take_rights(variables: Values) -> None:
    """Drop root's rights, so that root makes no file in the spool and follows no link there."""
    if own_rights().is_root:
        drop(find_rights(variables.text("user"), variables.optional_text("group")))


def clean(config: Config, clock: Callable[[], float]) -> int:
    """Clean the spool; return the exit code.  Raises StartError."""
    variables = config.variables
    is_dry = variables.flag("dryrun")
    log = Log.open("pclean", os.devnull if is_dry else variables.text("logfile"))
    spool = -1
    try:
        if not is_dry:    # a dry run may run beside another run
            spool = lock(variables.text("mailboxdir"))
        screen = Screen()
        with Stop() as stop:
            cleaner = Run(variables, rules_of(config), log, screen, stop, clock)
            cleaner.totals.errors += not expire_clients(variables, log, screen, int(clock()))
            return work(cleaner, variables, log, screen, stop)
    except StartError as why:
        log.note(M.CLEAN_REFUSED, why=str(why))
        raise
    finally:
        if spool >= 0:
            os.close(spool)
        os.close(log.fileno())


def lock(spool: str) -> int:
    """Return a descriptor of the spool's folder, locked against other runs while it is open; raises StartError."""
    folder = -1
    try:
        folder = os.open(spool, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as why:
        if folder >= 0:
            os.close(folder)
        reason = "another pclean works on it" if isinstance(why, BlockingIOError) else why.strerror
        raise StartError(f"{spool}: {reason}") from why
    return folder


def expire_clients(variables: Values, log: Log, screen: Screen, now: int) -> bool:
    """Remove the records of SMTP after POP that have expired at `now`, in a dry run count them; False if that fails.

    Whether a client may send mail does not depend on it, since readers of the database also check the time.
    """
    is_dry = variables.flag("dryrun")
    with closing(Clients(variables.text("smtpafterpopfile"), _PATIENCE)) as clients:
        try:
            if not clients.is_there():
                return True
            number = clients.count_expired(now) if is_dry else clients.expire(now)
        except ClientsError as why:
            say(f"{clients.path}: {why}")
            log.note(M.CLIENTS_NOT_EXPIRED, path=clients.path, why=str(why))
            return False
    if number and (is_dry or variables.flag("verbose")):
        screen.line(f"{clients.path}: {'would remove' if is_dry else 'removed'} {number} records of clients")
    if number:
        log.note(M.CLIENTS_EXPIRED, path=clients.path, records=number)    # in a dry run the log is discarded
    return True


def work(cleaner: Run, variables: Values, log: Log, screen: Screen, stop: Stop) -> int:
    """Go through the spool, from its start or where the last run ended; return the exit code.  Raises StartError."""
    root = variables.text("mailboxdir")
    file = ProgressFile(variables.optional_text("statefile") or os.path.join(root, STATE_NAME), root)

    def complain(why: StateError) -> None:
        say(f"{file.path}: {why}")
        log.note(M.STATE_LOST, path=file.path, why=str(why))

    after = ""
    if variables.flag("resume"):
        try:
            after = file.read()
        except StateError as why:
            complain(why)
    log.note(M.CLEAN_START, mailboxdir=root, after=after)
    started = time.monotonic()
    interval = math.inf if variables.flag("dryrun") else variables.seconds("statetime")
    milestones = Milestones(file, interval, time.monotonic, complain)
    try:
        cleaner.go(after, milestones)
    except StoreError as why:
        raise StartError(str(why)) from why
    except Exception as why:    # a line in the log, not a traceback in a mail of cron
        return tell_bug(why, cleaner.last, log)
    finally:
        screen.clear()
    return conclude(cleaner, milestones, log, screen, stop.signal, time.monotonic() - started)


def conclude(cleaner: Run, milestones: Milestones, log: Log, screen: Screen, signal: str, seconds: float) -> int:
    """Report what the run did, and save how far it got; return the exit code."""
    totals = asdict(cleaner.totals)
    if cleaner.is_talkative:
        screen.line("in total: " + ", ".join(f"{name} {count}" for name, count in totals.items()))
    if signal:
        if not cleaner.is_dry:
            milestones.write(cleaner.last)
        say(f"ended by {signal}" + (f"; to be resumed after {cleaner.last}" if cleaner.last else ""))
        del totals["empty"], totals["overquota"]
        log.note(M.CLEAN_CUT, signal=signal, after=cleaner.last, seconds=seconds, **totals)
        return os.EX_TEMPFAIL
    if not cleaner.is_dry:
        milestones.finish()
    log.note(M.CLEAN_END, seconds=seconds, **totals)
    if totals["errors"]:
        say(f"{totals['errors']} mailboxes, folders or databases with errors, see the log")
    return _ERRORS if totals["errors"] else os.EX_OK


def tell_bug(why: Exception, mailbox: str, log: Log) -> int:
    """Log an unexpected error; return the exit code."""
    place = traceback.extract_tb(why.__traceback__)[-1]
    log.note(M.CLEAN_BUG, after=mailbox, type=type(why).__name__,
             place=f"{os.path.basename(place.filename)}:{place.lineno}")
    say(f"{type(why).__name__} after {mailbox or 'the start'}; see the log")
    return os.EX_SOFTWARE
