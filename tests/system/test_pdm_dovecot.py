"""The module dovecot with a real Dovecot: its file and its auth socket say the same, and what happens without it."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from popular.errors import PdmError
from popular.pdm.api import Answer, Found, Outcome
from tests.harness.dovecot import Dovecot, NoDovecot
from tests.harness.needs import lacking
from tests.harness.pdm import make_module, make_request
from tests.harness.system import descendants_of

USERS = {
    "joe": "secret", "odd$*(x)ü": "p w'\\\"%ü", "proxy": "secret::::::proxy=y host=10.0.0.5",
    "passed": "secret::::::proxy=y host=10.0.0.5 user=other pass=ba'ck",
    "nologin": "secret::::::nologin=y reason=moved",
    "far": "secret::::::allow_nets=10.0.0.0/8", "near": "secret::::::allow_nets=192.0.2.0/24",
    "checked": "::::::nopassword=y proxy=y host=10.0.0.5",
}
MORE = """\
auth_username_chars =
auth_failure_delay = 0
service auth {{
  unix_listener popular {{
    mode = 0600
  }}
}}
"""
WORDS = ("backend=main", "backends=10.0.0.5=store1", "scheme=PLAIN", "timeout=1s")


def start(folder: Path) -> Dovecot:
    """Start a Dovecot, or end the test."""
    try:
        return Dovecot.start(folder, USERS, more=MORE)
    except NoDovecot as why:
        lacking(str(why))


def send(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to those of these processes that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that Dovecot can enter when root starts it, with a short name."""
    made = Path(tempfile.mkdtemp(prefix="popular-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def dovecot(folder: Path) -> Iterator[Dovecot]:
    """A running Dovecot."""
    with start(folder / "one") as server:
        yield server


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


def test_the_file_knows_who_is_unknown_and_the_socket_refuses(modules):
    for user in ("nobody", "a\tb", "j\udcff", "x" * 255):
        assert [module.check(make_request(user)).outcome for module in modules] == [Outcome.UNKNOWN, Outcome.DENIED]


def test_a_dovecot_that_goes_and_comes_back(folder):
    module = make_module("dovecot", f"socket={folder}/two/base/popular", *WORDS)
    ok = Answer(Outcome.OK, Found("main", "pop3", "", "joe", b"secret"))
    with pytest.raises(PdmError, match="No such file"):
        module.probe()
    with start(folder / "two") as server:
        assert module.check(make_request("joe")) == ok
        family = [server.process.pid, *descendants_of(server.process.pid)]
        send(family, signal.SIGSTOP)
        with pytest.raises(PdmError, match="no answer within|no time was left"):
            module.check(make_request("joe"))
        send(family, signal.SIGCONT)
        assert module.check(make_request("joe")) == ok
    with pytest.raises(PdmError, match="Connection refused|No such file"):
        module.check(make_request("joe"))
    shutil.rmtree(folder / "two")
    with start(folder / "two"):
        assert module.check(make_request("joe")) == ok
        module.close()
