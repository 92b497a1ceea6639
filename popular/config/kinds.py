"""Kinds of values that a setting can have (spec 1.2): how each is read, shown and described.

The INI file, the command line and the control socket all read a value with the same `parse`, so
they cannot disagree.  Lean: imported by the starter, the master, the children and the tools.
`parse` raises ValueError, whose text completes `VALUE is not …`: for example, `a time; write 1h` for
`'1 hour' is not a time; write 1h`.  For every value of a kind, `parse(show(value)) == value`.
"""

import os
import re
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from popular.addresses import Endpoint, parse_endpoint, parse_listening
from popular.names import is_id

MAX_TEXT = 4096          # characters of any value, whatever its kind
MAX_ADDRESSES = 1024     # addresses in one list
MAX_FILES = 16           # names in one list

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]{0,30})?(e[+-]?[0-9]{1,3})?", re.ASCII | re.IGNORECASE)
_TIME = re.compile(r"(?:[0-9]{1,12}(?:ms|[dhms])){1,20}", re.ASCII)
_TIME_PART = re.compile(r"([0-9]+)(ms|[dhms])", re.ASCII)
_WORDS = r"([0-9]{1,9}(?:\.[0-9]{1,3})?)\s*(msecs?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)"
_TIME_WORDS = re.compile(_WORDS, re.ASCII | re.IGNORECASE)
_TIME_PROSE = re.compile(rf"\s*(?:{_WORDS}(?:\s|,|and)*){{1,8}}", re.ASCII | re.IGNORECASE)
_BARE_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)
_NOT_ONE_LINE = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_UNITS = {word: unit for unit, words in (
    ("ms", "ms msec msecs"), ("s", "s sec secs second seconds"), ("m", "m min mins minute minutes"),
    ("h", "h hr hrs hour hours"), ("d", "d day days")) for word in words.split()}
_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


class Kind(Protocol):
    """What every kind offers."""

    @property
    def name(self) -> str:
        """The word for this kind in documents: `Bool`, `Int`, …"""

    @property
    def wanted(self) -> str:
        """What a value must be: `a whole number from 5 to 1024`."""

    def parse(self, text: str) -> Any:
        """Return the value that `text` stands for; raises ValueError(what it is not)."""

    def show(self, value: Any) -> str:
        """Return the text that `parse` reads back to an equal value."""


@dataclass(frozen=True, slots=True)
class Bool:
    """On or off."""

    name: ClassVar[str] = "Bool"
    wanted: ClassVar[str] = "on or off (also 1 true yes, 0 false no)"

    def parse(self, text: str) -> bool:
        """Read `0 false no off` or `1 true yes on`, in any case (spec 1.2)."""
        word = text.strip().lower()
        if word in ("1", "true", "yes", "on"):
            return True
        if word in ("0", "false", "no", "off"):
            return False
        raise ValueError(self.wanted)

    def show(self, value: bool) -> str:
        """Return `on` or `off`."""
        return "on" if value else "off"


@dataclass(frozen=True, slots=True)
class Off(Bool):
    """A switch that can no longer be turned on."""

    wanted: ClassVar[str] = "off (also 0 false no): it can no longer be turned on"

    def parse(self, text: str) -> bool:
        """Read `0 false no off` in any case."""
        if Bool.parse(self, text):
            raise ValueError(self.wanted)
        return False


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number; without an upper bound (`high` None) it has at most 18 digits."""

    name: ClassVar[str] = "Int"
    low: int
    high: int | None = None

    @property
    def wanted(self) -> str:
        """The range in words."""
        if self.high is None:
            return f"a whole number from {self.low} up"
        return f"a whole number from {self.low} to {self.high}"

    def parse(self, text: str) -> int:
        """Read a decimal number within the bounds."""
        digits = text.strip()
        if not _INTEGER.fullmatch(digits):
            raise ValueError(self.wanted)    # with the range, which the writer of a word may not know
        value = int(digits)
        if value < self.low or (self.high is not None and value > self.high):
            raise ValueError(f"{self.low} or more" if self.high is None else f"between {self.low} and {self.high}")
        return value

    def show(self, value: int) -> str:
        """Return decimal digits."""
        return str(value)


@dataclass(frozen=True, slots=True)
class Float:
    """A number that may have a fraction, such as a system load."""

    name: ClassVar[str] = "Float"
    low: float
    high: float

    @property
    def wanted(self) -> str:
        """The range in words."""
        return f"a number from {self.low:g} to {self.high:g}"

    def parse(self, text: str) -> float:
        """Read a decimal number within the bounds; no `nan`, no `inf`."""
        digits = text.strip()
        if not _DECIMAL.fullmatch(digits):
            raise ValueError(self.wanted)
        value = float(digits)
        if not self.low <= value <= self.high:
            raise ValueError(f"between {self.low:g} and {self.high:g}")
        return value

    def show(self, value: float) -> str:
        """Return the shortest decimal text that reads back to the same number."""
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


@dataclass(frozen=True, slots=True)
class String:
    """One line of text, of `limit` characters at most."""

    name: ClassVar[str] = "String"
    limit: int = 1024

    @property
    def wanted(self) -> str:
        """The limit in words."""
        return f"one line of text of at most {self.limit} characters"

    def parse(self, text: str) -> str:
        """Return `text` as it is; refuses line ends, control characters and octets that are not UTF-8."""
        if len(text) > self.limit or not _is_one_line(text):
            raise ValueError(self.wanted)
        return text

    def show(self, value: str) -> str:
        """Return the text itself."""
        return value


@dataclass(frozen=True, slots=True)
class File:
    """The name of a file, which need not exist yet."""

    name: ClassVar[str] = "File"
    wanted: ClassVar[str] = "a file name"

    def parse(self, text: str) -> str:
        """Return `text` as it is; a caller that knows the current folder makes it absolute first."""
        if not text or len(text) > MAX_TEXT or not _is_one_line(text):
            raise ValueError(self.wanted)
        return text

    def show(self, value: str) -> str:
        """Return the name itself."""
        return value


@dataclass(frozen=True, slots=True)
class Files:
    """The names of some files, separated by commas."""

    name: ClassVar[str] = "Files"
    wanted: ClassVar[str] = "a list of absolute file names, separated by commas"

    def parse(self, text: str) -> tuple[str, ...]:
        """Read `/NAME, /NAME, …`, at most `MAX_FILES`."""
        names = tuple(word.strip() for word in text.split(","))
        if (len(text) > MAX_TEXT or len(names) > MAX_FILES or not _is_one_line(text)
                or not all(name.startswith("/") for name in names)):
            raise ValueError(self.wanted)
        return names

    def show(self, value: tuple[str, ...]) -> str:
        """Return the names separated by a comma and a space."""
        return ", ".join(value)


@dataclass(frozen=True, slots=True)
class Dir:
    """The name of a directory, which must exist when the value is read (spec 1.2)."""

    name: ClassVar[str] = "Dir"
    wanted: ClassVar[str] = "a directory that exists"

    def parse(self, text: str) -> str:
        """Return `text` when it names a directory now."""
        if not text or len(text) > MAX_TEXT or not _is_one_line(text) or not os.path.isdir(text):
            raise ValueError(self.wanted)
        return text

    def show(self, value: str) -> str:
        """Return the name itself."""
        return value


@dataclass(frozen=True, slots=True)
class Id:
    """The name of a configured object."""

    name: ClassVar[str] = "Id"
    wanted: ClassVar[str] = "an id of 1 to 64 letters, digits, ., - and _"

    def parse(self, text: str) -> str:
        """Return the id without spaces around it (spec 1.2)."""
        word = text.strip()
        if not is_id(word):
            raise ValueError(self.wanted)
        return word

    def show(self, value: str) -> str:
        """Return the id itself."""
        return value


@dataclass(frozen=True, slots=True)
class Time:
    """A span of time: seconds as a float, rounded to milliseconds."""

    name: ClassVar[str] = "Time"
    low: float
    high: float

    @property
    def wanted(self) -> str:
        """The range in words."""
        return f"a time from {self.show(self.low)} to {self.show(self.high)} such as 5d3h10m4s"

    def parse(self, text: str) -> float:
        """Read `5d3h10m4s`, also with `ms`; a bare number is seconds, any `-` is refused (spec 1.2)."""
        value = self._seconds(text.strip())
        if value is None:
            meant = self._meant(text)
            raise ValueError(f"a time; write {meant}" if meant else self.wanted)
        if not self.low <= value <= self.high:
            raise ValueError(f"between {self.show(self.low)} and {self.show(self.high)}")
        return value

    def _seconds(self, word: str) -> float | None:
        """Return the seconds of a well-formed word."""
        if _BARE_SECONDS.fullmatch(word):
            milliseconds = int(word) * 1000
        elif _TIME.fullmatch(word):
            milliseconds = sum(int(count) * _MILLISECONDS[unit] for count, unit in _TIME_PART.findall(word))
        else:
            return None
        return milliseconds / 1000

    def _meant(self, text: str) -> str:
        """Return how a time in other words, such as `1 hour` or `1.5 h`, is written; empty if unknown."""
        parts = _TIME_WORDS.findall(text) if _TIME_PROSE.fullmatch(text) else []
        value = sum(float(count) * _MILLISECONDS[_UNITS[unit.lower()]] for count, unit in parts) / 1000
        return self.show(value) if parts and self.low <= value <= self.high else ""

    def show(self, value: float) -> str:
        """Return the span in its largest units: `1d`, `2m`, `500ms`, `1m30s`."""
        rest = round(value * 1000)
        parts = []
        for unit, size in _MILLISECONDS.items():
            count, rest = divmod(rest, size)
            if count:
                parts.append(f"{count}{unit}")
        return "".join(parts) or "0s"


@dataclass(frozen=True, slots=True, init=False)
class Choice:
    """One of several words."""

    name: ClassVar[str] = "Choice"
    words: tuple[str, ...]

    def __init__(self, *words: str) -> None:
        object.__setattr__(self, "words", words)

    @property
    def wanted(self) -> str:
        """The words."""
        return "one of " + ", ".join(self.words) if len(self.words) > 1 else self.words[0]

    def parse(self, text: str) -> str:
        """Return the word as it is spelt here; case is ignored."""
        found = text.strip().lower()
        for word in self.words:
            if word.lower() == found:
                return word
        raise ValueError(self.wanted)

    def show(self, value: str) -> str:
        """Return the word itself."""
        return value


@dataclass(frozen=True, slots=True)
class Address:
    """One host and port."""

    name: ClassVar[str] = "Address"
    wanted: ClassVar[str] = "an address and port such as 10.0.0.5:110, [::1]:110 or store1:110"

    def parse(self, text: str) -> Endpoint:
        """Read `HOST:PORT` or `[IPV6]:PORT`."""
        try:
            return parse_endpoint(text)
        except ValueError:
            raise ValueError(self.wanted) from None

    def show(self, value: Endpoint) -> str:
        """Return `HOST:PORT`, IPv6 in brackets."""
        return str(value)


@dataclass(frozen=True, slots=True)
class Addresses:
    """One or more addresses, separated by commas."""

    name: ClassVar[str] = "Addresses"
    wanted: ClassVar[str] = "a list of addresses and ports such as 0.0.0.0:110, [::]:110, each once"

    def parse(self, text: str) -> tuple[Endpoint, ...]:
        """Read `HOST:PORT, HOST:PORT, …`, at most `MAX_ADDRESSES`, no port twice."""
        words = text.split(",")
        try:
            endpoints = tuple(self._one(word) for word in words[:MAX_ADDRESSES])
        except ValueError:
            raise ValueError(self.wanted) from None
        fixed = [each for each in endpoints if each.port or each.is_unix]    # port 0 is a different one each time
        if len(words) > MAX_ADDRESSES or len(set(fixed)) != len(fixed):
            raise ValueError(self.wanted)
        return endpoints

    def show(self, value: tuple[Endpoint, ...]) -> str:
        """Return the addresses separated by a comma and a space."""
        return ", ".join(str(endpoint) for endpoint in value)

    def _one(self, word: str) -> Endpoint:
        return parse_endpoint(word)


@dataclass(frozen=True, slots=True)
class Listening(Addresses):
    """The same, also with Unix sockets."""

    wanted: ClassVar[str] = "a list of addresses such as 127.0.0.1:2003, [::1]:2003, unix:/run/popular/lmtp, each once"

    def _one(self, word: str) -> Endpoint:
        return parse_listening(word)


def _is_one_line(text: str) -> bool:
    """Tell whether `text` is free of control characters except tabs, line ends of any script, and lone surrogates."""
    return _NOT_ONE_LINE.search(text) is None
