"""Obeying control commands over a Config without a master: for the tests of single commands."""

from collections.abc import Mapping, Sequence

from popular.addresses import Endpoint
from popular.config.setting import Schema
from popular.config.store import Config, default_config, with_fact
from popular.control.grammar import split_words
from popular.daemon.admin.context import CommandContext, Commands, Result


class FakeSessions:
    """Two sessions."""

    def __init__(self) -> None:
        self.sids = ["a-1", "b-2"]

    keys = ("user",)

    def lines(self, wanted: Mapping[str, str]) -> list[str]:
        """Return their ids; the user of each is what stands before its dash."""
        return [sid for sid in self.sids if wanted.get("user", sid[0]) == sid[0]]

    def clients(self) -> list[str]:
        """Return their addresses."""
        return ["192.0.2.1"] * len(self.sids)

    def kill_all(self, wanted: Mapping[str, str]) -> int:
        """Strike some out."""
        return sum(self.kill(sid) for sid in self.lines(wanted))

    def kill(self, sid: str) -> bool:
        """Strike one out."""
        if sid not in self.sids:
            return False
        self.sids.remove(sid)
        return True


class FakeMaster:
    """A Config that commands work on, and notes of what they wanted done."""

    def __init__(self, schema: Schema, commands: Commands,
                 listening: Mapping[str, Sequence[Endpoint]] | None = None) -> None:
        """Begin with the defaults."""
        self.schema = schema
        self.commands = commands
        self.config: Config = with_fact(default_config(schema), "pid", 4711)
        self.base: Config = self.config    # what the file says
        self.sessions = FakeSessions()
        self.listening = listening or {}
        self.done: list[str] = []

    @property
    def context(self) -> CommandContext:
        """What a command sees now."""
        return CommandContext(self.config, self.schema, self.commands, self.listening, self.sessions, self.base)

    def run(self, line: str) -> Result:
        """Obey one line; raises UsageError and ConfigError."""
        command, given = self.commands.find(split_words(line))
        result = command.handler(self.context, given)
        if result.config is not None:
            self.config = result.config
        return result

    def public(self, line: str) -> str:
        """Return what the log shows of a line."""
        command, given = self.commands.find(split_words(line))
        assert command.mask is not None
        return command.mask(self.context, given)

    def feed(self, *lines: str) -> "FakeMaster":
        """Obey lines; returns itself."""
        for line in lines:
            self.run(line)
        return self

    def __getattr__(self, name: str) -> object:
        """Note whatever effect is wanted of the master."""
        if name.startswith("shutdown_") or name in ("reopen", "sync", "reload"):
            return lambda: self.done.append(name)
        raise AttributeError(name)
