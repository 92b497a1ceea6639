"""Growth runs: what is chosen, who is in the databases, what becomes of who breaks, the tables and plots."""

import os
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest

from popular.pdm.api import Outcome, Request
from popular.pdm.asking.loader import load_module
from tests.bench.__main__ import load, publish
from tests.bench.databases import MODULES
from tests.bench.foreground import CannotStart
from tests.bench.growth import Entrant, Stage, entrants
from tests.bench.growth_report import growth_plots, growth_report
from tests.bench.growth_results import Cell, Grid, Growth, Point
from tests.bench.kinds import KINDS, Ground
from tests.bench.options import GROWTH, QUICK_GROWTH, SMOKE_GROWTH, read_options
from tests.bench.population import PASSWORD, Population, Store, mailbox_of, name_of
from tests.bench.results import Run, Spread, Turn
from tests.bench.ward import Ward
from tests.harness.daemon import ROOT

CLASSIC, POOLED = "popular-classic", "popular-pooled"
PEOPLE = Population(users=12, empty=4, mail=2, bulk=0, big=0)


def point(series: str, step: int, number: int, cost: float | None, **more: Any) -> Point:
    """Return one measurement of growing mailboxes."""
    return Point("messages", "box", step, series, number, {"cost": cost}, **more)


@pytest.fixture
def growth():
    """Two contenders in two rounds; one of them cannot take the last step."""
    points = [point(series, step, number, cost * (1 + step) * (1 + number)) for step in (0, 9) for number in (0, 1)
              for series, cost in ((CLASSIC, 2.0), (POOLED, 1.0))]
    points += [point(CLASSIC, 99, 0, 400.0), point(POOLED, 99, 0, None, failed=3, failures={"closed (STAT)": 3})]
    points += [Point("messages", "box", 9, CLASSIC, 0, {"rate": 10.0}),
               Point("messages", "box", 9, POOLED, 0, {"rate": None}, is_bottleneck=True)]
    return Growth(machine={"date": "2004-08-21", "cores": 2}, options={"rounds": 2, "seconds": 1.5, "processes": 2},
                  about={CLASSIC: "ours"}, skipped={"haproxy": "is not installed"}, notes=["somebody breaks"],
                  points=points)


def rows_of(text: str, title: str) -> dict[str, list[str]]:
    """Return the cells of the table below a title, by their first one."""
    lines = text.split(f"### {title}\n\n")[1].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_choices_of_growth():
    assert read_options(["--growth"])[0] == GROWTH
    assert read_options(["--growth", "--quick"])[0] == QUICK_GROWTH
    assert read_options(["--smoke", "--growth"])[0] == SMOKE_GROWTH
    chosen = read_options(["--growth", "users,v*", "--rounds", "5", "--contenders", "popular-c*,nginx"])[0]
    assert chosen.growth == {"users": GROWTH.growth["users"], "vservs": GROWTH.growth["vservs"]}
    assert (chosen.rounds, chosen.contenders) == (5, (CLASSIC, f"{CLASSIC}-passwd", "nginx"))
    steps = read_options(["--growth", "concurrency,users", "--concurrency", "2,3"])[0]
    assert steps.growth["concurrency"] == (2, 3)
    assert steps.concurrency == GROWTH.concurrency
    assert read_options([])[0].growth == {}


@pytest.mark.parametrize("words", [["--growth", "nonsense"], ["--growth", "--workloads", "mail"],
                                   ["--growth", "--users", "9"], ["--growth", "--concurrency", "1,0"]])
def test_wrong_choices_are_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        read_options(words)
    assert ended.value.code == 2


@pytest.mark.parametrize("preset", [GROWTH, QUICK_GROWTH, SMOKE_GROWTH], ids=["full", "quick", "smoke"])
def test_every_preset_grows_everything_upwards(preset):
    assert set(preset.growth) == set(KINDS)
    assert all(len(steps) > 1 and list(steps) == sorted(set(steps)) for steps in preset.growth.values())


def test_series_are_named_by_module_where_there_are_several():
    assert entrants(KINDS["vservs"], [POOLED, "nginx"], MODULES) == [Entrant(POOLED, POOLED, "sqlite")]
    assert entrants(KINDS["users"], [CLASSIC, POOLED], ["passwd", "cdb"]) == [
        Entrant(f"{name}, {module}", name, module) for module in ("passwd", "cdb") for name in (CLASSIC, POOLED)]


@pytest.mark.parametrize("kind, step", [(kind, step) for kind in KINDS for step in (1, 5)])
def test_people_stand_in_the_order_of_octets(kind, step):
    names = [person.name for person in KINDS[kind].people(PEOPLE, step)]
    assert names == sorted(set(names))
    assert len(names) == (step if kind == "users" else 13)


def test_growing_users_share_the_mailboxes():
    mailboxes = [person.mailbox for person in KINDS["users"].people(PEOPLE, 10)]
    assert set(mailboxes) == {mailbox_of(name) for name in PEOPLE.empty_users()}


@pytest.mark.parametrize("module", MODULES)
def test_databases_of_a_step_are_written(tmp_path, module):
    store = Store(tmp_path)
    KINDS["users"].prepare(Ground(store, replace(GROWTH, population=PEOPLE)), 100)
    pdm = load_module(str(ROOT / "pdm_modules"), "users", module, [str(store.users(module, "cxpop"))])
    outcomes = [pdm.check(Request(name_of(number), PASSWORD.encode(), ip="127.0.0.1", protocol="pop3",
                                  namespace="default")).outcome for number in (0, 99, 100)]
    pdm.close()
    assert outcomes == [Outcome.OK, Outcome.OK, Outcome.UNKNOWN]


def test_users_are_spread_over_all_backends():
    people = list(KINDS["backends"].people(PEOPLE, 5))
    assert {person.backend for person in people} == {"store", "store1", "store2", "store3", "store4"}
    assert {person.backend for person in KINDS["backends"].people(PEOPLE, 1)} == {"store"}


def test_who_breaks_is_noted_once_a_step_and_tried_again(tmp_path, monkeypatch):
    tried: list[str] = []

    def start(name, *arguments, **more):
        tried.append(name)
        raise CannotStart(f"{name}: no\n room")

    monkeypatch.setattr(Ward, "start", start)
    result = Growth()
    stage = Stage(KINDS["vservs"], Ground(Store(tmp_path), replace(GROWTH, population=PEOPLE)), tmp_path / "c",
                  (os.geteuid(), os.getegid()), result, lambda words: None)
    for step in (1, 1000):
        stage.take_step(step, entrants(KINDS["vservs"], [CLASSIC, POOLED], MODULES))
    assert tried == [CLASSIC, POOLED] * 2
    assert len(result.notes) == 4
    assert result.notes[3] == f"{POOLED} breaks at 1,000 virtual servers: {POOLED}: no; room"
    assert result.is_empty and result.has_failures


def test_figures_of_a_turn_become_a_point():
    turn = Turn("empty", CLASSIC, 16, 1, 100, cost=0.5, rate=7.0, failed=1, failures={"x": 1}, is_bottleneck=True)
    assert Cell("users", 1000, "series", 1).of_turn(turn, {"start": 0.25}) == Point(
        "users", "empty", 1000, "series", 1, {"cost": 0.5, "rate": 7.0, "start": 0.25}, 1, {"x": 1}, True)


def test_grid_puts_rounds_together(growth):
    grid = Grid.of(growth.of("messages", "box"), "cost")
    assert grid.steps == (0, 9, 99)
    assert grid.rows[CLASSIC] == {
        0: Spread(3.0, 2.0, 4.0), 9: Spread(30.0, 20.0, 40.0), 99: Spread(400.0, 400.0, 400.0)}
    assert 99 not in grid.rows[POOLED]
    assert grid.growth(CLASSIC) == pytest.approx(400 / 3)
    assert grid.growth(POOLED) is None
    assert grid.width(CLASSIC) == pytest.approx(2 / 3)


def test_one_round_is_not_apart_and_one_step_does_not_grow():
    grid = Grid.of([point(CLASSIC, 9, 0, 1.0)], "cost")
    assert (grid.width(CLASSIC), grid.growth(CLASSIC)) == (None, None)


def test_json_brings_everything_back(growth):
    assert load(growth.dump()) == growth
    run = Run(options={"rounds": 1})
    assert load(run.dump()) == run


def test_report_has_a_row_for_each_contender_and_a_column_for_each_step(growth):
    text = growth_report(growth)
    rows = rows_of(text, "CPU seconds per 1,000 sessions, whole process tree")
    assert rows["contender"] == ["0", "9", "99", "grows", "apart"]
    assert rows[CLASSIC] == ["3.00", "30.0", "400", "133 ×", "67%"]
    assert rows[POOLED] == ["1.50", "15.0", "–", "–", "67%"]
    assert f"* {POOLED} at 99, round 1: closed (STAT): 3" in text
    assert "Without haproxy: is not installed" in text
    assert "* somebody breaks" in text


def test_report_tells_of_rates_and_failed_sessions(growth):
    growth.points.append(point(POOLED, 99, 1, 7.0))
    text = growth_report(growth)
    assert rows_of(text, "CPU seconds per 1,000 sessions, whole process tree")[POOLED][2] == "7.00 *"
    assert rows_of(text, "sessions a second")[CLASSIC][0] == "10.0"
    assert rows_of(text, "sessions a second")[POOLED][0] == "(generator)"


def test_plots_show_what_has_more_than_one_step(growth):
    pictures = dict(growth_plots(growth))
    assert set(pictures) == {"growth-messages-box-cost.svg"}
    words = [element.text or "" for element in ElementTree.fromstring(pictures["growth-messages-box-cost.svg"]).iter()]
    assert {CLASSIC, POOLED, "0", "99"} <= set(words)


def test_what_was_shown_once_can_be_shown_again(growth, tmp_path, capsys):
    publish(growth, tmp_path / "first")
    publish(load((tmp_path / "first/growth.json").read_text()), tmp_path / "second")
    first, second = ({path.name: path.read_text() for path in (tmp_path / folder).iterdir()}
                     for folder in ("first", "second"))
    assert first == second
    assert set(first) == {"growth.json", "growth.md", "growth-messages-box-cost.svg"}
