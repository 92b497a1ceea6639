"""When a backend is asked and when it is left alone: tables of times, without shared memory."""

from collections.abc import Sequence

import pytest

from popular.pproxy.backends.health import HealthTerms, ServiceHealth
from popular.statefile.layout import ANSWERED, ASKED, IN_A_ROW, STATE, UNTIL, BackendState

TERMS = HealthTerms(slowtime=1.5, downtries=3, probetime=4.0)
START = 1000.0

Step = tuple[float, str, str]    # seconds since the start; what a session does; what comes of it


class Site:
    """Several sessions that share what they learn."""

    def __init__(self, terms: HealthTerms = TERMS) -> None:
        self.numbers = [0.0] * 5
        self.turns: list[tuple[str, str]] = []
        self.watches: dict[str, ServiceHealth] = {}
        self._terms = terms

    def do(self, seconds: float, deed: str) -> str:
        """Have a session ask (`A asks`), or tell it the outcome (`A hears`, `A fails`); returns what comes of it."""
        name, _, what = deed.partition(" ")
        now = START + seconds
        if what == "asks":
            watch = self.watches[name] = ServiceHealth(self.numbers, 0, self._terms, self._note)
            may_ask = watch.ask(now)
            return "probe" if watch.is_probe else "go" if may_ask else "no"
        watch = self.watches[name]
        if what == "hears":
            watch.answered(now)
        else:
            watch.failed(now, "out of reach")
        return watch.state

    def _note(self, state: BackendState, was: str, why: str) -> None:
        assert why
        self.turns.append((was, state.name.lower()))


@pytest.mark.parametrize("steps, turns", [
    pytest.param([
        (0.0, "A asks", "go"), (0.1, "A hears", "up"), (60.0, "B asks", "go"), (60.1, "B hears", "up"),
    ], [], id="all is well"),
    pytest.param([
        (0.0, "A asks", "go"), (1.5, "B asks", "go"), (1.6, "C asks", "probe"), (1.7, "D asks", "no"),
        (3.1, "C fails", "slow"), (3.2, "E asks", "no"), (4.2, "F asks", "probe"), (5.7, "F fails", "slow"),
        (6.6, "G asks", "no"), (6.8, "H asks", "probe"), (8.3, "H fails", "down"), (9.2, "I asks", "no"),
        (9.4, "J asks", "probe"), (10.9, "J fails", "down"), (12.8, "K asks", "no"), (13.0, "L asks", "probe"),
        (14.5, "L fails", "down"), (18.4, "M asks", "no"), (18.6, "N asks", "probe"), (20.1, "N fails", "down"),
        (24.0, "O asks", "no"), (24.2, "P asks", "probe"), (24.3, "P hears", "up"), (24.4, "Q asks", "go"),
    ], [("up", "slow"), ("slow", "down"), ("down", "up")], id="it freezes, and probes are 1, 2 and 4 seconds apart"),
    pytest.param([
        (0.0, "A asks", "go"), (2.0, "B asks", "probe"), (2.1, "C asks", "no"), (2.2, "A hears", "up"),
        (2.3, "D asks", "go"), (3.5, "B fails", "up"), (3.6, "D hears", "up"),
    ], [("up", "slow"), ("slow", "up")], id="an old session is answered"),
    pytest.param([
        (0.0, "A asks", "go"), (0.0, "A fails", "up"), (0.1, "B asks", "go"), (0.1, "B fails", "up"),
        (0.2, "C asks", "go"), (0.2, "C fails", "down"), (0.3, "D asks", "no"), (1.3, "E asks", "probe"),
        (1.3, "F asks", "no"), (1.3, "E fails", "down"), (3.2, "G asks", "no"), (3.4, "H asks", "probe"),
        (3.4, "H hears", "up"), (3.5, "I asks", "go"),
    ], [("up", "down"), ("down", "up")], id="it refuses connections"),
    pytest.param([
        (0.0, "A asks", "go"), (0.0, "A fails", "up"), (60.0, "B asks", "go"), (60.0, "B hears", "up"),
        (60.0, "C asks", "go"), (60.0, "C fails", "up"), (60.0, "D asks", "go"), (60.0, "D fails", "up"),
        (90.0, "E asks", "go"),
    ], [], id="an answer ends the row of failures, and nobody waits after a failure"),
    pytest.param([
        (0.0, "A asks", "go"), (2.0, "B asks", "probe"), (3.5, "C asks", "no"), (4.4, "D asks", "no"),
        (4.6, "E asks", "probe"),
    ], [("up", "slow")], id="a probe that dies is followed by another"),
    pytest.param([
        (0.0, "A asks", "go"), (1.0, "B asks", "go"), (1.4, "A hears", "up"), (2.0, "C asks", "go"),
        (2.9, "B hears", "up"), (3.4, "D asks", "go"), (3.6, "C hears", "up"), (4.9, "E asks", "go"),
    ], [], id="each answer takes longer than slowtime, but some come all the time"),
    pytest.param([
        (0.0, "A asks", "go"), (0.0, "B asks", "go"), (0.0, "C asks", "go"), (2.0, "D asks", "probe"),
        (30.0, "A fails", "slow"), (30.0, "B fails", "slow"), (30.0, "C fails", "slow"), (30.0, "E asks", "probe"),
    ], [("up", "slow")], id="timeouts of old sessions say nothing new and delay no probe"),
])
def test_what_sessions_do(steps: Sequence[Step], turns: Sequence[tuple[str, str]]) -> None:
    site = Site()
    assert [(seconds, deed, site.do(seconds, deed)) for seconds, deed, _ in steps] == list(steps)
    assert site.turns == turns


def test_without_downtries_it_is_always_asked() -> None:
    site = Site(HealthTerms(downtries=0))
    for number in range(10):
        assert site.do(number * 10.0, f"{number} asks") == "go"
        assert site.do(number * 10.0 + 5, f"{number} fails") == "up"
    assert site.turns == []


def test_mail_checks_that_are_answered_again_end_the_pause() -> None:
    site = Site()
    for deed in ("A asks", "A fails") * 3:
        site.do(0.0, deed)
    assert site.do(0.5, "B asks") == "no"
    site.watches["B"].hasten()
    assert site.do(0.6, "C asks") == "probe" and site.do(0.7, "D asks") == "no"


def test_nothing_is_hastened_while_it_is_up() -> None:
    site = Site()
    site.do(0.0, "A asks")
    before = [*site.numbers]
    site.watches["A"].hasten()
    assert site.numbers == before


BAD = (float("nan"), float("inf"), -float("inf"), -1.0, 1e308)


@pytest.mark.parametrize("index", [ASKED, ANSWERED, IN_A_ROW, UNTIL, STATE])
@pytest.mark.parametrize("number", BAD)
def test_whatever_another_child_has_written_does_no_lasting_harm(index: int, number: float) -> None:
    site = Site()
    site.numbers[index] = number
    for seconds in range(10):
        if site.do(seconds, "A asks") != "no":
            site.do(seconds, "A fails")
    seconds = next(seconds for seconds in range(11, 30) if site.do(seconds, "B asks") != "no")
    assert site.do(seconds, "B hears") == "up"
    assert site.do(seconds + 1, "C asks") == "go" and site.do(seconds + 1, "C hears") == "up"


def test_numbers_that_name_no_state_are_slow() -> None:
    site = Site()
    site.numbers[STATE] = 17.0
    assert site.do(0.0, "A asks") == "probe" and site.watches["A"].state == "slow"
