"""The interactive side of pcontrol: a prompt with history and completion (spec 4).

Words that begin with a slash are for pcontrol itself.  The history is not saved to a file, because commands
may hold secrets.  Raises NoDaemon if no connection can be made any more.
"""

import sys
from collections.abc import Callable, Sequence

from popular.control.client import ControlClient, NoDaemon, Reply
from popular.control.grammar import MAX_COMMAND_LINE

try:
    import readline
except ImportError:    # a Python without it has no history and no completion
    readline = None    # type: ignore[assignment]

LOCAL_HELP = """\
/h [WORDS]  help on all commands, or on those that begin with WORDS, for example /h ses
/q          quit
Anything else is sent to the daemon. It answers with lines and then +OK, or with -ERR and the reason."""


class Console:
    """One interactive session."""

    def __init__(self, client: ControlClient, connect: Callable[[], ControlClient], *, quiet: bool) -> None:
        """Talk to `client`; `connect` makes a new connection if that has ended."""
        self._client = client
        self._connect = connect
        self._quiet = quiet
        self._words: list[list[str]] = []    # the words of each command
        self._variables: list[str] = []
        self._found: list[str] = []

    def run(self) -> int:
        """Prompt, send and show until the end; return the exit code."""
        self._learn()
        if not self._quiet:
            print("/h for help, /q to quit")
        while True:
            try:
                line = input("pcontrol> ").strip()
                if line in ("/q", "/quit"):
                    return 0
                self._obey(line)
            except EOFError:
                print()
                return 0
            except KeyboardInterrupt:    # as in a shell: start another line
                print()

    def _obey(self, line: str) -> None:
        if line.split()[:1] in (["/h"], ["/help"]):
            print(LOCAL_HELP)
            line = " ".join(["help", *line.split()[1:]])
        if line.startswith("/"):
            print(f"no such command of pcontrol: {line}; try /h", file=sys.stderr)
        elif line and not line.startswith("#"):
            self._send(line)

    def _send(self, line: str) -> None:
        if len(line.encode("utf-8", "surrogateescape")) > MAX_COMMAND_LINE:
            print(f"a line has at most {MAX_COMMAND_LINE} octets", file=sys.stderr)
            return
        try:
            reply = carry_out(self._client, line)
        except NoDaemon:
            self._client.close()
            self._client = self._connect()
            reply = carry_out(self._client, line)
        except KeyboardInterrupt:    # the answer would be taken for that of the next command
            self._client.close()
            self._client = self._connect()
            raise
        _show(reply)

    def _learn(self) -> None:
        """Ask for the words to complete."""
        self._words = [line.partition("  ")[0].split() for line in self._client.ask("help").lines]
        self._variables = [line.partition(" ")[0] for line in self._client.ask("show").lines]
        if readline is not None:
            readline.set_completer(self._complete)
            readline.set_completer_delims(" ")
            readline.parse_and_bind("tab: complete")

    def _complete(self, text: str, state: int) -> str | None:
        """Return candidate number `state` for the word under the cursor, or None, as readline expects."""
        if state == 0:
            before = readline.get_line_buffer()[:readline.get_begidx()].split()
            self._found = _candidates(before, text, self._words, self._variables)
        return f"{self._found[state]} " if state < len(self._found) else None


def carry_out(client: ControlClient, line: str) -> Reply:
    """Let the daemon run a command, or run here what it may not do; raises NoDaemon, ValueError."""
    if line.split() == ["config", "save"]:
        from popular.tools.pcontrol.save import save_config    # loads the INI reader, which few commands need

        return save_config(client)
    return client.ask(line)


def _candidates(before: Sequence[str], text: str, commands: Sequence[Sequence[str]],
                variables: Sequence[str]) -> list[str]:
    """Return the words that may follow `before` and begin with `text`."""
    found: dict[str, None] = {}
    for command in commands:
        if len(command) <= len(before) or not all(map(_fits, command, before)):
            continue
        part = command[len(before)]
        words = variables if "var" in part else [] if part[0] in "<[" else part.split("|")
        found.update(dict.fromkeys(word for word in words if word.startswith(text)))
    return list(found)


def _fits(part: str, word: str) -> bool:
    return part[0] in "<[" or word in part.split("|")


def _show(reply: Reply) -> None:
    for line in reply.lines:
        print(line)
    print(f"{'+OK' if reply.ok else '-ERR'} {reply.text}".rstrip())
