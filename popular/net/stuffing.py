"""Messages as they are sent after a `+OK`: dot-stuffed and ended (RFC 1939 section 3).

Used in the children of pserv and pproxy, and by the tools' tests.  Pure except for reading its
source; raises what the source raises.
"""

import os
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from popular.net.transport import FilePart

READ_BLOCK = 64 * 1024    # octets asked of the source at a time
FILE_BLOCK = 128 * 1024   # octets read at a time of a file that the kernel sends; shorter ones are copied
PART_LIMIT = 256 * 1024   # octets of one part of a file, or slightly more

_BLANK_LINE = re.compile(rb"\n\r?\n")


def stuffed(source: BinaryIO, limit_body_lines: int | None = None) -> Iterator[bytes]:
    """Yield the octets of a multi-line answer's body: `source` with dots doubled, a CRLF and `.` CRLF at its end.

    A dot is doubled at the very start and after every LF, even a bare one, which some clients treat
    as a line end.  The CRLF is added only where the message does not end in one; an empty
    message needs none.  With `limit_body_lines` yields only the headers, the blank line and
    that many lines of the body (RFC 1939 section 7, TOP).
    """
    blocks = _blocks(source)
    if limit_body_lines is not None:
        blocks = _top(blocks, limit_body_lines)
    end = b"\r\n"    # the last two octets so far; at the start those of the +OK line
    for block in blocks:
        yield _doubled(block, end.endswith(b"\n"))
        end = (end + block[-2:])[-2:]
    yield b".\r\n" if end == b"\r\n" else b"\r\n.\r\n"


def stuffed_file(fd: int, size: int) -> Iterator[bytes | FilePart]:
    """Yield the same as `stuffed` for the whole file `fd`, but long parts without dots as FilePart.

    The file is read once to find the dots, and its parts are read again when they are sent.  A process that can
    write to it in between could as well write another file into the mailbox.  `size` is the size in the file's
    name; a file that ends there is not read again to find its end.
    """
    end = b"\r\n"    # as in `stuffed`
    start = place = 0    # what is between has no dots to double and has not been yielded
    while block := os.pread(fd, wanted := _wanted(size - place), place):
        at_line_start = end.endswith(b"\n")
        # A block is copied up to its last dot: that is cheaper than many small parts.
        copied = len(block) if len(block) < FILE_BLOCK else _behind_dots(block, at_line_start)
        if copied:
            if start < place:
                yield FilePart(fd, start, place - start)
            yield _doubled(block[:copied], at_line_start)
            start = place + copied
        place += len(block)
        end = (end + block[-2:])[-2:]
        if place - start >= PART_LIMIT:
            yield FilePart(fd, start, place - start)
            start = place
        if place == size and len(block) < wanted:
            break
        block = b""    # two at once would be so much memory that it went back to the kernel each time
    if start < place:
        yield FilePart(fd, start, place - start)
    yield b".\r\n" if end == b"\r\n" else b"\r\n.\r\n"


def _wanted(left: int) -> int:
    """Return how many octets to read where so many should be left: at the end one more, which shows the end."""
    return left + 1 if 0 <= left <= FILE_BLOCK else FILE_BLOCK


def _behind_dots(block: bytes, at_line_start: bool) -> int:
    """Return where `block` goes on behind the last dot that begins a line; 0 if no line begins with one.

    The first search runs at the speed of memory, the others are twenty times slower.  Attachments have no dots at all,
    so where one follows a text they are for the text only.
    """
    end = block.rfind(b".") + 1
    if block.find(b"\n.", 0, end) >= 0:
        return block.rfind(b"\n.", 0, end) + 2
    return int(at_line_start and block.startswith(b"."))


def _doubled(block: bytes, at_line_start: bool) -> bytes:
    """Return `block` with each dot doubled that begins a line; its first octet does if it is `at_line_start`."""
    doubled = block.replace(b"\n.", b"\n..")
    return b"." + doubled if at_line_start and block.startswith(b".") else doubled


def _blocks(source: BinaryIO) -> Iterator[bytes]:
    """Yield what `source` holds."""
    while block := source.read(READ_BLOCK):
        yield block


def _top(blocks: Iterable[bytes], lines: int) -> Iterator[bytes]:
    """Yield the headers, the blank line after them and `lines` lines of the body."""
    blocks = iter(blocks)
    seen = b"\n"    # the last octets before the block, in which a blank line may begin; at the start a line begins
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
    """Yield `first`, unless it is empty, and then the rest."""
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
    """Return where the line `number` (from 1) ends, after its LF."""
    place = 0
    for _ in range(number):
        place = block.index(b"\n", place) + 1
    return place
