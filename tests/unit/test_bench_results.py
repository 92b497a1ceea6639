"""The figures of a run, the table and the plots that are made of them."""

from typing import Any
from xml.etree import ElementTree

import pytest

from tests.bench.machine import threads_per_core
from tests.bench.plots import Logarithmic, curves, marks_around, plots, steps_to
from tests.bench.report import number, report, table
from tests.bench.results import Run, Spread, Turn
from tests.bench.workloads import WORKLOADS

CLASSIC, POOLED, NGINX = "popular-classic", "popular-pooled", "nginx"


def turn(contender: str, number: int, cost: float, concurrency: int = 16, **more: Any) -> Turn:
    """Return one measurement of `empty`."""
    figures: dict[str, Any] = {"rate": 50.0, "p50": 0.01, "p99": 0.02, **more}
    return Turn("empty", contender, concurrency, number, 100, cpu=cost / 10, cost=cost, **figures)


@pytest.fixture
def run():
    """Three rounds in which the machine gets slower for all."""
    return Run(machine={"date": "2004-08-21", "load_before": 0.1, "peers": {"nginx": "1.22"}},
               options={"rounds": 3, "seconds": 2.0, "users": 100_000, "processes": 2},
               about={CLASSIC: "ours", POOLED: "ours", NGINX: "theirs"}, skipped={"haproxy": "is not installed"},
               turns=[turn(name, number, cost * slow, concurrency) for concurrency in (1, 16)
                      for number, slow in enumerate((1, 2, 3)) for name, cost in ((CLASSIC, 0.5), (NGINX, 1.0))])


def test_spread_is_median_minimum_and_maximum():
    assert Spread.of([3.0, None, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)
    assert Spread.of([None]) is None


def test_ratio_is_taken_round_by_round(run):
    run.turns.append(turn(CLASSIC, 9, 100.0))       # a round in which the rival did not take part
    assert run.ratio("empty", 16, CLASSIC, NGINX) == 0.5
    assert run.ratio("empty", 16, POOLED, NGINX) is None


def test_json_brings_everything_back(run):
    assert Run.load(run.dump()) == run


def test_figures_of_one_workload_only_are_found_too():
    run = Run(turns=[Turn("big", NGINX, 1, 0, 3, more={"stat": 0.25})])
    assert run.figure("big", 1, NGINX, "stat") == Spread(0.25, 0.25, 0.25)
    assert run.figure("big", 1, NGINX, "nothing") is None


def test_report_tells_cost_ratio_and_who_is_missing(run):
    text = report(run)
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "nginx " in line]
    assert ["nginx", "2.00", "1.00", "3.00", "50.0"] in [cells[:5] for cells in lines]
    assert "0.500 ×" in text
    assert "Without haproxy: is not installed" in text


def test_report_tells_the_machine(run):
    run.machine |= {"cores": 4, "threads_per_core": 2, "usable_cores": 3, "congestion": "cubic"}
    text = report(run)
    assert "4 processors, 2 to a core, 3 of them for us, " in text
    assert ", TCP cubic; " in text


def test_report_of_a_run_that_noted_less(run):
    run.machine |= {"cores": 4}
    assert "4 processors, " in report(run)
    assert "TCP" not in report(run)


@pytest.mark.parametrize("cores, wanted", [(["0", "1"], 1), (["0-1", "0-1", "2"], 2), ([], None)])
def test_threads_to_a_core(tmp_path, cores, wanted):
    for place, text in enumerate(cores):
        folder = tmp_path / f"cpu{place}/topology"
        folder.mkdir(parents=True)
        (folder / "core_cpus_list").write_text(text + "\n")
    (tmp_path / "cpufreq").mkdir()
    assert threads_per_core(tmp_path) == wanted


@pytest.mark.parametrize("more, wanted", [
    ({"rate": None, "is_bottleneck": True}, "(generator)"),
    ({"rate": None}, "–"),
    ({"rate": 1234.0}, "1,234"),
])
def test_a_rate_of_the_load_generator_is_not_told(run, more, wanted):
    run.turns = [turn(NGINX, 0, 1.0, **more)]
    row = next(line for line in report(run).splitlines() if line.startswith("| nginx ") and "1.00" in line)
    assert [cell.strip() for cell in row.strip("|").split("|")][4] == wanted


def test_what_tls_adds_is_taken_round_by_round():
    costs = {"tls-off": {CLASSIC: 4.0, NGINX: 1.0}, "tls-full": {CLASSIC: 6.0, NGINX: 2.0},
             "tls-resumed": {NGINX: 1.5}}
    run = Run(options={"users": 1}, about={CLASSIC: "ours", NGINX: "theirs"}, turns=[
        Turn(workload, name, 16, number, 100, cost=cost * slow) for workload, those in costs.items()
        for name, cost in those.items() for number, slow in enumerate((1, 2, 3))])
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in report(run).splitlines()]
    assert [NGINX, "2.00", "2.00", "1.00", "3.00", "2.00 ×", "–", "1.00"] in lines
    assert [CLASSIC, "8.00", "4.00", "2.00", "6.00", "1.00 ×", "–", "–"] in lines


def test_failures_are_told(run):
    run.turns.append(turn(POOLED, 0, 1.0, failed=2, failures={"closed by the server (PASS)": 2}))
    assert "* popular-pooled, round 1: closed by the server (PASS): 2" in report(run)


def test_table_has_straight_columns():
    lines = table(("who", "much"), [("a", "1"), ("long name", "100")])
    assert len({len(line) for line in lines}) == 1
    assert lines[1].endswith(":|")


@pytest.mark.parametrize("value, text", [(None, "–"), (0.1234, "0.123"), (1.234, "1.23"), (12.34, "12.3"),
                                         (12345.6, "12,346")])
def test_three_digits_count(value, text):
    assert number(value) == text


def test_plots_are_pictures(run):
    pictures = dict(plots(run))
    assert set(pictures) == {"benchmark-empty-1.svg", "benchmark-empty-16.svg", "benchmark-empty-cost.svg",
                             "benchmark-empty-rate.svg"}
    for text in pictures.values():
        words = [element.text or "" for element in ElementTree.fromstring(text).iter()]
        assert NGINX in words


@pytest.mark.parametrize("marks, value, wanted", [
    ([1, 10, 100], 1, 0), ([1, 10, 100], 10, 50), ([1, 10, 100], 1000, 150),
    ([0, 10, 100], 0, 0), ([0, 10, 100], 10, 50), ([7], 7, 50), ([0], 0, 50),
])
def test_places_on_a_logarithmic_axis(marks, value, wanted):
    assert Logarithmic(marks, 0, 100).place(value) == pytest.approx(wanted)
    assert Logarithmic(marks, 300, 100).place(value) == pytest.approx(300 - 2 * wanted)


@pytest.mark.parametrize("values, wanted", [
    ([0.02, 3.0], [0.01, 0.1, 1.0, 10.0]), ([0.02, 0.9], [0.02, 0.05, 0.1, 0.2, 0.5, 1.0]),
    ([0.0, 3.0], [0.0, 2.0, 5.0]), ([6.0, 7.5], [5.0, 10.0]), ([10.0], [10.0, 20.0]), ([0.5, 0.5], [0.5, 1.0]),
    ([0.0], [0.0, 1.0, 2.0]), ([1.0, 1_000.0], [1.0, 10.0, 100.0, 1_000.0]), ([0.3], [0.2, 0.5]),
])
def test_marks_around_values(values, wanted):
    assert marks_around(values) == pytest.approx(wanted)


def test_curves_show_points_at_nought():
    picture = ElementTree.fromstring(curves("x", {"a": [(0, 0.5), (10, 0.0), (1_000_000, 2.0)]}))
    words = [element.text for element in picture.iter() if element.tag.endswith("text")]
    assert {"0", "10", "1,000,000"} <= set(words)
    assert len([element for element in picture.iter() if element.tag.endswith("circle")]) == 3


@pytest.mark.parametrize("top", [0.004, 0.9, 1.0, 7.3, 135.0, 12_345.0])
def test_the_scale_reaches_the_top(top):
    steps = steps_to(top)
    assert steps[0] == 0
    assert top <= steps[-1] * (1 + 1e-9) and steps[-1] < 2.1 * top
    assert 3 <= len(steps) <= 12


def test_a_workload_is_measured_where_it_tells_something() -> None:
    wanted = (1, 16, 64, 256)
    assert [*WORKLOADS["mix"].levels(wanted)] == [*wanted]
    assert [*WORKLOADS["bulk"].levels(wanted)] == [1, 16, 64]
    assert [*WORKLOADS["bulk"].levels((4, 256))] == [256]
    assert [*WORKLOADS["big"].levels(wanted)] == [1]
