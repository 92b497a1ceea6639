"""What nobody can be told does not change how a program ends: standard error is full or closed."""

import subprocess
import sys

import pytest

from tests.harness.daemon import ROOT

COMMANDS = [
    "pstatus --nonsense", "pstatus -f /nonexistent", "pcontrol --nonsense",
    "pcontrol -p pserv -R /nonexistent -c version",
    "pmakecdb --nonsense", "pmakecdb /nonexistent/x /nonexistent", "pcheck --nonsense", "pcheck -s 127.0.0.1:1 joe",
    "plmdb --nonsense", "plmdb /nonexistent/x /nonexistent", "ppasswd --nonsense", "ppasswd -d /nonexistent joe",
    "poauth --nonsense", "poauth -c /nonexistent list",
    "ptestpdm --nonsense", "ptestpdm /nonexistent", "pmailbox --nonsense", "pmailbox ''", "pdeliver --nonsense",
    "pdeliver --mailboxdir /nonexistent joe", "pclean --nonsense", "pclean -c /nonexistent", "pserv --nonsense",
    "pserv -c /nonexistent", "pproxy -c /nonexistent", "pcheckd -c /nonexistent", "ringd --nonsense",
]


def code_of(command: str, redirection: str) -> int:
    """Return the exit code of a program of ours, started by a shell."""
    program, _, words = command.partition(" ")
    return subprocess.run(["/bin/sh", "-c", f'"$0" "$1" {words} {redirection}', sys.executable, ROOT / "bin" / program],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=60).returncode


@pytest.mark.parametrize("command", COMMANDS)
def test_who_cannot_be_told_changes_no_exit_code(command: str) -> None:
    codes = [code_of(command, redirection) for redirection in ("2>/dev/null", "2>/dev/full", "2>&-")]
    assert codes[0] != 0 and len(set(codes)) == 1, codes
