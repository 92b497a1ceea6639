"""A mailbox moves between two stores, and from a server of others, while clients and the MTA go on."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness.daemon import ROOT, Daemon, ini_text
from tests.harness.lmtpclient import LmtpClient
from tests.harness.needs import need_program
from tests.harness.popclient import PopClient
from tests.harness.system import children_of, descriptors_of, end_process, title_of, wait_for
from tests.harness.tools import run_tool

SWITCH = ROOT / "etc/examples/switch/switch-sqlite"
QUERY = "\"SELECT '{PLAIN}main' AS password, backend, mailbox, [from], buser, bpass FROM users WHERE user = :user\""
STORES = ("s1", "s2")
MAIL = b"Subject: late\r\n\r\nlate\r\n"


@dataclass(slots=True)
class Site:
    """Two stores, a proxy in front of them and of a server of others, which is a second proxy."""

    folder: Path
    daemons: dict[str, Daemon]

    def pop(self) -> PopClient:
        """Connect to the proxy."""
        return PopClient(self.daemons["pproxy"].endpoint())

    def spool(self, store: str) -> Path:
        """Return the spool of a store."""
        return self.folder / store / "pop"

    def deliver(self, store: str, user: str) -> str:
        """Offer a message to the plmtpd of a store; return the codes of the answer."""
        with LmtpClient(self.daemons[f"plmtpd-{store}"].endpoint()) as client:
            [answer] = client.begin([user])
            if answer != "250 2.1.5":
                return answer
            client.say("DATA", 354)
            client.send(MAIL + b".\r\n")
            return " ".join(client.answer().split()[:2])

    def record(self, user: str) -> tuple[str, str]:
        """Return `backend` and `from` of a user."""
        with closing(sqlite3.connect(self.folder / "users.db")) as database:
            [found] = database.execute('SELECT backend, "from" FROM users WHERE user = ?', [user])
        return found[0], found[1]

    def uidls(self, user: str) -> list[bytes]:
        """Return the unique ids that a client sees."""
        with self.pop() as client:
            assert client.login(user, "main").startswith(b"+OK")
            found = [line.split()[1] for line in client.multi("UIDL")]
            client.ok("QUIT")
        return found

    def words(self, program: str, *words: object, switch: object = SWITCH) -> list[str]:
        """Return a command line of pmove or pmigrate."""
        own = {"pmove": ["-b", "s1", "--to", f"lmtp:{self.daemons['plmtpd-s2'].endpoint()}", "-d", self.spool("s1"),
                         "--statefile", self.daemons["pserv-s1"].rundir / "pserv.state"],
               "pmigrate": ["-b", "s1", "-d", self.spool("s1")]}[program]
        return [str(word) for word in (
            *words, *own, "-c", self.folder / "tool.conf", "--state", self.folder / "state", "--settle", "0",
            "--switch", f"{switch} {self.folder / 'users.db'}")]


@pytest.fixture(scope="module")
def site(module_rundir: Path) -> Iterator[Site]:
    """The site."""
    need_program("sqlite3")
    folder, daemons = module_rundir, dict[str, Daemon]()
    users = folder / "users.db"
    with closing(sqlite3.connect(users)) as database, database:
        database.execute('CREATE TABLE users (user, backend, mailbox, "from", held, buser, bpass)')
        database.executemany("INSERT INTO users VALUES (?, ?, ?, ?, '', ?, ?)", [
            ("joe", "s1", "j/joe", "", "", ""), ("eve", "s1", "e/eve", "", "", ""),
            ("ben", "s1", "b/ben", "", "", ""), ("zoe", "s1", "z/zoe", "", "", ""),
            ("kim", "s1", "k/kim", "old", "kim", "old"), ("lea", "s1", "l/lea", "old", "lea", "old"),
            ("o'hara", "s1", "o/hara", "old", "kim", "old")])
    modules: dict[str, object] = {"users": {"module": "sqlite", "args": f"{users} {QUERY}"}}
    here: dict[str, object] = {"main": {"address": "127.0.0.1:0"}}
    try:
        for store in (*STORES, "old"):
            pop = folder / store / "pop"
            pop.mkdir(parents=True)
            daemons[f"pserv-{store}"] = Daemon.start("pserv", {"pserv": {"mailboxdir": pop}, "server": here}, folder,
                                                     name=f"pserv-{store}")
        for store in STORES:
            daemons[f"plmtpd-{store}"] = Daemon.start("plmtpd", {
                "plmtpd": {"mailboxdir": folder / store / "pop", "backends": store, "takeover": "127.0.0.1"},
                "pdm": modules, "server": here}, folder, name=f"plmtpd-{store}")
        (folder / "old-users").write_text("kim:{PLAIN}old:store::kim\nlea:{PLAIN}old:store::lea\n")
        daemons["old"] = Daemon.start("pproxy", {
            "vserv": here, "backend": {"store": {"protocol": "xpop", "address": daemons["pserv-old"].endpoint()}},
            "pdm": {"users": {"module": "passwd", "args": folder / "old-users"}}}, folder, name="old-pproxy")
        backends: dict[str, object] = {
            store: {"protocol": "xpop", "address": daemons[f"pserv-{store}"].endpoint()} for store in STORES}
        backends["old"] = {"protocol": "pop3", "address": daemons["old"].endpoint()}
        settings: dict[str, dict[str, object]] = {
            "pproxy": {"authdelay": 0}, "vserv": here, "pdm": modules, "backend": backends}
        daemons["pproxy"] = Daemon.start("pproxy", settings, folder)
        who = "root" if os.geteuid() == 0 else "nobody"
        (folder / "tool.conf").write_text(ini_text({**settings, "pproxy": {"user": who}}))
        yield Site(folder, daemons)
    finally:
        for name in reversed(daemons):
            daemons[name].close()


def letters(site: Site, store: str, mailbox: str, number: int) -> None:
    """Make a mailbox with new and read mail."""
    path = site.spool(store) / mailbox
    for folder in ("new", "cur", "tmp"):
        (path / folder).mkdir(parents=True)
    for turn in range(number):
        text = b"Subject: %d\r\n\r\n.\r\n" % turn
        (path / ("cur" if turn < 2 else "new") / f"{1_700_000_000 + turn}.7_{len(text)}").write_bytes(text)


def clean(site: Site, store: str) -> None:
    """Have pclean remove what is marked."""
    conf = site.folder / "pclean.conf"
    conf.write_text("[pclean]\nremoveafter = 0\nstatetime = 0\n")
    who = ["-u", "root"] if os.geteuid() == 0 else []
    done = run_tool("pclean", "-c", conf, "-m", site.spool(store), "-l", "/dev/null", *who)
    assert done.returncode == 0, done.stderr


def test_between_two_stores(site: Site) -> None:
    letters(site, "s1", "j/joe", 5)
    hold = site.folder / "hold"    # tells when the user is held
    hold.write_text(f'#!/bin/sh\n{SWITCH} "$@" && touch {site.folder}/is-"$2"\n')
    hold.chmod(0o755)
    before = site.uidls("joe")
    with site.pop() as running:
        assert running.login("joe", "main").startswith(b"+OK")
        with subprocess.Popen([sys.executable, ROOT / "bin/pmove", *site.words("pmove", "joe", "s2", switch=hold)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pmove:
            wait_for(lambda: (site.folder / "is-hold").exists(), 40, "the hold")
            with site.pop() as other:
                assert other.login("joe", "main").startswith(b"-ERR [IN-USE]")
            assert site.deliver("s1", "joe") == site.deliver("s2", "joe") == "451 4.2.1"
            assert len(running.multi("RETR 5")) == 3, "a session that runs goes on"
            running.ok("DELE 1")
            running.ok("QUIT")
            output, _ = pmove.communicate(timeout=60)
    assert (pmove.returncode, output.splitlines()) == (0, [
        "j/joe: done, 4 messages, 5 brought (85 octets), 1 removed", "j/joe: is marked here, for pclean"])
    assert site.record("joe") == ("s2", "")
    assert site.deliver("s1", "joe") == "550 5.1.2"
    assert site.deliver("s2", "joe") == "250 2.0.0"
    after = site.uidls("joe")
    assert after[:4] == before[1:] and len(after) == 5
    assert os.listdir(site.folder / "state") == []

    again = run_tool("pmove", *site.words("pmove", "joe", "s2"))
    assert (again.returncode, again.stdout) == (0, "j/joe: is at s2 already\n")
    back = run_tool("pmove", *site.words("pmove", "joe", "s1"), "-b", "s2", "-d", str(site.spool("s2")), "--to",
                    f"lmtp:{site.daemons['plmtpd-s1'].endpoint()}", "--statefile",
                    str(site.daemons["pserv-s2"].rundir / "pserv.state"))
    assert back.returncode == 1 and "550 5.2.1 the mailbox is marked for removal" in back.stdout
    assert site.record("joe") == ("s2", "")
    for store in STORES:
        clean(site, store)
    assert not (site.spool("s1") / "j/joe").exists()
    assert site.uidls("joe") == after


def test_what_fails_is_undone(site: Site) -> None:
    letters(site, "s1", "b/ben", 3)
    letters(site, "s2", "b/ben", 0)
    (site.spool("s2") / "b/ben/new/1700000001.7_3").write_bytes(b"x\r\n")    # not that message
    failed = run_tool("pmove", *site.words("pmove", "ben", "s2"))
    assert failed.returncode == 1
    assert "b/ben: undone: the old mailbox serves the user again" in failed.stdout.splitlines()
    assert site.record("ben") == ("s1", "") and not (site.spool("s1") / "b/ben/.removed").exists()
    assert len(site.uidls("ben")) == 3
    for user, store, told in [("ben", "old", "'old' is none of those with mailboxes"), ("nobody", "s2", "no such user"),
                              ("kim", "s2", "'old' is none of those with mailboxes")]:
        refused = run_tool("pmove", *site.words("pmove", user, store))
        assert refused.returncode == 1 and told in refused.stderr


def test_killed_twice_and_run_again(site: Site) -> None:
    letters(site, "s1", "e/eve", 3)
    before = site.uidls("eve")
    for step, record in (("hold", ("s1", "none")), ("done", ("s2", ""))):
        kills = site.folder / f"kill-at-{step}"    # ends pmove when the database is changed
        kills.write_text(f'#!/bin/sh\n{SWITCH} "$@"\n[ "$2" != {step} ] || kill -9 "$PPID"\n')
        kills.chmod(0o755)
        done = subprocess.run([sys.executable, ROOT / "bin/pmove", *site.words("pmove", "eve", "s2", switch=kills)],
                              capture_output=True, timeout=60)
        assert (done.returncode, site.record("eve")) == (-9, record)
        assert not (site.spool("s1") / "e/eve/.removed").exists()
    last = run_tool("pmove", *site.words("pmove", "eve", "s2"))
    assert (last.returncode, last.stdout.splitlines()[-1]) == (0, "e/eve: is marked here, for pclean")
    assert site.uidls("eve") == before and (site.spool("s1") / "e/eve/.removed").exists()


def test_from_a_server_of_others(site: Site) -> None:
    (site.folder / "secret").write_text("old\n")
    (site.folder / "secret").chmod(0o600)
    letters(site, "old", "kim", 4)
    before = site.uidls("kim")
    assert len(before) == 4 and site.deliver("s1", "kim") == "451 4.2.1"
    words = site.words("pmigrate", "move", "--cleartext", "--user", "kim", "--passwordfile", site.folder / "secret",
                       f"pop3://{site.daemons['old'].endpoint()}")
    for user in ("kim", "o'hara"):
        done = run_tool("pmigrate", *words, f"user:{user}")
        assert (done.returncode, done.stdout.splitlines()[0]) == (
            0, f"user:{user}: done, 4 messages, 4 brought (68 octets)"), done.stdout
        assert site.record(user) == ("s1", "")
        assert site.uidls(user) == before
    assert site.deliver("s1", "kim") == "250 2.0.0"
    again = run_tool("pmigrate", *words, "user:kim")
    assert again.returncode == 0 and len(site.uidls("kim")) == 5


def test_after_a_session_at_the_old_server(site: Site) -> None:
    secret = site.folder / "secret of lea"
    secret.write_text("old\n")
    secret.chmod(0o600)
    letters(site, "old", "lea", 3)
    log = site.daemons["pproxy"].logfile
    words = site.words("pmigrate", "move", "--cleartext", "--passwordfile", secret,
                       f"pop3://{site.daemons['old'].endpoint()}")
    mover: list[str | Path] = [sys.executable, ROOT / "bin/pmigrate", *words]
    with subprocess.Popen([SWITCH.with_name("after-session"), log, "old", *mover], stdout=subprocess.PIPE,
                          text=True) as service:
        try:
            wait_for(lambda: follows(service.pid, log), 20, "tail at the end of the log")
            with site.pop() as client:
                assert client.login("lea", "wrong").startswith(b"-ERR")
            before = site.uidls("lea")
            assert service.stdout is not None
            assert service.stdout.readline() == "user:lea: done, 3 messages, 3 brought (51 octets)\n"
            assert site.record("lea") == ("s1", "") and site.uidls("lea") == before
            assert site.deliver("s1", "lea") == "250 2.0.0"
        finally:
            for pid in [pid for pid in children_of(service.pid) if title_of(pid).startswith("tail")]:
                end_process(pid)    # the others end when they have done all
    assert service.returncode == 0


def follows(pid: int, log: Path) -> bool:
    """Tell whether a child of a process has a file open, and stands at its end."""
    return any(Path(f"/proc/{child}/fdinfo/{number}").read_text().split()[1] == str(log.stat().st_size)
               for child in children_of(pid) for number, path in descriptors_of(child).items() if path == str(log))


def test_switching_in_sqlite(site: Site) -> None:
    def switch(*words: str) -> tuple[int, tuple[str, str]]:
        done = subprocess.run([SWITCH, site.folder / "users.db", *words], capture_output=True, timeout=60)
        return done.returncode, site.record("zoe")

    for _ in range(2):    # each step may be repeated
        assert switch("hold", "zoe", "z/zoe") == (0, ("s1", "none"))
    for _ in range(2):
        assert switch("undo", "zoe", "z/zoe") == (0, ("s1", ""))
    switch("hold", "zoe", "z/zoe")
    for _ in range(2):
        assert switch("done", "zoe", "z/zoe", "s2") == (0, ("s2", ""))
    assert switch("undo", "zoe", "z/zoe") == (0, ("s2", "")), "only who is held is given back"
    assert switch("hold", "x' OR 'x' = 'x", "x") == (1, ("s2", ""))
    assert switch("what", "zoe", "x")[0] == 64


@pytest.mark.parametrize("words, change", [
    (["hold", "joe", "j/joe"], "replace: mailMovesFrom\nmailMovesFrom: none\n"),
    (["undo", "joe", "j/joe"], "replace: mailMovesFrom\n\n"),
    (["done", "joe", "j/joe", "s2"], "replace: mailMovesFrom\n-\nreplace: mailHost\nmailHost: s2\n")])
def test_switching_in_ldap(tmp_path: Path, words: list[str], change: str) -> None:
    (tmp_path / "ldapmodify").write_text("#!/bin/sh\nexec cat\n")    # tells what it gets
    (tmp_path / "ldapmodify").chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = SWITCH.with_name("switch-ldap")
    done = subprocess.run([script, *words], env=path, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"dn: uid=joe,ou=people,dc=example,dc=org\nchangetype: modify\n{change}"
    hostile = subprocess.run([script, "hold", "joe\n-", "x"], env=path, capture_output=True, text=True, timeout=60)
    assert (hostile.returncode, hostile.stdout) == (65, "")
