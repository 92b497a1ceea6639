"""Reading log lines back as strictly as a program would: what is not made of fields to its end fails."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

LEVELS = ("DBG", "INF", "ERR", "ADM", "SOS", "BUG")
KEYS = ["time", "host", "program", "pid", "session", "level", "number", "name", "fields"]

_HEAD = re.compile(
    r"(\d{8} \d{6}) ([!-~]+) ([!-~]+) (\d+) ([!-~]+) (" + "|".join(LEVELS) + r") ([0-9a-f]{4}) ([a-z0-9_]+)")
_FIELD = re.compile(r" ([a-z][a-z0-9_]*)=('(?:[ -&(-\[\]-~]|\\x[0-9a-f]{2})*'|[-+0-9a-z.]+)")
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")


@dataclass(frozen=True)
class Line:
    """One event as a reader sees it."""

    time: str
    host: str
    program: str
    pid: int
    session: str
    level: str
    number: str
    name: str
    fields: dict[str, Any]    # texts as octets in which the escapes are undone, numbers as numbers


def read_classic(text: str) -> Line:
    """Read a line of the original's form, without its LF; raises AssertionError."""
    head = _HEAD.match(text)
    assert head, f"no head: {text!r}"
    fields: dict[str, Any] = {}
    place = head.end()
    while place < len(text):
        field = _FIELD.match(text, place)
        assert field, f"no field at {text[place:]!r}"
        assert field[1] not in fields, f"{field[1]} stands twice: {text!r}"
        fields[field[1]] = _octets(field[2][1:-1]) if field[2][0] == "'" else _number(field[2])
        place = field.end()
    return Line(head[1], head[2], head[3], int(head[4]), head[5], head[6], head[7], head[8], fields)


def read_json(text: str) -> Line:
    """Read a line of JSON; raises AssertionError and ValueError."""
    assert re.fullmatch("[ -~]+", text), f"not ASCII: {text!r}"
    raw = json.loads(text, object_pairs_hook=_each_once)
    assert list(raw) == KEYS, text
    fields = {name: _octets(each) if isinstance(each, str) else each for name, each in raw.pop("fields").items()}
    return Line(**raw, fields=fields)


READERS: dict[str, Callable[[str], Line]] = {"classic": read_classic, "json": read_json}


def times_of(line: Line) -> dict[str, float]:
    """Return the seconds of each state in the last line of a session, in either form."""
    times = line.fields["times"]
    if isinstance(times, dict):
        return times
    return {state: float(seconds) for state, _, seconds in (word.partition("=") for word in times.decode().split())}


def only(lines: Iterable[Line], name: str) -> Line:
    """Return the one event of this name."""
    found = [line for line in lines if line.name == name]
    assert len(found) == 1, f"{len(found)} events {name}"
    return found[0]


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({key for key, _ in pairs}) == len(pairs), f"a key stands twice: {pairs}"
    return dict(pairs)


def _octets(text: str) -> bytes:
    return _ESCAPE.sub(lambda match: bytes((int(match[1], 16),)), text.encode())


def _number(text: str) -> float:
    return float(text) if "." in text else int(text)
