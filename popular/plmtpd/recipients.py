"""Recipients: where their mail goes, and whether there is room.

Runs in the children of plmtpd, once for each RCPT.  What the database modules say means the same as for
`pdeliver --user`:

    found           the mailbox of the record is that of the recipient, if it is on this host
    unknown         no module knows the user: 550, the mail goes back to its sender
    failed          the first module that might know the user cannot tell: 451, the MTA tries again; not even a later
                    module counts, as the user may have another mailbox there
    moving          the record says that the mailbox still moves from another backend: 451
    elsewhere       the record names another backend, or has no mailbox: 550, since trying again would not help
"""

from dataclasses import dataclass

from popular.daemon.child.session import Session
from popular.errors import MailboxError, PopularError, StoreError
from popular.lmtp.grammar import Recipient
from popular.lmtp.replies import LmtpReply, Replies
from popular.log.message import Message
from popular.names import is_mailbox
from popular.pdm.api import Found, Outcome
from popular.pdm.asking.chain import Chain
from popular.plmtpd import messages
from popular.plmtpd.objects import LmtpConfig, LmtpServer
from popular.store.mailbox import Mailbox
from popular.store.quota import Quota, Usage, usage_of
from popular.store.removal import marked_at


@dataclass(frozen=True, slots=True)
class RecipientPlace:
    """Where the mail of a recipient goes."""

    recipient: Recipient
    mailbox: Mailbox
    quota: Quota
    held: Usage | None = None    # by the mailbox, before the message; None: it has no quota


class RecipientRefused(PopularError):
    """A recipient is refused: with a reply, a log line, and a counter."""

    def __init__(self, reply: LmtpReply, message: Message, counter: str, **fields: object) -> None:
        super().__init__(reply.text)
        self.reply = reply
        self.message = message
        self.counter = counter
        self.fields = fields


class RecipientFinder:
    """Finds the places of recipients, in one session."""

    def __init__(self, config: LmtpConfig, session: Session, server: LmtpServer, chain: Chain) -> None:
        self._config = config
        self._session = session
        self._server = server
        self._chain = chain

    def find(self, recipient: Recipient) -> RecipientPlace:
        """Return the place of a recipient, in a mailbox that exists and is not full; raises RecipientRefused."""
        takeover = recipient.takeover
        found = Found("", mailbox=takeover.mailbox) if takeover and takeover.mailbox else self._ask(recipient.address)
        missing = self._config.missing if found.missing in ("", "empty") else found.missing
        default = self._config.quota
        mebibytes = None if found.quota is None else Quota.of_mebibytes(found.quota, 0).octets
        quota = Quota(default.octets if mebibytes is None else mebibytes,
                      default.number if found.maxnum is None else found.maxnum)
        try:
            mailbox = Mailbox(self._config.mailboxdir, found.mailbox)
            self._have(mailbox, recipient, is_made=missing == "create" or takeover is not None)
            held = self._proved_room(mailbox, quota) if quota.is_set and takeover is None else None
        except StoreError as why:
            raise _deferred(recipient.address, str(why), Replies.STORE_FAILED) from why
        return RecipientPlace(recipient, mailbox, quota, held)

    def _ask(self, address: str) -> Found:
        """Ask the modules in order; raises RecipientRefused."""
        user = self._server.userformat.applied(address)
        child = self._session.child
        steps = child.lend(self._chain.place, user, self._server.namespace)
        for step in steps:
            child.slot.count_question(step.module, step.seconds, has_failed=step.answer.outcome is Outcome.FAILED)
        if not steps or steps[-1].answer.outcome is Outcome.UNKNOWN:
            raise _unknown(address, f"no such user in namespace {self._server.namespace}", Replies.UNKNOWN_USER)
        answer = steps[-1].answer
        found = answer.found
        if answer.outcome is not Outcome.OK or found is None:
            raise _deferred(address, f"database module {steps[-1].module}: {answer.why}", Replies.LOOKUP_FAILED)
        if found.is_moving:
            raise _deferred(address, f"the mailbox still moves from backend {found.backend}", Replies.MOVING)
        here = self._config.backends
        if not found.mailbox or here and found.backend not in here:
            raise _unknown(address, f"the mail is on backend {found.backend}, not here", Replies.ELSEWHERE)
        if not is_mailbox(found.mailbox):
            raise _deferred(address, "the database names no mailbox", Replies.LOOKUP_FAILED)
        return found

    def _have(self, mailbox: Mailbox, recipient: Recipient, *, is_made: bool) -> None:
        """Make sure that a mailbox exists; raises RecipientRefused and StoreError."""
        if recipient.takeover is not None and marked_at(mailbox.path) is not None:    # read mail would go with it
            raise _unknown(recipient.address, "the mailbox is marked for removal", Replies.TO_BE_REMOVED)
        try:
            mailbox.check()
        except MailboxError as why:
            if not why.no_such_mailbox:
                raise
            if not is_made:
                raise _unknown(recipient.address, str(why), Replies.NO_MAILBOX) from why
            mailbox.create()
            self._session.log.note(messages.RECIPIENT_MADE, mailbox=mailbox.name, recipient=recipient.address)

    def _proved_room(self, mailbox: Mailbox, quota: Quota) -> Usage:
        """Return what a mailbox holds; raises RecipientRefused if it is full, StoreError if it cannot be listed."""
        held = usage_of(mailbox)
        if quota.is_reached(held):
            reply = Replies.OVER_QUOTA if self._config.overquota == "refuse" else Replies.OVER_QUOTA_YET
            raise RecipientRefused(
                reply, messages.RECIPIENT_FULL, "over_quota", mailbox=mailbox.name, size=held.octets,
                number=held.number, quota=quota.octets, maxnum=quota.number)
        return held


def _unknown(address: str, why: str, reply: LmtpReply) -> RecipientRefused:
    return RecipientRefused(reply, messages.RECIPIENT_UNKNOWN, "unknown", recipient=address, why=why)


def _deferred(address: str, why: str, reply: LmtpReply) -> RecipientRefused:
    return RecipientRefused(reply, messages.RECIPIENT_DEFERRED, "deferred", recipient=address, why=why)
