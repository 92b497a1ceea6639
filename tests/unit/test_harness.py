"""The parts of the harness that need no daemon."""

import os
import socket
import subprocess
import sys

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import ini_text
from tests.harness.mail import crlf
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
