"""Whether a backend is asked, or left alone for a while because it does not answer (design 7.1).

Runs in the children of pproxy, which share what they learn: some numbers for each backend in the state file, written
without a lock.  Two children that write at once can at most cause a second probe, or a second line in the log.  What
other children wrote is not trusted: at worst a backend is left alone, or asked in vain.  Pure: time is an argument.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from popular.statefile.layout import ANSWERED, ASKED, IN_A_ROW, STATE, UNTIL, BackendState

_FIRST_PAUSE = 1.0    # seconds; the next ones are twice as long each
_MAX_DOUBLINGS = 20.0
_MANY = 1000.0        # failures; more are not told apart

Note = Callable[[BackendState, str, str], None]    # the new state, the old one, and why


class Numbers(Protocol):
    """Numbers that can be changed: shared memory, or a list."""

    def __getitem__(self, index: int, /) -> float:
        """Return one number."""

    def __setitem__(self, index: int, value: float, /) -> None:
        """Change one number."""


@dataclass(frozen=True, slots=True)
class HealthTerms:
    """When a service counts as slow or down; times in seconds."""

    slowtime: float = 1.5     # without an answer to anybody, although it was asked
    downtries: int = 0        # failures in a row; 0: it is always asked
    probetime: float = 4.0    # the longest pause between two probes


class ServiceHealth:
    """One service of a backend, its logins or its mail checks, as one session sees it.

    A session calls `ask` before it asks the service, and then `answered` or `failed` as soon as it knows.
    """

    __slots__ = ("is_probe", "_numbers", "_at", "_terms", "_note")

    def __init__(self, numbers: Numbers, at: int, terms: HealthTerms, note: Note) -> None:
        """Begin with the service whose numbers begin at index `at`; `note` logs each change of its state."""
        self.is_probe = False    # this session alone asks a service that is slow or down
        self._numbers = numbers
        self._at = at
        self._terms = terms
        self._note = note

    def ask(self, now: float) -> bool:
        """Tell whether this session may ask the service at `now`, a time of time.monotonic()."""
        numbers, at, terms = self._numbers, self._at, self._terms
        if not terms.downtries:
            return True
        if not numbers[at + STATE]:
            if not numbers[at + ASKED] > numbers[at + ANSWERED]:
                numbers[at + ASKED] = now
                return True
            seconds = now - numbers[at + ASKED]
            if not seconds > terms.slowtime:
                return True
            self._turn(BackendState.SLOW, f"no answer for {seconds:.1f} s")
        elif now < numbers[at + UNTIL] <= now + terms.slowtime + terms.probetime:
            return False
        self.is_probe = True
        numbers[at + UNTIL] = now + terms.slowtime + self._pause()    # when the next may ask if this one dies
        return True

    def answered(self, now: float) -> bool:
        """Note that the service has answered; tell whether this is news, because it was slow or down."""
        numbers, at = self._numbers, self._at
        numbers[at + ANSWERED] = now
        if numbers[at + IN_A_ROW]:
            numbers[at + IN_A_ROW] = 0.0
        if not numbers[at + STATE]:
            return False
        self._turn(BackendState.UP, "it has answered")
        return True

    def failed(self, now: float, why: str) -> None:
        """Note that the service has failed; of one that is slow or down, only probes tell anything new."""
        numbers, at, terms = self._numbers, self._at, self._terms
        if not terms.downtries or numbers[at + STATE] and not self.is_probe:
            return
        numbers[at + IN_A_ROW] = failures = self._failures + 1
        if failures >= terms.downtries and numbers[at + STATE] != BackendState.DOWN:
            self._turn(BackendState.DOWN, f"{failures:g} failures in a row: {why}")
        if numbers[at + STATE]:
            numbers[at + UNTIL] = now + self._pause()
        else:
            numbers[at + ASKED] = 0.0    # nobody waits any more, as far as is known

    def hasten(self) -> None:
        """Have the next session ask the service, if it is slow or down."""
        if self._numbers[self._at + STATE]:
            self._numbers[self._at + UNTIL] = 0.0

    @property
    def state(self) -> str:
        """The state of the service: up, slow or down."""
        number = self._numbers[self._at + STATE]
        return "up" if not number else "down" if number == BackendState.DOWN else "slow"

    @property
    def _failures(self) -> float:
        failures = self._numbers[self._at + IN_A_ROW]
        return failures if 0 <= failures < _MANY else _MANY

    def _pause(self) -> float:
        """Return the seconds until the next probe."""
        doublings = min(max(0.0, self._failures - self._terms.downtries), _MAX_DOUBLINGS)
        return min(_FIRST_PAUSE * math.pow(2.0, doublings), self._terms.probetime)

    def _turn(self, state: BackendState, why: str) -> None:
        """Change the state and log it."""
        was = self.state
        self._numbers[self._at + STATE] = state
        self._note(state, was, why)
