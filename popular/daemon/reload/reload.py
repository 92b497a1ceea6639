"""Reading the INI file again while the daemon runs.

Reading is heavy and may wait for the DNS, so a short-lived process does it: the starter, with the command
line of the start and --dump-config.  It prints the Config, or all mistakes, into a pipe that the master
watches.  The result is merged with the values that commands have set (merge.py).

Master only.  `Reload` raises OSError if no process can be started.
"""

import json
import time
from collections.abc import Callable

from popular.config.setting import Schema
from popular.config.store import Config, load
from popular.control.answer import ControlAnswer
from popular.daemon.admin.output import ProcessOutput
from popular.daemon.upgrade.rerun import Origin, run_starter
from popular.errors import PopularError
from popular.proc.watch import Watch

READ_SECONDS = 30.0
_MAX_OUTPUT = 64 << 20    # octets from the reading process

RESULT = "config "       # begins the line that holds what was read

_Take = Callable[[Config, frozenset[str]], ControlAnswer]


class Reload:
    """The late answer to `reload`: a process reads the file, then the result is put into force."""

    def __init__(self, origin: Origin, schema: Schema, watch: Watch, take: _Take,
                 when_over: Callable[[], None]) -> None:
        """Start the process; `take` puts its result into force, `when_over` is called at the end.  Raises OSError."""
        self.deadline = time.monotonic() + READ_SECONDS
        self._schema = schema
        self._take = take
        self._when_over = when_over
        self._output = ProcessOutput(watch, _MAX_OUTPUT, lambda pipe: run_starter(
            origin, [*origin.argv, "--dump-config"], {1: pipe, 2: pipe}))

    @property
    def is_over(self) -> bool:
        """Tell whether the file may be read again."""
        return not self._output.is_open

    def look(self) -> ControlAnswer | None:
        """Return the answer once everything has been read and put into force."""
        if not self._output.is_ended:
            return None
        self._output.close()
        answer = self._conclude(self._output.text)
        self._when_over()
        return answer

    def give_up(self) -> ControlAnswer:
        """End the process; nothing is changed."""
        self.abandon()
        return ControlAnswer.refusal(f"the file could not be read within {READ_SECONDS:g} s; nothing was changed")

    def abandon(self) -> bool:
        """End the process, as nobody waits for its answer any more."""
        if self.is_over:
            return False
        self._output.kill()
        self._when_over()
        return True

    def _conclude(self, output: str) -> ControlAnswer:
        lines = output.splitlines()
        if not lines or not lines[-1].startswith(RESULT):
            mistakes = [line.partition(": ")[2] or line for line in lines if not line.startswith(RESULT)]
            return ControlAnswer(False, "nothing was changed", tuple(mistakes) or ("the reading process said nothing",))
        try:
            raw = json.loads(lines[-1].removeprefix(RESULT))
            config, given = load(raw["config"], self._schema), frozenset(raw["given"])
        except (PopularError, ValueError, KeyError, TypeError) as why:
            return ControlAnswer(False, "nothing was changed", (f"the reading process said something else: {why}",))
        return self._take(config, given)
