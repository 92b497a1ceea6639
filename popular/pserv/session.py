"""One session of the storage server: a preamble, a mailbox, POP3, the end (spec 2.4, 8.1).

Runs in the children of pserv.  The session has the id that the proxy sends, and `-` before that is known.
"""

import errno
import time
from collections.abc import Sequence

from popular.config.store import Config
from popular.daemon.admin.sessions import totals_of
from popular.daemon.child.session import Session
from popular.errors import Gone, LoginRefused, MailboxError, ProxyHeader
from popular.log.writer import Log
from popular.pop3.dialogue import Dialogue
from popular.pop3.languages import speak
from popular.pop3.maildrop import EmptyMaildrop
from popular.pop3.response import code_for
from popular.pop3.transaction import SessionTotals, TransactionState
from popular.pop3.xpop import Preamble, read_preamble
from popular.pserv import messages
from popular.pserv.objects import ServConfig, Server
from popular.statefile.counters import ServerOutcome
from popular.statefile.reader import Row
from popular.store.commit import Trouble
from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop

_UNKNOWN = "unknown"    # in the last line of a session whose child has died


class MissingMaildrop(EmptyMaildrop):
    """What is served in place of a mailbox that does not exist."""

    troubles: Sequence[Trouble] = ()

    def places(self) -> tuple[str, ...]:
        """Return no folders."""
        return ()


Served = MaildirMaildrop | MissingMaildrop

_TROUBLES = {
    "not_listed": messages.STAT_FAILED, "not_moved": messages.NOT_MOVED, "not_a_file": messages.NOT_A_FILE,
    "wrong_size": messages.WRONG_SIZE, "not_remembered": messages.NOT_REMEMBERED}


class ServSession:
    """One session of the server."""

    def __init__(self, config: ServConfig, session: Session, server: Server) -> None:
        self.config = config
        self.session = session
        self.server = server
        self.wire = session.wire
        self.log = session.log
        self.slot = session.child.slot
        self.where = {"peer": str(session.peer), "server": server.ident}

    def run(self) -> None:
        """Serve one session; raises Gone if the other side leaves or misbehaves."""
        try:
            preamble = self.meet()
            maildrop = self.open(preamble)
        except LoginRefused as why:
            self.wire.reply(False, why.text, why.code)
            self.slot.count(ServerOutcome.REFUSED.counter)
            return
        try:
            self.session.child.enclose(maildrop.places)    # all other mailboxes are given up
            self.serve(preamble, maildrop)
        finally:
            maildrop.close()

    def meet(self) -> Preamble:
        """Read the names of the mailbox and of the session; raises LoginRefused and Gone."""
        self.session.enter("preamble")
        self.wire.deadline = time.monotonic() + self.config.preambletimeout
        try:
            if self.server.tls is not None:
                self.session.start_tls(self.server.tls)
            preamble = read_preamble(self.wire)
        except LoginRefused as why:
            self.session.note_peer(messages.PREAMBLE_REFUSED, **self.where, why=why.why)
            raise
        except Gone as why:
            if not isinstance(why, ProxyHeader):
                self.session.note_peer(messages.NO_PREAMBLE, **self.where, why=str(why))
            self.slot.count(ServerOutcome.NO_PREAMBLE.counter)
            raise
        self.wire.deadline = None
        if preamble.language:
            speak(self.wire, preamble.language)
        self.session.id = preamble.sid
        self.slot.call_user(preamble.mailbox)
        return preamble

    def open(self, preamble: Preamble) -> Served:
        """List the mailbox; raises LoginRefused after the reason was logged."""
        self.session.enter("opening")
        mailbox = Mailbox(self.config.mailboxdir, preamble.mailbox)
        missing = preamble.missing or self.config.missing
        try:
            try:
                return MaildirMaildrop(mailbox, master=preamble.master, flags_own=self.config.seenflag)
            except MailboxError as why:
                if not _is_absent(why) or missing == "refuse":
                    raise
                return self.open_absent(mailbox, why, is_made=missing == "create", master=preamble.master)
        except MailboxError as why:
            self.log_mailbox(preamble.mailbox, why)
            text = "no such mailbox" if why.no_such_mailbox else "mailbox cannot be opened now"
            raise LoginRefused(text, code=code_for(why), why=str(why)) from why
        except MemoryError as why:
            self.log.note(messages.OUT_OF_MEMORY, mailbox=preamble.mailbox)
            raise LoginRefused("mailbox cannot be opened now", code="SYS/TEMP", why="out of memory") from why

    def open_absent(self, mailbox: Mailbox, why: MailboxError, *, is_made: bool, master: bool) -> Served:
        """Make a missing mailbox, or serve an empty one in its place; raises MailboxError."""
        if is_made:
            mailbox.create()
            self.log.note(messages.MAILBOX_MADE, mailbox=mailbox.name, path=mailbox.path)
            return MaildirMaildrop(mailbox, master=master, flags_own=self.config.seenflag)
        self.log.note(messages.MAILBOX_MISSING, mailbox=mailbox.name, path=why.path, why=str(why))
        return MissingMaildrop()

    def serve(self, preamble: Preamble, maildrop: Served) -> None:
        """Speak POP3 over the mailbox until the client leaves; raises Gone."""
        octets = maildrop.entries.octets
        count = len(maildrop.entries)
        self.log.note(messages.MAILBOX_OPENED, **self.where, mailbox=preamble.mailbox, master=preamble.master,
                      messages=count, octets=octets)
        self.session.enter("transaction")
        state = TransactionState(self.wire, maildrop, self.server.caps, lambda: self.session.enter("update"),
                                 has_last=self.config.last)
        outcome, why = ServerOutcome.BROKEN_OFF, ""
        try:
            self.wire.reply(True, f"{count} messages ({octets} octets)")
            Dialogue(self.wire, maxerrors=self.config.maxerrors, trace=self.session.trace).run(state)
            outcome = ServerOutcome.QUIT
        except Gone as gone:
            why = str(gone)
            raise
        finally:
            self.log_end(preamble.mailbox, maildrop, state.totals, outcome, why)

    def log_mailbox(self, mailbox: str, why: MailboxError) -> None:
        """Log why a mailbox cannot be opened."""
        reason = str(why)
        if why.number == errno.ENAMETOOLONG:
            self.log.note(messages.NAME_TOO_LONG, mailbox=mailbox, path=why.path)
        elif _is_absent(why):
            self.log.note(messages.MAILBOX_MISSING, mailbox=mailbox, path=why.path, why=reason)
        else:
            self.log.note(messages.DIR_ACCESS_FAILED, mailbox=mailbox, path=why.path, why=reason)

    def log_end(self, mailbox: str, maildrop: Served, totals: SessionTotals, outcome: ServerOutcome, why: str) -> None:
        """Log what went wrong in the store, and the line that sums up the session: `why` it ended, or how."""
        for trouble in maildrop.troubles:
            self.log.note(_TROUBLES[trouble.what], mailbox=mailbox, name=trouble.name, why=trouble.why)
        if totals.unreadable:
            self.log.note(messages.NOT_READ, mailbox=mailbox, times=totals.unreadable, why=totals.read_error)
        if totals.failed:
            self.log.note(messages.NOT_REMOVED, mailbox=mailbox, failed=totals.failed, deleted=totals.deleted,
                          why=totals.why)
        self.slot.count(outcome.counter)
        self.slot.count("retrieved", totals.retrieved)
        self.slot.count("octets", totals.octets)
        self.slot.count("deleted", totals.deleted)
        self.slot.count("not_deleted", totals.failed)
        self.log.note(messages.MAILBOX_CLOSED, **self.where, mailbox=mailbox, outcome=why or outcome.text,
                      retrieved=totals.retrieved, octets=totals.octets, deleted=totals.deleted, failed=totals.failed,
                      **self.session.totals())
        self.slot.end()


def sum_up(config: Config, log: Log, row: Row, how: str) -> None:
    """Write the last line of a session whose child has died, `how`, from what the child had reported (master only)."""
    where = {"peer": str(row.client), "server": row.owner}
    why = f"{ServerOutcome.CUT_OFF.text}: {how}"
    match row.state:
        case "idle" | "preamble":
            log.note(messages.NO_PREAMBLE, **where, why=why)
        case "opening":
            log.note(messages.NOT_OPENED, **where, mailbox=row.user, why=why)
        case _:
            removed = 0 if row.state == "transaction" else _UNKNOWN    # only UPDATE removes
            log.note(messages.MAILBOX_CLOSED, **where, mailbox=row.user, outcome=why, retrieved=_UNKNOWN,
                     octets=_UNKNOWN, deleted=removed, failed=removed, **totals_of(row))


def _is_absent(why: MailboxError) -> bool:
    """Tell whether a mailbox does not exist, while its spool does; a file in its place is something else."""
    return why.no_such_mailbox and why.is_missing
