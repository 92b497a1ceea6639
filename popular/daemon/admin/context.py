"""The interface between control commands and the master: what a command gets, and what it returns.

A command is a function `(CommandContext, CommandArguments) -> Result` over the frozen Config; it changes nothing
itself.  It returns a new Config, and for anything else an effect, a function of the `Steered` master.  Lean: read by
the programs' `commands.py` and by the master.
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
from popular.unix.walls.walls import Walls


class Sessions(Protocol):
    """The running sessions."""

    @property
    def keys(self) -> Sequence[str]:
        """The names of the fields by which sessions can be selected."""

    def lines(self, wanted: Mapping[str, str]) -> Sequence[str]:
        """Return one line for each session with the `wanted` values."""

    def clients(self) -> Sequence[str]:
        """Return the addresses of the clients of all sessions."""

    def kill(self, sid: str) -> bool:
        """End the session `sid`; return False if there is none."""

    def kill_all(self, wanted: Mapping[str, str]) -> int:
        """End all sessions with the `wanted` values; return how many."""


class Steered(Protocol):
    """What an effect can ask of the master."""

    def shutdown_all(self) -> None:
        """End all children, then end."""

    def shutdown_children(self) -> None:
        """End all children and go on."""

    def shutdown_parent(self) -> None:
        """End now; children finish their sessions."""

    def shutdown_delayed(self) -> None:
        """Stop listening, wait for every child, then end."""

    @property
    def job(self) -> Any:
        """The work of the children, by its program."""

    def reopen(self) -> list[str]:
        """Reopen the log and reload certificates; return a line for each failure."""


@dataclass(frozen=True, slots=True)
class CommandContext:
    """What a command gets."""

    config: Config
    schema: Schema
    commands: "Commands"
    listening: Mapping[str, Sequence[Endpoint]]    # owner → where it listens now, with the real ports
    sessions: Sessions
    base: Config                                   # from the INI file and the command line, as last read
    tls: Mapping[str, Tls] = field(default_factory=dict)    # of owners of listeners
    walls: Walls = field(default_factory=Walls)    # of children
    job: Any = None                                # the work of the children, by its program


@dataclass(frozen=True, slots=True)
class Result:
    """What a command returns; nothing of it has been done yet."""

    text: str = ""                                      # behind +OK
    lines: tuple[str, ...] = ()                         # before it
    config: Config | None = None                        # to be put into force
    renews: bool = False                                # children are to be replaced even if the Config is the same
    effect: Callable[[Steered], list[str] | None] | None = None    # done before the answer; returns what failed
    later: Callable[["Deferring"], Later | ControlAnswer] | None = None  # the answer may come later


class Deferring(Protocol):
    """Actions that take longer than one turn of the master's loop."""

    def sync(self) -> Later:
        """Wait until new connections see the Config."""

    def reload(self) -> Later:
        """Read the INI file again; raises UsageError if it is being read already."""

    def upgrade(self) -> Later:
        """Start a new master; raises UsageError when there is one."""

    def inquire(self, ask: Callable[[Any], ControlAnswer]) -> Later:
        """Call `ask` with the children's job in a separate process, for its answer; raises UsageError, OSError.

        This is for questions that may take time, such as those to databases; one at a time.
        """


Handler = Callable[[CommandContext, CommandArguments], Result]
Commands = CommandSet[Handler]
