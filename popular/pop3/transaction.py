"""The TRANSACTION state (RFC 1939 section 5) and UPDATE (section 6), over any maildrop.

Used in the children of pserv and, over an empty maildrop, of pproxy.  Everything that the protocol
defines is here: numbering, deletion marks, totals, stuffing, texts.  The maildrop only stores.

Where the RFCs leave a choice: RETR marks a message read, TOP does not, and RSET only removes
deletion marks.  LAST (RFC 1460), if a setting enables it, is the highest number that RETR was
used for, now or in an earlier session; RSET resets it to that of the earlier ones.  The totals of
STAT and LIST leave out messages marked deleted.  A message that another session has removed keeps
its number and its line in LIST; RETR and TOP answer that it is gone.  If a file has another size
than was announced, RETR gives the true one, and so do LIST and STAT from then on.

A *number* is 1-based and on the wire, an *index* is 0-based and in the code; only `_index` converts.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from itertools import chain
from typing import BinaryIO

from popular.errors import CommandRefused, CommitError, Gone, Leave, MessageGone, StoreError
from popular.net.stuffing import stuffed, stuffed_file
from popular.net.transport import FilePart
from popular.net.wire import Wire
from popular.pop3 import capability
from popular.pop3.command import command
from popular.pop3.languages import SpeakingState
from popular.pop3.maildrop import Maildrop
from popular.pop3.response import code_for

_LINES_AT_ONCE = 1000                            # lines of LIST and UIDL joined into one part
_NUMBER = re.compile(rb"[1-9][0-9]{0,9}")        # no sign, no leading zero, no endless digits
_COUNT = re.compile(rb"0|[1-9][0-9]{0,9}")


@dataclass(frozen=True, slots=True)
class SessionTotals:
    """What a session did, for the log."""

    retrieved: int = 0      # answers to RETR sent in full
    octets: int = 0         # of the messages retrieved, as STAT counts them
    deleted: int = 0        # messages removed at QUIT
    failed: int = 0         # messages that could not be removed
    why: str = ""           # the store's error if QUIT could not do everything
    unreadable: int = 0     # how often a message could not be read although it exists
    read_error: str = ""    # the store's last error then


class TransactionState(SpeakingState):
    """The messages of one client; ends with SessionTotals at QUIT."""

    def __init__(self, wire: Wire, maildrop: Maildrop, caps: Sequence[str] = capability.TRANSACTION,
                 before_update: Callable[[], None] = lambda: None, *, has_last: bool = False) -> None:
        """Serve `maildrop`, which the caller has opened and always closes; `has_last`: the command LAST exists."""
        self._wire = wire
        self._maildrop = maildrop
        self._entries = maildrop.entries
        self._count = len(maildrop.entries)      # deleted ones, too
        self._caps = caps
        self._before_update = before_update
        self._deleted: set[int] = set()
        self._deleted_octets = 0                 # of messages marked deleted
        self._read: set[int] = set()
        self._has_last = has_last
        self._has_lang = "LANG" in caps
        self._last = 0                           # highest number retrieved since the start or RSET
        self._retrieved = 0
        self._octets = 0                         # of messages retrieved
        self._removed = 0
        self._failed = 0
        self._why = ""
        self._unreadable = 0
        self._read_error = ""

    @property
    def totals(self) -> SessionTotals:
        """What was done so far; valid also if the session ends with Gone."""
        return SessionTotals(self._retrieved, self._octets, self._removed, self._failed, self._why,
                             self._unreadable, self._read_error)

    @property
    def _left_octets(self) -> int:
        """The octets of messages not marked deleted."""
        return self._entries.octets - self._deleted_octets

    @command("STAT")
    def stat(self) -> None:
        """Answer with number and octets of the messages."""
        self._wire.reply(True, f"{self._count - len(self._deleted)} {self._left_octets}")

    @command("LIST", (0, 1), usage="takes at most one message number")
    def list(self, number: bytes | None = None) -> None:
        """Answer with the octets of one message or of all."""
        if number is not None:
            index = self._index(number)
            self._wire.reply(True, f"{index + 1} {self._entries.size(index)}")
            return
        left = self._count - len(self._deleted)
        self._answer(f"{left} messages ({self._left_octets} octets)", self._listing(self._entries.sizes))

    @command("UIDL", (0, 1), usage="takes at most one message number")
    def uidl(self, number: bytes | None = None) -> None:
        """Answer with the unique id of one message or of all."""
        if number is not None:
            index = self._index(number)
            self._wire.reply(True, f"{index + 1} {self._entries.uids[index]}")
            return
        self._answer("unique ids follow", self._listing(self._entries.uids))

    @command("RETR", (1, 1), usage="needs one message number")
    def retr(self, number: bytes) -> None:
        """Send a message and mark it read."""
        index = self._index(number)
        self._octets += self._send_message(index, None)
        self._read.add(index)
        self._last = max(self._last, index + 1)
        self._retrieved += 1

    @command("TOP", (2, 2), usage="needs a message number and a number of lines")
    def top(self, number: bytes, count: bytes) -> None:
        """Send the header, the blank line and some lines of the body; the message is not marked read."""
        index = self._index(number)
        if not _COUNT.fullmatch(count):
            raise CommandRefused("not a number of lines")
        self._send_message(index, int(count))

    @command("DELE", (1, 1), usage="needs one message number")
    def dele(self, number: bytes) -> None:
        """Mark a message deleted; it is removed at QUIT."""
        index = self._index(number)
        self._deleted.add(index)
        self._deleted_octets += self._entries.size(index)
        self._wire.reply(True, f"message {index + 1} deleted")

    @command("RSET")
    def rset(self) -> None:
        """Remove all deletion marks; read messages stay read, and all numbers stay the same."""
        self._deleted.clear()
        self._deleted_octets = 0
        self._last = 0
        self._wire.reply(True, f"maildrop has {self._count} messages ({self._left_octets} octets)")

    @command("LAST", when=lambda state: state._has_last)
    def last(self) -> None:
        """Answer with the highest number retrieved, now or in an earlier session (RFC 1460)."""
        self._wire.reply(True, str(max(self._last, self._maildrop.last_read())))

    @command("NOOP")
    def noop(self) -> None:
        """Do nothing."""
        self._wire.reply(True)

    @command("CAPA")
    def capa(self) -> None:
        """List what this server can do (RFC 2449)."""
        self._wire.send(capability.render(self._caps, self._wire.said(capability.HEAD)))

    @command("QUIT")
    def quit(self) -> None:
        """UPDATE: remove the marked messages, then give the one answer, then leave (RFC 1939 section 6)."""
        refusal = self._update()
        if refusal is None:
            self._wire.reply(True, "bye", last=True)
        else:
            self._wire.reply(False, refusal.text, refusal.code)      # not raised: the session ends in any case
        raise Leave(self.totals)

    def _update(self) -> CommandRefused | None:
        """Commit; return the refusal for the client if the store could not do all of it."""
        self._before_update()
        try:
            self._maildrop.commit(self._deleted, self._read)
        except CommitError as why:
            self._removed, self._failed, self._why = why.wanted - why.failed, why.failed, str(why)
            return CommandRefused(f"{why.failed} of {why.wanted} messages not removed", code=code_for(why))
        except StoreError as why:
            self._failed, self._why = len(self._deleted), str(why)
            return CommandRefused("mailbox could not be updated", code=code_for(why))
        self._removed = len(self._deleted)
        return None

    def _index(self, number: bytes) -> int:
        """Return the index of the message that a client calls `number`; raises CommandRefused if there is none."""
        if not _NUMBER.fullmatch(number):
            raise CommandRefused("not a message number")
        index = int(number) - 1
        if index >= self._count:
            raise CommandRefused(f"no message {index + 1}, the mailbox has {self._count}")
        if index in self._deleted:
            raise CommandRefused(f"message {index + 1} is deleted")
        return index

    def _listing(self, column: Sequence[int] | Sequence[str]) -> Iterator[bytes]:
        """Yield the lines of LIST or UIDL, many in one part, and the final dot."""
        deleted = self._deleted
        for start in range(0, len(column), _LINES_AT_ONCE):
            some = enumerate(column[start:start + _LINES_AT_ONCE], start + 1)
            yield "".join([f"{number} {told}\r\n" for number, told in some
                           if number - 1 not in deleted]).encode("ascii")
        yield b".\r\n"

    def _answer(self, text: str, parts: Iterator[bytes | FilePart]) -> None:
        """Send a multi-line answer, its first line in the same packet as what follows."""
        self._wire.send_parts(chain((f"+OK {self._wire.said(text)}\r\n".encode("ascii"),), parts))

    def _send_message(self, index: int, body_lines: int | None) -> int:
        """Answer with a message, or with its header and `body_lines` lines; return the size of the message.

        Raises CommandRefused as long as nothing was sent.  After that only Gone is possible: an `-ERR`
        would become part of the message, and a final dot would make it look complete.
        """
        message = self._open(index)
        size = self._entries.size(index)
        text = f"{size} octets" if body_lines is None else "top of message follows"
        try:
            try:
                parts = _parts(message, size, body_lines)
                first = next(parts)
            except (OSError, StoreError) as why:
                raise self._cannot_read(index, why) from why
            try:
                self._answer(text, chain((first,), parts))
            except (OSError, StoreError) as why:
                self._cannot_read(index, why)
                raise Gone(f"message {index + 1} cannot be read to its end") from why
        finally:
            self._close(index, message)
        return size

    def _close(self, index: int, message: BinaryIO) -> None:
        """Close a message; an error is only logged, since the client has everything that was read."""
        try:
            message.close()
        except OSError as why:
            self._cannot_read(index, why)

    def _open(self, index: int) -> BinaryIO:
        """Open a message; raises CommandRefused if it is gone or cannot be read."""
        try:
            return self._maildrop.open(index)
        except MessageGone as why:
            raise CommandRefused(f"message {index + 1} is gone", is_own_fault=False) from why
        except StoreError as why:
            raise self._cannot_read(index, why, code_for(why)) from why

    def _cannot_read(self, index: int, why: Exception, code: str = "SYS/TEMP") -> CommandRefused:
        """Note for the log why a message cannot be read; return the refusal for the client."""
        self._unreadable += 1
        self._read_error = f"message {index + 1}: {why}"
        return CommandRefused(f"message {index + 1} cannot be read now", code=code, is_own_fault=False)


def _parts(message: BinaryIO, size: int, body_lines: int | None) -> Iterator[bytes | FilePart]:
    """Return the parts to be sent; a plain file that is sent whole is left to the kernel as far as possible."""
    if body_lines is None and isinstance(message, FileIO):
        return stuffed_file(message.fileno(), size)
    return stuffed(message, body_lines)
