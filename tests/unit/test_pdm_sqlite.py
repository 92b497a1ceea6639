"""The module sqlite: queries, columns, parameters, and what it does with a database that is slow or damaged."""

import os
import shlex
import sqlite3
import sys
import time
from contextlib import closing, contextmanager

import pytest

from popular.errors import PdmError
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome
from popular.pdm.asking.chain import Chain
from tests.harness.pdm import make_module, make_request

TABLE = "CREATE TABLE users (user, namespace, password, backend, protocol, mailbox, buser, bpass)"
ROWS = [
    ("joe", "example.org", "{PLAIN}secret", "store1", "cxpop", "3/2d/joe", None, None),
    ("joe", "example.com", "{PLAIN}other", "store2", "", "joe.com", None, None),
    ("ann", "example.org", "{PLAIN}secret", "store3", "pop3", None, "ann", "a:b"),
    ("two", "example.org", "{PLAIN}secret", "store1", None, "m1", None, None),
    ("two", "example.org", "{PLAIN}secret", "store1", None, "m2", None, None),
    ("nil", "example.org", None, "store1", None, "m", None, None),
    ("num", "example.org", "{PLAIN}secret", "store1", None, 12345, "u", b"\xff"),
    ("flt", "example.org", "{PLAIN}secret", "store1", None, 1.5, None, None),
    ("bad", "example.org", "secret", "store1", None, "m", None, None),
]
OK = Answer(Outcome.OK, Found("store1", "cxpop", "3/2d/joe"))


@pytest.fixture
def path(tmp_path):
    """A database with the default query's table."""
    return make(tmp_path / "users #1?%41.db")


def make(path, rows=ROWS):
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(TABLE)
        database.executemany(f"INSERT INTO users VALUES ({','.join('?' * 8)})", rows)
    return path


@pytest.fixture
def module(path):
    """A function that makes a module with a query; all are closed with the test."""
    made = []

    def load(*query):
        made.append(make_module("sqlite", path, *query))
        return made[-1]
    yield load
    for one in made:
        one.close()
        one.close()


@pytest.mark.parametrize("user, password, namespace, outcome, found", [
    ("joe", "secret", "example.org", "ok", Found("store1", "cxpop", "3/2d/joe")),
    ("joe", "other", "example.com", "ok", Found("store2", "", "joe.com")),
    ("joe", "other", "example.org", "denied", Found("store1", "cxpop", "3/2d/joe")),
    ("ann", "secret", "example.org", "ok", Found("store3", "pop3", "", "ann", b"a:b")),
    ("num", "secret", "example.org", "ok", Found("store1", "", "12345", "u", b"\xff")),
    ("joe", "secret", "example.net", "unknown", None),
    ("' OR 1=1 --", "secret", "example.org", "unknown", None),
    ("j\udcffe", "secret", "example.org", "unknown", None),
    ("two", "secret", "example.org", "failed", None),
    ("nil", "secret", "example.org", "failed", None),
    ("flt", "secret", "example.org", "failed", None),
    ("bad", "secret", "example.org", "failed", None),
])
def test_the_default_query(module, user, password, namespace, outcome, found):
    answer = module().check(make_request(user, password, namespace=namespace))
    assert (answer.outcome, answer.found) == (Outcome(outcome), found)
    assert "secret" not in answer.why and bool(answer.why) is (outcome in ("denied", "failed"))


@pytest.mark.parametrize("query", [
    "SELECT password, backend, protocol, mailbox FROM users WHERE user = :user AND namespace = :namespace",
    "SELECT password AS p, backend AS b, protocol, mailbox FROM users WHERE user = :user AND namespace = :namespace",
    "SELECT mailbox, 'x' AS y, protocol, backend, PASSWORD FROM users WHERE user = :user AND namespace = :namespace",
    "WITH u AS (SELECT * FROM users) SELECT * FROM u WHERE user = :local AND namespace = :namespace",
    "select '{PLAIN}secret', 'store1', 'cxpop', '3/2d/joe' where :user = 'joe'",
])
def test_columns_by_name_or_in_order(module, query):
    assert module(query).check(make_request("joe")) == OK
    assert module(*query.split()).check(make_request("joe")) == OK


def test_columns_that_change_their_order_are_found_again(module, path):
    made = module("SELECT * FROM users WHERE user = :user AND namespace = :namespace")
    assert made.check(make_request("joe")) == made.check(make_request("joe")) == OK
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE other AS SELECT mailbox, backend, protocol, password, user, namespace "
                         "FROM users")
        database.execute("DROP TABLE users")
        database.execute("ALTER TABLE other RENAME TO users")
    assert made.check(make_request("joe")) == OK


@pytest.mark.parametrize("where, user", [
    (":user = 'joe@a.org'", "joe@a.org"), (":user || :local = 'joe@a.orgjoe'", "joe@a.org"),
    (":local = 'joe' AND :domain = 'a.org'", "joe@a.org"), (":local = 'a@b' AND :domain = 'c'", "a@b@c"),
    (":local = 'joe' AND :domain = ''", "joe"), (":local = '@joe' AND :domain = ''", "@joe"),
    (":user = 'joe' AND :ip = '127.0.0.1' AND :protocol = 'pop3' AND :namespace = 'example.org'", "joe"),
    (":user = 'jöe'", "jöe"),
])
def test_parameters(module, where, user):
    query = f"SELECT '{{PLAIN}}secret', 'store1', 'cxpop', '3/2d/joe' WHERE {where}"
    assert module(query).check(make_request(user)) == OK


@pytest.mark.parametrize("query", ["SELECT '{PLAIN}secret' WHERE :user = 'joe'",
                                   "SELECT 1,2,3,4,5,6,7 WHERE :user = 'joe'"])
def test_a_wrong_number_of_columns_is_a_failure(module, query):
    answer = module(query).check(make_request("joe"))
    assert answer.outcome is Outcome.FAILED and "columns; they must be password, backend" in answer.why


@pytest.mark.parametrize("query, why", [
    ("SELECT foo FROM users WHERE user = :user", "no such column: foo"),
    ("WITH x AS (SELECT :user) DELETE FROM users", "readonly database"),
])
def test_what_sqlite_says_is_told(module, query, why):
    with pytest.raises(PdmError, match=why):
        module(query).check(make_request("joe"))


@pytest.mark.parametrize("args", [["/x", "DELETE FROM users WHERE user = :user"], ["/x", "PRAGMA x = :user"],
                                  ["/x", "SELECT password FROM users"], ["/x", "SELECT 1 WHERE :user = :pass"], []])
def test_wrong_arguments(args):
    with pytest.raises(PdmError, match="is missing: the database|wanted: sqlite FILE|neither :user nor :local|"
                                       "unknown parameter 'pass'"):
        make_module("sqlite", *args)


@pytest.mark.parametrize("timeout, own", [(0.05, 10.0), (30.0, 0.05)], ids=["the chain's", "its own"])
def test_an_endless_query_is_interrupted_by_the_nearer_deadline(module, monkeypatch, timeout, own):
    made = module("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) "
                  "SELECT '{PLAIN}x', 'store1' FROM n WHERE x < 0 AND :user = 'joe'")
    monkeypatch.setattr(sys.modules["popular_pdm_sqlite"], "MAX_SECONDS", own)
    chain = Chain([made], timeout, lambda message, **fields: None)
    began = time.monotonic()
    assert chain.check(make_request("joe")).outcome is Outcome.FAILED
    assert time.monotonic() - began < 5
    chain.close()


@contextmanager
def writing(path):
    """Hold the lock of a writer; yields a function that ends the transaction."""
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        yield lambda: writer.execute("COMMIT")


def test_a_writer_is_waited_for(module, path, monkeypatch):
    made = module()
    tries = []
    connection = made._connection

    def again():
        tries.append(time.monotonic())
        if len(tries) == 3:
            commit()
        return connection()

    monkeypatch.setattr(made, "_connection", again)
    with writing(path) as commit:
        assert made.check(make_request("joe")) == OK
    assert tries[-1] - tries[0] > 0.25


@pytest.mark.parametrize("timeout, own", [(0.05, 10.0), (30.0, 0.05)], ids=["the chain's", "its own"])
def test_a_locked_database_is_a_failure_at_the_nearer_deadline(module, path, monkeypatch, timeout, own):
    made, whys = module(), []
    monkeypatch.setattr(sys.modules["popular_pdm_sqlite"], "LOCK_SECONDS", own)
    chain = Chain([made], timeout, lambda message, why, **fields: whys.append(why))
    with writing(path):
        began = time.monotonic()
        assert chain.check(make_request("joe")).outcome is Outcome.FAILED
        assert time.monotonic() - began < 3
    assert whys == ["no answer within 0.05 s" if timeout < own else f"{path}: SQLite says: database is locked"]
    assert chain.check(make_request("joe")).outcome is Outcome.OK
    chain.close()


def test_changes_and_replacements_are_seen_at_the_next_login(module, path, tmp_path):
    made = module()
    assert made.check(make_request("joe")) == OK
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM users WHERE user = 'joe'")
    assert made.check(make_request("joe")) == UNKNOWN
    os.rename(make(tmp_path / "new"), path)
    assert made.check(make_request("joe")) == OK


def test_a_missing_database_is_not_made(module, path):
    os.unlink(path)
    made = module()
    made.open()
    with pytest.raises(FileNotFoundError):
        made.check(make_request("joe"))
    assert not path.exists()


def test_describe_makes_the_module_anew(module, path):
    made = module("SELECT * FROM users WHERE user = :user AND namespace = 'a b'")
    assert shlex.split(made.describe()) == made.args
