"""How one event becomes one line of a log file (spec 5.1), and nothing else: pure functions.

Used in every process by `log.writer`.  Values come from clients, backends and databases and are
hostile: whatever they hold, a line stays one line and a field one field.  Nothing here raises for
a value of the types str, bytes, bytearray, bool, int or float.
"""

from collections.abc import Iterable

MAX_VALUE = 200    # characters of one rendered value, without its quotes
MAX_LINE = 4000    # characters of a line with its LF; below PIPE_BUF, so a write to a pipe is whole as well

_CUT = "..."       # ends a value that did not fit
_SHORTEST = 4      # characters a value is cut to at most, however many fields there are
_MAX_INT_BITS = 256

# What each octet of a quoted value looks like: printable ASCII as it is, all else as \xNN.
_OCTETS = tuple(
    chr(octet) if 0x20 <= octet <= 0x7e and octet not in b"'\\" else f"\\x{octet:02x}" for octet in range(256))


def line(head: str, fields: Iterable[tuple[str, object]]) -> bytes:
    """Return `head` and the fields as `key=value` in one line that ends in LF, at most `MAX_LINE` long.

    When it would be longer, all values are cut evenly, so that no field is lost.
    """
    pairs = list(fields)
    limit = MAX_VALUE
    text = _joined(head, pairs, limit)
    while len(text) > MAX_LINE and limit > _SHORTEST:
        limit //= 2
        text = _joined(head, pairs, limit)
    return (text if len(text) <= MAX_LINE else text[:MAX_LINE - 1] + "\n").encode("ascii", "replace")


def value(thing: object, limit: int = MAX_VALUE) -> str:
    """Return one value as it stands behind `key=`.

    bool as 0 or 1, int bare, float bare with 3 decimals, all else in single quotes with quotes,
    backslashes, control and non-ASCII octets as `\\xNN`, cut at `limit` characters.
    """
    if isinstance(thing, str):
        return f"'{_quotable(thing, limit)}'"
    if isinstance(thing, int):
        return _integer(thing, limit)
    if isinstance(thing, float):
        return _number(thing, limit)
    if isinstance(thing, bytes | bytearray):
        return f"'{_quotable(bytes(thing[:limit + 1]).decode('latin-1'), limit, 'latin-1')}'"
    return f"'{_quotable(str(thing), limit)}'"


def word(text: str) -> str:
    """Return `text` fit for a place where one bare word must stand: what is not printable or a space becomes `?`."""
    if text.isascii() and text.isprintable() and " " not in text and text:
        return text
    return "".join(char if "!" <= char <= "~" else "?" for char in text) or "-"


def _joined(head: str, pairs: list[tuple[str, object]], limit: int) -> str:
    """Return the whole line with values of at most `limit` characters."""
    return "".join([head, *[f" {name}={value(thing, limit)}" for name, thing in pairs], "\n"])


def _quotable(text: str, limit: int, charset: str = "utf-8") -> str:
    """Return what stands between the quotes; no escape is ever cut in two."""
    if len(text) <= limit and text.isascii() and text.isprintable() and "'" not in text and "\\" not in text:
        return text
    shown = [_OCTETS[octet] for octet in _octets(text[:limit + 1], charset)]
    if sum(map(len, shown)) <= limit:
        return "".join(shown)
    room = limit - len(_CUT)
    used = 0
    for count, piece in enumerate(shown):
        used += len(piece)
        if used > room:
            return "".join(shown[:count]) + _CUT
    return "".join(shown) + _CUT


def _octets(text: str, charset: str) -> bytes:
    """Return the octets that `text` came from; surrogates that are no octets in disguise are kept apart too."""
    try:
        return text.encode(charset, "surrogateescape")
    except UnicodeEncodeError:
        return text.encode(charset, "surrogatepass")


def _integer(number: int, limit: int) -> str:
    """Return an integer of any size; huge ones in hex, because Python refuses to write them in decimal."""
    if number.bit_length() <= _MAX_INT_BITS:
        return str(int(number))
    return hex(number)[:limit]


def _number(number: float, limit: int) -> str:
    """Return a float with 3 decimals, or in powers of ten where that would be long."""
    return f"{number:.3f}" if -1e15 < number < 1e15 else f"{number:.3e}"
