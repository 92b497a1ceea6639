"""Answers in German: each text of ours is in the table, and the table has no others."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from popular.pop3.authorization import AuthorizationState
from popular.pop3.capability import HEAD
from popular.pop3.languages import GERMAN, LANGUAGES
from popular.pop3.transaction import TransactionState

ROOT = Path(__file__).resolve().parents[2]
_FILES = ("popular/pop3", "popular/sasl", "popular/pproxy", "popular/pserv", "popular/daemon/child")
_CALLS = {"CommandRefused": 0, "LoginRefused": 0, "reply": 1, "said": 0, "_answer": 0}    # the argument
_NUMBER = re.compile(r"(?<![\w-])[0-9]+\b")
# Said where no language was chosen yet, or to a proxy.
_ENGLISH = {"# too long", "system load too high, please try again later", "PROXY takes no argument", "welcome",
            "connection refused, please try again later", "XCLIENT needs ADDR="}
_BY_OTHER_WAYS = ("message # cannot be read now", "your language is English")


def texts() -> Iterator[tuple[str, str]]:
    """Yield place and text of each answer in the source; # stands for what is computed."""
    for path in sorted(one for folder in _FILES for one in (ROOT / folder).rglob("*.py") if one.name != "xclient.py"):
        tree = ast.parse(path.read_text())
        constants = {target.id: node.value for node in ast.walk(tree) if isinstance(node, ast.Assign)
                     for target in node.targets if isinstance(target, ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                at = _CALLS.get(name, 9)
                if at < len(node.args):
                    given = node.args[at]
                    for text in worded(constants.get(given.id, given) if isinstance(given, ast.Name) else given):
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def worded(node: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression may have."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield _NUMBER.sub("#", node.value)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "#" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from worded(node.body)
        yield from worded(node.orelse)


def usages() -> Iterator[tuple[str, str]]:
    """Yield what is said of a wrong number of arguments."""
    for state in (AuthorizationState, TransactionState):
        for row in state.COMMANDS.values():
            yield row.name, f"{row.name} {row.usage}"


def test_each_text_has_a_translation() -> None:
    missing = [f"{place}: {text!r}" for place, text in [*texts(), *usages()] if text not in GERMAN
               and text not in _ENGLISH and text.strip("# ")]
    assert not missing, "\n".join(missing)


def test_the_table_has_no_text_that_nobody_says() -> None:
    said = {text for _, text in [*texts(), *usages()]} | {HEAD, *_BY_OTHER_WAYS}
    assert sorted(set(GERMAN) - said) == []


@pytest.mark.parametrize("english", GERMAN)
def test_a_translation_is_ascii_with_the_same_variables(english: str) -> None:
    german = GERMAN[english]
    assert german.isascii() and german.isprintable() and len(german) < 120
    assert german.count("#") == english.count("#")


@pytest.mark.parametrize("english, german", [
    pytest.param("no message 12, the mailbox has 3", "keine Nachricht 12, im Postfach sind 3", id="numbers"),
    pytest.param("not the first message of SCRAM-SHA-256", "nicht die erste Mitteilung von SCRAM-SHA-256", id="name"),
    pytest.param("XOAUTH2 needs a message with a bearer token", "XOAUTH2 braucht eine Mitteilung mit einem Token",
                 id="a number that belongs to a name"),
    pytest.param("12 34", "12 34", id="only numbers"),
    pytest.param("mail.example.org # ready", "mail.example.org # ready", id="the administrator's"),
])
def test_translated(english: str, german: str) -> None:
    assert LANGUAGES["de"](english) == german
    assert LANGUAGES["en"](english) == english
