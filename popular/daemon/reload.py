"""Reading the INI file again while the daemon runs.

Reading is heavy and may wait for the DNS, so a short-lived process does it: the starter's own reading
half, run with the words of the start.  It prints the Config, or all mistakes, into a pipe that the master
watches.  What it brings is merged with what commands have set:

* a variable that the file or the command line gives is as they say; one that they gave before and give
  no more goes back to its default; one that only commands set stays;
* objects that came from the file are replaced or removed as the file says; objects that commands added
  or changed stay as they are;
* what is fixed once the program runs stays until the next start.

Master only.  `Reload` raises OSError when no process can be started.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from popular.config.setting import Schema
from popular.config.store import FILE, Config, Item, Values, load
from popular.control.answer import Answer
from popular.daemon.rerun import Origin, run_starter
from popular.errors import PopularError
from popular.proc.watch import Watch

READ_SECONDS = 30.0
MAX_OUTPUT = 64 << 20    # octets from the reading process

RESULT = "config "       # begins the line that holds what was read

_BLOCK = 65536
Take = Callable[[Config, frozenset[str]], Answer]


class Reload:
    """The late answer to `reload`: a process that reads, and then what is made of it."""

    def __init__(self, origin: Origin, schema: Schema, watch: Watch, take: Take, when_over: Callable[[], None]) -> None:
        """Start the process; `take` puts into force what it read, `when_over` is called in the end.  Raises OSError."""
        self.deadline = time.monotonic() + READ_SECONDS
        self._schema = schema
        self._watch = watch
        self._take = take
        self._when_over = when_over
        self._output = bytearray()
        self._is_ended = False
        self._fd, write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._fd, False)    # this end only: the process waits until its output is taken
        try:
            self._pid = run_starter(origin, [*origin.argv, "--dump-config"], {1: write_end, 2: write_end})
        except OSError:
            os.close(self._fd)
            raise
        finally:
            os.close(write_end)
        watch.register(self._fd, self._read)

    @property
    def is_over(self) -> bool:
        """Tell whether the file may be read again."""
        return self._fd < 0

    def look(self) -> Answer | None:
        """Return the answer when everything has been read; puts it into force then."""
        if not self._is_ended:
            return None
        self._close()
        answer = self._conclude(self._output.decode("utf-8", "replace"))
        self._when_over()
        return answer

    def give_up(self) -> Answer:
        """End the process; nothing is changed."""
        self.abandon()
        return Answer.refusal(f"the file could not be read within {READ_SECONDS:g} s; nothing was changed")

    def abandon(self) -> None:
        """End the process, whose answer nobody wants any more."""
        if not self.is_over:
            self._close()
            try:
                os.kill(self._pid, signal.SIGKILL)    # not reaped yet: it holds the pipe open
            except ProcessLookupError:
                pass
            self._when_over()

    def _read(self) -> None:
        try:
            block = os.read(self._fd, _BLOCK)
        except BlockingIOError:
            return
        self._output += block
        if not block or len(self._output) > MAX_OUTPUT:
            self._is_ended = True

    def _close(self) -> None:
        self._watch.unregister(self._fd)
        os.close(self._fd)
        self._fd = -1

    def _conclude(self, output: str) -> Answer:
        lines = output.splitlines()
        if not lines or not lines[-1].startswith(RESULT):
            mistakes = [line.partition(": ")[2] or line for line in lines if not line.startswith(RESULT)]
            return Answer(False, "nothing was changed", tuple(mistakes) or ("the reading process said nothing",))
        try:
            raw = json.loads(lines[-1].removeprefix(RESULT))
            config, given = load(raw["config"], self._schema), frozenset(raw["given"])
        except (PopularError, ValueError, KeyError, TypeError) as why:
            return Answer(False, "nothing was changed", (f"the reading process said something else: {why}",))
        return self._take(config, given)


@dataclass(frozen=True, slots=True)
class Merged:
    """What a reload leads to."""

    config: Config
    changes: tuple[str, ...]    # what is different now, a line each
    notes: tuple[str, ...]      # what the file says in vain


def merge(present: Config, base: Config, fresh: Config, given: frozenset[str], schema: Schema) -> Merged:
    """Return `present` with what the file says now; `base` is what it said before, `given` names its variables."""
    values: dict[str, object] = dict(present.variables)
    changes: list[str] = []
    notes: list[str] = []
    for row in schema.settings:
        name = row.name
        said = name in given or fresh.variables[name] != base.variables[name]
        if not said or fresh.variables[name] == values[name]:
            continue
        if row.readonly:
            notes += [f"{name}: stays as it is until the next start"] if name in given else []
            continue
        values[name] = fresh.variables[name]
        changes.append(f"variable {name}")
    objects: dict[str, tuple[Item, ...]] = {}
    for cls in schema.classes:
        objects[cls.name] = items = _merge_items(present.items(cls.name), fresh.items(cls.name))
        changes += _differences(cls.name, present.items(cls.name), items)
        notes += [f"{cls.name} {item.ident}: stays as commands set it" for item in items
                  if item.origin != FILE and _differs(fresh.item(cls.name, item.ident), item)]
    return Merged(replace(present, variables=Values(values), objects=objects), tuple(changes), tuple(notes))


def _merge_items(present: Sequence[Item], fresh: Sequence[Item]) -> tuple[Item, ...]:
    """Return the objects of one class: those of the file in its order, then those that only commands know."""
    commanded = {item.ident: item for item in present if item.origin != FILE}
    from_file = [commanded.pop(item.ident, item) for item in fresh]
    return (*from_file, *commanded.values())


def _differences(cls: str, before: Sequence[Item], after: Sequence[Item]) -> list[str]:
    """Return a line for each object that came, went or changed, and one when only the order did."""
    old: Mapping[str, Item] = {item.ident: item for item in before}
    new: Mapping[str, Item] = {item.ident: item for item in after}
    lines = [f"{cls} {ident}: removed" for ident in old if ident not in new]
    for ident, item in new.items():
        if ident not in old:
            lines.append(f"{cls} {ident}: added")
        elif keys := [key for key in item.values if item.values[key] != old[ident].values[key]]:
            lines.append(f"{cls} {ident}: {', '.join(keys)}")
    if not lines and list(old) != list(new):
        lines.append(f"{cls}: another order")
    return lines


def _differs(fresh: Item | None, item: Item) -> bool:
    return fresh is not None and fresh.values != item.values
