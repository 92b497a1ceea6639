"""What pmigrate tells: a line for each mailbox, followed by what differs or was left out, and a sum.

Part of pmigrate.  Raises OSError where the report cannot be written.
"""

from collections import Counter
from typing import TextIO

from popular.tools.pmigrate.job import MoveCommand, MoveJob, MoveResult, MoveVerdict
from popular.tools.printing import harmless
from popular.tools.screen import Screen


class Report:
    """The lines, on standard output and in a file."""

    def __init__(self, command: MoveCommand, screen: Screen, file: TextIO | None, *, is_brief: bool,
                 is_dry: bool) -> None:
        """`is_brief`: standard output gets only mailboxes of which there is something to tell."""
        self._command = command
        self._screen = screen
        self._file = file
        self._is_brief = is_brief
        self._is_dry = is_dry
        self._verdicts: Counter[MoveVerdict] = Counter()
        self._brought = 0
        self._octets = 0
        self._unnamed = 0

    @property
    def is_clean(self) -> bool:
        """Tell whether all mailboxes were done."""
        return set(self._verdicts) <= {MoveVerdict.DONE}

    def add(self, job: MoveJob, result: MoveResult) -> None:
        """Tell what has become of a mailbox."""
        self._verdicts[result.verdict] += 1
        self._brought += result.brought
        self._octets += result.octets
        self._unnamed += result.unnamed
        name = harmless(job.mailbox)
        lines = [f"{name}: {result.verdict.value}, {self._counts(result)}",
                 *(f"{name}: {harmless(remark)}" for remark in result.remarks)]
        if result.unnamed:
            lines.append(f"{name}: {_unnamed(result.unnamed)}")
        if self._file is not None:
            self._file.write("".join(f"{line}\n" for line in lines))
            self._file.flush()
        if result.verdict is not MoveVerdict.DONE or result.remarks or not self._is_brief:
            for line in lines:
                self._screen.line(line)
        self._screen.progress(self._verdicts.total(), name)

    def refuse(self, what: str) -> None:
        """Tell of a line of the list that names no mailbox."""
        self._verdicts[MoveVerdict.FAILED] += 1
        if self._file is not None:
            self._file.write(f"{what}\n")
        self._screen.line(what)

    def end(self) -> None:
        """Tell the sum."""
        parts = [f"{count} {verdict.value}" for verdict in MoveVerdict if (count := self._verdicts[verdict])]
        text = f"{_number(self._verdicts.total(), 'mailbox', 'mailboxes')}: {', '.join(parts) or 'nothing to do'}"
        if self._command is not MoveCommand.VERIFY:
            text += f"; {self._coming(self._brought, self._octets)}"
        lines = [_unnamed(self._unnamed), text] if self._unnamed and self._is_brief else [text]
        for line in lines:
            if self._file is not None:
                self._file.write(f"{line}\n")
            self._screen.line(line)

    def _counts(self, result: MoveResult) -> str:
        counts = [_number(result.found, "message", "messages")]
        if self._command is not MoveCommand.VERIFY:
            counts.append(self._coming(result.brought, result.octets))
        if result.removed:
            counts.append(f"{result.removed} removed")
        return ", ".join(counts)

    def _coming(self, number: int, octets: int) -> str:
        return f"{number} {'would be brought' if self._is_dry else 'brought'} ({octets} octets)"


def _unnamed(number: int) -> str:
    return f"{number} without a UIDL of the old server yet, so that the name is the UIDL"


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
