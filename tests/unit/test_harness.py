"""The parts of the harness that need no daemon."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import ROOT, ini_text
from tests.harness.catalogue import Seen
from tests.harness.databases.keeper import Keeper
from tests.harness.mail import crlf
from tests.harness.shares import IN_CHECKOUT, SLOW, note, noted, portions, take
from tests.harness.system import BUSY, children_of, is_alive, state_of, wait_for
from tests.harness.toyclient import is_refused


@pytest.mark.parametrize("given, wanted", [
    pytest.param(b"a\nb\n", b"a\r\nb\r\n", id="lf"),
    pytest.param(b"a\r\nb\r\n", b"a\r\nb\r\n", id="crlf"),
    pytest.param(b"a\nb", b"a\r\nb\r\n", id="no final line end"),
    pytest.param(b"a\rb\n", b"a\rb\r\n", id="a bare CR stays"),
    pytest.param(b"", b"", id="empty"),
    pytest.param(b"\n\n", b"\r\n\r\n", id="empty lines"),
])
def test_crlf(given, wanted):
    assert crlf(given) == wanted


def test_ini_text():
    text = ini_text({"pserv": {"debug": "on"}, "server": {"main": {"address": "127.0.0.1:0"}}})
    assert text == "[pserv]\ndebug = on\n[server]\n    [[main]]\n    address = 127.0.0.1:0\n"


def test_a_child_that_a_server_forks_while_it_is_stopped_is_stopped_too(tmp_path, monkeypatch):
    keeper = Keeper(["sh", "-c", "sleep 1000 & wait"], tmp_path / "log")
    keeper.start()
    try:
        look = keeper.family
        wait_for(lambda: len(look()) == 2, 5.0, "the child")
        before_the_fork = iter([[keeper.pid]])
        monkeypatch.setattr(keeper, "family", lambda: next(before_the_fork, None) or look())
        keeper.freeze()
        assert [state_of(pid) for pid in look()] == ["T", "T"]
    finally:
        keeper.close()


def test_waiting_in_vain_fails():
    with pytest.raises(AssertionError, match="nothing at all"):
        wait_for(lambda: False, 0.01, "nothing at all")


def test_a_busy_machine_gets_longer(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("tests.harness.system.time", Clock(lambda: next(clock)))
    answers = iter([0] * (5 * BUSY - 1) + [7])
    assert wait_for(lambda: next(answers), 5.0) == 7


class Clock:
    """Stands in for the module time: each look at it is a second later, and sleep takes none."""

    def __init__(self, look):
        self.monotonic = look

    def sleep(self, _):
        """Do not."""


def test_a_zombie_is_not_alive():
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        wait_for(lambda: state_of(process.pid) == "Z", 5.0)
        assert process.pid in children_of(os.getpid())
        assert not is_alive(process.pid)


class Connecting:
    """Stands in for socket.create_connection and has these outcomes, the last one for ever."""

    def __init__(self, *outcomes):
        self._outcomes = list(outcomes)

    def __call__(self, *_):
        outcome = self._outcomes.pop(0) if len(self._outcomes) > 1 else self._outcomes[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.mark.parametrize("outcomes, wanted", [
    pytest.param([ConnectionRefusedError()], True, id="refused"),
    pytest.param([socket.socket], False, id="connected"),
    pytest.param([TimeoutError()], False, id="a full backlog"),
    pytest.param([ConnectionResetError(), ConnectionRefusedError()], True, id="closed meanwhile"),
    pytest.param([ConnectionAbortedError(), ConnectionRefusedError()], True, id="closed meanwhile, aborted"),
    pytest.param([ConnectionResetError(), socket.socket], False, id="another one listens"),
])
def test_a_port_is_refused_or_not(monkeypatch, outcomes, wanted):
    made = [outcome() if outcome is socket.socket else outcome for outcome in outcomes]
    monkeypatch.setattr(socket, "create_connection", Connecting(*made))
    assert is_refused(Endpoint("127.0.0.1", 1)) is wanted


def test_a_port_that_resets_for_ever_is_told(monkeypatch):
    monkeypatch.setattr(socket, "create_connection", Connecting(ConnectionResetError()))
    with pytest.raises(AssertionError, match="resets every connection"):
        is_refused(Endpoint("127.0.0.1", 1))


def test_a_share_is_a_file_or_those_that_build_in_the_checkout():
    """The slow ones come first."""
    paths = [Path("/unit/test_a.py"), Path("/system/test_a.py"), *(Path("/system", name) for name in IN_CHECKOUT),
             Path("/system/test_tls.py")]
    found = portions(SimpleNamespace(path=path) for path in paths)
    assert [name for name, _ in found] == ["in the checkout", "+system+test_tls.py", "+unit+test_a.py",
                                           "+system+test_a.py"]
    assert [file.path for file in found[2][1]] == [paths[0]]
    assert len(found[0][1]) == len(IN_CHECKOUT)


SHARING = """
import os, pytest
from pathlib import Path
from tests.harness.shares import Share

@pytest.fixture(scope="session", autouse=True)
def of_the_session():
    print("begin")
    yield
    print("end")

def pytest_configure(config):
    config.pluginmanager.register(Share(Path("share")), "share")

def pytest_runtestloop(session):
    session.config.pluginmanager.get_plugin("share").run(session)
    return True
"""


def test_a_run_imports_what_it_takes_and_keeps_the_fixtures_of_the_session(tmp_path):
    files = {"a": "print('import a')\ndef test_1(): print('test 1')\ndef test_2(): print('test 2')\n",
             "b": "print('import b')\ndef test_3(): print('test 3')\n", "taken": "raise RuntimeError\n"}
    for name, text in files.items():
        (tmp_path / f"test_{name}.py").write_text(text)
    (tmp_path / "conftest.py").write_text(SHARING)
    share = tmp_path / "share"
    share.mkdir()
    (share / str(tmp_path / "test_taken.py").replace(os.sep, "+")).touch()
    done = subprocess.run([sys.executable, "-m", "pytest", "-qs", "-p", "no:cacheprovider", "--rootdir", tmp_path, "."],
                          cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"(?:begin|end|import \w|test \d)$", done.stdout.replace(".", ""), re.MULTILINE) == [
        "import a", "begin", "test 1", "test 2", "import b", "test 3", "end"]
    assert "3 passed" in done.stdout and len(list(share.iterdir())) == len(files)


def test_files_of_shares_exist():
    there = {path.name for path in Path(__file__).parents[1].rglob("test_*.py")}
    assert {*SLOW, *IN_CHECKOUT} <= there


def test_a_share_is_taken_once_and_tells_what_it_saw(tmp_path):
    assert [take(tmp_path / "a"), take(tmp_path / "a"), take(tmp_path / "b")] == [True, False, True]
    seen = Seen()
    seen.messages = {(1, "start"), (0x20a, "log_not_reopened")}
    note(seen, tmp_path)
    (tmp_path / "999999.seen").write_text("2 stop\n")
    assert noted(tmp_path).messages == seen.messages | {(2, "stop")}
