"""One run of pclean through the spool: what the walk finds is cleaned, removed or reported.

Raises MailboxError if the spool itself cannot be read; errors in one mailbox are logged and counted.
"""

import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

from popular.config.store import Values
from popular.errors import StoreError
from popular.log.message import Message
from popular.log.writer import Log
from popular.store.mailbox import Mailbox
from popular.store.quota import Usage
from popular.store.removal import Removal, finish_removal, marked_at, obstacle, remove_mailbox
from popular.tools.pclean import messages as M
from popular.tools.pclean.expire import Cleaned, Cleaning, Hand, IdleHand, WorkingHand
from popular.tools.pclean.settings import ALL, EMPTY, OVERQUOTA, Rule, Rules
from popular.tools.pclean.state import Milestones
from popular.tools.pclean.walk import SpoolItem, SpoolItemKind, Walk
from popular.tools.screen import Screen
from popular.unix.signals import SignalPipe

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(slots=True)
class Totals:
    """What a run has done so far."""

    mailboxes: int = 0
    tmp: int = 0
    read: int = 0
    unread: int = 0
    removed: int = 0
    octets: int = 0
    empty: int = 0
    overquota: int = 0
    errors: int = 0


class Stop:
    """Whether a signal asked to end; a context, which handles signals while it lasts.

    They are noted, and looked at where the run can stop without tearing anything.  A signal that was ignored stays
    ignored, for example HUP under nohup(1).
    """

    def __init__(self) -> None:
        self.signal = ""    # the name of the first signal

    def __enter__(self) -> "Stop":
        former = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        self._former = {number: handler for number, handler in former.items() if handler is not signal.SIG_IGN}
        self._pipe = SignalPipe(self._former, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._pipe.close()

    def is_wanted(self) -> bool:
        """Tell whether to end."""
        return bool(self.signal)

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until a signal comes."""
        if seconds and not self.signal:
            select.select([self._pipe], [], [], seconds)

    def _note(self, number: int) -> None:
        self.signal = self.signal or signal.Signals(number).name


class TellingHand:
    """Prints each file that another hand removes."""

    def __init__(self, hand: Hand, screen: Screen) -> None:
        self._hand = hand
        self._screen = screen

    def remove(self, path: str) -> None:
        """Remove a file.  Raises OSError."""
        self._hand.remove(path)
        self._screen.line(f"    {path}")

    def mark_departure(self, mailbox: Mailbox) -> None:
        """Note that messages will leave new/.  Raises OSError."""
        self._hand.mark_departure(mailbox)

    def sync(self, folder: str) -> None:
        """Have the names in a folder written to disk.  Raises OSError."""
        self._hand.sync(folder)


class Run:
    """A run over one spool."""

    def __init__(self, variables: Values, rules: Rules, log: Log, screen: Screen, stop: Stop,
                 clock: Callable[[], float] = time.time) -> None:
        """Prepare to clean as the variables and rules say; ages count from now, by `clock`."""
        self.totals = Totals()
        self.last = ""    # the last mailbox that was done
        self._root = variables.text("mailboxdir")
        self._pause = variables.seconds("pause")
        self._grace = variables.seconds("removeafter")
        self.is_dry = variables.flag("dryrun")
        self.is_talkative = self.is_dry or variables.flag("verbose")    # prints each mailbox
        self._report = variables.text("report")
        self._rules = rules
        self._log = log
        self._screen = screen
        self._stop = stop
        self._now = clock()
        hand: Hand = IdleHand() if self.is_dry else WorkingHand()
        self._hand = TellingHand(hand, screen) if variables.flag("verbose") else hand

    def go(self, after: str, milestones: Milestones) -> None:
        """Process everything after the mailbox `after`, until a signal ends it."""
        self.last = after
        for found in Walk(self._root, after):
            if self._stop.is_wanted():
                break
            self._take(found)
            if found.kind is not SpoolItemKind.MAILBOX:
                continue
            self.totals.mailboxes += 1
            self._screen.progress(self.totals.mailboxes, found.name)
            if self._stop.is_wanted():
                break    # perhaps in the middle of this one
            self.last = found.name
            milestones.reach(found.name)
            self._stop.wait(self._pause)

    def _take(self, found: SpoolItem) -> None:
        """Process one thing that was found."""
        match found.kind:
            case SpoolItemKind.MAILBOX:
                self._take_mailbox(found)
            case SpoolItemKind.LEFTOVER:
                self._remove(found, finish_removal, lambda path: "")
            case SpoolItemKind.ODD_NAME:
                self._note(f"{found.path}: no mailbox can have this name", M.ODD_NAME, path=found.path)
            case SpoolItemKind.LOOP:
                self._note(f"{found.path}: a link that leads back", M.LINK_LOOP, path=found.path)
            case SpoolItemKind.UNREADABLE:
                self.totals.errors += 1
                self._note(f"{found.path}: {found.why}", M.FOLDER_UNREADABLE, path=found.path, why=found.why)

    def _take_mailbox(self, found: SpoolItem) -> None:
        """Remove a mailbox that is due, else clean it."""
        rule = self._rules.of(found.name)
        if found.is_marked and self._is_due(found, rule):
            if self._remove(found, remove_mailbox, obstacle):
                return
        wants_size = bool(rule.quota.octets) and self._report in (OVERQUOTA, ALL)
        cleaned = Cleaning(Mailbox(self._root, found.name), rule.ages, self._now, self._hand,
                           wants_size=wants_size, is_stopped=self._stop.is_wanted).run()
        self._add(found.name, cleaned)
        if not cleaned.failures and not self._stop.is_wanted():
            self._tell_state(found.name, rule, cleaned)

    def _is_due(self, found: SpoolItem, rule: Rule) -> bool:
        """Tell whether a marked mailbox is to be removed now."""
        try:
            marked = marked_at(found.path)
        except StoreError as why:
            self._fail(found.name, 1, str(why))
            return False
        if marked is None or self._now - marked < self._grace:
            return False
        if rule.keeps:
            self._keep(found.name, "its rule says keep")
        return not rule.keeps

    def _remove(self, found: SpoolItem, act: Callable[[str], Removal], check: Callable[[str], str]) -> bool:
        """Remove a mailbox, in a dry run only `check` it; return whether nothing more is to be done to it."""
        try:
            removal = Removal(check(found.path)) if self.is_dry else act(found.path)
        except StoreError as why:
            self._fail(found.name, 1, str(why))
            return True
        if removal.obstacle:
            self._keep(found.name, removal.obstacle)
            return False
        self.totals.removed += 1
        self.totals.octets += removal.octets
        if self.is_talkative:
            self._screen.line(f"{found.name}: would remove the mailbox" if self.is_dry else
                              f"{found.name}: the mailbox was removed, {removal.mails} mails, {removal.octets} octets")
        self._record(M.MAILBOX_REMOVED, mailbox=found.name, mails=removal.mails, octets=removal.octets)
        return True

    def _add(self, mailbox: str, cleaned: Cleaned) -> None:
        """Count and report what was done to a mailbox."""
        totals = self.totals
        totals.tmp += cleaned.tmp
        totals.read += cleaned.read
        totals.unread += cleaned.unread
        totals.octets += cleaned.octets
        if cleaned.removed:
            if self.is_talkative:
                self._screen.line(f"{mailbox}: {self._removed} {cleaned.tmp} files in tmp, {cleaned.read} read and "
                                  f"{cleaned.unread} unread mails, {cleaned.octets} octets")
            self._record(M.MAILBOX_CLEANED, mailbox=mailbox, tmp=cleaned.tmp, read=cleaned.read,
                         unread=cleaned.unread, octets=cleaned.octets)
        if cleaned.failures:
            self._fail(mailbox, cleaned.failures, cleaned.troubles[0])

    def _tell_state(self, mailbox: str, rule: Rule, cleaned: Cleaned) -> None:
        """Report a mailbox that is empty or over quota, if requested."""
        if self._report in (EMPTY, ALL) and not cleaned.number:
            self.totals.empty += 1
            self._screen.line(f"empty {mailbox}")
        if self._report in (OVERQUOTA, ALL) and rule.quota.is_reached(Usage(cleaned.size, cleaned.number)):
            self.totals.overquota += 1
            size = f" {cleaned.size} octets" if rule.quota.octets else ""
            self._screen.line(f"overquota {mailbox} {cleaned.number} mails{size}")

    def _keep(self, mailbox: str, why: str) -> None:
        """Report a mailbox that is marked as removed but kept."""
        self._note(f"{mailbox}: marked as removed but kept: {why}", M.MAILBOX_KEPT, mailbox=mailbox, why=why)

    def _fail(self, mailbox: str, failures: int, why: str) -> None:
        """Report errors in a mailbox."""
        self.totals.errors += 1
        self._note(f"{mailbox}: {failures} errors, the first: {why}", M.CLEAN_FAILED, mailbox=mailbox,
                   failures=failures, why=why)

    @property
    def _removed(self) -> str:
        return "would remove" if self.is_dry else "removed"

    def _note(self, text: str, message: Message, **fields: object) -> None:
        """Report a problem: in the log, or on standard output in a dry run."""
        if self.is_dry:
            self._screen.line(text)
        self._record(message, **fields)

    def _record(self, message: Message, **fields: object) -> None:
        if not self.is_dry:
            self._log.note(message, **fields)
