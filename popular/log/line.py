"""How one event becomes one line in the original's form (spec 5.1): pure functions.

Used in every process by `log.writer`.  Values come from clients, backends and databases and are
hostile: whatever they hold, a line stays one line and a field one field.  Nothing here raises for
a value of the types str, bytes, bytearray, bool, int or float, nor for a mapping of them.
"""

import time
from collections.abc import Collection, Mapping
from functools import lru_cache

from popular.log.message import Event

MAX_VALUE = 200        # characters of one rendered value, without its quotes
MAX_LOG_LINE = 4000    # characters of a line with its LF; below PIPE_BUF, so a write to a pipe is atomic as well

CUT = "..."        # ends a value that did not fit
SHORTEST = 4       # characters a value is cut to at most, however many fields there are
_MAX_INT_BITS = 256

# What each octet of a quoted value looks like: printable ASCII as it is, all else as \xNN.
_OCTETS = tuple(
    chr(octet) if 0x20 <= octet <= 0x7e and octet not in b"'\\" else f"\\x{octet:02x}" for octet in range(256))


def classic_line(event: Event) -> bytes:
    """Return the event as `date time host program pid sid level number name key=value …`, with LF."""
    origin = f"{local_stamp(int(event.when))} {event.host} {event.program} {event.pid}"
    return line(f"{origin} {event.sid} {event.message.label}", event.fields.items())


def classic_text(event: Event) -> bytes:
    """Return the event from its session id on, without LF."""
    return line(f"{event.sid} {event.message.label}", event.fields.items())[:-1]


def line(head: str, fields: Collection[tuple[str, object]], limit: int = MAX_VALUE) -> bytes:
    """Return `head` and the fields as `key=value` in one line that ends in LF, at most `MAX_LOG_LINE` long.

    Values are cut at `limit` characters, or all at a lower limit if the line would be too long, so no field is lost.
    """
    parts, texts = [head], []
    for name, thing in fields:
        if type(thing) is str:
            parts.append(f"{name}='{thing}'")    # as `value` has it for nearly every text, but without a call
            texts.append(thing)
        else:
            parts.append(f"{name}={value(thing, limit)}")
    together = "".join(texts)
    if len(together) > limit or not _is_harmless(together):    # then some are cut or escaped
        parts = [head, *(f"{name}={value(thing, limit)}" for name, thing in fields)]
    text = " ".join(parts)
    if len(text) >= MAX_LOG_LINE and limit > SHORTEST:
        return line(head, fields, limit // 2)
    return (text[:MAX_LOG_LINE - 1] + "\n").encode("ascii", "replace")


def value(thing: object, limit: int = MAX_VALUE) -> str:
    """Return one value as it is written after `key=`.

    A bool is 0 or 1.  An int is bare (a huge one in hex, because Python refuses to write it in decimal).
    A float is bare with 3 decimals, or in powers of ten where that would be long.  All else is in single
    quotes, cut at `limit` characters, with quotes, backslashes, control and non-ASCII octets as `\\xNN`;
    for a mapping, the quotes hold `key=value` separated by spaces.
    """
    if type(thing) is str:
        if len(thing) <= limit and _is_harmless(thing):
            return f"'{thing}'"
        return f"'{_escaped(octets_of(thing[:limit + 1], 'utf-8'), limit)}'"
    if type(thing) is float:
        return f"{thing:.3f}" if -1e15 < thing < 1e15 else f"{thing:.3e}"
    if type(thing) is bool:
        return "1" if thing else "0"
    if type(thing) is int:
        return str(thing) if thing.bit_length() <= _MAX_INT_BITS else hex(thing)[:limit]
    if type(thing) is dict:
        return value(" ".join([f"{word(str(key))}={value(each, limit)}" for key, each in thing.items()]), limit)
    if isinstance(thing, bytes | bytearray):
        return f"'{_escaped(bytes(thing[:limit + 1]), limit)}'"
    return value(_basic(thing), limit)


def word(text: str) -> str:
    """Return `text` as one bare word: spaces and unprintable characters become `?`."""
    if text.isascii() and text.isprintable() and " " not in text and text:
        return text
    return "".join(char if "!" <= char <= "~" else "?" for char in text) or "-"


def octets_of(text: str, charset: str) -> bytes:
    """Return the octets that `text` came from; surrogates that do not stand for octets are kept, too."""
    try:
        return text.encode(charset, "surrogateescape")
    except UnicodeEncodeError:
        return text.encode(charset, "surrogatepass")


def _is_harmless(text: str) -> bool:
    """Tell whether nothing in a text must be escaped in a quoted value."""
    return text.isascii() and text.isprintable() and "'" not in text and "\\" not in text


def _basic(thing: object) -> str | int | float | dict[object, object]:
    """Return a value of a derived type as its basic type, or as text if it has none."""
    if isinstance(thing, str):
        return str.__str__(thing)
    if isinstance(thing, int):
        return int(thing)
    if isinstance(thing, float):
        return float(thing)
    return dict(thing.items()) if isinstance(thing, Mapping) else str(thing)


def _escaped(octets: bytes, limit: int) -> str:
    """Return what is written between the quotes; no escape is ever cut in two."""
    shown = [_OCTETS[octet] for octet in octets]
    if sum(map(len, shown)) <= limit:
        return "".join(shown)
    room = limit - len(CUT)
    used = 0
    for count, piece in enumerate(shown):
        used += len(piece)
        if used > room:
            return "".join(shown[:count]) + CUT
    return "".join(shown) + CUT


@lru_cache(maxsize=1)
def local_stamp(second: int) -> str:
    """Return date and local time as `YYYYMMDD HHMMSS`; cached, because lines come in bursts within one second."""
    return "%d%02d%02d %02d%02d%02d" % time.localtime(second)[:6]
