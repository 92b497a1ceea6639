"""ppasswd: hashes that the modules accept, and a users file that is changed in one line only, or not at all."""

import fcntl
import getpass
import os
import pty
import signal
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popular.pdm.api import Outcome
from popular.pdm.secrets import verify
from popular.tools import ppasswd
from tests.harness.daemon import ROOT
from tests.harness.needs import need_module
from tests.harness.pdm import make_module, make_request
from tests.harness.tools import run_octets

need_module("argon2")

TEXT = (b"# users\n\njoe:{PLAIN}old:store1:cxpop:3/2d/joe\r\n# of the shop\nann:{PLAIN}old:store2:pop3::ann:a:b\n"
        b"a line without a colon\njoe:{PLAIN}second:store1::joe\n")
HASH = b"{PLAIN}new"
SOON = 60.0    # seconds

pytestmark = pytest.mark.usefixtures("nursery")

KEYS = st.binary(min_size=1, max_size=5).filter(lambda key: not set(key) & set(b":\n\r\0") and key[0] != ord("#"))
LINES = st.lists(st.one_of(st.just(b""), st.just(b"# a comment: x"),
                           st.builds(b"%b:{PLAIN}old:s::m".__mod__, KEYS)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A users file."""
    path = tmp_path / "users"
    path.write_bytes(TEXT)
    return path


def run(*words: object, password: bytes = b"geheim\n", code: int = 0) -> tuple[str, str]:
    """Run ppasswd with a line of standard input; returns what it prints and reports."""
    done = run_octets("ppasswd", *map(str, words), stdin=password, folder=Path.cwd())
    assert done.returncode == code, done.stderr
    assert b"geheim" not in done.stdout + done.stderr
    return done.stdout.decode(), done.stderr.decode()


def outcome(path: Path, user: str, password: str) -> Outcome:
    """Return what the module passwd says."""
    answer = make_module("passwd", path).check(make_request(user, password))
    assert isinstance(answer.outcome, Outcome)
    return answer.outcome


# hashes

@pytest.mark.parametrize("scheme, begin", [
    (None, "{ARGON2ID}$argon2id$v=19$m=19456,t=2,p=1$"), ("argon2id", "{ARGON2ID}$argon2id$"),
    ("yescrypt", "{CRYPT}$y$j9T$"), ("sha512", "{CRYPT}$6$rounds=100000$"),
    ("scram-sha-256", "{SCRAM-SHA-256}15000,"), ("scram-sha-1", "{SCRAM-SHA-1}15000,")])
def test_each_scheme_makes_a_hash_that_matches_only_its_password(scheme, begin):
    password = b"a \xff\xc3\xa4:secret"
    stored = ppasswd.stored_form(password, scheme)
    assert stored.startswith(begin) and ":" not in stored
    assert verify(stored, password) and not verify(stored, password + b"x")
    assert ppasswd.stored_form(password, scheme) != stored    # another salt


def test_a_hash_is_printed(path):
    out, err = run("--scheme", "sha512")
    assert out.endswith("\n") and verify(out[:-1], b"geheim") and err == ""


def test_schemes_that_are_missing_give_way_unless_they_are_wanted(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "argon2", None)
    assert ppasswd.stored_form(b"x").startswith("{CRYPT}$y$")
    monkeypatch.setattr(ppasswd, "ask_password", lambda **_: b"x")
    assert ppasswd.run(["--scheme", "argon2id"]) == 69
    assert "argon2id: needs the Python package argon2-cffi" in capsys.readouterr().err

    def crypt(password: bytes, setting: str) -> str:
        raise ValueError("libcrypt cannot make such a hash")
    monkeypatch.setattr(ppasswd.libcrypt, "crypt", crypt)
    assert ppasswd.run([]) == 69


@pytest.mark.parametrize("password", [b"", b"\n", b"a\0geheim\n", b"geh\reheim\n", b"geheim" * 100 + b"\n"])
def test_passwords_that_no_client_can_send(path, password):
    assert "1 to 511 octets" in run(path, "joe", password=password, code=65)[1]
    assert path.read_bytes() == TEXT


@pytest.mark.parametrize("line, password", [
    (b"geheim", b"geheim"), (b"geheim\r\n", b"geheim"), (b" geheim \nmore\n", b" geheim "),
    (b"x" * 511 + b"\r\n", b"x" * 511)])
def test_the_password_is_the_first_line_without_its_end(path, line, password):
    run("--scheme", "sha512", path, "joe", password=line)
    assert make_module("passwd", path).check(make_request("joe", password)).outcome is Outcome.OK


def test_standard_input_that_cannot_be_read(path, monkeypatch, capsys):
    with open(os.open(os.devnull, os.O_WRONLY)) as unreadable:
        monkeypatch.setattr(sys, "stdin", unreadable)
        assert ppasswd.run([str(path), "joe"]) == 66
    assert capsys.readouterr().err == "ppasswd: standard input: Bad file descriptor\n"


# on a terminal

@pytest.mark.parametrize("second, code", [(b"geheim\n", 0), (b"another\n", 65)])
def test_a_password_is_typed_twice_and_not_shown(path, second, code):
    master, terminal = pty.openpty()
    with subprocess.Popen([sys.executable, ROOT / "bin/ppasswd", path, "joe"], stdin=terminal, stdout=terminal,
                          stderr=terminal, start_new_session=True) as child:
        os.close(terminal)
        shown = b""
        for prompt, word in ((b"Password: ", b"geheim\n"), (b"Again: ", second)):
            while not shown.endswith(prompt):
                shown += os.read(master, 100)
            os.write(master, word)
        assert child.wait(SOON) == code
    os.set_blocking(master, False)
    shown += os.read(master, 1000)
    os.close(master)
    assert b"geheim" not in shown and (b"differ" in shown) is (code == 65)
    assert outcome(path, "joe", "geheim") is (Outcome.DENIED if code else Outcome.OK)


def test_no_password_is_typed_with_echo(monkeypatch):
    def fallback(prompt: str) -> str:
        warnings.warn("Can not control echo on the terminal.", getpass.GetPassWarning, stacklevel=2)
        return "geheim"
    monkeypatch.setattr(getpass, "getpass", fallback)
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    with pytest.raises(ppasswd.NotDone, match="no password could be read from the terminal"):
        ppasswd.ask_password(is_new=True)


# the users file

def test_a_password_is_set_and_nothing_else_is_changed(path):
    run(path, "joe")
    lines = path.read_bytes().split(b"\n")
    assert lines[2].startswith(b"joe:{ARGON2ID}$argon2id$") and lines[2].endswith(b":store1:cxpop:3/2d/joe\r")
    lines[2] = TEXT.split(b"\n")[2]
    assert b"\n".join(lines) == TEXT
    assert outcome(path, "joe", "geheim") is Outcome.OK
    run("--verify", path, "joe")
    run("--verify", path, "joe", password=b"old\n", code=1)


def test_users_are_added_and_removed(path):
    run("--add", "store1::3/2d/zoe", path, "zoe")
    assert path.read_bytes().startswith(TEXT + b"zoe:{ARGON2ID}")
    assert outcome(path, "zoe", "geheim") is Outcome.OK
    assert "zoe: the user exists" in run("--add", "store1::zoe", path, "zoe", code=65)[1]
    run("--delete", path, "zoe")
    assert path.read_bytes() == TEXT
    run("--delete", path, "joe")    # both lines
    assert outcome(path, "joe", "second") is Outcome.UNKNOWN
    assert outcome(path, "ann", "old") is Outcome.OK


@pytest.mark.parametrize("words, code, told", [
    (("none", "joe"), 66, "No such file"), (("--delete", "none", "joe"), 66, "No such file"),
    (("--verify", "none", "joe"), 66, "No such file"), (("users", "zoe"), 67, "zoe: no such user"),
    (("--delete", "users", "zoe"), 67, "no such user"), (("--verify", "users", "zoe"), 67, "no such user"),
    (("users",), 64, "give FILE and USER"), (("--verify",), 64, "give FILE and USER"),
    (("users", "a:b"), 64, "no colon"), (("users", "#joe"), 64, "no # at the start"),
    (("--add", "store1", "users", "x"), 64, "must be BACKEND:PROTOCOL:MAILBOX"),
    (("--add", "s:pop3::x:geheim", "users", "x"), 64, "must be BACKEND:PROTOCOL:MAILBOX"),
    (("--add", "s:pop3:", "users", "x"), 64, "protocol pop3 needs a user"),
    (("--add", "s::../x", "users", "x"), 64, "not well-formed"), (("--add", "s::x\n", "users", "x"), 64, "well-formed"),
    (("--add", "s::x", "--delete", "users", "x"), 64, "not allowed with"), (("--scheme", "md5"), 64, "invalid choice"),
])
def test_what_cannot_be_done_changes_nothing(path, monkeypatch, words, code, told):
    monkeypatch.chdir(path.parent)
    assert told in run(*words, code=code)[1]
    assert path.read_bytes() == TEXT and os.listdir(path.parent) == ["users"]


def test_damaged_lines_are_not_made_to_look_whole(path):
    path.write_bytes(b"joe:x\nann:unknown:store1::ann\n")
    assert "joe: the record has 2 fields" in run(path, "joe", code=65)[1]
    assert "ann: the password is stored in no known form" in run("--verify", path, "ann", code=65)[1]
    assert path.read_bytes() == b"joe:x\nann:unknown:store1::ann\n"


def test_owner_mode_and_link_are_kept(path):
    path.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(path, 4711, 4712)
    before = path.stat()
    link = path.parent / "link"
    link.symlink_to(path)
    run(link, "joe")
    after = path.stat()
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o604, before.st_uid, before.st_gid)
    assert link.is_symlink() and outcome(path, "joe", "geheim") is Outcome.OK


@given(LINES, KEYS, st.booleans())
def test_a_file_with_a_user_more_and_less(lines: list[bytes], user: bytes, is_ended: bool) -> None:
    text = b"".join(line + b"\n" for line in lines).removesuffix(b"" if is_ended else b"\n")
    names = [line.split(b":")[0] for line in lines if line and not line.startswith(b"#")]
    if user in names:
        with pytest.raises(ppasswd.NotDone):
            ppasswd.with_user(text, user, HASH + b":s::m")
        assert ppasswd.with_hash(text, user, HASH).replace(HASH, b"{PLAIN}old") == text
        assert user + b":" not in ppasswd.without(text, user).split(b"{PLAIN}")
        return
    changed = ppasswd.with_user(text, user, HASH + b":s::m")
    assert ppasswd.without(changed, user).removesuffix(b"\n") == text.removesuffix(b"\n")
    after = [line.split(b":")[0] for line in changed.split(b"\n") if line and not line.startswith(b"#")]
    assert after == sorted([*names, user]) or (names != sorted(names) and after == [*names, user])
    with pytest.raises(ppasswd.NotDone):
        ppasswd.with_hash(text, user, HASH)


def test_a_large_file_stays_sorted_or_is_not_changed(path):
    lines = [b"user%06d:{PLAIN}old:store1::user%06d\n" % (number, number) for number in range(0, 60_000, 2)]
    path.write_bytes(b"".join(lines))
    assert path.stat().st_size > ppasswd.MAX_UNSORTED == sys.modules[type(make_module("passwd", path)).__module__
                                                                     ].MAX_UNSORTED
    run("--add", "store1::joe", path, "user030001")
    run(path, "user000000")
    assert {outcome(path, user, "geheim") for user in ("user000000", "user030001")} == {Outcome.OK}
    assert outcome(path, "user059998", "old") is Outcome.OK
    path.write_bytes(b"".join(reversed(lines)))
    for words in (("--add", "store1::joe", path, "joe"), (path, "user000000"), ("--delete", path, "user000000")):
        assert "must be sorted: LC_ALL=C sort" in run(*words, code=65)[1]
    assert path.read_bytes() == b"".join(reversed(lines))


def test_a_small_file_out_of_order_does_not_grow_large(path):
    path.write_bytes(b"zoe:{PLAIN}x:s::z\n" + b"#" * (ppasswd.MAX_UNSORTED - 30) + b"\njoe:x:s::j\n")
    assert "must be sorted" in run("--add", "s::a", path, "ann", code=65)[1]


# others beside it, and its death

def test_the_second_waits_for_the_first(path):
    with open(path, "r+b") as file, ppasswd.locked(str(path)):
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    children = [subprocess.Popen([sys.executable, ROOT / "bin/ppasswd", "-s", "sha512", "-a", f"s::{name}", path, name],
                                 stdin=subprocess.PIPE) for name in "abcdefgh"]
    for child in children:
        child.communicate(b"geheim\n", timeout=SOON)
    assert [child.returncode for child in children] == [0] * len(children)
    assert {outcome(path, name, "geheim") for name in "abcdefgh"} == {Outcome.OK}
    assert os.listdir(path.parent) == ["users"]


@pytest.mark.parametrize("call", ["os.fsync", "os.rename", "os.fchmod"])
def test_who_is_killed_leaves_the_old_file(path, call):
    program = ("import os, signal, sys; from popular.tools import ppasswd; "
               f"{call} = lambda *_: os.kill(os.getpid(), signal.SIGKILL); ppasswd.run(sys.argv[1:])")
    done = subprocess.run([sys.executable, "-c", program, path, "joe"], input=b"geheim\n", timeout=SOON, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == TEXT
    run(path, "joe")    # neither the lock nor what is left of the new file is in the way
    assert outcome(path, "joe", "geheim") is Outcome.OK


def test_a_file_that_cannot_be_written(path, monkeypatch, capsys):
    monkeypatch.setattr(ppasswd, "ask_password", lambda **_: b"geheim")
    monkeypatch.setattr(os, "fsync", _full)
    assert ppasswd.run([str(path), "joe"]) == 73
    assert "No space left" in capsys.readouterr().err
    assert path.read_bytes() == TEXT and os.listdir(path.parent) == ["users"]


def test_file_and_folder_get_to_disk_in_order(path, monkeypatch):
    events: list[str] = []

    def watch(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def noted(*args: Any) -> Any:
            events.append(name)
            return real(*args)
        return noted
    for name in ("fsync", "rename"):
        monkeypatch.setattr(os, name, watch(name))
    monkeypatch.setattr(ppasswd, "ask_password", lambda **_: b"geheim")
    assert ppasswd.run([str(path), "joe"]) == 0
    assert events == ["fsync", "rename", "fsync"]


def test_an_error_that_nobody_expected_is_70_and_tells_no_password(monkeypatch, capsys):
    def ask_password(**_: bool) -> bytes:
        raise ZeroDivisionError("geheim")
    monkeypatch.setattr(sys, "argv", ["ppasswd"])
    monkeypatch.setattr(ppasswd, "ask_password", ask_password)
    assert ppasswd.main() == 70
    assert capsys.readouterr().err == "ppasswd: ZeroDivisionError\n"


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")
