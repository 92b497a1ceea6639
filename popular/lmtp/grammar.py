"""The grammar of commands: RFC 5321 with its extensions, and the parameters of XTAKEOVER.

Used in the children of plmtpd.  Pure.  Raises Refused with the reply.

It is generous where that harms nobody: a blank after the colon, an address without a domain, dots anywhere in a local
part.  The route of a path is ignored.  The recipient "joe"@example.org is joe@example.org.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from popular.errors import PopularError
from popular.lmtp.replies import LmtpReply, Replies
from popular.names import is_mailbox

MAX_COMMAND = 2048    # octets of a command line without its end: 512, and what the extensions and UTF-8 add, at least

MAX_CHUNK = 2**62    # octets of BDAT, which 20 digits could exceed

_PATH = re.compile(
    rb"[ \t]*<(?:@[^:>]*:)?(?P<path>"
    rb"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\xff-]+"
    rb"|\"(?:[\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\x20-\x7e])*\")"
    rb"(?:@(?:[A-Za-z0-9._\x80-\xff-]+|\[[\x21-\x5a\x5e-\x7e]+\]))?)?>(?P<rest>(?: .*)?)", re.DOTALL)
_QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)\"(.*)")
_QUOTED_PAIR = re.compile(r"\\(.)")
_PARAMETER = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e\x80-\xff]+))?")
_NUMBER = re.compile(rb"[0-9]{1,20}")
_SECONDS = re.compile(rb"[0-9]{1,10}")
_XTEXT = re.compile(rb"(?:[\x21-\x2a\x2c-\x3c\x3e-\x7e]|\+[0-9A-F]{2})+")
_XCHAR = re.compile(rb"\+([0-9A-F]{2})")
_UIDL = re.compile(rb"[\x21-\x7e]{1,70}")


class Refused(PopularError):
    """A command is refused with a reply."""

    def __init__(self, reply: LmtpReply) -> None:
        super().__init__(reply.text)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Sender:
    """What MAIL says."""

    path: str                  # as written, without its route; empty: as in bounces; surrogates for wrong UTF-8
    size: int = 0              # octets that the message is said to have; 0: not said
    has_utf8: bool = False     # addresses and headers may have UTF-8 (RFC 6531)


@dataclass(frozen=True, slots=True)
class Takeover:
    """How a message is stored that another store had before (XTAKEOVER)."""

    uidl: str = ""                 # 1 to 70 of 0x21 to 0x7E; empty: as usual
    received: int | None = None    # seconds since 1970; None: now
    is_read: bool = False
    mailbox: str = ""              # well-formed by `names.is_mailbox`; empty: that of the user


@dataclass(frozen=True, slots=True)
class Recipient:
    """What RCPT says."""

    path: str       # as written, without its route
    address: str    # the same with quotes undone
    takeover: Takeover | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """What BDAT says (RFC 3030)."""

    size: int
    is_last: bool


def parse_sender(argument: bytes, maxsize: int) -> Sender:
    """Read the argument of MAIL; `maxsize` are the octets that a message may have, 0: any number."""
    path, parameters = _path(argument, b"FROM:", Replies.BAD_SENDER)
    size, has_utf8 = 0, False
    for name, value in parameters.items():
        if name == "SIZE" and _NUMBER.fullmatch(value):
            size = int(value)
        elif name == "SMTPUTF8" and not value:
            has_utf8 = True
        elif name != "BODY" or value.upper() not in (b"7BIT", b"8BITMIME"):
            raise Refused(Replies.BAD_PARAMETER)
    if maxsize and size > maxsize:
        raise Refused(Replies.TOO_LARGE)
    return Sender(_text(path, has_utf8), size, has_utf8)


def parse_recipient(argument: bytes, sender: Sender, *, takes_over: bool) -> Recipient:
    """Read the argument of RCPT; `takes_over`: the parameters of XTAKEOVER are allowed."""
    written, parameters = _path(argument, b"TO:", Replies.BAD_RECIPIENT)
    if parameters and not takes_over:
        raise Refused(Replies.BAD_PARAMETER)
    takeover = _takeover(parameters) if parameters else None
    if not written and not (takeover and takeover.mailbox):
        raise Refused(Replies.BAD_RECIPIENT)
    path = _text(written, sender.has_utf8)
    return Recipient(path, _unquoted(path), takeover)


def parse_chunk(argument: bytes) -> Chunk:
    """Read the argument of BDAT."""
    words = argument.split()
    is_last = len(words) == 2 and words[1].upper() == b"LAST"
    if not words or not _NUMBER.fullmatch(words[0]) or len(words) != 1 + is_last or int(words[0]) > MAX_CHUNK:
        raise Refused(Replies.BAD_SYNTAX)
    return Chunk(int(words[0]), is_last)


def _path(argument: bytes, word: bytes, wrong: LmtpReply) -> tuple[bytes, Mapping[str, bytes]]:
    """Return the path and the parameters of `WORD:<path> NAME=VALUE …`; raises Refused."""
    if argument[:len(word)].upper() != word:
        raise Refused(Replies.BAD_SYNTAX)
    found = _PATH.fullmatch(argument, len(word))
    if found is None:
        raise Refused(wrong)
    return found["path"] or b"", _parameters(found["rest"])


def _parameters(rest: bytes) -> Mapping[str, bytes]:
    """Return what follows a path, names in capitals, an empty value for none; raises Refused."""
    parameters: dict[str, bytes] = {}
    for word in rest.split():
        found = _PARAMETER.fullmatch(word)
        if found is None:
            raise Refused(Replies.BAD_SYNTAX)
        name = found[1].decode("ascii").upper()
        if name in parameters:
            raise Refused(Replies.BAD_SYNTAX)
        parameters[name] = found[2] or b""
    return parameters


def _takeover(parameters: Mapping[str, bytes]) -> Takeover:
    """Read the parameters of XTAKEOVER; raises Refused."""
    uidl = mailbox = ""
    received: int | None = None
    for name, value in parameters.items():
        if name == "XUIDL" and _UIDL.fullmatch(text := _xtext(value)):
            uidl = text.decode("ascii")
        elif name == "XMAILBOX" and is_mailbox(_xtext(value).decode("latin-1")):
            mailbox = _xtext(value).decode("ascii")
        elif name == "XRECEIVED" and _SECONDS.fullmatch(value):
            received = int(value)
        elif name != "XSEEN" or value:
            raise Refused(Replies.BAD_PARAMETER)
    return Takeover(uidl, received, "XSEEN" in parameters, mailbox)


def _xtext(value: bytes) -> bytes:
    """Undo the form of RFC 3461; empty if it is wrong."""
    if not _XTEXT.fullmatch(value):
        return b""
    return _XCHAR.sub(lambda found: bytes([int(found[1], 16)]), value)


def _unquoted(path: str) -> str:
    """Return a path without the quotes of its local part."""
    found = _QUOTED.fullmatch(path)
    return path if found is None else _QUOTED_PAIR.sub(r"\1", found[1]) + found[2]


def _text(path: bytes, has_utf8: bool) -> str:
    """Return a path as text; raises Refused for octets above 127 without SMTPUTF8."""
    if not has_utf8 and not path.isascii():
        raise Refused(Replies.NOT_UTF8)
    return path.decode("utf-8", "surrogateescape")
