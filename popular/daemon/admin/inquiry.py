"""Questions that may take time, such as those to databases: a separate process answers, forked from the master.

Master only, except what that process does.  `Inquiry` raises OSError if no process can be started.
"""

import json
import time
from collections.abc import Callable
from dataclasses import replace

from popular.control.answer import WARNING, ControlAnswer, Later
from popular.daemon.admin.output import ProcessOutput
from popular.daemon.master.loop import Master
from popular.daemon.spec import Job
from popular.proc.child import Inheritance
from popular.proc.helper import fork_helper

_ASK_SECONDS = 30.0
_MAX_OUTPUT = 1 << 20    # octets

_Ask = Callable[[Job], ControlAnswer]


class Inquiry:
    """The late answer to a command that has `ask` called in a separate process."""

    def __init__(self, master: Master, inheritance: Inheritance, ask: _Ask) -> None:
        """Start the process; `ask` gets the master's job.  Raises OSError."""
        self.deadline = time.monotonic() + _ASK_SECONDS
        self._output = ProcessOutput(master.watch, _MAX_OUTPUT, lambda pipe: _fork(master, inheritance, ask, pipe))

    @property
    def is_over(self) -> bool:
        """Tell whether the process has ended."""
        return not self._output.is_open

    def look(self) -> ControlAnswer | None:
        """Return the answer when it is there."""
        if not self._output.is_ended:
            return None
        self._output.close()
        try:
            raw = json.loads(self._output.text)
            return ControlAnswer(raw["ok"] is True, str(raw["text"]), tuple(map(str, raw["lines"])))
        except (ValueError, KeyError, TypeError):
            return ControlAnswer.refusal("the process that was to find out ended without an answer; see the log")

    def give_up(self) -> ControlAnswer:
        """End the process."""
        self._output.kill()
        return ControlAnswer.refusal(f"there was no answer within {_ASK_SECONDS:g} s")

    def abandon(self) -> bool:
        """End the process, as nobody waits for its answer any more."""
        if self.is_over:
            return False
        self._output.kill()
        return True


class DoneAlready:
    """The late answer to a command that is done, with warnings of what `inquiry` finds out or cannot find out."""

    def __init__(self, inquiry: Later, done: ControlAnswer) -> None:
        """Wait for the answer of `inquiry`, whose lines are warnings."""
        self.deadline = inquiry.deadline
        self._inquiry = inquiry
        self._done = done

    def look(self) -> ControlAnswer | None:
        """Return the answer when it is there."""
        answer = self._inquiry.look()
        return None if answer is None else self._warned(answer)

    def give_up(self) -> ControlAnswer:
        """End the process."""
        return self._warned(self._inquiry.give_up())

    def abandon(self) -> bool:
        """End the process; return False, since nothing of the command is left undone."""
        self._inquiry.abandon()
        return False

    def _warned(self, answer: ControlAnswer) -> ControlAnswer:
        warnings = answer.lines if answer.ok else (f"not checked: {answer.text}",)
        return replace(self._done, lines=(*self._done.lines, *(f"{WARNING}{each}" for each in warnings)))


def _fork(master: Master, inheritance: Inheritance, ask: _Ask, pipe: int) -> int:
    """Return the pid of a new process that writes what `ask` answers into `pipe`; raises OSError."""
    def work(helper: object) -> None:
        answer = ask(master.job)
        text = json.dumps({"ok": answer.ok, "text": answer.text, "lines": answer.lines})
        with open(pipe, "w", encoding="ascii") as file:
            file.write(text)

    return fork_helper("asking", inheritance, (listener.sock for listener in master.listeners), work)
