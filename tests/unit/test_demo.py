"""The parts of the demo that need no daemon."""

import shlex
import sys
from contextlib import ExitStack

import pytest

from demo.accounts import ACCOUNTS, CARLA, MASTER_PASSWORD, crypted
from demo.databases import BY_NAME_ONLY, WITHOUT_LOGINS, make_users, names, passwords_elsewhere
from demo.journal import shorten
from demo.letters import LETTERS, letter
from demo.servers import SERVERS, Missing
from popular.pdm.api import Answer, Found, Outcome, Request
from popular.pdm.asking.loader import load_module
from popular.pdm.secrets import verify
from tests.harness.daemon import ROOT
from tests.harness.needs import need_module


FILES = [name for name in names() if name not in SERVERS]


@pytest.mark.parametrize("database", FILES)
def test_every_account_is_found_with_its_password(database, tmp_path):
    if database == "lmdb":
        need_module("lmdb")
    with ExitStack() as stack:
        rows = make_users(database, tmp_path, tmp_path, stack)
        for account in ACCOUNTS:
            answer = _ask(rows, account, with_domain=database in BY_NAME_ONLY)
            assert answer == Answer(Outcome.OK, _place(database, account))


def _ask(rows, account, *, with_domain):
    """Return what the first of the modules says that knows an account."""
    user = f"{account.name}@{account.namespace}" if with_domain else account.name
    for row in rows.values():
        module = load_module(str(ROOT / "pdm_modules"), "users", row["module"], shlex.split(row["args"]))
        module.open()
        try:
            answer = module.check(Request(user, account.password.encode(), "127.0.0.1", "pop3", account.namespace))
        finally:
            module.close()
        if answer.outcome is not Outcome.UNKNOWN:
            break
    return answer


def _place(database, account):
    """Return where the mail of an account is."""
    if account is CARLA and database in ("dovecot", *WITHOUT_LOGINS):
        password = passwords_elsewhere(database)[CARLA.buser].encode()
        return Found(account.backend, "pop3", "", account.buser, password, verified=database != "route")
    if database == "pam":
        return Found(account.backend, "cxpop", account.mailbox)
    return Found(account.backend, "", account.mailbox, account.buser, account.bpass.encode())


@pytest.mark.parametrize("database, module, extra", [
    ("lmdb", "lmdb", "lmdb"), ("pgsql", "psycopg", "pgsql"), ("mysql", "pymysql", "mysql"), ("ldap", "ldap", "ldap"),
    ("redis", "redis", "redis"), ("http", "urllib3", "http")])
def test_what_is_missing_is_named(database, module, extra, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with ExitStack() as stack, pytest.raises(Missing) as why:
        make_users(database, tmp_path, tmp_path, stack)
    assert f"DB={database} needs" in str(why.value) and f".venv/bin/pip install -e '.[{extra}]'" in str(why.value)


def test_the_master_password_fits_its_hash():
    assert verify(crypted(MASTER_PASSWORD), MASTER_PASSWORD.encode())


def test_letters_differ():
    texts = [letter(number) for number in range(len(LETTERS))]
    assert len(set(texts)) == len(texts)
    assert all(text.endswith(b"\n") and b"\n\n" in text for text in texts)


def test_a_log_line_is_shortened():
    line = "20040821 121929 mx1 pproxy 4711 demo-1 INF 0242 login user='anna' backend='store'"
    assert shorten(line) == "12:19:29 pproxy INF 0242 login user='anna' backend='store'"
