"""Messages as they go over the wire behind a `+OK`: dot-stuffed and ended (RFC 1939 section 3).

Used in the children of pserv and pproxy, and by the tools' tests.  Pure but for reading its
source; raises what the source raises.
"""

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

READ_BLOCK = 64 * 1024    # octets asked of the source at a time

_BLANK_LINE = re.compile(rb"\n\r?\n")


def stuffed(source: BinaryIO, limit_body_lines: int | None = None) -> Iterator[bytes]:
    """Yield the octets of a multi-line answer's body: `source` with dots doubled, a CRLF and `.` CRLF at its end.

    A dot is doubled at the very start and behind every LF, also a bare one: some clients take that
    for a line end.  The CRLF is added only where the message does not end in one; an empty
    message needs none.  With `limit_body_lines` only the headers, the blank line and as many
    lines of the body (RFC 1939 section 7, TOP).
    """
    blocks = _blocks(source)
    if limit_body_lines is not None:
        blocks = _top(blocks, limit_body_lines)
    end = b"\r\n"    # the last two octets so far; at the start as if behind the line of the +OK
    for block in blocks:
        stuffed_block = block.replace(b"\n.", b"\n..")
        if end.endswith(b"\n") and block.startswith(b"."):
            stuffed_block = b"." + stuffed_block
        end = (end + block[-2:])[-2:]
        yield stuffed_block
    yield b".\r\n" if end == b"\r\n" else b"\r\n.\r\n"


def _blocks(source: BinaryIO) -> Iterator[bytes]:
    """Yield what `source` holds."""
    while block := source.read(READ_BLOCK):
        yield block


def _top(blocks: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """Yield the headers, the blank line behind them and `lines` lines of the body."""
    blocks = iter(blocks)
    seen = b"\n"    # the end of what went before, as much as a blank line can begin in; at the start a line begins
    for block in blocks:
        joined = seen + block
        if blank := _BLANK_LINE.search(joined):
            body = blank.end() - len(seen)
            yield block[:body]
            yield from _lines(_behind(block[body:], blocks), lines)
            return
        seen = joined[-2:]
        yield block


def _behind(first: bytes, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield `first`, if it is anything, and then the rest."""
    if first:
        yield first
    yield from blocks


def _lines(blocks: Iterator[bytes], left: int) -> Iterator[bytes]:
    """Yield the first `left` lines."""
    while left > 0 and (block := next(blocks, b"")):
        ends = block.count(b"\n")
        if ends >= left:
            block = block[:_line_end(block, left)]
        left -= ends
        yield block


def _line_end(block: bytes, number: int) -> int:
    """Return where the line `number` (from 1) ends, behind its LF."""
    place = 0
    for _ in range(number):
        place = block.index(b"\n", place) + 1
    return place
