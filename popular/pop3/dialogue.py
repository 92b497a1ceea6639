"""The dispatcher: reads command lines and runs their handlers, for every state of every daemon.

Used in the children of pproxy and pserv.  Raises `Gone` if the client has left, has sent a NUL, or
had too many commands refused; everything else that a client can do is answered.
"""

from collections.abc import Callable

from popular.errors import CommandRefused, Gone, Leave
from popular.net.wire import Wire
from popular.pop3.command import State


class Dialogue:
    """The conversation with one client in all its states; counts the client's errors."""

    def __init__(self, wire: Wire, *, maxerrors: int, trace: Callable[[str], None] | None = None,
                 maxline: int = 0) -> None:
        """Talk on `wire`; after `maxerrors` refusals for the client's own errors, the session ends.

        `trace` is called with each known command, without secrets, before its handler runs.  `maxline` are the octets
        of a line, where the wire may take more for the sake of some commands; 0: its own limit is for all.
        """
        self.wire = wire
        self.errors = 0
        self._maxline = maxline
        self._maxerrors = maxerrors
        self._trace = trace

    def run(self, state: State) -> object:
        """Serve one state until a handler raises Leave; return its result.

        Each line gets exactly one answer: that of the handler, or `-ERR` from here.  A line that
        is too long was consumed whole by the wire and is one refused command.  Raises Gone.
        """
        while True:
            try:
                self.obey(state, self.wire.readline())
            except CommandRefused as why:
                self.refuse(why)                     # the only place that writes -ERR for a command
            except Leave as leave:
                return leave.result

    def obey(self, state: State, line: bytes) -> None:
        """Run the handler of one command line, given without its line end; raises CommandRefused, Leave and Gone."""
        if b"\r" in line:
            raise CommandRefused("stray CR in command")      # would end the line for a less strict server behind us
        word, space, rest = line.partition(b" ")
        row = state.find(word)
        if self._maxline and len(line) > max(self._maxline, row.maxline if row is not None else 0):
            raise CommandRefused("line too long")
        if row is None:                              # never traced: it may be a password sent too early
            raise CommandRefused("unknown command" if line.strip() else "empty line")
        arguments = row.split(rest if space else None)
        if self._trace is not None:
            self._trace(row.shown(arguments))
        row.handler(state, *arguments)

    def refuse(self, why: CommandRefused) -> None:
        """Answer a refused command; after too many, give another last answer and raise Gone."""
        self.errors += why.is_own_fault
        if self.errors >= self._maxerrors:
            self.wire.reply(False, "too many errors")
            raise Gone("too many errors")
        self.wire.reply(False, why.text, why.code)
