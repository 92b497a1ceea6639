"""The parts of the demo that need no daemon."""

import pytest

from demo.accounts import ACCOUNTS, MASTER_PASSWORD, crypted, write_database
from demo.journal import shorten
from demo.letters import LETTERS, letter
from popular.pdm.api import Found, Outcome, Request
from popular.pdm.loader import load_module
from popular.pdm.secrets import verify
from tests.harness.daemon import ROOT


@pytest.mark.parametrize("account", ACCOUNTS, ids=lambda account: f"{account.name}@{account.namespace}")
def test_every_account_is_found_with_its_password(account, tmp_path):
    write_database(tmp_path / "users")
    module = load_module(str(ROOT / "pdm_modules"), "users", "sqlite", [str(tmp_path / "users")])
    module.open()
    answer = module.check(Request(account.name, account.password.encode(), "127.0.0.1", "pop3", account.namespace))
    module.close()
    assert answer.outcome is Outcome.OK
    assert answer.found == Found(account.backend, "", account.mailbox, account.buser, account.bpass.encode())


def test_the_master_password_fits_its_hash():
    assert verify(crypted(MASTER_PASSWORD), MASTER_PASSWORD.encode())


def test_letters_differ():
    texts = [letter(number) for number in range(len(LETTERS))]
    assert len(set(texts)) == len(texts)
    assert all(text.endswith(b"\n") and b"\n\n" in text for text in texts)


def test_a_log_line_is_shortened():
    line = "20040821 121929 mx1 pproxy 4711 demo-1 INF 0242 login user='anna' backend='store'"
    assert shorten(line) == "12:19:29 pproxy INF 0242 login user='anna' backend='store'"
