"""Man pages against what the programs are, both ways: nothing is missing, and nothing is there that is not so."""

import importlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from popular.config.setting import Setting
from popular.control.grammar import Command
from popular.log.message import LEVELS
from popular.statefile.layout import DELIVERY, FAILURES, PROXY, SERVER, STATES
from popular.tools.pclean import run as pclean_run
from scripts.generate import catalogue, spec_of
from tests.meta.test_generated import SCHEMAS

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(path.name for path in (ROOT / "bin").iterdir())
CONTROLLED = ("pproxy", "pserv", "plmtpd")
DAEMONS = (*CONTROLLED, "pcheckd", "ringd")
# Line ends of INI texts in the tests are written as \\n, which is no part of the word behind it.
TESTS = [path.read_text().replace("\\n", "\n") for path in (ROOT / "tests").rglob("test_*.py")
         if "meta" not in path.parts]

SHORT = re.compile(r"(?<![\w-])-[A-Za-z]\b(?!-)")
OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")
PAGES = [path for path in (ROOT / "man").iterdir() if path.is_file()]


def page_of(name: str) -> str:
    """Return the text of a man page without the escapes of hyphens and fonts."""
    [path] = [path for path in PAGES if path.stem == name]
    return re.sub(r"\\f.", "", path.read_text()).replace("\\-", "-")


def section(page: str, heading: str) -> str:
    """Return one section of a man page."""
    text = page_of(page).partition(f".SH {heading}\n")[2]
    assert text, f"{page} has no section {heading}"
    return text.partition("\n.SH ")[0]


@cache
def help_of(program: str) -> str:
    """Return what a program says of itself."""
    return subprocess.run([sys.executable, str(ROOT / "bin" / program), "--help"], stdout=subprocess.PIPE, text=True,
                          check=True, timeout=30.0).stdout


def heads(text: str) -> list[str]:
    """Return what the paragraphs with tags begin with."""
    return re.findall(r"^\.TP\n(.*)$", text, re.MULTILINE)


def rows_in(text: str) -> list[tuple[str, str]]:
    """Return names and kinds of the variables or keys that a text lists."""
    return re.findall(r'^\.TP\n\.BR (\S+) " \((\w+)\)"$', text, re.MULTILINE)


def commands_of(program: str) -> list[Command[object]]:
    """Return the control commands of a daemon."""
    return list(importlib.import_module(f"popular.{program}.commands").commands)


def literal_words(command: Command[object]) -> str:
    """Return the words that a command begins with."""
    return re.split(r" ?[<\[]", command.pattern.usage)[0].strip()


@pytest.mark.parametrize("program", PROGRAMS)
def test_options(program: str) -> None:
    told = help_of(program)
    # only the page's own synopsis and options: the rest may speak of other programs
    own = section(program, "OPTIONS")
    hidden = {"nodeamon"}    # pcheckd's old spelling, told in the page and not in --help
    assert set(OPTION.findall(own)) - hidden == set(OPTION.findall(told)) - hidden
    listed = [line for line in told.splitlines() if re.match(r" {2,4}-", line)]
    assert set(SHORT.findall("\n".join(heads(own)))) == set(SHORT.findall("\n".join(listed)))


@pytest.mark.parametrize("program", SCHEMAS)
def test_variables_and_keys(program: str) -> None:
    schema = SCHEMAS[program]
    assert rows_in(section(program, "VARIABLES")) == [(row.name, row.kind.name) for row in schema.settings]
    if not schema.classes:
        assert ".SH OBJECTS" not in page_of(program)
        return
    _, *classes = re.split(r"^\.SS ", section(program, "OBJECTS"), flags=re.MULTILINE)
    assert [(text.partition("\n")[0], rows_in(text)) for text in classes] == [
        (f"[{cls.name}]", [(row.name, row.kind.name) for row in cls.rows]) for cls in schema.classes]


def test_kinds_of_values() -> None:
    told = {word.strip('" ,') for head in heads(section("popular.conf", "VALUES")) for word in head.split()[1:]}
    rows = [row for schema in SCHEMAS.values() for row in [
        *schema.settings, *(row for cls in schema.classes for row in cls.rows)]]
    assert told == {row.kind.name for row in rows}


def test_ini_files() -> None:
    told = re.findall(r"^\.I /etc/popular/(\w+)\.conf\nOf\n\.BR (\w+) \(8\);\n(.*)\.$", page_of("popular.conf"),
                      re.MULTILINE)
    sections = {program: [program, *(cls.name for cls in schema.classes)] for program, schema in SCHEMAS.items()}
    assert told == [(program, program, ", ".join(f"[{name}]" for name in names))
                    for program, names in sections.items()]


@pytest.mark.parametrize("program", DAEMONS)
def test_spec_1_4_signals(program: str) -> None:
    told = heads(section(program, "SIGNALS"))
    assert told == [f".B {row.number.name}" for row in spec_of(program).signals]


def test_signals_of_pclean() -> None:
    told = set(re.findall(r"\b[A-Z]{3,4}\b", section("pclean", "SIGNALS")))
    assert told == {number.name.removeprefix("SIG") for number in pclean_run.STOP_SIGNALS}


def test_spec_5_2_messages() -> None:
    told = heads(section("popular-log", "MESSAGES"))
    assert told == [f"{row.number:04x} {row.level} {row.name} {row.fields}" for row in catalogue()]


def test_levels_of_messages() -> None:
    told = [head.split()[1] for head in heads(section("popular-log", "LEVELS"))]
    assert told == [*LEVELS]


def test_states_of_sessions() -> None:
    states = page_of("pstatus").partition(".SS States\n")[2].partition(".SH")[0]
    told = [head.removeprefix(".B ") for head in heads(states)]
    assert told == [*STATES, "being-written"]


def test_counters() -> None:
    told = [head.removeprefix(".B ") for head in heads(section("pstatus", "COUNTERS"))]
    assert set(told) == {*PROXY.counters, *SERVER.counters, *DELIVERY.counters}


def test_failures_of_backends() -> None:
    told = [head.removeprefix(".B ") for head in heads(section("pstatus", "FAILURES OF BACKENDS"))]
    assert told == [*FAILURES]


def test_keys_of_json() -> None:
    source = (ROOT / "popular/tools/pstatus/document.py").read_text()
    told = set(re.findall(r"[a-z_]+", section("pstatus", "JSON")))
    assert set(re.findall(r'"([a-z_]+)": ', source)) <= told


@pytest.mark.parametrize("program", sorted({*PROGRAMS} - {*DAEMONS}))
def test_exit_codes_of_tools(program: str) -> None:
    is_folder = (ROOT / "popular/tools" / program).is_dir()
    text = importlib.import_module(f"popular.tools.{program}{'.main' if is_folder else ''}").__doc__ or ""
    codes = re.findall(r"(?:^ +|: |, |,\n)(\d{1,2}) +[A-Za-z-]", text.partition("Exit codes")[2], re.MULTILINE)
    assert [head.removeprefix(".B ") for head in heads(section(program, "EXIT STATUS"))] == codes


@pytest.mark.parametrize("program", CONTROLLED)
def test_control_commands(program: str) -> None:
    told = {head.replace('"', "") for head in heads(section(program, "CONTROL COMMANDS"))}
    assert told == {command.pattern.usage for command in commands_of(program)}


def test_database_modules() -> None:
    told = set(re.findall(r'^\.BI? "?([a-z]\w*) ', section("popular-pdm", "MODULES"), re.MULTILINE))
    there = {path.stem.removeprefix("pdm_") for path in (ROOT / "pdm_modules").glob("pdm_*.py")}
    assert told == there


@pytest.mark.parametrize("words", sorted({
    literal_words(command) for program in CONTROLLED for command in commands_of(program)}))
def test_each_control_command_has_a_test(words: str) -> None:
    quoted = re.compile(rf"""["' ({{]{re.escape(words)}\b""")
    assert any(quoted.search(text) for text in TESTS)


@pytest.mark.parametrize(("program", "row"), [
    pytest.param(program, row, id=f"{program}-{row.name}") for program, schema in SCHEMAS.items()
    for row in [*schema.settings, *(row for cls in schema.classes for row in cls.rows)]])
def test_each_variable_and_key_has_a_test(program: str, row: Setting) -> None:
    names = "|".join(map(re.escape, [row.name, *row.option]))
    word = re.compile(rf"(?<![\w-])(?:{names})(?![\w-])")
    assert any(word.search(text) for text in TESTS)
