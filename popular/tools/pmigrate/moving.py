"""One mailbox, from its words to what has become of it.

Part of pmigrate; runs in each of its processes.  Raises nothing but what is a bug.
"""

import os
import time
from collections.abc import Callable, Set
from contextlib import closing
from dataclasses import replace

from popular.addresses import Endpoint
from popular.errors import PopularError, StoreError
from popular.store.mailbox import Mailbox
from popular.store.removal import MARKER, marked_at
from popular.tools.pmigrate.apart import run_apart
from popular.tools.pmigrate.compare import KeptMailbox, compare
from popular.tools.pmigrate.copying import Tally, copy, foretell
from popular.tools.pmigrate.inplace import inplace
from popular.tools.pmigrate.job import MoveCommand, MoveJob, MoveOptions, MoveResult, MoveVerdict
from popular.tools.pmigrate.opening import open_server, open_source
from popular.tools.pmigrate.sources.pop3 import Pop3Source
from popular.tools.pmigrate.sources.source import Cut, MailSource
from popular.tools.pmigrate.targets.ledger import read_ledger
from popular.tools.pmigrate.targets.remote import Remote, note_of
from popular.tools.pmigrate.targets.spool import Spool, brought_uids, known_uids
from popular.tools.printing import harmless
from popular.unix.rights import Rights, acting_as, find_rights, own_rights, rights_of_owner

_LONGEST_PAUSE = 60.0    # seconds between two attempts


class Mover:
    """Does with mailboxes what the options say."""

    def __init__(self, options: MoveOptions, show: Callable[[str], None] = lambda text: None,
                 sleep: Callable[[float], None] = time.sleep) -> None:
        """The progress goes to `show` after each message; `sleep` makes pauses between two attempts, in seconds."""
        self._options = options
        self._show = show
        self._sleep = sleep

    def move(self, job: MoveJob) -> MoveResult:
        """Do it with one mailbox; whatever fails is told in the result."""
        name, tally = harmless(job.mailbox), Tally()
        tally.on_step = lambda: self._show(f"{tally.passed} of {tally.found} messages, {name}")
        try:
            mailbox = self.mailbox_of(job)
            self._patiently(lambda: self._attempt(job, mailbox, tally), tally)
        except (PopularError, OSError) as why:
            return self._result(tally, MoveVerdict.FAILED, why_failed(why))
        if not tally.failed:
            return self._result(tally, MoveVerdict.DONE)
        is_verify = self._options.command is MoveCommand.VERIFY
        return self._result(tally, MoveVerdict.DIFFERS if is_verify else MoveVerdict.FAILED)

    def _result(self, tally: Tally, verdict: MoveVerdict, *more: str) -> MoveResult:
        return MoveResult(verdict, tally.found, tally.brought, tally.octets, tally.removed, tally.unnamed,
                          (*tally.remarks, *more))

    def _patiently(self, attempt: Callable[[], None], tally: Tally) -> None:
        """Repeat what was cut until nothing has come for a time; raises what it raises then."""
        pause, waited, brought = 1.0, 0.0, 0
        while True:
            try:
                attempt()
                return
            except Cut:
                if tally.brought > brought:
                    pause, waited, brought = 1.0, 0.0, tally.brought
                if waited >= self._options.wait:
                    raise
            self._sleep(pause)
            waited += pause
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _attempt(self, job: MoveJob, name: str, tally: Tally) -> None:
        """Try once."""
        options = self._options
        with closing(open_source(job, options)) as source:
            match options.command:
                case MoveCommand.COPY:
                    self._copy(job, source, name, tally)
                case MoveCommand.VERIFY:
                    self._verify(job, source, name, tally)
                case MoveCommand.INPLACE:
                    done = inplace(source, Mailbox(options.mailboxdir, name), self._owner(),
                                   gives=options.owner is not None, is_dry=options.is_dry)
                    tally.found, tally.brought, tally.octets = done.found, done.brought, done.octets
                    tally.unnamed = done.unnamed
                    tally.failed = done.verdict is not MoveVerdict.DONE
                    tally.remarks.extend(done.remarks)

    def _copy(self, job: MoveJob, source: MailSource, name: str, tally: Tally) -> None:
        """Bring what is not there."""
        options = self._options
        if options.to is not None:
            self._send(job, source, options.to, name, tally)
            return
        owner, mailbox = self._owner(), Mailbox(options.mailboxdir, name)
        if options.is_dry:
            foretell(source, known_uids(mailbox, owner), tally)
            return
        with acting_as(owner):
            if marked_at(mailbox.path) is not None:    # read mail that comes there would go with it
                raise StoreError(f"{mailbox.path} is marked for removal: first remove {MARKER} there")
            mailbox.create()
        with closing(Spool(mailbox, owner, links=options.links)) as target:
            copy(source, target, tally, removes=options.removes)

    def _send(self, job: MoveJob, source: MailSource, place: Endpoint | str, name: str, tally: Tally) -> None:
        """Bring what is not there to another host."""
        options = self._options
        if options.is_dry:
            foretell(source, read_ledger(note_of(options.state, name)), tally)
            return
        os.makedirs(options.state, 0o700, exist_ok=True)

        def remove(uids: Set[str]) -> int:
            with closing(self._other_side(job, name)) as other:
                return other.remove(uids)

        with closing(Remote(place, options.timeout, name, options.state, remove)) as target:
            copy(source, target, tally, removes=options.removes)

    def _other_side(self, job: MoveJob, name: str) -> Pop3Source:
        """Return the mailbox at the server that is asked in place of the spool."""
        server = self._options.pop3
        return open_server(replace(job, source=f"{server}/{name}" if server.startswith("xpop:") else server),
                           self._options)

    def _verify(self, job: MoveJob, source: MailSource, name: str, tally: Tally) -> None:
        """Compare source and target."""
        if self._options.pop3:
            brought = read_ledger(note_of(self._options.state, name)) if self._options.to else frozenset()
            with closing(self._other_side(job, name)) as other:
                compare(source, other, brought, tally, alone=bool(self._options.store))
            return
        mailbox, owner = Mailbox(self._options.mailboxdir, name), self._owner()
        target = KeptMailbox(mailbox, owner)
        with acting_as(owner):
            brought = brought_uids(mailbox)
        compare(source, target, brought, tally)

    def _owner(self) -> Rights:
        """Return the rights with which the spool is written."""
        if os.geteuid() != 0:
            return own_rights()
        if self._options.owner is None:
            return rights_of_owner(os.stat(self._options.mailboxdir))
        user, _, group = self._options.owner.partition(":")
        try:
            return find_rights(user, group or None)
        except KeyError as why:
            raise StoreError(str(why.args[0])) from None

    def mailbox_of(self, job: MoveJob) -> str:
        """Return the name of the mailbox that a job means; the user's is asked of pproxy's database modules.

        Raises StoreError.
        """
        kind, colon, user = job.mailbox.partition(":")
        if not colon or kind != "user" or self._options.to is not None:    # the other host knows where a user's is
            return job.mailbox
        return run_apart(lambda: _find(user, self._options))


def why_failed(why: BaseException, separator: str = "; ") -> str:
    """Return the lines of an error in one."""
    text = f"{why.filename or 'the system'}: {why.strerror}" if isinstance(why, OSError) else str(why)
    return separator.join(text.splitlines())


def _find(user: str, options: MoveOptions) -> str:
    """Return a user's mailbox; this process has pproxy's rights afterwards.  Raises StoreError."""
    from popular.tools.pdeliver.user import Undeliverable, UserToFind, find_place    # loads pproxy's settings

    try:
        return find_place(UserToFind(options.config, user, options.namespace, options.backends), may_move=True).mailbox
    except Undeliverable as why:
        raise StoreError(f"user {user!a}: {why}") from None
