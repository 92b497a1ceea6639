"""Command tables: what a POP3 state understands, one row for each command word.

Used in the children of pproxy and pserv.  A handler ends in one of three ways: it returns, raises
`CommandRefused` (the dispatcher writes the `-ERR`) or raises `Leave` (the state is over).  `Gone` comes
from the wire.  The number of arguments, raw arguments, secrets and existence are columns of the
table and are checked here, not by the handlers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from popular.errors import CommandRefused

_Handler = TypeVar("_Handler", bound=Callable[..., None])

_ROW = "pop3_row"      # attribute that marks a method as a handler


@dataclass(frozen=True, slots=True)
class CommandRow:
    """One command word of a state."""

    name: str                                # upper case
    low: int                                 # fewest and
    high: int                                # most arguments
    usage: str                               # for a refusal, after the name: "needs one message number"
    raw: bool                                # the argument is everything after the first space, with all blanks
    secret: bool                             # the arguments never go into a log
    maxline: int                             # octets of the line, if this is more than other commands may have
    when: Callable[[Any], bool] | None       # whether this state, as it stands, has the command at all
    handler: Callable[..., None]

    def split(self, text: bytes | None) -> list[bytes]:
        """Return the arguments in `text`, which is what follows the first space; None if there is no space.

        Raises CommandRefused if there are too few or too many.  Blanks around the arguments of a command
        that is not raw are ignored.  An empty raw argument counts as missing.
        """
        if self.raw:
            arguments = [text] if text else []
        else:
            arguments = (text or b"").split()
        if not self.low <= len(arguments) <= self.high:
            raise CommandRefused(f"{self.name} {self.usage}")
        return arguments

    def shown(self, arguments: list[bytes]) -> str:
        """Return the command as a trace may show it, with `***` in place of a secret."""
        words = [b"***"] if self.secret else arguments
        return " ".join([self.name, *(word.decode("utf-8", "backslashreplace") for word in words)])


def command(name: str, args: tuple[int, int] = (0, 0), *, usage: str = "takes no argument", raw: bool = False,
            secret: bool = False, maxline: int = 0,
            when: Callable[[Any], bool] | None = None) -> Callable[[_Handler], _Handler]:
    """Mark a method of a State as the handler of the command `name`.

    `args` are the fewest and the most arguments; the handler gets each as bytes.  `usage` is the
    text of a refusal for a wrong number of them.  With `raw` there is one argument: everything
    after the one space that separates it (RFC 1939 section 7, PASS).  `when` is called with the
    state each time; if it returns False, the command is unknown.
    """
    def mark(handler: _Handler) -> _Handler:
        setattr(handler, _ROW, CommandRow(name, *args, usage, raw, secret, maxline, when, handler))
        return handler
    return mark


class State:
    """A POP3 state: the table of its commands; subclasses add the handlers and what they need.

    `COMMANDS` is collected from the marked methods of the class and its ancestors, in that order.
    """

    COMMANDS: ClassVar[Mapping[str, CommandRow]] = MappingProxyType({})

    def __init_subclass__(cls) -> None:
        rows = {row.name: row for owner in reversed(cls.__mro__) for member in vars(owner).values()
                if isinstance(row := getattr(member, _ROW, None), CommandRow)}
        cls.COMMANDS = rows

    def find(self, word: bytes) -> CommandRow | None:
        """Return the row of the command `word`, in upper or lower case; None if it does not exist now."""
        row = self.COMMANDS.get(word.decode("ascii", "replace").upper())
        return row if row is not None and (row.when is None or row.when(self)) else None
