"""The module pam with services of its own: what PAM's answers mean, and what the module never does."""

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from popular.errors import PdmError
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome
from popular.pdm.databases.libpam import PamAnswer
from tests.harness.daemon import ROOT
from tests.harness.markdown import code_blocks
from tests.harness.needs import need_pam
from tests.harness.pdm import make_module, make_request

PAGE = ROOT / "docs/databases/pam.md"
JOE = Found("store1", "cxpop", "8/joe", verified=True)

# Tells in a file for what it was called, and knows joe.
_SCRIPT = """#!/bin/sh
echo "$PAM_TYPE $PAM_USER $PAM_RHOST $PAM_SERVICE" >> "$0.log"
[ "$PAM_TYPE" = auth ] || exit 0
IFS= read -r password
[ "$PAM_USER:$password" = "joe:s3cret" ]
"""
_SERVICE = """\
auth [success=1 default=ignore] pam_exec.so quiet expose_authtok {script}
auth requisite pam_deny.so
auth required pam_permit.so
account required pam_exec.so quiet {script}
session required pam_exec.so quiet {script}
"""


@pytest.fixture
def confdir(tmp_path: Path) -> Path:
    """A folder of services with the service `popular`, which a script serves."""
    need_pam("debug")
    script = tmp_path / "script"
    script.write_text(_SCRIPT)
    script.chmod(0o755)
    (tmp_path / "popular").write_text(_SERVICE.format(script=script))
    return tmp_path


@pytest.fixture
def load(confdir: Path) -> Callable[..., Any]:
    """A function that makes an open module; the arguments change the usual ones."""
    def make(**more: str | None) -> Any:
        values = {"confdir": str(confdir), "backend": "store1", "protocol": "cxpop", "mailbox": "%1h/%u", **more}
        module = make_module("pam", *(f"{name}={value}" for name, value in values.items() if value is not None))
        module.open()
        return module
    return make


def calls(confdir: Path) -> list[str]:
    """Return for what the script was called."""
    log = confdir / "script.log"
    return log.read_text().splitlines() if log.exists() else []


def test_authentication_and_account_check_but_no_session(load, confdir):
    assert load().check(make_request("joe", "s3cret", ip="192.0.2.7")) == Answer(Outcome.OK, JOE)
    assert calls(confdir) == ["auth joe 192.0.2.7 popular", "account joe 192.0.2.7 popular"]


@pytest.mark.parametrize("password", ["S3cret", "s3cret ", b"\xff", b"x" * 511])
def test_a_wrong_password(load, confdir, password):
    assert load().check(make_request("joe", password)) == Answer(Outcome.DENIED, JOE, "Authentication failure")
    assert calls(confdir) == ["auth joe 127.0.0.1 popular"]


@pytest.mark.parametrize("password", ["", "\0", "s3cret\0", b"x" * 512])
def test_passwords_that_pam_cannot_take_are_wrong(load, confdir, password):
    assert load().check(make_request("joe", password)) == Answer(Outcome.DENIED, JOE, "wrong password")
    assert calls(confdir) == []


@pytest.mark.parametrize("protocol", ["cxpop", "pop3"])
@pytest.mark.parametrize("user", ["", "joe\0", "joe\r\n", "\x1b[2J", "\x7f", "x" * 256, "\ud800"])
def test_names_that_nobody_has_are_unknown_without_asking(load, confdir, protocol, user):
    assert load(protocol=protocol).check(make_request(user, "s3cret")) == UNKNOWN
    assert calls(confdir) == []


@pytest.mark.parametrize("user", ["../joe", "a/b", ".joe", "two words", "jöe"])
def test_names_that_no_mailbox_has_are_unknown_without_asking(load, confdir, user):
    assert load().check(make_request(user, "s3cret")) == UNKNOWN
    assert calls(confdir) == []


@pytest.mark.parametrize("stage, code, outcome", [
    ("auth", "success", "ok"), ("auth", "user_unknown", "unknown"),
    *(("auth", code, "denied") for code in ("auth_err", "perm_denied", "maxtries", "acct_expired")),
    *(("auth", code, "failed") for code in ("authinfo_unavail", "cred_insufficient", "system_err", "service_err",
                                            "open_err", "buf_err", "conv_err", "abort", "module_unknown")),
    ("acct", "success", "ok"),
    *(("acct", code, "denied") for code in ("acct_expired", "authtok_expired", "new_authtok_reqd", "perm_denied",
                                            "auth_err", "user_unknown")),
    *(("acct", code, "failed") for code in ("authinfo_unavail", "system_err", "service_err")),
])
def test_what_results_mean(load, confdir, stage, code, outcome):
    lines = {"auth": "auth required pam_permit.so", "acct": "account required pam_permit.so",
             stage: f"{'account' if stage == 'acct' else stage} required pam_debug.so {stage}={code}"}
    (confdir / "own").write_text("\n".join(lines.values()) + "\n")
    answer = load(service="own").check(make_request("joe", "s3cret"))
    assert (answer.outcome, answer.found) == (Outcome(outcome), JOE if outcome in ("ok", "denied") else None)
    assert bool(answer.why) is (outcome in ("denied", "failed"))


@pytest.mark.parametrize("more, found", [
    ({}, JOE),
    ({"mailbox": None}, Found("store1", "cxpop", "joe")),
    ({"protocol": "pop3"}, Found("store1", "pop3", "", "joe", b"s3cret")),
    ({"protocol": "pop3", "buser": "%u@%n"}, Found("store1", "pop3", "", "joe@example.org", b"s3cret")),
    ({"protocol": None}, Found("store1", "", "8/joe", "joe", b"s3cret")),
])
def test_places(load, more, found):
    answer = load(**more).check(make_request("joe", "s3cret"))
    assert answer == Answer(Outcome.OK, found) and answer.found.verified


def test_the_place_is_that_of_the_name_that_pam_returns(load):
    module = load()
    module.pam = SimpleNamespace(check=lambda *_: PamAnswer(0, "", b"joe", True))
    assert module.check(make_request("JOE")) == Answer(Outcome.OK, JOE)
    module.pam = SimpleNamespace(check=lambda *_: PamAnswer(0, "", b"../joe", True))
    assert module.check(make_request("JOE")).outcome is Outcome.FAILED


def test_pam_does_not_wait_after_a_wrong_password(load, confdir):
    (confdir / "own").write_text("auth optional pam_faildelay.so delay=5000000\nauth requisite pam_deny.so\n"
                                 "account required pam_permit.so\n")
    began = time.monotonic()
    assert load(service="own").check(make_request("joe")).outcome is Outcome.DENIED
    assert time.monotonic() - began < 3


def test_a_module_of_pam_that_is_not_there_is_a_failure(load, confdir):
    (confdir / "own").write_text("auth required pam_none_such.so\naccount required pam_permit.so\n")
    answer = load(service="own").check(make_request("joe"))
    assert answer == Answer(Outcome.FAILED, why="PAM says: Module is unknown")


def test_a_service_that_is_not_there(load, confdir):
    with pytest.raises(PdmError, match=f"^{confdir}/none: No such file or directory$"):
        load(service="none")
    with pytest.raises(PdmError, match="^/etc/pam.d/no-such-service: No such file or directory$"):
        load(service="no-such-service", confdir=None)


def test_probe_tries_no_login(load, confdir):
    load().probe()
    assert calls(confdir) == []


@pytest.mark.parametrize("words, why", [
    ([], "'backend' is missing: the id of the backend"),
    (["backend=s", "service=../x"], "service: '../x' is not"),
    (["backend=s", "confdir=pam.d"], "confdir: 'pam.d' does not begin with /"),
    (["backend=s", "mailbox=%x"], "%x is unknown in %x"),
    (["backend=s", "protocol=imap"], "protocol: 'imap' is not one of cxpop, xpop, pop3"),
])
def test_wrong_arguments(words, why):
    with pytest.raises(PdmError, match=why):
        make_module("pam", *words)


# the page on it (docs/databases)

def test_the_page_has_services_and_arguments_that_are_right(confdir, load):
    blocks = [*code_blocks(PAGE.read_text())]
    [shadow] = [block.text for block in blocks if "pam_unix.so" in block.text]
    (confdir / "own").write_text(f"{shadow}\n")
    module = load(service="own")
    assert module.check(make_request("no-such-user")) == UNKNOWN
    assert module.check(make_request("nobody", "wrong")).outcome in (Outcome.DENIED, Outcome.FAILED)
    [line] = [line for block in blocks if block.language == "ini" for line in block.text.splitlines() if "args" in line]
    make_module("pam", *line.partition(" = ")[2].split())
