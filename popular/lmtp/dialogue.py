"""The dialogue with one MTA: commands in, replies out, texts to a receiver (RFC 2033).

Used in the children of plmtpd.  Replies are gathered while more commands have come already (RFC 2920), and sent
together.  Raises Gone when the other side is gone or misbehaves.

Each line gets one reply; the end of a text gets one for each recipient that was accepted, in their order.  A message
over the limit of size is read to its end and refused there, because that is where every client waits for replies.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from popular.errors import CommandRefused, Gone
from popular.lmtp.grammar import Chunk, Recipient, Refused, Sender, parse_chunk, parse_recipient, parse_sender
from popular.lmtp.replies import LmtpReply, Replies
from popular.lmtp.text import DotText
from popular.net.wire import Wire

_BLOCK = 64 * 1024    # octets of a text that are read at once

_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")

_EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "CHUNKING")


class Receiver(Protocol):
    """Who takes the mail.  `reset` follows each `begin`, unless the session ends there."""

    def recipient(self, sender: Sender, recipient: Recipient) -> LmtpReply:
        """Return the answer to RCPT; a positive one is a promise to take the recipient's mail."""
        ...

    def begin(self, sender: Sender) -> None:
        """Begin a text for the recipients that were accepted since the last `reset`."""
        ...

    def write(self, block: bytes) -> None:
        """Take octets of the text."""
        ...

    def finish(self, size: int) -> Sequence[LmtpReply]:
        """Deliver the text, of `size` octets; return one reply for each recipient accepted, in their order."""
        ...

    def refuse(self, reply: LmtpReply) -> Sequence[LmtpReply]:
        """Deliver nothing, for a reason that is the same for all; return as many replies."""
        ...

    def reset(self) -> None:
        """Forget recipients and text; called after the replies have been sent."""
        ...


@dataclass(frozen=True, slots=True)
class LmtpTerms:
    """What is offered to an MTA, and its limits."""

    host: str                   # our name, for the greeting
    maxsize: int = 0            # octets of a message; 0: no limit
    maxrecipients: int = 1000   # of a transaction
    maxerrors: int = 20         # refusals for the client's own errors after which the session ends
    texttimeout: float = 600.0  # seconds that a whole text may take
    takes_over: bool = False    # XTAKEOVER
    start_tls: Callable[[], None] | None = None    # does the handshake; None: STARTTLS is not offered
    is_ending: Callable[[], bool] = lambda: False  # whether to take no further message
    trace: Callable[[str], None] | None = None     # gets each command


class LmtpDialogue:
    """One session; counts the client's errors."""

    def __init__(self, wire: Wire, receiver: Receiver, terms: LmtpTerms) -> None:
        """Talk on `wire`, which gets the limit of lines from its owner, and takes a NUL from now on."""
        self._wire = wire
        self._receiver = receiver
        self._terms = terms
        self._start_tls = terms.start_tls
        self._replies: list[bytes] = []    # not yet sent
        self._errors = 0
        self._is_known = False             # LHLO was said
        self._sender: Sender | None = None
        self._recipients = 0               # accepted
        self._octets = 0                   # of the text so far
        self._has_text = False             # chunks of it have come
        self._due = 0.0                    # when all of it must have come, by time.monotonic()
        self._has_served = False           # a message has been dealt with
        self._is_over = False
        wire.takes_nul = True

    def run(self) -> None:
        """Greet the client and serve it until it says QUIT; raises Gone."""
        self._say(LmtpReply(220, "", f"{self._terms.host} LMTP"))
        while not self._is_over:
            self._obey()
        self._flush()

    def _obey(self) -> None:
        """Read one command and run its handler."""
        if self._replies and not self._wire.has_line():
            self._flush()
        try:
            line = self._wire.readline()
            word, _, argument = line.partition(b" ")
            handler = _COMMANDS.get(word.upper())
            if _CONTROL.search(line):
                raise Refused(Replies.BAD_LINE)
            if handler is None and word.upper() in _HTTP:
                raise Gone("HTTP instead of LMTP")
            if handler is None:
                raise Refused(Replies.NOT_IMPLEMENTED if word.upper() in _KNOWN else Replies.UNKNOWN_COMMAND)
            if self._terms.trace is not None:
                self._terms.trace(line.decode("utf-8", "backslashreplace"))
            handler(self, argument)
        except CommandRefused:
            self._refuse(Replies.LINE_TOO_LONG)
        except Refused as why:
            self._refuse(why.reply)

    def _refuse(self, reply: LmtpReply) -> None:
        """Refuse a command; after too many errors, the session ends."""
        self._errors += reply.code >= 500
        if self._errors >= self._terms.maxerrors:
            self._say(Replies.TOO_MANY_ERRORS)
            self._flush()
            raise Gone("too many errors")
        self._say(reply)

    def _say(self, reply: LmtpReply) -> None:
        self._replies.append(reply.line())

    def _flush(self) -> None:
        """Send the replies that were gathered."""
        ready = b"".join(self._replies)
        self._replies.clear()
        self._wire.send(ready)

    def _reset(self) -> None:
        """Forget the transaction."""
        if self._sender is not None:
            self._sender = None
            self._recipients = self._octets = 0
            self._has_text = False
            self._receiver.reset()

    # Commands

    def _lhlo(self, argument: bytes) -> None:
        if not argument.strip():
            raise Refused(Replies.BAD_SYNTAX)
        self._reset()
        self._is_known = True
        terms = self._terms
        words = [terms.host, *_EXTENSIONS, f"SIZE {terms.maxsize}" if terms.maxsize else "SIZE"]
        words += ["STARTTLS"] if self._start_tls is not None else []
        words += ["XTAKEOVER"] if terms.takes_over else []
        self._replies += [f"250{' ' if word is words[-1] else '-'}{word}\r\n".encode("ascii") for word in words]

    def _mail(self, argument: bytes) -> None:
        if not self._is_known or self._sender is not None:
            raise Refused(Replies.BAD_SEQUENCE)
        if self._ends():
            return
        self._sender = parse_sender(argument, self._terms.maxsize)
        self._say(Replies.SENDER_OK)

    def _ends(self) -> bool:
        """End the session before another message, if that is wanted; tell whether.

        The first message is taken in any case: if a new connection is turned away, Postfix defers the message for
        minutes, with others for the same server; if an old one is, it connects again at once.
        """
        if self._has_served and self._terms.is_ending():
            self._say(Replies.ENDING)
            self._is_over = True
        return self._is_over

    def _rcpt(self, argument: bytes) -> None:
        if self._sender is None or self._has_text:
            raise Refused(Replies.BAD_SEQUENCE)
        recipient = parse_recipient(argument, self._sender, takes_over=self._terms.takes_over)
        if self._recipients >= self._terms.maxrecipients:
            raise Refused(Replies.TOO_MANY_RECIPIENTS)
        reply = self._receiver.recipient(self._sender, recipient)
        self._recipients += reply.is_positive
        self._say(reply)

    def _data(self, argument: bytes) -> None:
        if argument.strip():
            raise Refused(Replies.BAD_SYNTAX)
        if self._sender is None or self._has_text:
            raise Refused(Replies.BAD_SEQUENCE)
        if not self._recipients:
            raise Refused(Replies.NO_RECIPIENTS)
        self._say(Replies.GO_ON)
        self._flush()
        self._begin(self._sender)
        dots = DotText()
        rest: bytes | None = None
        with self._limited():
            while rest is None:
                block, rest = dots.feed(self._wire.read(_BLOCK))
                self._take(block)
        self._wire.put_back(rest)
        self._finish()

    def _bdat(self, argument: bytes) -> None:
        """Take a chunk; one that is refused must be read, too (RFC 3030)."""
        try:
            chunk = parse_chunk(argument)
        except Refused as why:    # what follows may be text, which must not be taken for commands
            self._say(why.reply)
            self._flush()
            raise Gone("BDAT without a size") from None
        is_wanted = self._sender is not None and bool(self._recipients)
        if self._sender is not None and is_wanted and not self._has_text:
            self._begin(self._sender)
            self._has_text = True
        elif not is_wanted:
            self._due = time.monotonic() + self._terms.texttimeout
        with self._limited():
            self._read_chunk(chunk, is_wanted)
        if not is_wanted:
            raise Refused(Replies.BAD_SEQUENCE if self._sender is None else Replies.NO_RECIPIENTS)
        if chunk.is_last:
            self._finish()
        else:
            self._say(Replies.CHUNK_OK)

    def _read_chunk(self, chunk: Chunk, is_wanted: bool) -> None:
        left = chunk.size
        while left:
            if self._replies:
                self._flush()
            block = self._wire.read(min(left, _BLOCK))
            left -= len(block)
            if is_wanted:
                self._take(block)

    def _begin(self, sender: Sender) -> None:
        """Begin a text, whose time is that of all its chunks."""
        self._due = time.monotonic() + self._terms.texttimeout
        self._receiver.begin(sender)

    def _limited(self) -> "_TimeLimit":
        """Return a context in which nothing is waited for after the text is due."""
        return _TimeLimit(self._wire, self._due)

    def _take(self, block: bytes) -> None:
        """Pass octets of the text to the receiver, unless it is too large."""
        self._octets += len(block)
        if block and not self._is_too_large:
            self._receiver.write(block)

    @property
    def _is_too_large(self) -> bool:
        return bool(self._terms.maxsize) and self._octets > self._terms.maxsize

    def _finish(self) -> None:
        """Deliver, and tell the result for each recipient."""
        receiver = self._receiver
        results = receiver.refuse(Replies.TOO_LARGE) if self._is_too_large else receiver.finish(self._octets)
        for reply in results:
            self._say(reply)
        self._flush()    # before the receiver lets go
        self._reset()
        self._has_served = True

    def _rset(self, argument: bytes) -> None:
        if argument.strip():
            raise Refused(Replies.BAD_SYNTAX)
        self._reset()
        if not self._ends():    # by RSET Postfix tries whether an old connection is usable
            self._say(Replies.OK)

    def _noop(self, argument: bytes) -> None:
        self._say(Replies.OK)

    def _vrfy(self, argument: bytes) -> None:
        if not argument.strip():
            raise Refused(Replies.BAD_SYNTAX)
        self._say(Replies.NOT_VERIFIED)

    def _quit(self, argument: bytes) -> None:
        if argument.strip():
            raise Refused(Replies.BAD_SYNTAX)
        self._say(Replies.BYE)
        self._is_over = True

    def _hello(self, argument: bytes) -> None:
        raise Refused(Replies.NOT_SMTP)

    def _starttls(self, argument: bytes) -> None:
        """Begin TLS; what the client sent before counts no more, nor do commands sent with this one (RFC 3207)."""
        start_tls = self._start_tls
        if start_tls is None:
            raise Refused(Replies.NOT_IMPLEMENTED)
        if argument.strip():
            raise Refused(Replies.BAD_SYNTAX)
        self._reset()
        self._say(Replies.READY_FOR_TLS)
        self._flush()
        self._wire.discard_buffered()
        start_tls()
        self._start_tls = None
        self._is_known = False


class _TimeLimit:
    """A limit of time on a wire; raises Gone when it is over."""

    def __init__(self, wire: Wire, due: float) -> None:
        self._wire = wire
        self._due = due

    def __enter__(self) -> None:
        self._wire.deadline = self._due

    def __exit__(self, *error: object) -> None:
        self._wire.deadline = None


_COMMANDS: Mapping[bytes, Callable[[LmtpDialogue, bytes], None]] = MappingProxyType({
    b"LHLO": LmtpDialogue._lhlo, b"MAIL": LmtpDialogue._mail, b"RCPT": LmtpDialogue._rcpt,
    b"DATA": LmtpDialogue._data, b"BDAT": LmtpDialogue._bdat, b"RSET": LmtpDialogue._rset,
    b"NOOP": LmtpDialogue._noop, b"VRFY": LmtpDialogue._vrfy, b"QUIT": LmtpDialogue._quit,
    b"STARTTLS": LmtpDialogue._starttls, b"HELO": LmtpDialogue._hello, b"EHLO": LmtpDialogue._hello})
# From a browser that some page has led here; the body of such a request could hold commands.
_HTTP = frozenset((b"GET", b"POST", b"PUT", b"HEAD", b"PATCH", b"OPTIONS", b"CONNECT"))
_KNOWN = frozenset((b"EXPN", b"HELP", b"TURN", b"AUTH", b"SEND", b"SOML", b"SAML"))
