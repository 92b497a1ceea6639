"""pdeliver --user: the mailbox is found by the database modules of pproxy, or the exit code says why not."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.harness.daemon import ROOT
from tests.harness.tools import run_tool

USERS = """\
bad:{PLAIN}secret
joe@example.org:{PLAIN}secret:store::3/2d/joe
far:{PLAIN}secret:other::f/far
lost:{PLAIN}secret:nowhere:cxpop:l/lost
paul:{PLAIN}secret:plain:pop3::paul@x:s3cret
"""

CONFIG = """\
[pproxy]
user = {user}
[vserv]
    [[main]]
    address = 127.0.0.1:110
    namespace = example.org
    userformat = lower detail=+
[backend]
    [[store]]
    protocol = cxpop
    address = store.invalid:110
    [[plain]]
    protocol = pop3
    address = 127.0.0.1:110
{more}
[pdm]
{modules}
"""
MODULE = "    [[{0}]]\n    module = {0}\n    args = {1}\n"
OTHER = "    [[other]]\n    protocol = xpop\n    address = 127.0.0.1:110\n"

Deliver = Callable[..., tuple[int, str]]


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., None]:
    """A function that writes pproxy's configuration with some modules."""
    (tmp_path / "users").write_text(USERS)
    (tmp_path / "master").write_text("*:*:{PLAIN}secret\n")

    def write(modules: str = MODULE.format("passwd", tmp_path / "users") + MODULE.format("master", tmp_path / "master"),
              more: str = "") -> None:
        (tmp_path / "pproxy.conf").write_text(CONFIG.format(
            user="root" if os.geteuid() == 0 else "nobody", modules=modules, more=more))
    write()
    return write


@pytest.fixture
def deliver(tmp_path: Path, configure: Callable[..., None]) -> Deliver:
    """A function that delivers to a user; returns exit code and what was said."""
    (tmp_path / "pop").mkdir()

    def run(user: str, *options: str, create: bool = True) -> tuple[int, str]:
        done = subprocess.run([ROOT / "bin/pdeliver", "-m", tmp_path / "pop", "-l", tmp_path / "log", "-c",
                               tmp_path / "pproxy.conf", *["--create"] * create, *options, f"--user={user}"],
                              input=b"Subject: x\n\n", capture_output=True, timeout=60,
                              env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})
        assert b"s3cret" not in done.stderr and b"Traceback" not in done.stderr
        return done.returncode, done.stderr.decode()
    return run


def mails(tmp_path: Path) -> list[str]:
    """Return the mailboxes of all mails."""
    return [str(path.parent.parent.relative_to(tmp_path / "pop")) for path in (tmp_path / "pop").glob("**/new/*")]


def test_a_user_of_a_text_file(deliver: Deliver, tmp_path: Path) -> None:
    assert deliver("joe@example.org") == (0, "")
    assert deliver("Joe+lists@Example.org") == (0, "")    # as at a login
    assert mails(tmp_path) == ["3/2d/joe"] * 2


def test_a_user_of_sqlite_in_a_namespace(deliver: Deliver, configure: Callable[..., None], tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "users.sqlite")) as database, database:
        database.execute("CREATE TABLE users (user, namespace, password, backend, protocol, mailbox, buser, bpass)")
        database.executemany("INSERT INTO users VALUES ('joe', ?, '{PLAIN}secret', 'store', '', ?, '', '')",
                             [("example.org", "org/joe"), ("example.com", "com/joe")])
    configure(MODULE.format("sqlite", tmp_path / "users.sqlite"))
    assert deliver("joe") == deliver("joe", "-n", "example.com") == (0, "")
    assert sorted(mails(tmp_path)) == ["com/joe", "org/joe"]


def test_a_record_may_limit_and_make_the_mailbox(deliver: Deliver, configure: Callable[..., None], tmp_path: Path
                                                 ) -> None:
    with closing(sqlite3.connect(tmp_path / "users.sqlite")) as database, database:
        database.execute('CREATE TABLE users (user, namespace, password, backend, mailbox, missing, quota, '
                         'maxnum, "from")')
        database.executemany("INSERT INTO users VALUES (?, 'example.org', '{PLAIN}secret', 'store', ?, ?, ?, ?, ?)", [
            ("few", "few", "create", "", "1", ""), ("free", "few", "", "0", "0", ""), ("plain", "few", "", "", "", ""),
            ("none", "none", "", "1", "", ""), ("moves", "few", "", "", "", "plain")])
    configure(MODULE.format("sqlite", tmp_path / "users.sqlite"))
    assert deliver("few", create=False) == (0, "")
    assert deliver("few") == (1, "pdeliver: few: over quota\n")
    assert deliver("plain", "-Q1")[0] == 1, "the option counts for those whose record says nothing"
    assert deliver("free", "-Q1") == (0, ""), "the record wins"
    assert deliver("none", create=False)[0] == 67
    assert deliver("moves") == (75, "pdeliver: moves: the mailbox still moves here from backend plain\n")
    done = run_tool("pmailbox", "--usage", "--user", "-m", tmp_path / "pop", "-c", tmp_path / "pproxy.conf", "few",
                    "plain", "none", "zoe")
    assert (done.returncode, done.stdout) == (65, "2 28 200% - 1 few\n2 28 - - - plain\n")
    assert "'none': " in done.stderr and "'zoe': no such user in namespace example.org" in done.stderr


@pytest.mark.parametrize(("user", "options", "code", "told"), [
    ("zoe", [], 67, "zoe: no such user in namespace example.org"), ("", [], 67, "no such user"),
    ("a" * 10_000, [], 67, "no such user"), ("joe\n", [], 67, "no such user"),
    ("bad", [], 75, "database module passwd: the record has 1 fields"),
    ("paul", [], 69, "paul: the mail is on backend plain, which speaks pop3"),
    ("joe@example.org", ["-b", "other"], 69, "the mail is on backend store, not here"),
    ("far", [], 75, "no backend 'other' is configured"), ("lost", [], 75, "no backend 'nowhere' is configured"),
    ("joe@example.org", ["-c", "/nonexistent"], 75, "/nonexistent"),
    ("joe@example.org", ["joe"], 64, "give either a mailbox or --user"),
])
def test_who_has_no_mailbox_here(deliver: Deliver, tmp_path: Path, user: str, options: list[str], code: int,
                                 told: str) -> None:
    ended, errors = deliver(user, *options)
    assert ended == code and told in errors
    assert mails(tmp_path) == []
    if code != 64:
        name = "user_not_found" if code == 75 else "no_user_here"
        assert f" {name} user=" in (tmp_path / "log").read_text()


def test_several_backends_and_namespaces_must_be_told_apart(deliver: Deliver, configure: Callable[..., None],
                                                            tmp_path: Path) -> None:
    configure(more=OTHER)
    code, errors = deliver("far")
    assert code == 75 and "there are several backends: give -b and one of store, other" in errors
    assert deliver("far", "-b", "store", "-b", "other") == (0, "")
    code, errors = deliver("far", "-b", "store")
    assert code == 69 and "the mail is on backend other, not here" in errors
    text = (tmp_path / "pproxy.conf").read_text()
    (tmp_path / "pproxy.conf").write_text(text.replace(
        "[backend]", "    [[second]]\n    address = 127.0.0.1:111\n    namespace = b\n[backend]"))
    code, errors = deliver("far", "-b", "other")
    assert code == 75 and "there are several namespaces: give -n and one of example.org, b" in errors
    assert mails(tmp_path) == ["f/far"]


def test_a_broken_database_bounces_no_mail(deliver: Deliver, configure: Callable[..., None], tmp_path: Path) -> None:
    known = MODULE.format("passwd", tmp_path / "users")
    for broken in (MODULE.format("sqlite", tmp_path / "none"), MODULE.format("none", "")):
        configure(broken + known)
        code, errors = deliver("joe@example.org")    # who may be in the first one, elsewhere
        assert code == 75 and ("sqlite" in errors or "pdm_none.py" in errors)
    configure(known + MODULE.format("sqlite", tmp_path / "none"))
    assert deliver("joe@example.org") == (0, "")
    assert deliver("zoe")[0] == 75


@pytest.mark.parametrize("who", ["os.geteuid = lambda: 1", "pass"], ids=["not root", "whoever runs the tests"])
def test_a_plain_delivery_loads_nothing_heavy(tmp_path: Path, who: str) -> None:
    (tmp_path / "joe" / "new").mkdir(parents=True)
    (tmp_path / "joe" / "tmp").mkdir()
    program = ("import io, sys; from popular.tools.pdeliver import main as pdeliver; "
               f"os = pdeliver.os; {who}; "
               f"print(pdeliver.run(['-m', '{tmp_path}', '-l/dev/null', 'joe'], io.BytesIO()), *sys.modules)")
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, timeout=60, cwd=ROOT)
    code, *modules = done.stdout.split()
    assert code == "0", done.stderr
    assert {"re", "enum", "signal", "typing", "dataclasses", "argparse", "site", "hashlib", "socket",
            "json"}.isdisjoint(modules)
    assert not [name for name in modules if "pdm" in name or "pproxy" in name]
