"""Man pages against what the programs are, both ways: nothing is missing, and nothing is there that is not so."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from popular.config.setting import Setting
from popular.control.grammar import Command
from popular.daemon.signals import SIGNALS
from tests.meta.test_generated import SCHEMAS

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = sorted(path.name for path in (ROOT / "bin").iterdir())
CONTROLLED = ("pproxy", "pserv")
# Line ends of INI texts in the tests are written as \\n, which is no part of the word behind it.
TESTS = [path.read_text().replace("\\n", "\n") for path in (ROOT / "tests").rglob("test_*.py")
         if "meta" not in path.parts]

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


def commands_of(program: str) -> list[Command[object]]:
    """Return the control commands of a daemon."""
    return list(importlib.import_module(f"popular.{program}.commands").commands)


def literal_words(command: Command[object]) -> str:
    """Return the words that a command begins with."""
    return re.split(r" ?[<\[]", command.pattern.usage)[0].strip()


@pytest.mark.parametrize("program", PROGRAMS)
def test_options(program: str) -> None:
    done = subprocess.run([sys.executable, str(ROOT / "bin" / program), "--help"],
                          capture_output=True, text=True, check=True, timeout=30.0)
    # only the page's own synopsis and options: the rest may speak of other programs
    own = section(program, "OPTIONS")
    hidden = {"nodeamon"}    # pcheckd's old spelling, told in the page and not in --help
    assert set(OPTION.findall(own)) - hidden == set(OPTION.findall(done.stdout)) - hidden


@pytest.mark.parametrize("program", SCHEMAS)
def test_variables_and_keys(program: str) -> None:
    schema = SCHEMAS[program]
    rows = [*schema.settings, *(row for cls in schema.classes for row in cls.rows)]
    kinds = "|".join(sorted({row.kind.name for row in rows}))
    told = re.findall(rf'^\.BR (\S+) " \((?:{kinds})\)"', page_of(program), re.MULTILINE)
    assert set(told) == {row.name for row in rows}


@pytest.mark.parametrize("program", CONTROLLED)
def test_spec_1_4_signals(program: str) -> None:
    told = set(re.findall(r"\bSIG([A-Z12]+)\b", section(program, "SIGNALS")))
    assert told == {row.number.name.removeprefix("SIG") for row in SIGNALS}


@pytest.mark.parametrize("program", CONTROLLED)
def test_control_commands(program: str) -> None:
    told = section(program, "CONTROL COMMANDS")
    heads = {head.replace('"', "") for head in re.findall(r"^\.TP\n(.*)$", told, re.MULTILINE)}
    assert heads == {command.pattern.usage for command in commands_of(program)}


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
