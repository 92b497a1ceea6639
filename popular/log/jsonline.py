"""One event as one line of JSON, for programs that read logs: pure functions.

Used in every process by `log.writer`.  The keys are always the same and in the same order: time (ISO
8601 with offset), host, program, pid, session, level, number (four hex digits), name, fields.  The
message's own values are in the object `fields`, so that none can replace another key.
The line is ASCII.  A text is unchanged, except that octets that are not UTF-8, and backslashes, are
written `\\xNN` as in `log.line`, so that the octets can be recovered.  Nothing here raises for any value.
"""

import json
import math
import time
from collections.abc import Mapping

from popular.log.form import CLASSIC, LogForm
from popular.log.line import CUT, MAX_LOG_LINE, MAX_VALUE, SHORTEST, octets_of, value, word
from popular.log.message import Event

_LONGEST_CHARACTER = 4    # octets of UTF-8

_JsonValue = str | int | float | bool | None | dict[str, "_JsonValue"]


def json_line(event: Event) -> bytes:
    """Return the event as an object in one line that ends in LF, at most `MAX_LOG_LINE` long.

    If it would be longer, all texts are cut evenly, so that no field is lost.
    """
    return json_text(event) + b"\n"


def json_text(event: Event) -> bytes:
    """Return the event as `json_line` does, without LF."""
    limit = MAX_VALUE
    text = _dumped(event, event.fields, limit)
    while len(text) >= MAX_LOG_LINE and limit > SHORTEST:
        limit //= 2
        text = _dumped(event, event.fields, limit)
    return (text if len(text) < MAX_LOG_LINE else _dumped(event, {}, limit)).encode("ascii")


def json_value(thing: object, limit: int = MAX_VALUE) -> _JsonValue:
    """Return one value in a form for JSON; texts are cut at `limit` characters.

    Numbers stay numbers, floats with 3 decimals; values that are not numbers in JSON (nan, infinity)
    become null, and a mapping becomes an object.
    """
    if thing is None or isinstance(thing, bool):
        return thing
    if isinstance(thing, str):
        return _text(octets_of(thing[:limit + 1], "utf-8"), limit)
    if isinstance(thing, int):
        digits = value(thing, limit)
        return digits if digits.startswith(("0x", "-0x")) else int(thing)
    if isinstance(thing, float):
        return round(thing, 3) if math.isfinite(thing) else None
    if isinstance(thing, bytes | bytearray):
        return _text(bytes(thing[:_LONGEST_CHARACTER * (limit + 1)]), limit)
    if isinstance(thing, Mapping):
        return {word(str(key)): json_value(each, limit) for key, each in thing.items()}
    return json_value(str(thing), limit)


def _dumped(event: Event, fields: dict[str, object], limit: int) -> str:
    return json.dumps({
        "time": _iso_8601(event.when),
        "host": event.host[:limit],
        "program": event.program[:limit],
        "pid": event.pid,
        "session": event.sid[:limit],
        "level": event.message.level,
        "number": f"{event.message.number:04x}",
        "name": event.message.name[:limit],
        "fields": {name: json_value(thing, limit) for name, thing in fields.items()},
    }, separators=(",", ":"))


def _iso_8601(when: float) -> str:
    """Return a moment in local time with milliseconds, for example 2004-08-21T12:19:29.123+02:00."""
    moment = time.localtime(when)
    sign = "-" if moment.tm_gmtoff < 0 else "+"
    hours, seconds = divmod(abs(moment.tm_gmtoff), 3600)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", moment)
    return f"{stamp}.{int(when % 1 * 1000):03d}{sign}{hours:02d}:{seconds // 60:02d}"


def _text(octets: bytes, limit: int) -> str:
    """Return octets as text of at most `limit` characters; no escape is ever cut in two."""
    text = octets.replace(b"\\", b"\\x5c").decode("utf-8", "backslashreplace")
    if len(text) <= limit:
        return text
    kept = text[:max(0, limit - len(CUT))]
    escape = kept.rfind("\\", max(0, len(kept) - 3))
    return (kept if escape < 0 else kept[:escape]) + CUT


JSON = LogForm(json_line, json_text)

FORMS = {"classic": CLASSIC, "json": JSON}    # by the words of the setting `logformat`
