"""Paired runs: what is chosen, the order of sessions, and the table; other Pythons for contenders."""

import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count

import pytest

from popular.addresses import Endpoint
from tests.bench.__main__ import load
from tests.bench.contenders import contender
from tests.bench.interpreters import python_for, version_of
from tests.bench.options import PAIR, read_options
from tests.bench.pairs import Pair, Pairs, measure, report_pairs
from tests.bench.popular_chain import Shape
from tests.bench.scripts import GREETING, QUIT, Step
from tests.harness.daemon import ROOT
from tests.unit.test_bench_load import Server

VERSION = "%d.%d" % sys.version_info[:2]
SCRIPT = (GREETING, Step(b"RETR 1\r\n", b"+OK", True, 20), QUIT)
ANSWERS = {b"RETR": [b"+OK\r\nfirst line\r\n", b"..\r\n.", b"\r\n"], b"QUIT": [b"+OK\r\n"]}


@dataclass
class FakeWard:
    """A contender that uses one CPU second more each time that it is asked."""

    name: str
    endpoint: Endpoint
    pace: float

    def __post_init__(self) -> None:
        self._clock = count()

    def settled_cpu(self) -> float:
        """Return what was used so far."""
        return next(self._clock) * self.pace


def test_choices_of_a_pair():
    assert read_options(["--pair", str(ROOT)])[0].pair == Shape()
    chosen = read_options(["--pair-setting", "a = 1", "--pair-setting", "b = 2", "--contenders", "popular-classic*",
                           "--python", sys.executable, "--rounds", "3"])[0]
    assert chosen.pair == Shape(settings="a = 1\nb = 2") and chosen.rounds == 3
    assert chosen.workloads == PAIR.workloads
    assert chosen.contenders == (f"popular-classic@{VERSION}", f"popular-classic-passwd@{VERSION}")


def test_another_python_is_measured_beside_this_one():
    chosen = read_options(["--python", sys.executable, "--contenders", "popular-classic*"])[0]
    assert chosen.contenders == ("popular-classic", "popular-classic-passwd", f"popular-classic@{VERSION}",
                                 f"popular-classic-passwd@{VERSION}")
    assert chosen.pythons == {VERSION: sys.executable}
    assert set(read_options([])[0].contenders) < set(read_options(["--python", sys.executable])[0].contenders)
    assert f"floor-python-pooled@{VERSION}" in read_options(["--python", sys.executable])[0].contenders
    assert contender(f"popular-classic@{VERSION}").about.endswith(f"Python {VERSION}")
    assert python_for("popular-classic", {}) == sys.executable and version_of(sys.executable) == VERSION


@pytest.mark.parametrize("words", [
    ["--pair", "/nowhere"], ["--pair", str(ROOT), "--quick"], ["--pair", str(ROOT), "--contenders", "nginx"],
    ["--pair", str(ROOT), "--workloads", "idle"], ["--pair", str(ROOT), "--growth"], ["--python", "/bin/false"],
    ["--growth", "--python", sys.executable]])
def test_wrong_choices_are_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        read_options(words)
    assert ended.value.code == 2


def test_both_play_the_same_number_of_sessions_in_turns():
    rounds: list[Pair] = []
    options = read_options(["--pair", str(ROOT), "--rounds", "2", "--seconds", "0.001"])[0]
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(ANSWERS)) for _ in range(2)]
        wards = [FakeWard("popular-pooled", server.endpoint, pace)
                 for server, pace in zip(servers, (1.0, 3.0), strict=True)]
        measure("mail", wards, [SCRIPT], options, rounds.append)
    assert [pair.ratio for pair in rounds] == [pytest.approx(3.0)] * 2
    assert all(pair.sessions % 2 == 0 and pair.first == 1000 / pair.sessions for pair in rounds)
    assert servers[0].served == servers[1].served == sum(pair.sessions for pair in rounds) + 2    # and the warm-up


def test_table_of_a_paired_run():
    run = Pairs(machine={"date": "2004-08-21"}, options={"pair": {"tree": "/tree", "settings": "relay = shared"}},
                pairs=[Pair("empty", "popular-classic", 10, 2.0, cost) for cost in (1.0, 1.5, 2.5)],
                skipped={"popular-pooled": "did not start"})
    text = report_pairs(run)
    assert "/tree, relay = shared" in text and "Without popular-pooled: did not start" in text
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "classic" in line]
    assert cells == [["popular-classic", "empty", "30", "2.00", "1.50", "0.750", "0.500-1.250", "0.500-1.250",
                      "2 of 3"]]
    assert load(run.dump()) == run and json.loads(run.dump())["pairs"]
    assert not run.is_empty and run.has_failures and Pairs().is_empty
