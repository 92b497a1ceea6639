"""Looking a user up without a password (API 1.1): the shipped modules find whom they would check, at the same place."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from popular.pdm.api import API, CannotFind, Found, Outcome, PdmError, PdmModule
from popular.pdm.asking.chain import Chain
from tests.harness.daemon import ROOT
from tests.harness.pdm import make_module, make_request

USERS = b"ann:{PLAIN}secret:store2:pop3::ann:a:b\nbad:{PLAIN}secret\njoe:{PLAIN}secret:store1:cxpop:3/2d/joe\n"


def passwd(folder: Path) -> Any:
    """A module on a text file."""
    (folder / "users").write_bytes(USERS)
    return make_module("passwd", folder / "users")


def cdb(folder: Path) -> Any:
    """A module on a constant database."""
    subprocess.run([sys.executable, ROOT / "bin/pmakecdb", folder / "users.cdb"], input=USERS.replace(
        b"bad:{PLAIN}secret\n", b""), check=True, timeout=20)
    return make_module("cdb", folder / "users.cdb")


def db(folder: Path) -> Any:
    """A module on a Berkeley DB file."""
    driver = pytest.importorskip("berkeleydb.db")
    database = driver.DB()
    database.open(str(folder / "users.db"), dbtype=driver.DB_HASH, flags=driver.DB_CREATE)
    for line in USERS.splitlines():
        database.put(*line.split(b":", 1))
    database.close()
    return make_module("db", folder / "users.db")


def sqlite(folder: Path) -> Any:
    """A module on an SQLite database."""
    with closing(sqlite3.connect(folder / "users.sqlite")) as database, database:
        database.execute("CREATE TABLE users (user, namespace, password, backend, protocol, mailbox, buser, bpass)")
        database.executemany("INSERT INTO users VALUES (?, 'example.org', '{PLAIN}secret', ?, ?, ?, ?, ?)", [
            ("joe", "store1", "cxpop", "3/2d/joe", None, None), ("ann", "store2", "pop3", None, "ann", b"a:b"),
            ("bad", "store1", None, 1.5, None, None)])
    return make_module("sqlite", folder / "users.sqlite")


@pytest.mark.parametrize("make", [passwd, cdb, db, sqlite])
def test_a_module_finds_whom_it_would_check(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    module = make(tmp_path)
    module.open()
    try:
        assert module.find("joe", "example.org") == Found("store1", "cxpop", "3/2d/joe")
        for user in ("joe", "ann"):
            assert module.find(user, "example.org") == module.check(make_request(user)).found
        assert module.find("zoe", "example.org") is None
        if make is not cdb:
            with pytest.raises(PdmError):
                module.find("bad", "example.org")
    finally:
        module.close()


def test_any_and_the_template_find_too() -> None:
    module = make_module("any", "store1", "%n/%l", "protocol=xpop")
    assert module.find("joe@x", "example.org") == Found("store1", "xpop", "example.org/joe")
    assert module.find("../joe", "example.org") is None
    assert make_module("any", "store1", "protocol=pop3").find("joe", "x") == Found("store1", "pop3", "", "joe")
    template = make_module("template", "joe", "secret", "store1", "j/joe")
    assert template.find("joe", "x") == Found("store1", mailbox="j/joe") and template.find("ann", "x") is None


class Old(PdmModule):
    """A module of API 1.0."""

    API = (1, 0)


def test_a_module_without_it_cannot_tell() -> None:
    assert API >= (1, 1)
    with pytest.raises(CannotFind):
        Old("old", []).find("joe", "x")


class Lookup(PdmModule):
    """Written for the interface before `find`, with a method of its own that has this name."""

    find: Any = staticmethod(lambda user: user)


def test_a_find_of_its_own_in_an_older_module_is_never_called() -> None:
    notes: list[str] = []
    chain = Chain([Lookup("old", [])], 1.0, lambda message, **fields: notes.append(message.name))
    [step] = chain.find("joe", "x")
    assert (step.answer.outcome, step.answer.why) == (Outcome.FAILED, "it cannot look up users without a password")
    assert not notes


def test_a_chain_tells_what_each_module_says(tmp_path: Path) -> None:
    notes: list[str] = []
    old, limited = Old("old", []), make_module("any", "store1", "%u", ident="limited")
    limited.namespaces = frozenset(("other",))
    users = passwd(tmp_path)
    chain = Chain([old, limited, users], 1.0, lambda message, **fields: notes.append(message.name))
    steps = chain.find("joe", "example.org")
    assert [(step.module, step.answer.outcome) for step in steps] == [("old", Outcome.FAILED), ("passwd", Outcome.OK)]
    assert (steps[0].answer.why, notes) == ("it cannot look up users without a password", [])
    assert [step.answer.outcome for step in chain.find("bad", "example.org")] == [Outcome.FAILED, Outcome.FAILED]
    assert notes == ["pdm_failed"]
    chain.close()


def test_the_place_of_mail_is_that_of_the_first_module_that_knows_or_cannot_tell(tmp_path: Path) -> None:
    limited, users = make_module("any", "store2", "%u", ident="limited"), passwd(tmp_path)
    limited.namespaces = frozenset(("other",))
    chain = Chain([limited, users, Old("old", [])], 1.0, lambda message, **fields: None)
    [found] = chain.place("joe", "example.org")
    assert found.answer.found == Found("store1", "cxpop", "3/2d/joe")
    for user, outcomes in (("bad", [Outcome.FAILED]), ("zoe", [Outcome.UNKNOWN, Outcome.FAILED])):
        assert [step.answer.outcome for step in chain.place(user, "example.org")] == outcomes
    chain.close()
    chain = Chain([users], 1.0, lambda message, **fields: None)
    assert [step.answer.outcome for step in chain.place("zoe", "example.org")] == [Outcome.UNKNOWN]
    chain.close()


def test_each_step_of_a_check_is_told(tmp_path: Path) -> None:
    (tmp_path / "master").write_text("*:*:{PLAIN}master\n")
    chain = Chain([make_module("any", "store1", "%u", ident="x"), passwd(tmp_path)], 1.0, lambda *a, **b: None)
    steps = chain.check(make_request("joe")).steps
    assert [(step.module, step.name, step.answer.outcome.value) for step in steps] == [("x", "any", "ok")]
    chain = Chain([passwd(tmp_path), make_module("master", tmp_path / "master")], 1.0, lambda *a, **b: None)
    for password, outcome in (("secret", "ok"), ("wrong", "denied"), ("master", "ok")):
        verdict = chain.check(make_request("joe", password))
        assert verdict.outcome.value == outcome
    assert [(step.module, step.answer.outcome.value, step.is_second) for step in verdict.steps] == [
        ("passwd", "denied", False), ("master", "unknown", False), ("passwd", "unknown", True), ("master", "ok", True)]
    chain.close()
