"""A mailbox on another host as the target of pmigrate, written by LMTP with XTAKEOVER (popular-protocols(7)).

Part of pmigrate.  What was brought is noted here, in a folder, since LMTP cannot be asked for it.  A message that is
sent again, because an answer was lost, comes only once: the server knows its unique id.  Raises StoreError; Cut where
another attempt may succeed.
"""

import hashlib
import os
import re
import smtplib
import tempfile
from collections.abc import Callable, Iterable, Sequence, Set
from typing import BinaryIO
from urllib.parse import quote

from popular.addresses import Endpoint
from popular.errors import StoreError
from popular.net.stuffing import stuffed
from popular.tools.pmigrate.sources.source import Cut, SourceMessage
from popular.tools.pmigrate.targets.ledger import Ledger
from popular.tools.pmigrate.targets.target import MoveDraft, Incoming
from popular.tools.printing import harmless

_NOTED_AT_ONCE = 100    # messages
_MAX_NAME = 200         # characters of a file's name
_USER = re.compile(r"[!#-;=?-~]+")    # that can be a path without quotes
_TO_QUOTE = re.compile(r"[^!-*,-<>-~]")


class RemoteDraft:
    """A file without a name."""

    def __init__(self) -> None:
        self.file: BinaryIO = tempfile.TemporaryFile()

    def forget(self) -> None:
        """Remove it."""
        try:
            self.file.close()
        except OSError:    # what was not written yet is not missed
            pass


class Remote:
    """A mailbox at plmtpd; see `target.Target`."""

    def __init__(self, place: Endpoint | str, timeout: float, mailbox: str, state: str,
                 remove: Callable[[Set[str]], int]) -> None:
        """Connect to an address or a socket; `mailbox` may be `user:NAME`, `state` is the folder for notes.

        `remove` removes messages there by their unique ids, which LMTP cannot.
        """
        self._recipient = recipient_of(mailbox)
        self._remove = remove
        self._waiting: list[str] = []    # ids to be noted
        try:
            self._ledger = Ledger(note_of(state, mailbox))
        except OSError as why:
            raise StoreError(f"{why.filename}: {why.strerror}") from why
        try:
            self._lmtp = _connected(place, timeout)
        except BaseException:
            self._ledger.close()
            raise

    def brought(self) -> Set[str]:
        """Return the unique ids that were brought."""
        return self._ledger.uids

    def has(self, uid: str) -> bool:
        """Tell whether a message has been brought."""
        return uid in self._ledger.uids or uid in self._waiting

    def begin(self, messages: Sequence[tuple[str | None, SourceMessage]]) -> None:
        """Have the mailbox made; the server lists messages in the order in which they come."""
        try:
            self._say("MAIL", "FROM:<>", 250)
            self._say("RCPT", f"{self._recipient} XRECEIVED=0", 250)    # a parameter, so that it is made
            self._say("RSET", "", 250)
        except OSError as why:
            raise Cut(f"LMTP: {harmless(str(why))}") from why

    def keeps_octets(self, message: SourceMessage, uid: str | None) -> bool:
        """Return False: the server names the files."""
        return False

    def draft(self) -> RemoteDraft:
        """Return a new draft."""
        return RemoteDraft()

    def keep(self, draft: MoveDraft, incoming: Incoming) -> None:
        """Send a message; it is in the mailbox and on disk then."""
        seen = " XSEEN" if incoming.message.is_read else ""
        draft.file.seek(0)
        try:
            self._say("MAIL", "FROM:<>", 250)
            self._say("RCPT", f"{self._recipient} XUIDL={_quoted(incoming.uid)} XRECEIVED={incoming.received}{seen}",
                      250)
            self._say("DATA", "", 354)
            assert self._lmtp.sock is not None
            for block in stuffed(draft.file):
                self._lmtp.sock.sendall(block)
            self._prove(250, *self._lmtp.getreply())
        except OSError as why:    # also those of smtplib
            raise Cut(f"LMTP: {harmless(str(why))}") from why
        draft.forget()
        self._waiting.append(incoming.uid)
        if len(self._waiting) >= _NOTED_AT_ONCE:
            self.commit()

    def link(self, incoming: Incoming) -> bool:
        """Return False."""
        return False

    def commit(self) -> None:
        """Note what was brought."""
        try:
            self._ledger.add(self._waiting)
        except OSError as why:
            raise StoreError(f"cannot be noted: {why.strerror}") from why
        self._waiting.clear()

    def remove(self, uids: Iterable[str]) -> int:
        """Remove messages that were brought; return how many were there."""
        gone = frozenset(uids)
        return self._remove(gone) if gone else 0

    def close(self) -> None:
        """Say goodbye, and close."""
        try:
            self._lmtp.quit()
        except OSError:
            self._lmtp.close()
        self._ledger.close()

    def _say(self, verb: str, words: str, wanted: int) -> None:
        self._prove(wanted, *self._lmtp.docmd(verb, words))

    def _prove(self, wanted: int, code: int, text: bytes) -> None:
        """Raise StoreError for a refusal, Cut for one that does not last."""
        if code != wanted:
            kind = Cut if 400 <= code < 500 or code == -1 else StoreError
            raise kind(f"LMTP: {code} {harmless(text.decode('utf-8', 'replace'))}")


def recipient_of(mailbox: str) -> str:
    """Return how LMTP names a mailbox, or the user in `user:NAME`; raises StoreError."""
    kind, colon, user = mailbox.partition(":")
    if not colon or kind != "user":
        return f"TO:<> XMAILBOX={_quoted(mailbox)}"
    if not _USER.fullmatch(user):
        raise StoreError(f"{user!a} cannot be named in LMTP; give the mailbox")
    return f"TO:<{user}>"


def note_of(state: str, mailbox: str) -> str:
    """Return the path of the file that notes what was brought to a mailbox."""
    name = quote(mailbox, safe="@+=:")
    return os.path.join(state, name if len(name) <= _MAX_NAME else hashlib.sha256(mailbox.encode()).hexdigest())


def _quoted(text: str) -> str:
    """Return xtext: `+` and two hexadecimal digits stand for an octet."""
    return _TO_QUOTE.sub(lambda found: f"+{ord(found[0]):02X}", text)


def _connected(place: Endpoint | str, timeout: float) -> smtplib.LMTP:
    """Return a connection to a server that lets us take over mail; raises StoreError and Cut."""
    host, port = (place.host, place.port) if isinstance(place, Endpoint) else (place, 0)
    lmtp = None
    try:
        lmtp = smtplib.LMTP(host, port, os.uname().nodename, timeout=timeout)
        lmtp.ehlo_or_helo_if_needed()
        if lmtp.has_extn("xtakeover"):
            return lmtp
        lmtp.close()
    except OSError as why:
        if lmtp is not None:
            lmtp.close()
        raise Cut(f"{place}: LMTP: {harmless(str(why))}") from why
    raise StoreError(f"{place}: does not let this host take over mail; see takeover in plmtpd(8)")
