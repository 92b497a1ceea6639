"""The module dovecot with a real Dovecot: its file and its auth socket say the same."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from popular.pdm.api import Found, Outcome
from tests.harness.databases.dovecot_socket import AUTH_SERVICE
from tests.harness.dovecot import Dovecot, NoDovecot
from tests.harness.needs import lacking
from tests.harness.pdm import make_module, make_request

USERS = {
    "joe": "secret", "odd$*(x)ü": "p w'\\\"%ü", "proxy": "secret::::::proxy=y host=10.0.0.5",
    "passed": "secret::::::proxy=y host=10.0.0.5 user=other pass=ba'ck",
    "nologin": "secret::::::nologin=y reason=moved",
    "far": "secret::::::allow_nets=10.0.0.0/8", "near": "secret::::::allow_nets=192.0.2.0/24",
    "checked": "::::::nopassword=y proxy=y host=10.0.0.5",
}
WORDS = ("backend=main", "backends=10.0.0.5=store1", "scheme=PLAIN", "timeout=1s")


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    """A running Dovecot, in a folder that it can enter when root starts it, with a short name."""
    folder = Path(tempfile.mkdtemp(prefix="popular-"))
    folder.chmod(0o755)
    try:
        with Dovecot.start(folder, USERS, more=AUTH_SERVICE) as server:
            yield server
    except NoDovecot as why:
        lacking(str(why))
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def modules(dovecot: Dovecot) -> Iterator[list[Any]]:
    """The module with the file, and with the socket."""
    made = [make_module("dovecot", f"file={dovecot.folder}/users", *WORDS),
            make_module("dovecot", f"socket={dovecot.folder}/base/popular", *WORDS)]
    for module in made:
        module.open()
    yield made
    for module in made:
        module.close()


@pytest.mark.parametrize("user, password, outcome, found", [
    ("joe", "secret", "ok", Found("main", "pop3", "", "joe", b"secret")),
    ("joe", "Secret", "denied", None),
    ("joe", "", "denied", None),
    ("odd$*(x)ü", "p w'\\\"%ü", "ok", Found("main", "pop3", "", "odd$*(x)ü", "p w'\\\"%ü".encode())),
    ("proxy", "secret", "ok", Found("store1", "pop3", "", "proxy", b"secret")),
    ("passed", "secret", "ok", Found("store1", "pop3", "", "other", b"ba'ck")),
    ("passed", "wrong", "denied", None),
    ("checked", "any", "ok", Found("store1", "pop3", "", "checked", b"any")),
    ("nologin", "secret", "denied", None),
    ("far", "secret", "denied", None),
    ("near", "secret", "ok", Found("main", "pop3", "", "near", b"secret")),
])
def test_file_and_socket_say_the_same(modules, user, password, outcome, found):
    answers = [module.check(make_request(user, password, ip="192.0.2.7")) for module in modules]
    assert [answer.outcome for answer in answers] == [Outcome(outcome)] * 2
    if found is not None:
        assert [answer.found for answer in answers] == [found] * 2
        assert [answer.found.verified for answer in answers] == [user not in ("proxy", "checked")] * 2
