"""The module lmdb and plmdb: look-ups beside a writer, and changes that are whole or none."""

import grp
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from popular.pdm.api import UNKNOWN, Answer, Found, Outcome
from popular.tools import plmdb
from tests.harness.daemon import ROOT
from tests.harness.needs import need_module
from tests.harness.pdm import make_module, make_request

lmdb = need_module("lmdb")

TEXT = "# users\n\njoe:{PLAIN}secret:store1:cxpop:3/2d/joe\r\nann:{PLAIN}secret:store2:pop3::ann:a:b\n"
JOE = Answer(Outcome.OK, Found("store1", "cxpop", "3/2d/joe"))


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A database with joe and ann."""
    return change(tmp_path / "users.lmdb", TEXT)


@pytest.fixture
def module(path: str) -> Iterator[Any]:
    """The module for this database."""
    made = make_module("lmdb", path)
    made.open()
    yield made
    made.close()
    made.close()


def change(path: object, text: str | bytes, *options: str, code: int = 0) -> str:
    """Run plmdb with a text; returns the database's name."""
    file = Path(f"{path}.text")
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert plmdb.run([*options, str(path), str(file)]) == code
    return str(path)


def change_in_use(path: str, text: str, *options: str) -> None:
    """Do the same in another process: none can open a database twice."""
    subprocess.run([sys.executable, ROOT / "bin/plmdb", *options, path], timeout=60, input=text.encode(), check=True)


@pytest.fixture
def users(capfdbinary: Any) -> Callable[[str], dict[bytes, bytes]]:
    """A function that returns the names in a database with their records, as plmdb shows them."""
    def shown(path: str) -> dict[bytes, bytes]:
        capfdbinary.readouterr()
        assert plmdb.run(["--dump", path]) == 0
        lines = capfdbinary.readouterr().out.splitlines()
        assert lines == sorted(lines)
        return dict(line.split(b":", 1) for line in lines)
    return shown


@contextmanager
def elsewhere(deed: Callable[[Callable[[], None]], None]) -> Iterator[None]:
    """Let another process do something as far as its call of what it is given; in the end let it go on and end."""
    told, tell = os.pipe()
    ended, end = os.pipe()

    def wait() -> None:
        os.write(tell, b"x")
        os.close(end)
        os.read(ended, 1)

    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            deed(wait)
        os._exit(0)
    os.read(told, 1)
    try:
        yield
    finally:
        for fd in (told, tell, ended, end):
            os.close(fd)
        os.waitpid(pid, 0)


# the module

@pytest.mark.parametrize("user, password, answer", [
    ("joe", "secret", JOE), ("joe", "wrong", Answer(Outcome.DENIED, JOE.found, "wrong password")),
    ("ann", "secret", Answer(Outcome.OK, Found("store2", "pop3", "", "ann", b"a:b"))),
    ("zoe", "secret", UNKNOWN), ("jo", "secret", UNKNOWN), ("", "secret", UNKNOWN), ("a" * 10_000, "secret", UNKNOWN),
    ("joe\0", "secret", UNKNOWN), ("j\udcffe", "secret", UNKNOWN), ("# users", "secret", UNKNOWN),
])
def test_look_ups(module, user, password, answer):
    assert module.check(make_request(user, password)) == answer
    assert module.find(user, "ns") == answer.found


def test_changes_are_seen_at_the_next_look_up(module, path):
    assert module.check(make_request("zoe")) == UNKNOWN
    change_in_use(path, "zoe:{PLAIN}secret:store1::zoe\njoe:{PLAIN}other:store1::joe\n")
    assert module.check(make_request("zoe")).outcome is Outcome.OK
    assert module.check(make_request("joe")).outcome is Outcome.DENIED
    change_in_use(path, "zoe\n", "--delete")
    assert module.check(make_request("zoe")) == UNKNOWN


def test_a_file_that_grows_beyond_what_was_mapped(module, path):
    assert module.check(make_request("joe")) == JOE
    change_in_use(path, "".join(f"user{number}:{{PLAIN}}{'x' * 3900}:store1::m\n" for number in range(3000)))
    assert os.path.getsize(path) > 10 << 20
    assert module.check(make_request("joe")) == JOE
    assert module.check(make_request("user2999")).outcome is Outcome.DENIED


def test_a_look_up_during_a_change_sees_the_old_state(module, path):
    def write(wait: Callable[[], None]) -> None:
        with lmdb.open(path, subdir=False) as environment, environment.begin(write=True) as transaction:
            transaction.put(b"zoe", b"{PLAIN}secret:store1::zoe")
            wait()

    with elsewhere(write):
        assert module.check(make_request("zoe")) == UNKNOWN
    assert module.check(make_request("zoe")).outcome is Outcome.OK


def test_readers_that_were_killed_make_room(tmp_path):
    path = str(tmp_path / "few")
    with lmdb.open(path, subdir=False, max_readers=2) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"joe", b"{PLAIN}secret:store1:cxpop:3/2d/joe")

    def read(wait: Callable[[], None]) -> None:
        with lmdb.open(path, subdir=False, readonly=True) as environment, environment.begin():
            wait()
            os.kill(os.getpid(), signal.SIGKILL)

    def keep(wait: Callable[[], None]) -> None:    # while somebody has the file open, its table of readers stays
        with lmdb.open(path, subdir=False, readonly=True):
            wait()

    with elsewhere(keep):
        with elsewhere(read), elsewhere(read):
            pass
        module = make_module("lmdb", path)
        assert module.check(make_request("joe")) == JOE
        module.close()


def test_a_damaged_record_is_a_failure(path):
    with lmdb.open(path, subdir=False) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"bad", b"nonsense")
    damaged = make_module("lmdb", path)
    assert damaged.check(make_request("bad")).outcome is Outcome.FAILED
    damaged.close()


# plmdb

def test_users_are_added_replaced_and_removed(path, users):
    assert users(path) == {b"ann": b"{PLAIN}secret:store2:pop3::ann:a:b",
                           b"joe": b"{PLAIN}secret:store1:cxpop:3/2d/joe"}
    change(path, b"z\xff:{PLAIN}x:s::z\nann:{PLAIN}new:s::a\n")
    assert users(path) == {b"ann": b"{PLAIN}new:s::a", b"joe": b"{PLAIN}secret:store1:cxpop:3/2d/joe",
                           b"z\xff": b"{PLAIN}x:s::z"}
    change(path, "# a comment\njoe\nnobody\nann:whatever\r\n", "--delete")
    assert users(path) == {b"z\xff": b"{PLAIN}x:s::z"}
    change(path, "b:{PLAIN}x:s::b\na:{PLAIN}x:s::a\n", "--all")
    assert list(users(path)) == [b"a", b"b"]
    change(path, "", "--all")
    assert users(path) == {}


@pytest.mark.parametrize("kept", [[], [0], [9], [0, 9], [3, 4, 5], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
def test_all_others_are_removed_wherever_they_are(tmp_path, users, kept):
    lines = [f"user{number}:{{PLAIN}}x:s::m\n" for number in range(10)]
    path = change(tmp_path / "ten", "".join(lines))
    change(path, "".join(lines[number] for number in kept), "--all")
    assert list(users(path)) == [f"user{number}".encode() for number in kept]


@pytest.mark.parametrize("text, complaint", [
    ("joe:secret\n", "2: the record has 1 fields"),
    ("\njoe:{PLAIN}x:s::m\njoe:{PLAIN}x:s::m\n", "4: the user is given twice"),
    (":{PLAIN}x:s::m\n", "2: must have a user's name"), ("joe:{PLAIN}x:s p::m\n", "2: backend 's p' is not an id"),
])
def test_wrong_lines_change_nothing(path, capfd, text, complaint):
    change(path, f"zoe:{{PLAIN}}x:s::z\n{text}", code=os.EX_DATAERR)
    assert f"plmdb: {path}.text:{complaint}" in capfd.readouterr().err
    module = make_module("lmdb", path)
    assert (module.check(make_request("zoe")), module.check(make_request("joe"))) == (UNKNOWN, JOE)
    module.close()


def test_a_new_file_belongs_to_the_daemons(tmp_path, monkeypatch):
    group = grp.getgrgid(os.getegid()).gr_name
    path = change(tmp_path / "new", TEXT, "--group", group)
    assert [stat.S_IMODE(os.stat(name).st_mode) for name in (path, f"{path}-lock")] == [0o640, 0o660]
    os.chmod(path, 0o600)
    change(path, TEXT)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_file_that_was_only_begun_belongs_to_the_daemons_too(tmp_path):
    path = str(tmp_path / "begun")
    lmdb.open(path, subdir=False, mode=0o600).close()    # as by a plmdb that was killed then
    change(path, TEXT)
    assert [stat.S_IMODE(os.stat(name).st_mode) for name in (path, f"{path}-lock")] == [0o640, 0o660]


@pytest.mark.parametrize("words, code", [
    (["/nowhere/users", "TEXT"], os.EX_CANTCREAT), (["FILE", "/nowhere/text"], os.EX_NOINPUT),
    (["--dump", "/nowhere/users"], os.EX_NOINPUT), (["TEXT", "TEXT"], os.EX_CANTCREAT),
    (["--dump", "TEXT"], os.EX_NOINPUT)])
def test_files_that_cannot_be_used(path, tmp_path, capfd, words, code):
    (tmp_path / "text").write_text(TEXT)
    names = {"FILE": path, "TEXT": str(tmp_path / "text")}
    assert plmdb.run([names.get(word, word) for word in words]) == code
    assert capfd.readouterr().err.startswith("plmdb: ")


def test_without_the_driver(path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    assert plmdb.run([path, path]) == os.EX_UNAVAILABLE
    assert "needs the Python package lmdb" in capfd.readouterr().err
