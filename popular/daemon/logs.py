"""The log of a daemon: opening it as the settings `logfile`, `logformat`, `logto` and `syslogsocket` say.

The starter opens the sink, a file with the rights of the service user; the master inherits its descriptor.
Lean.  Raises StartError.
"""

import errno
import os

from popular.config.kinds import Choice, File
from popular.config.setting import Setting
from popular.config.store import Config
from popular.errors import StartError
from popular.log.form import LogForm
from popular.log.jsonline import FORMS
from popular.log.limit import LineLimit
from popular.log.sink import FileSink, Sink
from popular.log.syslog import DEV_LOG, SyslogSink
from popular.log.writer import Log
from popular.paths import LOGDIR
from popular.unix.rights import Rights, acting_as

TO_FILE = "file"
TO_SYSLOG = "syslog"
TO_STDERR = "stderr"


def log_rows(program: str) -> tuple[Setting, ...]:
    """Return the rows for the log."""
    return (
        Setting("logfile", File(), f"{LOGDIR}/{program}", "The log file.", readonly=True, option=("-l", "--logfile")),
        Setting("logformat", Choice(*FORMS), "classic",
                "The format of log lines: that of the original, or one JSON object a line; see popular-log(7).",
                readonly=True, option=("--logformat",)),
        Setting("logto", Choice(TO_FILE, TO_SYSLOG, TO_STDERR), TO_FILE,
                "Where the log goes: to the log file, to syslogd as the facility mail, or to standard error, which "
                "needs --foreground. Only the first needs a log file.",
                readonly=True, option=("--logto",)),
        Setting("syslogsocket", File(), DEV_LOG, "The socket on which syslogd listens.", readonly=True, at_start=True),
    )


def open_sink(config: Config, rights: Rights) -> Sink:
    """Open the sink that the settings name (starter); raises StartError."""
    values = config.variables
    form = FORMS[values.text("logformat")]
    if values.text("logto") == TO_SYSLOG:
        return SyslogSink.open(form, values.text("syslogsocket"))
    if values.text("logto") == TO_STDERR:
        return FileSink.stderr(form)
    return _open_file(values.text("logfile"), form, rights)


def inherited_log(program: str, config: Config, fd: int) -> Log:
    """Return the log whose sink the starter opened as `fd` (master)."""
    values = config.variables
    lines = values.integer("peerlines") if "peerlines" in values else 0    # a daemon without sessions
    return Log(program, _inherited_sink(config, FORMS[values.text("logformat")], fd), values.flag("debug"),
               LineLimit(lines) if lines else None)


def _inherited_sink(config: Config, form: LogForm, fd: int) -> Sink:
    values = config.variables
    if values.text("logto") == TO_SYSLOG:
        return SyslogSink.inherited(fd, form, values.text("syslogsocket"))
    if values.text("logto") == TO_STDERR:
        return FileSink(fd, form)
    return FileSink(fd, form, values.text("logfile"))


def _open_file(path: str, form: LogForm, rights: Rights) -> FileSink:
    """Open the log file so that the service user can open it again later (HUP)."""
    try:
        with acting_as(rights):
            return FileSink.open(path, form)
    except StartError as why:
        if os.geteuid() != 0 or not isinstance(why.__cause__, PermissionError):
            raise
    if os.path.exists(path) and not os.path.isfile(path):    # a pipe or terminal that only root may open
        return FileSink.open(path, form)
    _create_for(rights, path)
    with acting_as(rights):
        return FileSink.open(path, form)


def _create_for(rights: Rights, path: str) -> None:
    """Make a new file for the service user in a folder that belongs to root."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    except OSError as why:
        hint = f"; it must belong to {rights.user}" if why.errno == errno.EEXIST else ""
        raise StartError(f"cannot open the log file {path}: {why.strerror}{hint}") from why
    os.fchown(fd, rights.uid, rights.gid)
    os.close(fd)
