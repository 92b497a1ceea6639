"""What is wrong with a configuration: one mistake, all of them as an error, and what a starter finds before a start.

Used wherever settings are read, checked or tried.  Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from popular.errors import PopularError


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake in a configuration, in the administrator's terms.

    `where`: "/etc/popular/pproxy.conf: line 7: [vserv] main"; "[vserv] main: address"; may be empty.
    `what`: "unknown key 'adress'; did you mean 'address'?"
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


@dataclass(frozen=True, slots=True)
class Findings:
    """The problems that a starter found before it took anything (daemon.start.trial); each list grows as it looks."""

    mistakes: list[Mistake] = field(default_factory=list)    # the daemon does not start
    faults: list[Mistake] = field(default_factory=list)      # it starts, but cannot serve those who log in
    warnings: list[Mistake] = field(default_factory=list)    # it starts and obeys the settings, which look wrong
    remarks: list[Mistake] = field(default_factory=list)     # warnings that the master itself logs
    refused: list[Mistake] = field(default_factory=list)     # the system lacks something: a folder, a right, a port

    @property
    def lists(self) -> tuple[list[Mistake], ...]:
        """All lists, in this order."""
        return self.mistakes, self.faults, self.warnings, self.remarks, self.refused


class ConfigError(PopularError):
    """A configuration that cannot be used; carries every mistake, not only the first (EX_CONFIG, 78)."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = tuple(mistakes)
