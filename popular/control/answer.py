"""Answers to commands, and how they stand on the wire.

An answer is zero or more lines, then `+OK [text]` or `-ERR text`.  A line that begins with `+OK`,
`-ERR` or a dot has a dot put before it.  Lines end in LF; text is UTF-8.  Used in the master and in the tools.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

WARNING = "warning: "    # begins a line of an answer that is +OK, but not all that was wanted

_ENDS = ("+OK", "-ERR")


@dataclass(frozen=True, slots=True)
class ControlAnswer:
    """What one command is answered."""

    ok: bool
    text: str = ""
    lines: tuple[str, ...] = ()

    @classmethod
    def refusal(cls, why: str) -> "ControlAnswer":
        """Return the -ERR for a text of one or more lines, of which the last sums up."""
        lines = why.splitlines() or ["refused"]
        return cls(False, lines[-1], tuple(lines[:-1]))

    def render(self) -> bytes:
        """Return the octets of the answer."""
        lines = [_stuffed(line) for line in _flat(self.lines)]
        end = " ".join(filter(None, ("+OK" if self.ok else "-ERR", " ".join(self.text.split("\n")))))
        return "".join(f"{line}\n" for line in [*lines, end]).encode("utf-8", "backslashreplace")


class Later(Protocol):
    """An answer that is not there yet."""

    @property
    def deadline(self) -> float:
        """When to give up, in seconds of time.monotonic()."""

    def look(self) -> ControlAnswer | None:
        """Return the answer if it is there."""

    def give_up(self) -> ControlAnswer:
        """Return what is answered when the deadline has passed."""

    def abandon(self) -> bool:
        """Stop, because whoever asked has gone; tells whether something was under way that has ended by it."""


def parse_end(line: str) -> tuple[bool, str] | None:
    """Return whether the last line of an answer says +OK, and its text; None for another line."""
    for end in _ENDS:
        if line == end or line.startswith(f"{end} "):
            return end == "+OK", line[len(end) + 1:]
    return None


def unstuffed(line: str) -> str:
    """Return a line of an answer as it was meant."""
    return line.removeprefix(".")


def _stuffed(line: str) -> str:
    return f".{line}" if line.startswith((*_ENDS, ".")) else line


def _flat(lines: Iterable[str]) -> Iterable[str]:
    return (part for line in lines for part in line.split("\n"))
