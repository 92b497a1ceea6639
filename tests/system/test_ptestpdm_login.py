"""Why can't joe log in: ptestpdm goes the whole way of one login with pproxy's own configuration."""

import os
import pty
import select
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import ROOT, Daemon
from tests.harness.fake_backend import Expect, FakeBackend, Say
from tests.harness.system import end_process
from tests.harness.tools import run_tool
from tests.system.test_start import library_is_open

Start = Callable[..., Daemon]

USERS = """\
bad:secret:store::bad
joe:{PLAIN}open sesame:store:cxpop:j/joe
lost:{PLAIN}open sesame:nowhere:xpop:l/lost
paul:{PLAIN}open sesame:plain:pop3::paul@x:s3cret
"""

CONFIG = """\
[pproxy]
user = {user}
group = {group}
checktimeout = 200ms
checktries = 1
[vserv]
    [[main]]
    address = 0.0.0.0:110
    namespace = example.org
    userformat = lower
[backend]
    [[store]]
    protocol = cxpop
    address = {store}
    checkport = {check}
    [[plain]]
    protocol = pop3
    address = {plain}
[pdm]
    [[users]]
    module = passwd
    args = {folder}/users
    [[support]]
    module = master
    args = {folder}/master
"""

NOWHERE = Endpoint("127.0.0.1", 1)


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes pproxy's configuration."""
    def write(store: Endpoint = NOWHERE, check: int = 1, plain: Endpoint = NOWHERE, more: str = "") -> Path:
        (tmp_path / "users").write_text(USERS)
        (tmp_path / "master").write_text("127.0.0.2:*:{PLAIN}master key\n")
        user = "root" if os.geteuid() == 0 else "nobody"
        path = tmp_path / "pproxy.conf"
        path.write_text(CONFIG.format(user=user, group=user, store=store, check=check, plain=plain,
                                      folder=tmp_path) + more)
        return path
    return write


def ptestpdm(config: Path, user: str, password: str, *options: str) -> tuple[int, list[str], str]:
    """Try a login; returns exit code, lines and errors."""
    done = run_tool("ptestpdm", "-c", config, *options, user, stdin=f"{password}\n")
    assert "Traceback" not in done.stderr and "s3cret" not in done.stdout + done.stderr
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_the_whole_way_to_the_mail(start: Start, site: Callable[..., Path], spool: Path,
                                   make_mailbox: Callable[..., Path]) -> None:
    make_mailbox("j/joe", new=[b"Subject: x\r\n\r\n"])
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})
    pcheckd = start("pcheckd", {"pcheckd": {"mailboxdir": spool, "port": 0, "host": "127.0.0.1"}})
    config = site(pserv.endpoint(), pcheckd.endpoint().port)
    code, lines, errors = ptestpdm(config, "joe", "open sesame", "--backend")
    assert (code, errors) == (0, "")
    assert lines == [
        "users ok module='passwd' backend='store' protocol='cxpop' mailbox='j/joe' user=''",
        "login ok namespace='example.org' by='users'",
        f"route backend='store' protocol='cxpop' address='{pserv.endpoint()}'",
        f"mailcheck address='{pcheckd.endpoint()}' new-mail",
        "backend ok answer='+OK 1 messages (14 octets)'"]
    assert (spool / "j/joe/new").is_dir() and len(os.listdir(spool / "j/joe/new")) == 1    # nothing was read


@pytest.mark.parametrize(("user", "password", "options", "code", "told"), [
    pytest.param("joe", "wrong", [], 1, ["users denied", "why='wrong password'", "login denied", "by='users'",
                                         "support unknown module='master' round=2"], id="a wrong password"),
    pytest.param("joe", "master key", ["--client", "127.0.0.2"], 0, ["support ok", "round=2", "login ok"],
                 id="a master"),
    pytest.param("zoe", "x", [], 1, ["users unknown", "login unknown"], id="nobody"),
    pytest.param("bad", "secret", [], 1, ["users failed", "the password is stored in no known form", "login failed"],
                 id="a damaged record"),
    pytest.param("lost", "open sesame", [], 1, ["login ok", "no-route", "nowhere"], id="no backend"),
    pytest.param("joe", "open sesame", [], 0, ["mailcheck address='127.0.0.1:1' no-answer"], id="no mail check"),
    pytest.param("joe", "open sesame", ["--backend"], 1, ["backend failed why='cannot connect"], id="backend away"),
    pytest.param("joe", "open sesame", ["-n", "other"], 0, ["namespace='other'"], id="another namespace"),
    pytest.param("JOE", "open sesame", [], 0, ["login ok"], id="userformat"),
])
def test_each_way_that_ends_somewhere_else(site: Callable[..., Path], user: str, password: str, options: list[str],
                                           code: int, told: list[str]) -> None:
    found, lines, errors = ptestpdm(site(), user, password, *options)
    assert (found, errors) == (code, "")
    assert all(word in "\n".join(lines) for word in told), lines


def test_a_pop3_backend_is_asked_with_its_own_password(site: Callable[..., Path]) -> None:
    script = (Say(b"+OK hi\r\n"), Expect(b"USER paul@x\r\n"), Say(b"+OK\r\n"), Expect(b"PASS s3cret\r\n"),
              Say(b"-ERR [AUTH] not s3cret\r\n"))
    with FakeBackend(script) as backend:
        code, lines, _ = ptestpdm(site(plain=backend.endpoint), "paul", "open sesame", "--backend")
    assert code == 1 and lines[-1].startswith("backend failed") and "withheld" in lines[-1]
    assert "s3cret" not in "".join(lines)


@pytest.mark.parametrize(("more", "code", "told"), [
    pytest.param("[nonsense]\n", 78, "nonsense", id="mistakes"),
    pytest.param("    [[gone]]\n    module = no_such\n", 1, "", id="a module"),
])
def test_a_configuration_with_mistakes(site: Callable[..., Path], more: str, code: int, told: str) -> None:
    found, lines, errors = ptestpdm(site(more=more), "joe", "open sesame")
    assert found == code and told in errors
    if code == 1:
        assert lines[0].startswith("gone not-loaded") and "no_such" in lines[0] and "login ok" in lines[2]


def test_several_namespaces_want_one_named(site: Callable[..., Path]) -> None:
    path = site()
    path.write_text(path.read_text().replace("[backend]", "    [[two]]\n    address = 0.0.0.0:111\n[backend]"))
    code, _, errors = ptestpdm(path, "joe", "open sesame")
    assert code == 64 and "give -n and one of example.org, default" in errors
    assert ptestpdm(path, "joe", "open sesame", "-n", "example.org")[0] == 0


@pytest.mark.parametrize("words", [
    ["-c", "x"], ["-c", "x", "a", "b"], ["a"], ["--backend", "a", "b"], ["-n", "x", "a", "b"],
    ["-c", "x", "--client", "joe", "joe"]])
def test_wrong_usage(words: list[str]) -> None:
    done = run_tool("ptestpdm", *words)
    assert done.returncode == 64 and done.stdout == ""


def test_the_password_is_not_echoed(site: Callable[..., Path]) -> None:
    path = site()
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, str(ROOT / "bin/ptestpdm"), "-c", str(path), "joe"])
    shown = b""

    def wait(word: bytes) -> None:
        nonlocal shown
        while word not in shown:
            assert select.select([fd], [], [], 20.0)[0], shown
            shown += os.read(fd, 4096)

    try:
        wait(b"Password of 'joe': ")
        os.write(fd, b"open sesame\n")
        wait(b"login ok")
        assert b"sesame" not in shown
        wait(b"no-answer")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        end_process(pid)
        os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_asks_with_the_rights_of_pproxys_user(site: Callable[..., Path], tmp_path: Path) -> None:
    """What pproxy cannot read is not read here either."""
    path = site()
    path.write_text(path.read_text().replace("user = root\ngroup = root", "user = nobody\ngroup = nogroup"))
    (tmp_path / "users").chmod(0o600)
    code, lines, errors = ptestpdm(path, "joe", "open sesame")
    wanted, why = (1, "Permission denied") if library_is_open() else (69, "user nobody may not read")
    assert code == wanted and why in "\n".join([*lines, errors])
