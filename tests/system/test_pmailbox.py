"""pmailbox as administrators and scripts run it, and the way of a mail by its answer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from popular.version import VERSION
from tests.harness.daemon import ROOT, Daemon
from tests.harness.popclient import PopClient
from tests.harness.site import deliver
from tests.harness.tools import run_octets


def pmailbox(*words: str | bytes, users: bytes = b"", code: int = 0) -> tuple[bytes, str]:
    """Run pmailbox, which must end with `code`; returns standard output and error."""
    done = run_octets("pmailbox", *words, stdin=users)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr.decode("ascii")


@pytest.mark.parametrize(("words", "out"), [
    (["joe.doe"], b"9/3e/joe.doe\n"),
    (["joe.doe", "ann"], b"9/3e/joe.doe\n7/e0/ann\n"),
    (["-l", "2,2", "joe.doe"], b"93/e8/joe.doe\n"),
    (["--levels=3", "joe.doe"], b"93e/joe.doe\n"),
    (["-p", "%d/%1h/%l", "joe@example.org"], b"example.org/4/joe\n"),
    (["--pattern", "%n/%u", "-n", "example.org", "joe"], b"example.org/joe\n"),
    (["--pattern=%n/%u", "joe"], b"default/joe\n"),
    (["--namespace", "x", "--pattern=%n/%u", "joe"], b"x/joe\n"),
    (["--map", "joe.doe"], b"joe.doe 9/3e/joe.doe\n"),
    (["--", "-joe"], b"0/5d/-joe\n"),
])
def test_options(words: list[str], out: bytes) -> None:
    assert pmailbox(*words) == (out, "")


@pytest.mark.parametrize("words", [[], ["-"]])
def test_users_from_standard_input(words: list[str]) -> None:
    assert pmailbox("--map", *words, users=b"joe.doe\r\n\nann") == (b"joe.doe 9/3e/joe.doe\nann 7/e0/ann\n", "")


def test_names_of_which_there_is_no_mailbox_are_told_and_the_others_done() -> None:
    out, err = pmailbox("j\u00f6", "joe.doe", "", code=65)
    assert out == b"9/3e/joe.doe\n"
    assert err.splitlines() == ["pmailbox: 'j\\xf6': no mailbox can be made of this name",
                                "pmailbox: '': no mailbox can be made of this name"]
    assert pmailbox("a" * 513, code=65)[0] == b""
    assert pmailbox("-p", "a b/%u", "joe", code=65)[0] == b""


def test_usage_of_mailboxes(tmp_path: Path) -> None:
    for folder in ("new", "cur"):
        (tmp_path / "9/3e/joe.doe" / folder).mkdir(parents=True)
        (tmp_path / "9/3e/joe.doe" / folder / "1.2_300").touch()
    (tmp_path / "9/3e/joe.doe/cur/1.M5P3.host:2,S").write_bytes(b"12345")
    out, err = pmailbox("--usage", "-m", str(tmp_path), "9/3e/joe.doe", "ann", "../x", code=65)
    assert out == b"3 605 9/3e/joe.doe\n"
    assert err.splitlines() == [f"pmailbox: 'ann': {tmp_path}/ann/new: No such file or directory",
                                "pmailbox: '../x': not a mailbox name"]
    assert "--user needs --usage" in pmailbox("--user", "joe", code=64)[1]


def test_digits_are_those_of_the_octets_in_every_locale() -> None:
    octets = "jö".encode() + b"\xff"
    for name in ("C", "C.UTF-8"):
        done = subprocess.run([sys.executable, str(ROOT / "bin/pmailbox"), "-p", "%8h", octets], timeout=30, check=True,
                              stdout=subprocess.PIPE, env={**os.environ, "LC_ALL": name, "PYTHONUTF8": "0"})
        assert done.stdout == pmailbox("-p", "%8h", users=octets)[0]


@pytest.mark.parametrize("words", [
    ["--lev", "1", "x"], ["-l", "", "x"], ["-l", "0", "x"], ["-l", "9", "x"], ["-l", "8,8,8,8,1", "x"],
    ["-p", "%x", "x"], ["-p", "%u", "-l", "1", "x"], ["-n", "a b", "x"]])
def test_a_wrong_command_line_is_64(words: list[str]) -> None:
    assert "Try 'pmailbox --help'." in pmailbox(*words, code=64)[1]


def test_help_and_version() -> None:
    assert b"--levels" in pmailbox("--help")[0]
    assert pmailbox("--version") == (f"pmailbox {VERSION}\n".encode(), "")


def test_a_reader_that_leaves_is_no_fault() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([sys.executable, str(ROOT / "bin/pmailbox"), "joe"], stdout=writing,
                              stderr=subprocess.PIPE, timeout=30)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (65, b"")


def test_mail_delivered_by_its_answer_is_what_the_module_any_leads_to(start, spool: Path) -> None:
    pserv: Daemon = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})
    pproxy: Daemon = start("pproxy", {
        "vserv": {"main": {"address": "127.0.0.1:0"}},
        "backend": {"local": {"protocol": "xpop", "address": pserv.endpoint()}},
        "pdm": {"all": {"module": "any", "args": "local %1h/%2h/%u"}}})
    mailbox = pmailbox("joe.doe")[0].decode().strip()
    deliver(spool, mailbox, b"Subject: hello\n\n")
    with PopClient(pproxy.endpoint()) as client:
        client.greeting()
        client.ok("USER joe.doe")
        client.ok("PASS x")
        assert client.ok("STAT").startswith(b"1 ")
