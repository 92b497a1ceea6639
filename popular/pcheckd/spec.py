"""The specification of pcheckd: rows, checks, its only socket and the work of its children.

Read by the starter and run in the master; lean, because every child has what is imported here.
"""

import os
import signal
from collections.abc import Callable

from popular.addresses import Endpoint
from popular.config.mistakes import Mistake
from popular.config.setting import place, quoted
from popular.config.store import Config
from popular.daemon.messages import START
from popular.daemon.signals import UPGRADE, SignalRow
from popular.daemon.spec import DaemonSpec, Job, Listen
from popular.errors import MailboxError
from popular.log.writer import Log
from popular.mailcheck.packet import MailState
from popular.mailcheck.server import DatagramJob, Trace
from popular.net.listen import SocketAddress, endpoint_of
from popular.pcheckd.answers import Answers
from popular.pcheckd.messages import SHUTDOWN_PCHECKD
from popular.pcheckd.settings import SCHEMA
from popular.proc.pool import PoolLimits
from popular.store.mailbox import mail_state
from popular.unix.load import PATH as LOAD
from popular.unix.load import LoadAverage
from popular.unix.walls.walls import Policy, libraries

_SIGNALS = (
    *(SignalRow(number, "shutdown all", "shutdown_all", "End all processes.")
      for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGPWR)),
    SignalRow(signal.SIGHUP, "reopen", "reopen", "Reopen the log file."),
    UPGRADE,
)

_EMPTY = "empty"    # of the variable `missing`

_STATES = {"none": MailState.EMPTY, "read": MailState.OLD_MAIL, "new": MailState.NEW_MAIL}


def check(config: Config) -> list[Mistake]:
    """Return mistakes that are not in single rows: a default spool that does not exist."""
    mailboxdir = config.variables.text("mailboxdir")
    if not os.path.isdir(mailboxdir):
        return [Mistake(place("pcheckd", "mailboxdir"), f"{quoted(mailboxdir)} is not a directory that exists")]
    return []


def listens(config: Config) -> list[Listen]:
    """Return the one address that all children share."""
    endpoint = Endpoint(config.variables.text("host"), config.variables.integer("port"))
    return [Listen("udp", "pcheckd", endpoint, 0)]


def pool(config: Config) -> PoolLimits:
    """Return a fixed number of children: NUM of --fork plus one (spec 3.1)."""
    number = config.variables.integer("fork") + 1
    return PoolLimits(minspare=number, maxspare=number, limit=number, maxuse=1)


def make_job(config: Config, log: Log, former: Job | None) -> DatagramJob:
    """Return the job of the children."""
    variables = config.variables
    look = lookup(variables.text("mailboxdir"), variables.optional_text("missing") or _EMPTY)
    answers = Answers(look, LoadAverage(), variables.optional_number("emptyload"), log)
    return DatagramJob(answers, tracer(log) if log.debug_on else None)


def lookup(root: str, missing: str) -> Callable[[str], MailState | None]:
    """Return a function from mailbox name to state; it returns None if the mailbox is missing, or raises StoreError.

    With `missing` = empty, a mailbox that simply does not exist yet has no mail.
    """
    def look(mailbox: str) -> MailState | None:
        try:
            return _STATES[mail_state(root, mailbox)]
        except MailboxError as why:
            if why.no_such_mailbox:
                return MailState.EMPTY if missing == _EMPTY and why.is_missing else None
            raise
    return look


def policy(config: Config, job: Job) -> Policy:
    """Have children read names of messages, and no message."""
    return Policy(readable=(*libraries(), LOAD))


def tracer(log: Log) -> Trace:
    """Return a function that logs every packet received and sent (spec 3.1, --debug)."""
    def trace(what: str, peer: SocketAddress, data: bytes) -> None:
        log.debug(f"packet_{what}", peer=str(endpoint_of(peer)), data=data)
    return trace


SPEC = DaemonSpec(
    name="pcheckd", schema=SCHEMA, check=check, listens=listens, make_job=make_job, pool=pool,
    start_message=START, end_message=SHUTDOWN_PCHECKD, signals=_SIGNALS, policy=policy)
