"""What a control command sees and what it brings: the seam between the commands and the master.

A command is a function `(CommandContext, CommandArguments) -> Result` over the frozen Config; it changes nothing
itself.  What it wants done beyond a new Config is an effect, a function of the `Steered` master.  Lean: read by the
programs' `commands.py` and by the master.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from popular.addresses import Endpoint
from popular.config.setting import Schema
from popular.config.store import Config
from popular.control.answer import ControlAnswer, Later
from popular.control.grammar import CommandArguments, CommandSet
from popular.daemon.tls import Tls


class Sessions(Protocol):
    """What is known of the sessions that run."""

    @property
    def keys(self) -> Sequence[str]:
        """The names of what is known of each, by which they can be chosen."""

    def lines(self, wanted: Mapping[str, str]) -> Sequence[str]:
        """Return one line for each session that has what is `wanted`."""

    def kill(self, sid: str) -> bool:
        """End the session `sid`; False when there is none."""

    def kill_all(self, wanted: Mapping[str, str]) -> int:
        """End all sessions that have what is `wanted`; returns how many."""


class Steered(Protocol):
    """What an effect can ask of the master."""

    def shutdown_all(self) -> None:
        """End all children, then end."""

    def shutdown_children(self) -> None:
        """End all children and go on."""

    def shutdown_parent(self) -> None:
        """End now, children finish."""

    def shutdown_delayed(self) -> None:
        """Stop listening, wait for every child, then end."""

    def reopen(self) -> list[str]:
        """Reopen the log, read certificates anew; returns what could not be done, a line each."""


@dataclass(frozen=True, slots=True)
class CommandContext:
    """What a command sees."""

    config: Config
    schema: Schema
    commands: "Commands"
    listening: Mapping[str, Sequence[Endpoint]]    # owner → where it listens now, ports of the kernel's choice told
    sessions: Sessions
    base: Config                                   # what the INI file and the command line said when they were read
    tls: Mapping[str, Tls] = field(default_factory=dict)    # of owners of listeners


@dataclass(frozen=True, slots=True)
class Result:
    """What a command brings; nothing of it is done yet."""

    text: str = ""                                      # behind +OK
    lines: tuple[str, ...] = ()                         # before it
    config: Config | None = None                        # to be put into force
    renews: bool = False                                # children are to be replaced also when the Config is the same
    effect: Callable[[Steered], list[str] | None] | None = None    # done before the answer; returns what failed
    later: Callable[["Deferring"], Later] | None = None  # the answer comes later


class Deferring(Protocol):
    """What takes longer than one turn of the master's loop."""

    def sync(self) -> Later:
        """Wait until new connections see the Config."""

    def reload(self) -> Later:
        """Read the INI file again; raises UsageError when that is going on already."""

    def upgrade(self) -> Later:
        """Start a new master; raises UsageError when there is one."""

    def inquire(self, ask: Callable[[Any], ControlAnswer]) -> Later:
        """Have a process of its own answer, which `ask` gets the job of the children for; raises UsageError, OSError.

        For what may wait, such as databases; one at a time.
        """


Handler = Callable[[CommandContext, CommandArguments], Result]
Commands = CommandSet[Handler]
