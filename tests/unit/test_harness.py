"""The parts of the harness that need no daemon."""

import os
import subprocess
import sys

import pytest

from tests.harness.daemon import ini_text
from tests.harness.mail import crlf
from tests.harness.system import children_of, is_alive, state_of, wait_for


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


def test_a_zombie_is_not_alive():
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        wait_for(lambda: state_of(process.pid) == "Z", 5.0)
        assert process.pid in children_of(os.getpid())
        assert not is_alive(process.pid)
