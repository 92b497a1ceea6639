"""pdeliver: deliver one mail from standard input into a mailbox (spec 10.1).

Runs in its own process, which the MTA starts for each mail; nothing else imports it.  Exit codes, as in sysexits(3)
except for the original's 1:

     0  delivered: the mail and its name are on disk
     1  over quota
    64  wrong command line, or a name that no mailbox can have (EX_USAGE)
    67  there is no such mailbox or, with --user, no such user (EX_NOUSER)
    69  with --user: the mail of the user is on another backend (EX_UNAVAILABLE)
    75  not delivered, worth a retry (EX_TEMPFAIL); also after a signal, and after any unexpected error

A shell runs Python and watches it (see bin/pdeliver), because Python's own failures end with 1.  Once the mail is in
the mailbox the exit code is 0, whatever fails later: a retry would deliver it twice.

TERM, INT and HUP end the delivery while it waits for input, and leave nothing behind.  Once everything is read, the
delivery is completed.

Root becomes the owner of the mailbox before anything is opened, so that the mail can be read by that owner, and no
link is followed with root's rights.
"""

import os
import select
import sys
from collections.abc import Sequence
from types import TracebackType

from popular.errors import MailboxError, StartError, StoreError
from popular.log.writer import Log
from popular.names import is_mailbox
from popular.store.delivery.deliver import deliver
from popular.store.lineends import ByteSource
from popular.store.mailbox import Mailbox
from popular.store.quota import Quota, Usage, usage_of
from popular.tools.pdeliver import messages as M
from popular.tools.pdeliver.options import Arguments, make_parser, read_command_line
from popular.unix.signals import IGNORED, SignalPipe, get_handler, set_handler

_OVER_QUOTA = 1    # exit code, as in the original

_SHELL = "PDELIVER_SHELL"    # in the environment: the process id of the shell that watches
_SHELLS_INPUT = 3            # the descriptor of the mail then
_SIGNALS = {15: "SIGTERM", 2: "SIGINT", 1: "SIGHUP"}    # not from `signal`, which is slow to load


def main() -> int:
    """Run `pdeliver`; return its exit code, which no error after the delivery changes; never raises."""
    code = os.EX_TEMPFAIL
    try:
        mail = _SHELLS_INPUT if _SHELL in os.environ else 0
        os.fstat(mail)    # before anything is opened, which might get this number
        open_standard()
        with InterruptibleInput(mail) as source:
            code = run(sys.argv[1:], source)
    except SystemExit as why:    # after --help, or a wrong command line
        code = why.code if isinstance(why.code, int) else os.EX_USAGE
        flush()
    except OSError as why:
        _say(f"failed at start or end: {why.strerror}")
    except BaseException as why:
        _say(f"{type(why).__name__}: {why}")
    return code


def run(argv: Sequence[str], source: ByteSource) -> int:
    """Deliver the mail from `source` as `argv` says; return the exit code."""
    arguments = read_command_line(argv)
    if (arguments.mailbox is None) is (arguments.user is None):
        make_parser().error("give either a mailbox or --user")
    if arguments.user is not None and (code := _find_user(arguments)) != os.EX_OK:
        return code
    try:
        become_owner(arguments.mailboxdir, arguments.mailbox, has_quota=bool(arguments.quota or arguments.maxnum))
    except (OSError, StartError) as why:
        return _tell(os.EX_TEMPFAIL, arguments.mailbox, str(why))
    log = open_log(arguments.logfile)
    log.sid = arguments.id
    try:
        return _attempt(arguments, source, log)
    finally:
        close(log)


def _find_user(arguments: Arguments) -> int:
    """Take the mailbox and the limits of a user, or log and print why not; return the exit code."""
    if sys.flags.no_site:    # what the shell wants, and what database modules need is found by site only
        import site
        site.main()
    from popular.tools.pdeliver.user import Undeliverable, UserToFind, find_place    # most mails need no database

    try:
        found = find_place(UserToFind(arguments.config, arguments.user, arguments.namespace, arguments.backend))
    except Undeliverable as why:
        log = open_log(arguments.logfile)
        log.sid = arguments.id
        message = M.USER_NOT_FOUND if why.code == os.EX_TEMPFAIL else M.NO_USER_HERE
        log.note(message, user=arguments.user, why=str(why))
        close(log)
        return _tell(why.code, arguments.user, str(why))
    arguments.mailbox = found.mailbox
    arguments.quota = arguments.quota if found.quota is None else found.quota
    arguments.maxnum = arguments.maxnum if found.maxnum is None else found.maxnum
    arguments.create = arguments.create or found.missing == "create"
    return os.EX_OK


def become_owner(root: str, mailbox: str, *, has_quota: bool = False) -> None:
    """Exchange root's rights for those of the owner of the mailbox, or of the folder in which it is to be made.

    If that is root, nothing is changed.  Raises OSError and StartError.
    """
    if os.geteuid() != 0:
        return
    from popular.unix.identity import become, owner_of    # few run it as root

    parts = [part for part in mailbox.split("/") if part] if is_mailbox(mailbox) else []
    places = ["/".join([root, *parts[:count]]) for count in range(len(parts), -1, -1)]
    for place in (f"{places[0]}/new", *places):
        try:
            status = os.stat(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if status.st_uid != 0:
            if has_quota:
                __import__("popular.store.listing")    # the owner may not be able to read the program
            become(*owner_of(status))
        return


def _attempt(arguments: Arguments, source: ByteSource, log: Log) -> int:
    """Deliver, or log and print why not; return the exit code."""
    try:
        return _take(arguments, source, log)
    except StoreError as why:
        return _log_refusal(arguments.mailbox, why, log)
    except Exception as why:    # a mail must not be bounced as over quota because of our bug
        log.note(M.DELIVERY_BUG, mailbox=arguments.mailbox, type=type(why).__name__, place=_place_of(why))
        return _tell(os.EX_TEMPFAIL, arguments.mailbox, type(why).__name__)


def _place_of(why: Exception) -> str:
    """Return file and line where an exception was raised."""
    trace = why.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}"


def _take(arguments: Arguments, source: ByteSource, log: Log) -> int:
    """Deliver unless the mailbox is full; return the exit code.  Raises StoreError."""
    try:
        mailbox = Mailbox(arguments.mailboxdir, arguments.mailbox)
    except StoreError as why:
        log.note(M.NO_SUCH_MAILBOX, mailbox=arguments.mailbox, why=str(why))
        return _tell(os.EX_USAGE, arguments.mailbox, str(why))
    if arguments.create:
        mailbox.create()
    quota = Quota.of_mebibytes(arguments.quota, arguments.maxnum)
    held = usage_of(mailbox) if quota.is_set else Usage(0, 0)
    if quota.is_reached(held):
        log.note(M.OVER_QUOTA, mailbox=mailbox.name, size=held.octets, number=held.number, quota=quota.octets,
                 maxnum=quota.number)
        return _tell(_OVER_QUOTA, mailbox.name, "over quota")
    delivered = deliver(mailbox, source, arguments.format, stay_watched, head=_head(arguments))
    try:    # the mail is delivered: an error now would deliver it twice
        log.note(M.DELIVERED, mailbox=mailbox.name, size=delivered.size, name=delivered.name)
        if arguments.warn and quota.is_set:
            _warn(arguments, mailbox, quota, held, log)
    except Exception as why:
        _say(f"{mailbox.name}: delivered but not logged: {type(why).__name__}")
    return os.EX_OK


def _head(arguments: Arguments) -> bytes:
    """Return the header lines that are to precede the mail."""
    head = b""
    if arguments.return_path is not None:
        head += b"Return-Path: <%s>\r\n" % os.fsencode(arguments.return_path)
    if arguments.delivered_to is not None:
        head += b"Delivered-To: %s\r\n" % os.fsencode(arguments.delivered_to)
    return head


def _warn(arguments: Arguments, mailbox: Mailbox, quota: Quota, before: Usage, log: Log) -> None:
    """Deliver a warning if the mail has taken the mailbox to a level of its quota; log what became of it."""
    from popular.store.delivery.messages import QUOTA_NOT_WARNED, QUOTA_WARNED    # most mails pass no level
    from popular.store.delivery.quotawarning import warn_of_quota

    try:
        percent = warn_of_quota(mailbox, quota, before, arguments.warn, arguments.warning)
    except Exception as why:
        log.note(QUOTA_NOT_WARNED, mailbox=mailbox.name, why=str(why) or type(why).__name__)
        return
    if percent:
        log.note(QUOTA_WARNED, mailbox=mailbox.name, percent=percent)


def stay_watched(step: str) -> None:
    """Before the mail gets its name, check that the shell still runs to pass on the exit code.  Raises StoreError."""
    shell = os.environ.get(_SHELL)
    if step == "link" and shell is not None and shell != str(os.getppid()):
        raise StoreError("the shell that started Python was killed")


def _log_refusal(mailbox: str, why: StoreError, log: Log) -> int:
    """Log why the mail is not delivered; return the exit code."""
    if isinstance(why, MailboxError) and why.no_such_mailbox:
        log.note(M.NO_SUCH_MAILBOX, mailbox=mailbox, why=str(why))
        return _tell(os.EX_NOUSER, mailbox, "no such mailbox")
    log.note(M.NOT_DELIVERED, mailbox=mailbox, why=str(why))
    return _tell(os.EX_TEMPFAIL, mailbox, str(why))


def open_log(path: str) -> Log:
    """Open the log file; if it cannot be written, mail is delivered without a log."""
    try:
        return Log.open("pdeliver", path)
    except StartError as why:
        _say(str(why))
        return Log.open("pdeliver", os.devnull)


def close(log: Log) -> None:
    """Close the log; an error does not change the exit code."""
    try:
        os.close(log.fileno())
    except OSError as why:
        _say(f"log file: {why.strerror}")


def open_standard() -> None:
    """Make sure that standard output and error are open, or their text would get into a mail.  Raises OSError."""
    while (file := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(file)


def flush() -> None:
    """Write out what argparse has printed; errors are ignored."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):    # full, or closed
        pass


def _tell(code: int, mailbox: str, why: str) -> int:
    """Print why the mail is not delivered; return the exit code."""
    _say(f"{mailbox}: {why}")
    return code


def _say(text: str) -> None:
    """Write a line to standard error, which MTAs put into logs and bounces; errors are ignored.

    It bypasses sys.stderr: Python would write what is left in its buffer at the exit, and might change the exit code.
    """
    try:
        os.write(2, f"pdeliver: {text}\n".encode("ascii", "backslashreplace"))
    except OSError:
        pass


class InterruptibleInput:
    """A descriptor from which a mail is read until a signal comes; a context, after which signals are ignored.

    Signals go to a pipe, which is checked before each read.  So no read misses an earlier signal, and nothing is
    interrupted in the middle.  A signal that was ignored stays ignored.
    """

    def __init__(self, file: int) -> None:
        self._file = file

    def __enter__(self) -> "InterruptibleInput":
        self._signals = SignalPipe(each for each in _SIGNALS if get_handler(each) is not IGNORED)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLIN)
        self._poll.register(self._signals, select.POLLIN)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for number in _SIGNALS:    # if a signal ended us now, a delivered mail would be delivered twice
            set_handler(number, IGNORED)
        self._signals.close()

    def read(self, size: int, /) -> bytes:
        """Return up to `size` octets; none at the end; raises OSError, and StoreError after a signal."""
        self._poll.poll()
        if arrived := self._signals.take():
            raise StoreError(f"ended by signal {_SIGNALS[arrived[0]]}")
        return os.read(self._file, size)
