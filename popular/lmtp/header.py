"""The header of a message on its way into a mailbox: its Message-ID, and what the last server adds and removes.

Used in the children of plmtpd.  Pure.
"""

import re

from popular.lmtp.grammar import Recipient, Sender

_LONGEST = 64 * 1024    # octets that are looked at

_END = b"\r\n\r\n"
_MESSAGE_ID = re.compile(rb"^Message-ID:[ \t]*(?:\r\n[ \t]+)?([\x21-\x7e]{1,250})", re.IGNORECASE | re.MULTILINE)
_RETURN_PATH = re.compile(rb"^Return-Path:[^\n]*\n(?:[ \t][^\n]*\n)*", re.IGNORECASE | re.MULTILINE)


def return_path(sender: Sender) -> bytes:
    """Return the line that tells the sender (RFC 5321)."""
    return b"Return-Path: <" + _octets(sender.path) + b">\r\n"


def delivered_to(recipient: Recipient) -> bytes:
    """Return the line that tells the recipient."""
    return b"Delivered-To: " + _octets(recipient.path) + b"\r\n"


class HeaderText:
    """The text of a message, given in blocks with CRLF, whose header is kept until it is complete."""

    def __init__(self, *, drops_return_path: bool) -> None:
        """Begin; `drops_return_path`: a Return-Path that the message already has is removed."""
        self.message_id = ""    # as soon as the header is complete; empty: there is none
        self._drops = drops_return_path
        self._held = b""
        self._is_over = False

    def ready(self, block: bytes) -> bytes:
        """Return what is ready of the text; of a very long header, only the start is looked at."""
        if self._is_over:
            return block
        self._held += block
        end = 0 if self._held.startswith(b"\r\n") else self._held.find(_END)
        if end < 0 and len(self._held) < _LONGEST:
            return b""
        return self._look(min(end + 2, _LONGEST) if end >= 0 else _LONGEST)

    def end(self) -> bytes:
        """Return what is left; the text is over."""
        return b"" if self._is_over else self._look(len(self._held))

    def _look(self, end: int) -> bytes:
        """Look at the header, which is the first `end` octets; return all that is held."""
        header, body = self._held[:end], self._held[end:]
        self._held = b""
        self._is_over = True
        found = _MESSAGE_ID.search(header)
        self.message_id = "" if found is None else found[1].decode("ascii")
        return (_RETURN_PATH.sub(b"", header) if self._drops else header) + body


def _octets(address: str) -> bytes:
    return address.encode("utf-8", "surrogateescape")
