"""Line ends: LF, CRLF or SMTP text becomes text with CRLF, in blocks, whatever the length of a line.

One rule holds for all: an LF without a CR before it gets one.  Nothing else is changed, not even a lone CR or NUL.

Used in the children of pserv (foreign Maildir files) and plmtpd, and in pdeliver.  Passes on the OSError of its source.
"""

import io
from collections.abc import Iterator

from popular.lean import Protocol

BLOCK = 65536    # octets read at once

_SEPARATOR = b"From "    # begins a message in an mbox
_LONGEST_BLANK = 1000    # octets that are held back to see what follows


class ByteSource(Protocol):
    """What bytes are read from: an unbuffered file, standard input, or a test's BytesIO."""

    def read(self, size: int, /) -> bytes | None:
        """Return up to `size` octets; none at the end."""
        ...


class MailForm:
    """The forms in which a mail can arrive for delivery (spec 10.1)."""

    LF = "LF"        # lines end in LF
    CRLF = "CRLF"    # lines end in CRLF
    NET = "NET"      # CRLF, leading dots doubled, a line with a single dot ends the mail


MAIL_FORMS = (MailForm.LF, MailForm.CRLF, MailForm.NET)


def message_blocks(source: ByteSource, form: str) -> Iterator[bytes]:
    """Yield the mail as it is stored: every line ends in CRLF, also the last one, and the dots of NET are undone.

    `form` is one of MAIL_FORMS.  An empty mail is one empty line.  For the dots of NET only CRLF is a line end, so that
    a lone LF and a dot cut nothing off; reading stops at the line with the single dot, or at the end of file.  A first
    line `From …` is the separator of an mbox and not a header; it is left out, as dovecot-lda does.
    """
    last = b""
    for block in crlf_blocks(_without_separator(_undotted(source) if form == MailForm.NET else _blocks(source))):
        last = block if len(block) > 1 else last[-1:] + block
        yield block
    if not last.endswith(b"\r\n"):
        yield b"\n" if last.endswith(b"\r") else b"\r\n"


def _without_separator(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the blocks without a first line `From …`; but `From :` is a header in its obsolete form (RFC 5322 4.5)."""
    head = b""
    for block in blocks:
        head += block
        if len(head) >= _LONGEST_BLANK or b"\n" in head or not _SEPARATOR.startswith(head[:len(_SEPARATOR)]):
            break
    if head.startswith(_SEPARATOR) and not head[len(_SEPARATOR):].lstrip(b" \t").startswith(b":"):
        found = b""
        while not found:
            _, found, head = head.partition(b"\n")
            if not found and not (head := next(blocks, b"")):
                return
    if head:
        yield head
    yield from blocks


def crlf_blocks(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the blocks with a CR before every LF that had none, also where CR and LF are in different blocks."""
    after_cr = False
    for block in blocks:
        yield _with_crlf(block, after_cr)
        after_cr = block.endswith(b"\r")


class CrlfText:
    """A text that is given in blocks, in the same way as by `message_blocks`, but a first line `From …` stays."""

    def __init__(self) -> None:
        self._last = b""    # octets of what was given, two at most

    def ready(self, block: bytes) -> bytes:
        """Return a block as it is stored."""
        text = _with_crlf(block, self._last.endswith(b"\r"))
        self._last = (self._last + text)[-2:]
        return text

    def end(self) -> bytes:
        """Return what the last line lacks."""
        if self._last == b"\r\n":
            return b""
        return b"\n" if self._last.endswith(b"\r") else b"\r\n"


def wire_size(source: ByteSource) -> int:
    """Return how many octets `source` has with CRLF line ends, also at its end; reads all of it, holds one block."""
    return sum(len(block) for block in wire_blocks(source))


def wire_blocks(source: ByteSource) -> Iterator[bytes]:
    """Yield a file as it is sent: every line ends in CRLF, also the last one; an empty file has no line."""
    last = b""
    for block in crlf_blocks(_blocks(source)):
        last = block if len(block) > 1 else last[-1:] + block
        yield block
    if last and not last.endswith(b"\r\n"):
        yield b"\r\n"


class CrlfReader(io.RawIOBase):
    """A file of another Maildir program, read with CRLF line ends.  Closing it closes the file."""

    def __init__(self, file: io.FileIO) -> None:
        super().__init__()
        self._file = file
        self._blocks = wire_blocks(file)
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        """Tell that this can be read."""
        return True

    def readinto(self, buffer: "bytearray | memoryview", /) -> int:    # type: ignore[override]
        """Fill `buffer` as far as the next block goes; return the count, 0 at the end."""
        while not self._ready:
            block = next(self._blocks, None)
            if block is None:
                return 0
            self._ready = memoryview(block)
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        """Close the file; may be called twice."""
        try:
            self._file.close()
        finally:
            super().close()


def _blocks(source: ByteSource) -> Iterator[bytes]:
    """Yield what `source` holds, block by block."""
    while block := source.read(BLOCK):
        yield block


def _with_crlf(block: bytes, after_cr: bool) -> bytes:
    """Return the block with every LF as CRLF; `after_cr`: the previous block ended in CR."""
    if block.count(b"\n") == block.count(b"\r\n") + (after_cr and block.startswith(b"\n")):    # the usual text
        return block
    ended = block.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    return ended[1:] if after_cr and block.startswith(b"\n") else ended


def _undotted(source: ByteSource) -> Iterator[bytes]:
    """Yield the blocks of a mail in SMTP form with the doubled dots undone, up to the single dot."""
    held = b"\r\n"    # the start of the mail is the start of a line
    skip = len(held)    # octets of `held` that are not the mail's
    for block in _blocks(source):
        text, held, ended = _undot(held + block)
        if text[skip:]:
            yield text[skip:]
        skip = max(0, skip - len(text))
        if ended:
            return
    rest = held[skip:2] if held.startswith(b"\r\n.") else held[skip:]    # the end of file completes the line "."
    if rest:
        yield rest


def _undot(text: bytes) -> tuple[bytes, bytes, bool]:
    """Undo the dots in `text`; return what is ready, what must wait for more, and whether the mail has ended."""
    parts: list[bytes] = []
    start = 0
    while (found := text.find(b"\r\n.", start)) >= 0:
        behind = text[found + 3:found + 5]
        if behind == b"\r\n":
            return b"".join((*parts, text[start:found + 2])), b"", True
        if b"\r\n".startswith(behind):    # too short to tell
            return b"".join((*parts, text[start:found])), text[found:], False
        parts.append(text[start:found + 2])
        start = found + 3
    rest = text[start:]
    keep = 2 if rest.endswith(b"\r\n") else 1 if rest.endswith(b"\r") else 0
    cut = len(rest) - keep
    return b"".join((*parts, rest[:cut])), rest[cut:], False
