"""What every database module must do, tried with each on its real server or file.

The modules are asked here as a PDM worker asks them: by a runner, one question at a time, with a deadline.  Without a
chain around it, no time is spent on hashes for unknown users.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from popular.errors import PdmError
from popular.paths import pdm_dir
from popular.pdm.api import PROVEN, Answer, Found, Outcome, Request
from popular.pdm.asking.runner import ModuleRunner
from popular.pdm.proofs import ScramSecret
from tests.harness.databases import HOSTILE, Database, UserRow, crowd, kinds, launched, module_of
from tests.harness.databases.files import FileDatabase
from tests.harness.databases.promises import LACKS, WITHOUT_USERS, Promise
from tests.harness.pdm import make_module, make_request
from tests.harness.scramclient import ScramClient
from tests.harness.system import descriptors_of, wait_for
from tests.meta.test_layers import HEAVY

SECONDS = 10.0    # for a question, unless the test is about its deadline
SHORT = 1.5       # for one that will not be answered
MARGIN = 1.0      # beyond the deadline, on a busy machine
LONG_USERS, LONG_LOOKUPS = 100_000, 10_000

JOE = UserRow("joe", "joe's secret", mailbox="j/joe")
OTHER_JOE = UserRow("joe", "other", mailbox="o/joe", namespace="example.com")
BACKEND_USER = UserRow("ann@example.org", "ann's secret", backend="old", protocol="pop3", mailbox="", buser="ann",
                       bpass="p:w'%\\ ü")
WITH_PHONE = UserRow("eve", "eve's secret", passwords=(("laptop", "of the laptop"), ("my phone", "of the phone")))
SCRAM_USER = UserRow("sue", "sue's secret", form=ScramSecret.made(
    "SCRAM-SHA-256", b"sue's secret", b"salt of sue", 4096).stored)
CLEAR_USER = UserRow("cleo", "cleo's secret", form="{PLAIN}cleo's secret")
DISABLED = UserRow("dan", "dan's secret", disabled="has not paid")
ODD = [UserRow(name, f"odd {name}", mailbox=f"odd/{number}") for number, name in enumerate((
    "o'neil", 'quo"te', "per%cent", "back\\slash", "two words", "jöe", "a+b@example.org", "a_b", "*", "(x)", "$1",
    ":user"))]

Having = Callable[[Promise], None]


class Asker:
    """Asks one module, and keeps what is logged."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.module = make_module(database.module, *database.words())
        self.log: list[str] = []
        self._runner = ModuleRunner(self.module, 0, lambda message, **fields: self.log.append(str(fields)))

    def ask(self, row: UserRow, password: str | bytes | None = None, *, user: str | None = None,
            seconds: float = SECONDS, mechanism: str = "") -> Answer:
        """Return the module's answer to a login."""
        request = make_request(row.user if user is None else user, row.password if password is None else password,
                               namespace=row.namespace)
        return self._runner.answer(replace(request, deadline=time.monotonic() + seconds, mechanism=mechanism))

    def find(self, row: UserRow) -> Answer:
        """Return where the module finds a user's mail."""
        return self._runner.locate(Request(row.user, b"", "", "pop3", row.namespace))

    def held(self, text: str) -> str:
        """Return a text as the database can have it."""
        return text.replace(" ", "") if Promise.BLANKS in self.database.lacks else text

    def is_place(self, answer: Answer, row: UserRow) -> bool:
        """Tell whether the answer names the place of a user's mail, as far as the database knows it."""
        found, lacks = answer.found, self.database.lacks
        if found is None:
            return answer.outcome is Outcome.DENIED and Promise.IDENTITY in lacks
        return Promise.PLACES in lacks or (found.backend, found.mailbox) == (row.backend, row.mailbox)

    def close(self) -> None:
        """Close the module."""
        self._runner.close()


@pytest.fixture(scope="module", params=kinds().items(), ids=lambda item: item[0])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database with users."""
    with launched(request.param[1]) as (server, _):
        special = {Promise.PLACES: BACKEND_USER, Promise.PASSWORDS: WITH_PHONE, Promise.DISABLED: DISABLED,
                   Promise.NAMESPACES: OTHER_JOE, Promise.SECRETS: SCRAM_USER}
        rows = [row for promise, row in special.items() if promise not in server.lacks]
        server.add(JOE, *rows, *[CLEAR_USER] * (SCRAM_USER in rows))
        yield server


@pytest.fixture
def asker(database: Database) -> Iterator[Asker]:
    """The module."""
    made = Asker(database)
    yield made
    made.close()


@pytest.fixture
def having(database: Database) -> Having:
    """A function that skips the test if this kind of database lacks something."""
    def check(what: Promise) -> None:
        if why := database.lacks.get(what):
            pytest.skip(f"{database.module} has no {what.name}: {why}")
    return check


@pytest.fixture
def unknown(database: Database) -> Outcome:
    """What the module answers for unknown users: some services refuse them as they refuse wrong passwords."""
    return Outcome.DENIED if Promise.UNKNOWN in database.lacks else Outcome.UNKNOWN


# answers

def test_the_right_password(asker: Asker) -> None:
    answer = asker.ask(JOE)
    assert answer.outcome is Outcome.OK and asker.is_place(answer, JOE)
    assert answer.found is not None and answer.found.verified is True and not answer.found.master
    assert asker.log == []


@pytest.mark.parametrize("password", [b"", b"x", b"JOE'S SECRET", b"joe's secret ", b"joe's secre", b"joe's secret\0",
                                      b"\xff\xfe", b"\0", b"' OR '1'='1", b"x" * 10_000])
def test_a_wrong_password_is_denied(asker: Asker, password: bytes) -> None:
    answer = asker.ask(JOE, password)
    assert answer.outcome is Outcome.DENIED and asker.is_place(answer, JOE)


def test_an_unknown_user(asker: Asker, unknown: Outcome) -> None:
    answer = asker.ask(JOE, user="nobody")
    assert (answer.outcome, answer.found) == (unknown, None)
    assert asker.log == []


def test_credentials_for_a_pop3_backend(asker: Asker, having: Having) -> None:
    having(Promise.PLACES)
    answer = asker.ask(BACKEND_USER)
    assert answer == Answer(Outcome.OK, Found("old", "pop3", "", "ann", asker.held(BACKEND_USER.bpass).encode()))


def test_the_same_name_in_two_namespaces(asker: Asker, unknown: Outcome, having: Having) -> None:
    having(Promise.NAMESPACES)
    assert [asker.is_place(asker.ask(row), row) for row in (JOE, OTHER_JOE)] == [True, True]
    assert asker.ask(JOE, OTHER_JOE.password).outcome is Outcome.DENIED
    assert asker.ask(replace(JOE, namespace="example.net")).outcome is unknown


def test_one_of_several_passwords(asker: Asker, having: Having) -> None:
    having(Promise.PASSWORDS)
    labels = {WITH_PHONE.password: "", **{password: label for label, password in WITH_PHONE.passwords}}
    for password, label in labels.items():
        answer = asker.ask(WITH_PHONE, password)
        assert answer.outcome is Outcome.OK and answer.found is not None and answer.found.label == label
    assert asker.ask(WITH_PHONE, "laptop").outcome is Outcome.DENIED


@pytest.mark.parametrize("row", [SCRAM_USER, CLEAR_USER], ids=["secret", "clear"])
def test_a_client_shows_by_scram_that_it_knows_the_password(asker: Asker, having: Having, row: UserRow) -> None:
    having(Promise.SECRETS)
    salt = asker.ask(row, b"", mechanism="SCRAM-SHA-256")
    assert salt.outcome is Outcome.DENIED and bool(salt.proof) is (row is SCRAM_USER)
    for password, outcome in ((row.password, Outcome.OK), ("wrong", Outcome.DENIED)):
        client = ScramClient(row.user, password)
        answer = asker.ask(row, client.shown(salt.proof or b"4096,c2FsdA=="), mechanism="SCRAM-SHA-256")
        assert answer.outcome is outcome and asker.is_place(answer, row)
        assert (answer.proof == client.signature) is (outcome is Outcome.OK), "the server proves itself, too"
    assert asker.ask(row).outcome is Outcome.OK and asker.log == []


def test_a_disabled_user(asker: Asker, having: Having) -> None:
    having(Promise.DISABLED)
    answer = asker.ask(DISABLED)
    assert (answer.outcome, answer.why) == (Outcome.DENIED, f"disabled: {asker.held(DISABLED.disabled)}")
    assert asker.is_place(answer, DISABLED)
    assert asker.ask(DISABLED, "wrong").outcome is Outcome.DENIED


def test_users_are_found_without_a_password(asker: Asker) -> None:
    answer = asker.find(JOE)
    if Promise.FIND in asker.database.lacks:
        assert (answer.outcome, answer.why) == (Outcome.FAILED, "it cannot look up users without a password")
        return
    assert answer.outcome is Outcome.OK and asker.is_place(answer, JOE)
    assert asker.find(replace(JOE, user="nobody")).outcome is Outcome.UNKNOWN


def test_users_who_are_proven_need_no_password(asker: Asker) -> None:
    if Promise.FIND in asker.database.lacks:
        assert PROVEN not in asker.module.mechanisms
        return
    answer = asker.ask(JOE, b"", mechanism=PROVEN)
    assert answer.outcome is Outcome.OK and asker.is_place(answer, JOE)
    assert asker.ask(JOE, b"", user="nobody", mechanism=PROVEN).outcome is Outcome.UNKNOWN
    if Promise.DISABLED not in asker.database.lacks:
        assert asker.ask(DISABLED, b"", mechanism=PROVEN).outcome is Outcome.DENIED


def test_users_added_later_are_found(database: Database, asker: Asker, unknown: Outcome) -> None:
    late = UserRow("late", "comer", mailbox="late")
    assert asker.ask(late).outcome is unknown
    database.add(late)
    assert asker.ask(late).outcome is Outcome.OK


def test_odd_names_are_names(database: Database, asker: Asker) -> None:
    without = {Promise.COLONS: ":", Promise.QUOTES: "'\"\\"}
    unfit = "".join(letters for promise, letters in without.items() if promise in database.lacks)
    rows = [row for row in ODD if not set(unfit) & set(row.user)]
    database.add(*rows)
    answers = [(row, asker.ask(row)) for row in rows]
    assert [row for row, answer in answers if answer.outcome is not Outcome.OK or not asker.is_place(answer, row)] == []


def test_hostile_names_are_unknown(asker: Asker, unknown: Outcome) -> None:
    names = HOSTILE[::6] if Promise.QUICK in asker.database.lacks else HOSTILE
    answers = {name: asker.ask(JOE, user=name).outcome for name in names}
    assert {name: answer for name, answer in answers.items() if answer not in (unknown, Outcome.UNKNOWN)} == {}
    assert asker.ask(JOE).outcome is Outcome.OK
    assert asker.log == []


def test_hostile_namespaces_are_unknown(asker: Asker, unknown: Outcome, having: Having) -> None:
    having(Promise.NAMESPACES)
    spaces = [name for name in HOSTILE if name.isprintable()]
    assert {asker.ask(replace(JOE, namespace=name)).outcome for name in spaces} == {unknown}


# troubles

def test_a_database_that_is_down_at_first(database: Database, asker: Asker) -> None:
    database.stop()
    try:
        assert asker.ask(JOE).outcome is Outcome.FAILED
        with pytest.raises(PdmError):
            asker.module.probe()
    finally:
        database.start()
    assert asker.ask(JOE).outcome is Outcome.OK
    check_log(database, asker)


def test_a_database_that_goes_down_and_comes_back(database: Database, asker: Asker) -> None:
    assert asker.ask(JOE).outcome is Outcome.OK
    database.stop()
    try:
        assert [asker.ask(row, word).outcome for row, word in ((JOE, None), (JOE, "x"))] == [Outcome.FAILED] * 2
        assert asker.ask(JOE, user="nobody").outcome is Outcome.FAILED
    finally:
        database.start()
    assert asker.ask(JOE).outcome is Outcome.OK
    check_log(database, asker)


def test_a_damaged_database(database: Database, asker: Asker, having: Having) -> None:
    having(Promise.DAMAGE)
    assert isinstance(database, FileDatabase)
    assert asker.ask(JOE).outcome is Outcome.OK
    database.damage()
    try:
        assert [asker.ask(JOE, user=user).outcome for user in ("joe", "nobody")] == [Outcome.FAILED] * 2
        with pytest.raises(PdmError, match=str(database.path)):
            asker.module.probe()
    finally:
        database.start()
    assert asker.ask(JOE).outcome is Outcome.OK
    check_log(database, asker)


def test_a_database_that_was_replaced_meanwhile(database: Database, asker: Asker) -> None:
    assert asker.ask(JOE).outcome is Outcome.OK
    database.stop()
    database.start()
    assert asker.ask(JOE).outcome is Outcome.OK
    assert asker.log == []


@pytest.mark.parametrize("is_connected", [True, False], ids=["connected", "not connected"])
def test_a_server_that_never_answers(database: Database, asker: Asker, having: Having, is_connected: bool) -> None:
    having(Promise.WAITING)
    if is_connected:
        assert asker.ask(JOE).outcome is Outcome.OK
    database.freeze()
    try:
        began = time.monotonic()
        answer = asker.ask(JOE, seconds=SHORT)
        seconds = time.monotonic() - began
    finally:
        database.thaw()
    assert answer.outcome is Outcome.FAILED and seconds < SHORT + MARGIN
    assert asker.ask(JOE).outcome is Outcome.OK
    check_log(database, asker)


def test_a_question_without_any_time(asker: Asker) -> None:
    assert asker.ask(JOE, seconds=-1.0).outcome in (Outcome.FAILED, Outcome.OK)    # OK: nothing had to be waited for
    assert asker.ask(JOE).outcome is Outcome.OK


# resources

def test_no_connection_is_used_after_a_fork(asker: Asker) -> None:
    assert asker.ask(JOE).outcome is Outcome.OK
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            outcomes = [asker.ask(JOE).outcome, asker.ask(JOE, "x").outcome]
            asker.close()
            code = 0 if outcomes == [Outcome.OK, Outcome.DENIED] else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert asker.ask(JOE).outcome is Outcome.OK
    assert asker.log == []


def test_probe_asks_the_server_and_leaves_nothing_open(database: Database) -> None:
    module = make_module(database.module, *database.words())
    before = descriptors_of(os.getpid())
    module.probe()
    assert descriptors_of(os.getpid()).keys() == before.keys()


_LOADING = """
import json, sys
from popular.pdm.asking.loader import load_module
module = load_module(sys.argv[1], "users", sys.argv[2], sys.argv[3:])
print(json.dumps([module.describe(), sorted(sys.modules)]))
"""


def test_the_constructor_is_fit_for_the_master(database: Database, having: Having) -> None:
    having(Promise.LEAN)
    command = [sys.executable, "-S", "-c", _LOADING, pdm_dir(), database.module, *database.words()]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60, cwd=Path(pdm_dir()).parent).stdout
    words, loaded = json.loads(told)
    assert {name.partition(".")[0] for name in loaded} & (HEAVY | {database.driver}) == set()
    assert not database.secret or database.secret not in words


def test_a_missing_driver_is_named(database: Database, having: Having, monkeypatch: pytest.MonkeyPatch) -> None:
    having(Promise.DRIVER)
    monkeypatch.setitem(sys.modules, database.driver, None)
    with pytest.raises(PdmError, match=f"needs the Python package .*{database.driver}"):
        make_module(database.module, *database.words()).open()


@pytest.mark.limit(900)    # for --long
def test_many_questions_take_one_connection(database: Database, asker: Asker, unknown: Outcome,
                                            pytestconfig: pytest.Config) -> None:
    """With --long of many users; so this is the last test that needs the database."""
    users: Sequence[UserRow] = [JOE]
    rounds = refusals = 3 if Promise.QUICK in database.lacks else 100
    if pytestconfig.getoption("--long"):
        users = [*crowd(range(LONG_USERS))]
        database.add(*users)
        rounds, refusals = LONG_LOOKUPS, refusals * 10
    asker.ask(JOE, user="nobody")
    for row in users[:20]:    # of all nodes of a cluster
        asker.ask(row)
    before, dice = descriptors_of(os.getpid()), random.Random(0)
    for number in range(rounds):
        row = dice.choice(users)
        answer = asker.ask(row)
        assert answer.outcome is Outcome.OK and asker.is_place(answer, row)
        if number < refusals:
            assert asker.ask(row, "wrong").outcome is Outcome.DENIED
            assert asker.ask(row, user="nobody").outcome is unknown
    assert descriptors_of(os.getpid()).keys() == before.keys()
    if Promise.CONNECTIONS not in database.lacks:
        wait_for(lambda: database.connections() == 1)
        asker.close()
        wait_for(lambda: database.connections() == 0)


def test_every_module_with_users_is_asked_above() -> None:
    assert LACKS.keys() == kinds().keys()
    asked = {module_of(kind) for kind in LACKS}
    assert {path.stem.removeprefix("pdm_") for path in Path(pdm_dir()).glob("*.py")} == asked | WITHOUT_USERS.keys()


def check_log(database: Database, asker: Asker) -> None:
    """Check that failures were logged, each in one line, without a secret."""
    assert asker.log
    for text in asker.log:
        assert JOE.password not in text and "\n" not in text and len(text) < 1000
        assert not database.secret or database.secret not in text
