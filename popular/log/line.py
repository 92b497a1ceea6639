"""How one event becomes one line of the original's form (spec 5.1), and nothing else: pure functions.

Used in every process by `log.writer`.  Values come from clients, backends and databases and are
hostile: whatever they hold, a line stays one line and a field one field.  Nothing here raises for
a value of the types str, bytes, bytearray, bool, int or float, nor for a mapping of them.
"""

import time
from collections.abc import Iterable, Mapping

from popular.log.event import Event

MAX_VALUE = 200    # characters of one rendered value, without its quotes
MAX_LINE = 4000    # characters of a line with its LF; below PIPE_BUF, so a write to a pipe is whole as well

CUT = "..."        # ends a value that did not fit
SHORTEST = 4       # characters a value is cut to at most, however many fields there are
_MAX_INT_BITS = 256

# What each octet of a quoted value looks like: printable ASCII as it is, all else as \xNN.
_OCTETS = tuple(
    chr(octet) if 0x20 <= octet <= 0x7e and octet not in b"'\\" else f"\\x{octet:02x}" for octet in range(256))


def classic_line(event: Event) -> bytes:
    """Return the event as `date time host program pid sid level number name key=value …`, with LF."""
    stamp = time.strftime("%Y%m%d %H%M%S", time.localtime(event.when))
    return line(f"{stamp} {event.host} {event.program} {event.pid} {_tail(event)}", event.fields)


def classic_text(event: Event) -> bytes:
    """Return the event from its session id on, without LF."""
    return line(_tail(event), event.fields)[:-1]


def line(head: str, fields: Iterable[tuple[str, object]]) -> bytes:
    """Return `head` and the fields as `key=value` in one line that ends in LF, at most `MAX_LINE` long.

    When it would be longer, all values are cut evenly, so that no field is lost.
    """
    pairs = list(fields)
    limit = MAX_VALUE
    text = _joined(head, pairs, limit)
    while len(text) > MAX_LINE and limit > SHORTEST:
        limit //= 2
        text = _joined(head, pairs, limit)
    return (text if len(text) <= MAX_LINE else text[:MAX_LINE - 1] + "\n").encode("ascii", "replace")


def value(thing: object, limit: int = MAX_VALUE) -> str:
    """Return one value as it stands behind `key=`.

    bool as 0 or 1, int bare, float bare with 3 decimals, all else in single quotes with quotes,
    backslashes, control and non-ASCII octets as `\\xNN`, cut at `limit` characters; of a mapping, the
    quotes hold `key=value` parted by spaces.
    """
    if isinstance(thing, str):
        return f"'{_quotable(thing, limit)}'"
    if isinstance(thing, int):
        return integer(thing, limit)
    if isinstance(thing, float):
        return _number(thing)
    if isinstance(thing, bytes | bytearray):
        return f"'{_quotable(bytes(thing[:limit + 1]).decode('latin-1'), limit, 'latin-1')}'"
    if isinstance(thing, Mapping):
        return value(" ".join(f"{word(str(key))}={value(each, limit)}" for key, each in thing.items()), limit)
    return f"'{_quotable(str(thing), limit)}'"


def word(text: str) -> str:
    """Return `text` fit for a place where one bare word must stand: what is not printable or a space becomes `?`."""
    if text.isascii() and text.isprintable() and " " not in text and text:
        return text
    return "".join(char if "!" <= char <= "~" else "?" for char in text) or "-"


def octets_of(text: str, charset: str) -> bytes:
    """Return the octets that `text` came from; surrogates that are no octets in disguise are kept apart too."""
    try:
        return text.encode(charset, "surrogateescape")
    except UnicodeEncodeError:
        return text.encode(charset, "surrogatepass")


def integer(number: int, limit: int) -> str:
    """Return an integer of any size; huge ones in hex, because Python refuses to write them in decimal."""
    if number.bit_length() <= _MAX_INT_BITS:
        return str(int(number))
    return hex(number)[:limit]


def _tail(event: Event) -> str:
    return f"{event.sid} {event.level} {event.number:04x} {event.name}"


def _joined(head: str, pairs: list[tuple[str, object]], limit: int) -> str:
    """Return the whole line with values of at most `limit` characters."""
    return "".join([head, *[f" {name}={value(thing, limit)}" for name, thing in pairs], "\n"])


def _quotable(text: str, limit: int, charset: str = "utf-8") -> str:
    """Return what stands between the quotes; no escape is ever cut in two."""
    if len(text) <= limit and text.isascii() and text.isprintable() and "'" not in text and "\\" not in text:
        return text
    shown = [_OCTETS[octet] for octet in octets_of(text[:limit + 1], charset)]
    if sum(map(len, shown)) <= limit:
        return "".join(shown)
    room = limit - len(CUT)
    used = 0
    for count, piece in enumerate(shown):
        used += len(piece)
        if used > room:
            return "".join(shown[:count]) + CUT
    return "".join(shown) + CUT


def _number(number: float) -> str:
    """Return a float with 3 decimals, or in powers of ten where that would be long."""
    return f"{number:.3f}" if -1e15 < number < 1e15 else f"{number:.3e}"
