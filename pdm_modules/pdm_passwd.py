"""Database module `passwd`: users in a text file, sorted by their names.

    passwd FILE

Each line is `USER:HASH:BACKEND:PROTOCOL:MAILBOX[:BUSER:BPASS]` as `popular.pdm.records` describes;
empty lines and lines that begin with `#` are skipped.  USER is compared octet by octet.

A file of up to 1 MiB may be in any order.  A larger one is searched by bisection and must be sorted with

    LC_ALL=C sort -t: -k1,1 -o FILE FILE

If the search finds a line out of order, the answer is FAILED with this command as the reason.  If a user
has several lines, the first counts.  The file is opened for each query, so a change is seen at the next
login; replace it by rename, so that nobody reads half of it.
"""

import os
import shlex
from collections.abc import Iterator

from popular.pdm import records
from popular.pdm.api import PdmError
from popular.pdm.bases import FileModule

MAX_UNSORTED = 1 << 20    # octets of a file that is searched from beginning to end
BLOCK = 1024              # octets read at once
SAMPLES = 32              # names looked at before a user of a large file is called unknown


class NotSorted(ValueError):
    """A large file has a line out of order."""


class Module(FileModule):
    """The users of one text file."""

    API = (1, 1)
    usage = "passwd FILE"
    what = "the users file"

    def raw_record(self, key: bytes) -> bytes | None:
        """Return the rest of a user's line, None without one; raises OSError and PdmError."""
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return find(fd, key)
        except NotSorted as why:
            name = shlex.quote(self.path)
            raise PdmError(f"{self.path}: {why}; mend it with: LC_ALL=C sort -t: -k1,1 -o {name} {name}") from None
        except ValueError as why:
            raise PdmError(f"{self.path}: {why}") from None
        finally:
            os.close(fd)


def find(fd: int, key: bytes) -> bytes | None:
    """Return the rest of the first line that begins with `KEY:`, or None.

    Raises NotSorted for a large file, ValueError for a line that is too long, and OSError.
    """
    size = os.fstat(fd).st_size
    return find_unsorted(fd, key, size) if size <= MAX_UNSORTED else find_sorted(fd, key, size)


def find_unsorted(fd: int, key: bytes, size: int) -> bytes | None:
    """Search a small file of `size` octets from beginning to end."""
    text, entry = os.pread(fd, size, 0), key + b":"    # not more, or memory for that would be mapped each time
    begin = 0 if text.startswith(entry) else text.find(b"\n" + entry) + 1
    if not text.startswith(entry, begin):
        return None
    end = text.find(b"\n", begin)
    return _rest(text[begin:] if end < 0 else text[begin:end])


def find_sorted(fd: int, key: bytes, size: int) -> bytes | None:
    """Search a sorted file of `size` octets by bisection.

    Every name read must be between those read before, and not after the last of the file; before a user is
    reported unknown, samples from the whole file must be in order.  Almost every search thus detects a file
    that is not sorted, even if only a line was appended, or two sorted files were joined.
    """
    low, high = 0, size                          # KEY and greater names begin at low or later; the bisection
    below, above = b"", _last_name(fd, size)     # ignores high and later.  Names read there; above None: none
    while high - low > BLOCK:
        middle = (low + high) // 2
        begin, name = next(((begin, _name(line)) for begin, line in _lines(fd, middle, size)), (high, None))
        if name is None or begin >= high:
            high = middle                        # only comments from there to high
            continue
        _prove_order(below, name, above)
        if name < key:
            low, below = begin, name
        else:
            high, above = middle, name
    record = _find_from(fd, key, low, size, below, above)
    if record is None:
        _prove_samples(fd, size)
    return record


def _find_from(fd: int, key: bytes, low: int, size: int, below: bytes, above: bytes | None) -> bytes | None:
    """Search from the end of the bisection to the first greater name."""
    for _, line in _lines(fd, low, size, is_at_line=True):
        name = _name(line)
        _prove_order(below, name, above if name < key else None)
        if name == key:
            return _rest(line)
        if name > key:
            return None
        below = name
    return None


def _lines(fd: int, offset: int, size: int, *, is_at_line: bool = False) -> Iterator[tuple[int, bytes]]:
    """Yield beginning and text of the entries that begin after `offset`, or at it."""
    base, buffer, begin = offset, b"", 0    # the buffer begins at base, the line at begin in it
    is_whole = is_at_line or offset == 0
    while True:
        end = buffer.find(b"\n", begin)
        if end >= 0:
            if is_whole and _is_entry(line := buffer[begin:end]):
                yield base + begin, line
            begin, is_whole = end + 1, True
            continue
        base, buffer, begin = base + begin, buffer[begin:], 0
        if len(buffer) > records.MAX_RECORD:
            raise ValueError(f"the line at octet {base} has more than {records.MAX_RECORD} octets")
        block = os.pread(fd, max(0, min(BLOCK, size - base - len(buffer))), base + len(buffer))
        if not block:
            break
        buffer += block
    if is_whole and _is_entry(buffer):
        yield base, buffer


def _is_entry(line: bytes) -> bool:
    """Tell whether a line is a user's: it has a colon and is not a comment."""
    return b":" in line and not line.startswith(b"#")


def _last_name(fd: int, size: int) -> bytes | None:
    """Return the last user's name, or None if the last block contains only comments."""
    names = [_name(line) for _, line in _lines(fd, max(0, size - BLOCK), size)]
    return names[-1] if names else None


def _prove_samples(fd: int, size: int) -> None:
    """Raise NotSorted unless names at even distances, all over the file, are in order."""
    below = b""
    for number in range(SAMPLES):
        offset = size * number // SAMPLES
        end = min(size, offset + BLOCK)    # no further, because only comments may follow
        name = next((_name(line) for begin, line in _lines(fd, offset, end) if begin + len(line) < end), below)
        _prove_order(below, name, None)
        below = name


def _prove_order(below: bytes, name: bytes, above: bytes | None) -> None:
    if name < below or (above is not None and name > above):
        raise NotSorted(f"not sorted at user {name.decode('utf-8', 'replace')!a}")


def _name(line: bytes) -> bytes:
    return line.partition(b":")[0]


def _rest(line: bytes) -> bytes:
    return line.removesuffix(b"\r").partition(b":")[2]
