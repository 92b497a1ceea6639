"""Answers to commands, and their form on the wire.

An answer is zero or more lines, then `+OK [text]` or `-ERR text`.  A line that begins with `+OK`,
`-ERR` or a dot is sent with another dot before it.  Lines end in LF; text is UTF-8.  Used in the master and in the
tools.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

WARNING = "warning: "    # begins a line of an answer that is +OK, although not everything was done

_ENDS = ("+OK", "-ERR")


@dataclass(frozen=True, slots=True)
class ControlAnswer:
    """The answer to one command."""

    ok: bool
    text: str = ""
    lines: tuple[str, ...] = ()

    @classmethod
    def refusal(cls, why: str) -> "ControlAnswer":
        """Return the -ERR for a text of one or more lines; the last line is the summary."""
        lines = why.splitlines() or ["refused"]
        return cls(False, lines[-1], tuple(lines[:-1]))

    def render(self) -> bytes:
        """Return the octets of the answer."""
        lines = [_stuffed(line) for line in _flat(self.lines)]
        end = " ".join(filter(None, ("+OK" if self.ok else "-ERR", " ".join(self.text.split("\n")))))
        return "".join(f"{line}\n" for line in [*lines, end]).encode("utf-8", "backslashreplace")


class Later(Protocol):
    """An answer that is not ready yet."""

    @property
    def deadline(self) -> float:
        """When to give up, in seconds of time.monotonic()."""

    def look(self) -> ControlAnswer | None:
        """Return the answer if it is ready, else None."""

    def give_up(self) -> ControlAnswer:
        """Return the answer for a deadline that has passed."""

    def abandon(self) -> bool:
        """Stop, because the client has left; return whether this has ended some work in progress."""


def parse_end(line: str) -> tuple[bool, str] | None:
    """Return whether the last line of an answer is +OK, and its text; None for any other line."""
    for end in _ENDS:
        if line == end or line.startswith(f"{end} "):
            return end == "+OK", line[len(end) + 1:]
    return None


def unstuffed(line: str) -> str:
    """Return a line of an answer without the dot that was added."""
    return line.removeprefix(".")


def _stuffed(line: str) -> str:
    return f".{line}" if line.startswith((*_ENDS, ".")) else line


def _flat(lines: Iterable[str]) -> Iterable[str]:
    return (part for line in lines for part in line.split("\n"))
