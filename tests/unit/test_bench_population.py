"""Users, databases and mailboxes of the benchmark, and the command line."""

import email
import email.policy
import os
from pathlib import Path

import pytest

from popular.pdm.api import Found, Outcome, Request
from popular.pdm.asking.loader import load_module
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
    attachment_message,
    box_of,
    build,
    mailbox_of,
    name_of,
    text_message,
)
from tests.bench.scripts import scripts_of
from tests.harness.daemon import ROOT

POPULATION = Population(users=30, empty=3, mail=2, bulk=1, big=5, boxes=(0, 7))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Everything of a few users."""
    folder = tmp_path_factory.mktemp("bench")
    return build(folder, POPULATION, (os.geteuid(), os.getegid()), has_dovecot=True)


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the files in both folders of a mailbox, by name."""
    return {path.name: path.read_bytes() for part in ("new", "cur") for path in (folder / part).iterdir()}


@pytest.mark.parametrize("write", [text_message, attachment_message])
@pytest.mark.parametrize("size", [1024, MAIL_SIZE, *range(5000, 5080), BIG_MESSAGE])
def test_messages_have_their_size_and_a_line_with_a_dot(write, size):
    text = write(size)
    assert len(text) == size
    assert text.count(b"\r\n.") == text.count(b"\r\n.dot\r\n") == 1 and text.endswith(b"\r\n")
    assert text.count(b"\n") == text.count(b"\r\n") == text.count(b"\r")


def test_an_attachment_is_nearly_all_of_its_message():
    message = email.message_from_bytes(attachment_message(BIG_MESSAGE), policy=email.policy.default)
    text, attachment = message.iter_parts()
    assert text.get_content().startswith(".dot")
    assert attachment["Content-Transfer-Encoding"] == "base64"
    assert {len(line) for line in attachment.get_payload().split()} == {76}
    assert len(attachment.get_content()) > 0.72 * BIG_MESSAGE
    assert [message.defects, text.defects, attachment.defects] == [[], [], []]


@pytest.mark.parametrize("user, count, size, kind", [
    (name_of(0), 0, 0, None), (name_of(3), 1, MAIL_SIZE, text_message),
    (name_of(5), BULK_MESSAGES, BIG_MESSAGE, attachment_message),
    (name_of(6), BULK_MESSAGES, BIG_MESSAGE, text_message), (BIG_USER, 5, 1024, text_message),
    (box_of(0), 0, 1024, text_message), (box_of(7), 7, 1024, text_message),
])
def test_both_stores_hold_the_same_messages(store, user, count, size, kind):
    ours = files_in(store.spool / mailbox_of(user))
    theirs = files_in(store.homes / user / "Maildir")
    assert [size_of(name) for name in ours] == [size] * count
    assert [size_of(name.partition(":")[0]) for name in theirs] == [size] * count
    assert all(text == kind(size) for text in ours.values())
    assert all(text == kind(size).replace(b"\r\n", b"\n") for text in theirs.values())
    assert all(f",S={len(text)}," in name for name, text in theirs.items())


def found_in(path: Path, module: str, user: str) -> Found:
    """Return where the mail of a user is, as one of our database modules says; they must be let in."""
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


@pytest.mark.parametrize("workload, users", [("bulk", [name_of(5)]), ("bulk-text", [name_of(6)])])
def test_big_messages_of_each_kind_have_their_own_users(workload, users):
    assert [script[1].command.split()[1].decode() for script in scripts_of(workload, POPULATION)] == users


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
