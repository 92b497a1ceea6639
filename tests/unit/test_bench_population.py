"""Users, databases and mailboxes of the benchmark, and the command line."""

import os
from pathlib import Path

import pytest

from popular.pdm.api import Found, Outcome, Request
from popular.pdm.loader import load_module
from popular.store.filename import size_of
from tests.bench.databases import MODULES, Person, write_users
from tests.bench.options import FULL, QUICK, SMOKE, read_options
from tests.bench.population import (
    BACKEND,
    BIG_MESSAGE,
    BIG_USER,
    BULK_MESSAGES,
    MAIL_SIZE,
    PASSWORD,
    Population,
    box_of,
    build,
    mailbox_of,
    message,
    name_of,
)
from tests.bench.scripts import scripts_of
from tests.harness.daemon import ROOT

POPULATION = Population(users=30, empty=3, mail=2, bulk=1, big=5, boxes=(0, 7))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Everything of a few users."""
    folder = tmp_path_factory.mktemp("bench")
    return build(folder, POPULATION, (os.geteuid(), os.getegid()), has_dovecot=True)


def names_in(folder: Path) -> list[str]:
    """Return the files in both folders of a mailbox."""
    return [path.name for part in ("new", "cur") for path in (folder / part).iterdir()]


@pytest.mark.parametrize("size", [1024, MAIL_SIZE, BIG_MESSAGE])
def test_messages_have_their_size_and_a_line_with_a_dot(size):
    text = message(size)
    assert len(text) == size
    assert b"\r\n.dot\r\n" in text and text.endswith(b"\r\n")
    assert text.count(b"\n") == text.count(b"\r\n")


@pytest.mark.parametrize("user, count, size", [
    (name_of(0), 0, 0), (name_of(3), 1, MAIL_SIZE), (name_of(5), BULK_MESSAGES, BIG_MESSAGE), (BIG_USER, 5, 1024),
    (box_of(0), 0, 1024), (box_of(7), 7, 1024),
])
def test_both_stores_hold_the_same_messages(store, user, count, size):
    ours = names_in(store.spool / mailbox_of(user))
    theirs = names_in(store.homes / user / "Maildir")
    assert [size_of(name) for name in ours] == [size] * count
    assert [size_of(name.partition(":")[0]) for name in theirs] == [size] * count


def found_in(path: Path, module: str, user: str) -> Found:
    """Return where the mail of a user is, as one of our database modules says; he must be let in."""
    pdm = load_module(str(ROOT / "pdm_modules"), "users", module, [str(path)])
    try:
        answer = pdm.check(Request(user, PASSWORD.encode(), ip="127.0.0.1", protocol="pop3", namespace="default"))
    finally:
        pdm.close()
    assert answer.outcome is Outcome.OK and answer.found is not None
    return answer.found


@pytest.mark.parametrize("module", ["sqlite", "passwd"])
@pytest.mark.parametrize("protocol", ["cxpop", "pop3"])
def test_databases_know_everyone(store, module, protocol):
    for user in (name_of(0), name_of(29), BIG_USER, box_of(7)):
        found = found_in(store.users(module, protocol), module, user)
        assert (found.backend, found.mailbox, found.user) == (
            (BACKEND, mailbox_of(user), "") if protocol == "cxpop" else (BACKEND, "", user))


@pytest.mark.parametrize("module", MODULES)
def test_a_database_takes_the_place_of_another(tmp_path, module):
    path = tmp_path / "users"
    for backend, count in (("old", 3), ("new", 2)):
        people = [Person(name_of(number), PASSWORD, backend, "a/b") for number in range(count)]
        write_users(module, path, people)
    assert found_in(path, module, name_of(1)).backend == "new"
    with pytest.raises(AssertionError):
        found_in(path, module, name_of(2))


def test_mix_is_four_empty_to_one_with_mail():
    scripts = scripts_of("mix", POPULATION)
    kinds = [any(step.command.startswith(b"RETR") for step in script) for script in scripts]
    assert kinds == [False, False, False, False, True] * 2


def test_presets_and_choices():
    assert read_options([])[0] == FULL
    assert read_options(["--quick"])[0] == QUICK
    assert read_options(["--smoke"])[0] == SMOKE
    chosen = read_options(["--quick", "--workloads", "mail,empty", "--contenders", "dovecot-p*,nginx",
                           "--concurrency", "1,8", "--rounds", "7", "--users", "50", "--messages", "0"])[0]
    assert chosen.workloads == ("mail", "empty")
    assert chosen.contenders == ("dovecot-packaged", "dovecot-proxy-packaged", "dovecot-proxy-tuned", "nginx")
    assert (chosen.concurrency, chosen.rounds, chosen.seconds) == ((1, 8), 7, QUICK.seconds)
    assert (chosen.population.users, chosen.population.big, chosen.population.mail) == (50, 0, QUICK.population.mail)


@pytest.mark.parametrize("words", [["--workloads", "nonsense"], ["--contenders", "x*"], ["--rounds", "0"],
                                   ["--concurrency", "1,x"], ["--quick", "--smoke"]])
def test_wrong_choices_are_refused(words, capsys):
    with pytest.raises(SystemExit) as ended:
        read_options(words)
    assert ended.value.code == 2
