"""One session of the delivery server: an MTA, its messages, and what becomes of them (RFC 2033).

Runs in the children of plmtpd.  From the first link(2) of a message until its answers have been sent, the signals that
end a child wait, so that a message is delivered a second time only if the answer could not be given.
"""

import errno
import os
import signal
from collections.abc import Sequence

from popular.config.store import Config
from popular.daemon.admin.sessions import totals_of
from popular.daemon.child.session import Session
from popular.daemon.tls import IMPLICIT, STARTTLS
from popular.errors import Gone, MailboxError, StoreError
from popular.lmtp.dialogue import LmtpDialogue, LmtpTerms
from popular.lmtp.grammar import Recipient, Sender
from popular.lmtp.header import HeaderText, delivered_to, return_path
from popular.lmtp.replies import LmtpReply, Replies
from popular.lean import TYPE_CHECKING
from popular.log.trace import places
from popular.log.writer import Log
from popular.networks import ClientAddress
from popular.pdm.asking.chain import Chain
from popular.plmtpd import messages
from popular.plmtpd.objects import LmtpConfig, LmtpServer
from popular.plmtpd.recipients import RecipientPlace, RecipientFinder, RecipientRefused
from popular.statefile.counters import DeliveryOutcome
from popular.statefile.reader import Row
from popular.store.delivery.deliver import Delivered, Destination, MailDelivery
from popular.store.delivery.messages import QUOTA_NOT_WARNED, QUOTA_WARNED
from popular.store.delivery.quotawarning import warn_of_quota
from popular.store.lineends import CrlfText
from popular.unix.signals import set_mask

if TYPE_CHECKING:
    from popular.store.uidlist import KnownUids

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGPWR)
_UNKNOWN = "unknown"    # in the last line of a session whose child has died


class LmtpSession:
    """One session of the server; it receives what its dialogue takes."""

    def __init__(self, config: LmtpConfig, session: Session, server: LmtpServer, chain: Chain) -> None:
        self.config = config
        self.session = session
        self.server = server
        self.slot = session.child.slot
        self.where = {"peer": str(session.peer), "server": server.ident}
        self.finder = RecipientFinder(config, session, server, chain)
        self.places: list[RecipientPlace] = []     # of the recipients that were accepted
        self.reached: list[RecipientPlace] = []    # those with a quota who have got the message
        self.delivery: MailDelivery | None = None
        self.known: KnownUids | None = None        # of the mailbox that takes over mail
        self.crlf = CrlfText()
        self.header = HeaderText(drops_return_path=False)
        self.octets = 0             # of its text so far
        self.is_complete = True     # its text
        self.is_guarded = False     # signals wait
        self.accepted = 0           # messages that somebody has got
        self.recipients = 0         # that were named
        self.delivered = 0          # recipients who have got a message

    def run(self) -> None:
        """Serve one session; raises Gone if the client leaves or misbehaves."""
        session, tls = self.session, self.server.tls
        outcome, why = DeliveryOutcome.BROKEN_OFF, ""
        session.enter("greeting")
        try:
            if tls is not None and tls.mode == IMPLICIT:
                session.start_tls(tls)
            LmtpDialogue(session.wire, self, self.terms()).run()
            outcome = DeliveryOutcome.QUIT
        except Gone as gone:
            why = str(gone)
            if not self.is_complete:
                session.log.note(messages.MESSAGE_CUT, **self.where, recipients=len(self.places), octets=self.octets,
                                 why=why)
            raise
        finally:
            self.let_go()
            self.slot.count(outcome.counter)
            session.log.note(messages.DELIVERY_CLOSED, **self.where, outcome=why or outcome.text,
                             accepted=self.accepted, recipients=self.recipients, delivered=self.delivered,
                             **session.totals())
            self.slot.end()

    def terms(self) -> LmtpTerms:
        """Return what this client is offered."""
        config, session, tls = self.config, self.session, self.server.tls
        offered = tls if tls is not None and tls.mode == STARTTLS else None
        return LmtpTerms(
            host=os.uname().nodename, maxsize=config.maxsize, maxrecipients=config.maxrecipients,
            maxerrors=config.maxerrors, texttimeout=config.datatimeout, takes_over=self.takes_over(),
            start_tls=None if offered is None else lambda: session.start_tls(offered),
            is_ending=lambda: session.child.retiring, trace=session.trace)

    def takes_over(self) -> bool:
        """Tell whether the client may hand over messages that another store had."""
        if self.session.connection.local.is_unix:
            return self.server.takeover
        return bool(self.config.takeover) and ClientAddress.of(self.session.peer.host) in self.config.takeover

    # What the dialogue hands over

    def recipient(self, sender: Sender, recipient: Recipient) -> LmtpReply:
        """Find the mailbox of a recipient; return the answer."""
        self.recipients += 1
        if not self.places:
            self.session.enter("envelope")
        try:
            place = self.finder.find(recipient)
        except RecipientRefused as why:
            self.slot.count(why.counter)
            self.session.log.note(why.message, **self.where, **why.fields)
            return why.reply
        if recipient.takeover is not None and any(place.mailbox.name == each.mailbox.name for each in self.places):
            return Replies.TOO_MANY_RECIPIENTS    # a message has one unique id in a mailbox
        if not self.places:
            self.slot.call_user(place.mailbox.name)
        self.places.append(place)
        return Replies.RECIPIENT_OK

    def begin(self, sender: Sender) -> None:
        """Begin a message for the recipients that were accepted."""
        self.session.enter("data")
        config = self.config
        head = return_path(sender) if config.returnpath else b""
        self.octets, self.is_complete = 0, False
        self.crlf = CrlfText()
        is_new = all(place.recipient.takeover is None for place in self.places)    # else it stays as it was
        self.header = HeaderText(drops_return_path=config.returnpath and is_new)
        self.delivery = MailDelivery([self.destination(place, head) for place in self.places])

    def destination(self, place: RecipientPlace, head: bytes) -> Destination:
        """Return where a recipient's message goes, with what is put before its text."""
        takeover = place.recipient.takeover
        if takeover is not None:
            if self.known is None:
                from popular.store.uidlist import KnownUids    # few sessions need it

                self.known = KnownUids()
            return Destination(place.mailbox, b"", takeover.uidl, takeover.received, takeover.is_read, self.known)
        return Destination(place.mailbox, head + delivered_to(place.recipient) if self.config.deliveredto else head)

    def write(self, block: bytes) -> None:
        """Add a block to the text."""
        self.octets += len(block)
        if self.delivery is not None and (text := self.header.ready(self.crlf.ready(block))):
            self.delivery.write(text)

    def finish(self, size: int) -> Sequence[LmtpReply]:
        """Deliver the message; return the answers, which must be sent before `reset`."""
        delivery = self.delivery
        assert delivery is not None
        self.is_complete = True
        self.session.enter("delivering")
        delivery.write(self.header.ready(self.crlf.end()) + self.header.end())
        set_mask(signal.SIG_BLOCK, _ENDING)
        self.is_guarded = True
        results = delivery.finish()
        answers = [self.answer(place, result) for place, result in zip(self.places, results, strict=True)]
        if any(answer.is_positive for answer in answers):
            self.accepted += 1
            self.slot.count("accepted")
            self.slot.count("accepted_octets", size)
        return answers

    def refuse(self, reply: LmtpReply) -> Sequence[LmtpReply]:
        """Deliver nothing; return the answers."""
        self.is_complete = True
        self.session.log.note(messages.MESSAGE_REFUSED, **self.where, recipients=len(self.places), why=reply.text)
        return [reply] * len(self.places)

    def reset(self) -> None:
        """Forget the message, after warning users whose mailbox it has filled up."""
        for place in self.reached:
            self.warn(place)
        self.reached = []
        self.let_go()
        if self.places:
            self.places = []
            self.session.enter("ready")

    def let_go(self) -> None:
        """Remove what is left of a message, and obey signals again."""
        if self.delivery is not None:
            delivery, self.delivery = self.delivery, None
            delivery.close()
        self.is_complete = True
        if self.is_guarded:
            self.is_guarded = False
            set_mask(signal.SIG_UNBLOCK, _ENDING)

    def answer(self, place: RecipientPlace, result: Delivered | Exception) -> LmtpReply:
        """Log and count what became of a message for one recipient; return the answer."""
        if isinstance(result, Delivered):
            self.delivered += 1
            self.slot.count("delivered")
            if place.held is not None and all(place.mailbox.name != each.mailbox.name for each in self.reached):
                self.reached.append(place)
            self.session.log.note(
                messages.MESSAGE_DELIVERED, **self.where, recipient=place.recipient.address,
                mailbox=place.mailbox.name, size=result.size, name=result.name, message=self.header.message_id or "-")
            return Replies.DELIVERED
        self.slot.count("deferred")
        if not isinstance(result, StoreError):
            self.session.log.note(messages.MESSAGE_BUG, **self.where, mailbox=place.mailbox.name,
                                  type=type(result).__name__, trace=places(result))
            return Replies.STORE_FAILED
        self.session.log.note(messages.MESSAGE_FAILED, **self.where, recipient=place.recipient.address,
                              mailbox=place.mailbox.name, why=str(result))
        return reply_to(result)

    def warn(self, place: RecipientPlace) -> None:
        """Deliver a warning if the message has taken the mailbox to a level of its quota; log what became of it."""
        config = self.config
        if not config.quotawarning or place.held is None:
            return
        try:
            percent = warn_of_quota(place.mailbox, place.quota, place.held, config.quotawarning, config.quotamessage)
        except Exception as why:    # the mail is delivered, and its answer was sent
            self.session.log.note(QUOTA_NOT_WARNED, mailbox=place.mailbox.name, why=str(why) or type(why).__name__)
            return
        if percent:
            self.session.log.note(QUOTA_WARNED, mailbox=place.mailbox.name, percent=percent)


def reply_to(why: StoreError) -> LmtpReply:
    """Return the answer for a mailbox that could not take a message; always one to try again."""
    number = why.number if isinstance(why, MailboxError) else getattr(why.__cause__, "errno", None)
    return {errno.ENOSPC: Replies.NO_SPACE, errno.EDQUOT: Replies.NO_SPACE}.get(number or 0, Replies.STORE_FAILED)


def sum_up(config: Config, log: Log, row: Row, how: str) -> None:
    """Write the last line of a session whose child has died, `how`, from what the child had reported (master only)."""
    log.note(messages.DELIVERY_CLOSED, peer=str(row.client), server=row.owner,
             outcome=f"{DeliveryOutcome.CUT_OFF.text}: {how}", accepted=_UNKNOWN, recipients=_UNKNOWN,
             delivered=_UNKNOWN, **totals_of(row))
