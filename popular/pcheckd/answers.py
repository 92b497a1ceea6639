"""The answers of pcheckd: one datagram in, one out (spec 3 and 8.2).

Used in the children of pcheckd, for every datagram from the network: most come from proxies, but
anyone may send one.  Raises nothing; a mailbox that cannot be read is logged, at most once a minute.
"""

from collections.abc import Callable

from popular import names
from popular.errors import StoreError
from popular.log.once import OnceAMinute
from popular.log.writer import Log
from popular.mailcheck import packet
from popular.mailcheck.packet import MailState
from popular.pcheckd import messages

_TOO_LONG = packet.error_answer("request too long")
_UNKNOWN = packet.error_answer("unknown request")
_ILLEGAL = packet.error_answer("illegal mailbox name")
_MISSING = packet.error_answer(packet.NO_SUCH_MAILBOX_TEXT)
_UNREADABLE = packet.error_answer("mailbox cannot be read")


class Answers:
    """A function from request to answer, with everything that it needs."""

    def __init__(self, mail_state: Callable[[str], MailState | None], load: Callable[[], float],
                 emptyload: float | None, log: Log) -> None:
        """Take the sources of the answers.

        `mail_state` gets a well-formed name; it returns None for a mailbox that does not exist and
        does not count as empty, or raises StoreError.  `load` returns the 1-minute load; at
        `emptyload` or more every mailbox is answered with state 3; None: never.
        """
        self._mail_state = mail_state
        self._load = load
        self._emptyload = emptyload
        self._log = log
        self._complaints = OnceAMinute()

    def __call__(self, datagram: bytes) -> bytes | None:
        """Return the answer to `datagram`; None: no answer."""
        if packet.is_answer(datagram):
            return None
        if len(datagram) > packet.MAX_DATAGRAM:
            return _TOO_LONG
        request = packet.parse_mailcheck(datagram)
        if request.letter == b"M":
            return self._answer_mailbox(request.parameter)
        if request.letter == b"L":
            return packet.load_answer(self._load())
        return _UNKNOWN

    def _answer_mailbox(self, raw: bytes) -> bytes:
        """Answer for one mailbox; state 3 comes first, because it spares the disk (spec 3.1)."""
        if self._emptyload is not None and self._load() >= self._emptyload:
            return packet.mail_answer(MailState.OVERLOADED)
        mailbox = raw.decode("latin-1")
        if not names.is_mailbox(mailbox):
            return _ILLEGAL
        try:
            state = self._mail_state(mailbox)
        except StoreError as why:
            self._complain(mailbox, why)
            return _UNREADABLE
        return _MISSING if state is None else packet.mail_answer(state)

    def _complain(self, mailbox: str, why: StoreError) -> None:
        """Log an unreadable mailbox, at most once a minute."""
        if self._complaints.is_due():
            self._log.note(messages.MAILBOX_UNREADABLE, mailbox=mailbox, why=str(why))
