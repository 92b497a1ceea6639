"""What lies in etc/ for Prometheus and Grafana: it is well formed, and speaks of metrics that there are."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from popular.statefile.prometheus import FAMILIES
from scripts.generate import values_of
from tests.harness.metrics import promtool

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "etc/prometheus/popular.rules.yml"
SCRAPE = ROOT / "etc/prometheus/prometheus.yml"
DASHBOARD = ROOT / "etc/grafana/popular.json"
RULE_TESTS = ROOT / "tests/rules/popular.rules.test.yml"

BY_NAME = {family.name: family for family in FAMILIES}
COMMON = {"program", "instance", "job"}

_USE = re.compile(r"(?<![\w.])(popular_\w+)(?:\{([^}]*)\})?")
_BY = re.compile(r"(?:by|without|ignoring|on) \(([a-z, ]+)\)")
_MATCHER = re.compile(r'(\w+)(=~|=|!=|!~)"([^"]*)"')


def panels() -> list[dict[str, Any]]:
    """Return all panels of the dashboard."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> dict[str, str]:
    """Return every expression of the dashboard by its place."""
    dashboard = json.loads(DASHBOARD.read_text())
    found = {f"{panel['title']} {target['refId']}": target["expr"]
             for panel in panels() for target in panel.get("targets", ())}
    found |= {f"annotation {each['name']}": each["expr"] for each in dashboard["annotations"]["list"]}
    for each in dashboard["templating"]["list"]:
        if each["type"] == "query":
            found[f"variable {each['name']}"] = each["query"]["query"]
    return found


def rules() -> dict[str, str]:
    """Return every expression of an alert by its name."""
    text = RULES.read_text()
    found = re.findall(r"^      - alert: (\w+)\n        expr: (.*\n(?:          .*\n)*)", text, re.MULTILINE)
    assert len(found) == text.count("alert:") > 10
    return dict(found)


def mistakes(expression: str) -> Iterator[str]:
    """Yield what an expression says of our metrics that is not so."""
    labels = set(COMMON)
    for name, matchers in _USE.findall(expression):
        if name not in BY_NAME:
            yield f"no metric {name}"
            continue
        own = BY_NAME[name].labels
        labels.update(own)
        for label, sign, value in _MATCHER.findall(matchers):
            if label not in {*COMMON, *own}:
                yield f"{name} has no label {label}"
            elif own[-1:] == (label,) and sign == "=" and value not in [*values_of(BY_NAME[name])]:
                yield f"{name} is never {value}"
    for names in _BY.findall(expression):
        yield from (f"no label {label}" for label in names.split(", ") if label not in labels)


EXPRESSIONS = [pytest.param(text, id=name) for name, text in (expressions() | rules()).items()]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_only_metrics_that_there_are(expression: str) -> None:
    assert list(mistakes(expression)) == []


@pytest.mark.parametrize(("expression", "wanted"), [
    ("rate(popular_logins_total{result=\"granted\"}[5m]) + x_popular_y", []),
    ("popular_login_total", ["no metric popular_login_total"]),
    ("popular_logins_total{outcome=\"quit\"}", ["popular_logins_total has no label outcome"]),
    ("popular_logins_total{result=\"quit\"}", ["popular_logins_total is never quit"]),
    ("sum by (program, state) (popular_logins_total)", ["no label state"]),
])
def test_the_measure_itself(expression: str, wanted: list[str]) -> None:
    assert list(mistakes(expression)) == wanted


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {name for text in expressions().values() for name, _ in _USE.findall(text)}
    assert shown == set(BY_NAME)


def test_panels_are_in_their_places() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in panels()]
    assert len(set(numbers)) == len(numbers) > 15


def test_prometheus_understands_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    plain = {name: text for name, text in expressions().items() if "label_values" not in text}
    lines = ["groups:", "  - name: dashboard", "    rules:"]
    for number, text in enumerate(plain.values()):
        text = text.replace("$__rate_interval", "5m")
        lines += [f"      - record: r{number}", f"        expr: {json.dumps(text)}"]
    (tmp_path / "rules.yml").write_text("\n".join(lines))
    done = promtool("check", "rules", str(tmp_path / "rules.yml"))
    assert done.returncode == 0 and f"{len(plain)} rules found" in done.stdout, done.stderr


def test_prometheus_accepts_the_rules_and_the_example() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert (done.returncode, done.stderr) == (0, "") and f"{len(rules())} rules found" in done.stdout
    done = promtool("check", "config", str(SCRAPE))
    assert (done.returncode, done.stderr) == (0, "")


def test_alerts_come_when_they_should_and_only_then() -> None:
    assert set(re.findall(r'alertname="(\w+)"', RULE_TESTS.read_text())) == set(rules()), "each has a test"
    done = promtool("test", "rules", str(RULE_TESTS))
    assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr


def test_log_messages_that_alerts_name_exist() -> None:
    pages = (ROOT / "man/popular-log.7").read_text()
    named = re.findall(r"\b[a-z]+_[a-z_]+\b", " ".join(re.findall(r"description: (.*)", RULES.read_text())))
    assert len(named) > 5
    assert [name for name in named if f" {name}\\fR" not in pages] == []
