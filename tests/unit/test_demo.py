"""The parts of the demo that need no daemon."""

import sqlite3
from contextlib import closing

import pytest

from demo.accounts import ACCOUNTS, MASTER_PASSWORD, QUERY, crypted, write_database
from demo.journal import shorten
from demo.letters import LETTERS, letter
from popular.pdm.secrets import verify


@pytest.mark.parametrize("account", ACCOUNTS, ids=lambda account: f"{account.name}@{account.namespace}")
def test_every_account_is_found_with_its_password(account, tmp_path):
    write_database(tmp_path / "users")
    with closing(sqlite3.connect(tmp_path / "users")) as database:
        row = database.execute(QUERY, {"namespace": account.namespace, "user": account.name}).fetchone()
    assert verify(row[0], account.password.encode())
    assert row[1:] == (account.backend, account.mailbox, account.backend_user, account.backend_password)


def test_the_master_password_fits_its_hash():
    assert verify(crypted(MASTER_PASSWORD), MASTER_PASSWORD.encode())


def test_letters_differ():
    texts = [letter(number) for number in range(len(LETTERS))]
    assert len(set(texts)) == len(texts)
    assert all(text.endswith(b"\n") and b"\n\n" in text for text in texts)


def test_a_log_line_is_shortened():
    line = "20040821 121929 mx1 pproxy 4711 demo-1 INF 0242 login user='anna' backend='store'"
    assert shorten(line) == "12:19:29 pproxy INF 0242 login user='anna' backend='store'"
