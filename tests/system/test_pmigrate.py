"""pmigrate as administrators run it: from a real Dovecot in its formats, from pserv, by lists, by users."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from grp import getgrnam
from pathlib import Path
from pwd import getpwnam

import pytest

from popular.net.tls.context import KeyPair
from tests.harness.certificates import Authority
from tests.harness.daemon import ROOT, Daemon
from tests.harness.dovecot import Dovecot, NoDovecot, find_dovecot
from tests.harness.dovecot_config import VERSIONS, configure
from tests.harness.fake_backend import Expect, FakeBackend, Say, Step
from tests.harness.letters import shown
from tests.harness.needs import lacking, need_program
from tests.harness.ports import free_port
from tests.harness.ptyscreen import Terminal
from tests.harness.tools import run_tool

FORMATS = {    # in the languages of VERSIONS
    "maildir": ("", ""),
    "sdbox": ("mail_location = sdbox:~/sdbox\n", "mail_driver = sdbox\nmail_path = ~/sdbox\n"),
    "mdbox": ("mail_location = mdbox:~/mdbox\n", "mail_driver = mdbox\nmail_path = ~/mdbox\n"),
    "mbox": ("mail_location = mbox:~/mail:INBOX=~/inbox\n",
             "mail_driver = mbox\nmail_path = ~/mail\nmail_inbox_path = ~/inbox\n"),
}
UIDLS = ("pop3_uidl_format = %08Xu%08Xv\n", "pop3_uidl_format = %{uid | hex(8)}%{uidvalidity | hex(8)}\n")
MASTERS = "auth_master_user_separator = *\n{passdb_of_masters}\n"
POP3S = "service pop3-login {{\n  inet_listener pop3s {{\n    port = {port}\n    ssl = yes\n  }}\n}}\n"

MAILS = [
    b"Subject: 1\nDate: Mon, 5 Jan 2026 10:00:00 +0100\n\none\n.\n..two\n", b"Subject: 2\n\nno end",
    b"Subject: 3\r\n\r\nmixed\r\nends\n\xff\0\r\n", b"Subject: 4\n\n" + b"x" * 100_000 + b"\n",
    b"Subject: 5\n\n\x0c\n"]
FROM = b"From joe@example.com Mon Jan  5 10:00:00 2026\n"
MBOX = (
    FROM + b"Subject: 1\nStatus: RO\n\none\nFrom the start, no separator\n>From quoted\n\n"
    + FROM + b"Subject: 2\nContent-Length: 5\n\nlonger than five\n\n\n"
    + FROM + b"Subject: 3\nContent-Length: %d\n\nx\n\n%sinside\n\n" % (10 + len(FROM), FROM)
    + FROM + b"Subject: 4\n\n" + FROM + b"Subject: 5\nX-UIDL: other\n\nno end")


PPROXY = """\
[pproxy]
user = {user}
[backend]
    [[store]]
    protocol = cxpop
    address = 127.0.0.1:1
[pdm]
    [[users]]
    module = passwd
    args = {users}
"""


@pytest.fixture(scope="module")
def folder(module_rundir: Path) -> Path:
    """A folder that Dovecot can enter when root starts it, with a file that holds the password."""
    for name in ("password", "master"):
        (module_rundir / name).write_text(f"{name} secret\n")
        (module_rundir / name).chmod(0o600)
    return module_rundir


@contextmanager
def dovecot_in(folder: Path, form: str, pair: KeyPair | None = None, more: str = "") -> Iterator[Dovecot]:
    """Run a Dovecot whose mailboxes have a format, for the user joe."""
    try:
        language = VERSIONS.index(find_dovecot().language)
        text = (FORMATS[form][language] + UIDLS[language] + more).replace("{", "{{").replace("}", "}}")
        server = Dovecot.start(folder / form, {"joe": "password secret"}, pair, text)
    except NoDovecot as why:
        lacking(f"a Dovecot to use ({why})")
    with server:
        yield server


@pytest.fixture(scope="module", params=["sdbox", "mdbox"])
def dbox(folder: Path, request: pytest.FixtureRequest) -> Iterator[Dovecot]:
    """A Dovecot with one of its own formats."""
    with dovecot_in(folder, request.param) as server:
        yield server


@pytest.fixture(scope="module")
def mbox(folder: Path) -> Iterator[Dovecot]:
    """A Dovecot with mboxes."""
    with dovecot_in(folder, "mbox") as server:
        yield server


@pytest.fixture(scope="module")
def wire(folder: Path) -> Iterator[tuple[Dovecot, str, str]]:
    """A Dovecot that demands TLS and knows a master user, its address for TLS from the start, and its authority."""
    authority, port = Authority.make(folder), free_port()
    (folder / "masters").write_text("admin:master secret\n")
    try:
        masters = configure(MASTERS, find_dovecot().language, masters=folder / "masters")
    except NoDovecot as why:
        lacking(f"a Dovecot to use ({why})")
    with dovecot_in(folder, "maildir", authority.sign("127.0.0.1"), masters + POP3S.format(port=port)) as server:
        yield server, f"pop3s://127.0.0.1:{port}", authority.cafile


@pytest.fixture
def migrate(spool: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Return a function that runs pmigrate."""
    return lambda command, *words: run_tool("pmigrate", command, "-d", spool, "-j", "1", "--wait", "0", *words)


def save(dovecot: Dovecot, *mails: bytes) -> None:
    """Deliver to joe."""
    doveadm = need_program("doveadm")
    for mail in mails:
        subprocess.run([doveadm, "-c", dovecot.folder / "dovecot.conf", "save", "-u", "joe"], input=mail, check=True,
                       timeout=30)


def test_over_the_wire(folder: Path, wire: tuple[Dovecot, str, str], migrate, spool: Path) -> None:
    dovecot, tls, cafile = wire
    save(dovecot, *MAILS[:3])
    own = ["--user", "joe", "--passwordfile", folder / "password"]
    master = ["--user", "joe", "--login", "%u*admin", "--passwordfile", folder / "master"]
    trust, starttls = ["--cafile", cafile], f"pop3://{dovecot.endpoint}"

    first = migrate("copy", *master, *trust, starttls, "j/joe")
    assert (first.returncode, first.stdout.splitlines()[0]) == (0, "j/joe: done, 3 messages, 3 brought (120 octets)")
    save(dovecot, *MAILS[3:])
    second = migrate("copy", tls, *own, *trust, "j/joe")
    assert second.stdout.startswith("j/joe: done, 5 messages, 2 brought (")
    assert (second.returncode, second.stderr) == (0, "")
    assert migrate("copy", starttls, *own, *trust, "j/joe").stdout.startswith("j/joe: done, 5 messages, 0 brought")
    same = migrate("verify", starttls, *own, *trust, "j/joe")
    assert (same.returncode, same.stdout) == (0, "j/joe: done, 5 messages\n1 mailbox: 1 done\n")
    asked = migrate("verify", starttls, *own, *trust, "--pop3", tls, "j/joe")
    assert (asked.returncode, asked.stdout) == (0, "j/joe: done, 5 messages\n1 mailbox: 1 done\n")
    assert [name.partition(".")[0] for name in sorted(os.listdir(spool / "j/joe/new"))][:1] == ["1767603600"]

    refused = migrate("copy", starttls, *own, "j/ben")
    assert refused.returncode == 1 and "certificate" in refused.stdout
    assert not (spool / "j/ben").exists()
    loud = migrate("copy", starttls, *own, "--no-verify", "j/ben")
    assert (loud.returncode, loud.stderr[:40]) == (0, "pmigrate: WARNING: certificates are not ")
    wrong = migrate("copy", starttls, *trust, "--user", "joe", "--passwordfile", folder / "master", "j/ben")
    assert wrong.returncode == 1 and "j/ben: failed, 0 messages" in wrong.stdout and "secret" not in wrong.stdout
    there = os.listdir(dovecot.maildir("joe") / "cur") + os.listdir(dovecot.maildir("joe") / "new")
    assert len(there) == 5 and not any(name.endswith("S") for name in there)    # nothing was read there


def test_by_doveadm(folder: Path, dbox: Dovecot, migrate, spool: Path) -> None:
    dovecot = dbox
    save(dovecot, *MAILS)
    for words in (["flags", "add", "-u", "joe", "\\Seen", "mailbox", "INBOX", "uid", "2"],
                  ["expunge", "-u", "joe", "mailbox", "INBOX", "uid", "3"]):
        subprocess.run(["doveadm", "-c", dovecot.folder / "dovecot.conf", *words], check=True, timeout=30)
    server = ["--user", "joe", "--passwordfile", folder / "password", "--cleartext", f"pop3://{dovecot.endpoint}"]
    config = ["--dovecot", dovecot.folder / "dovecot.conf"]
    done = migrate("copy", *config, "doveadm:joe", "j/joe")
    assert (done.returncode, done.stdout.splitlines()[0][:28]) == (0, "j/joe: done, 4 messages, 4 b")
    assert len(os.listdir(spool / "j/joe/cur")) == 1
    assert migrate("verify", *server, "j/joe").returncode == 0
    save(dovecot, b"Subject: new\n\nnew\n")
    assert migrate("copy", *server, "j/joe").stdout.startswith("j/joe: done, 5 messages, 1 brought (21 octets)")
    assert migrate("verify", *config, "doveadm:joe", "j/joe").stdout.startswith("j/joe: done, 5 messages\n")
    nobody = migrate("copy", *config, "doveadm:nobody", "j/no")
    assert nobody.returncode == 1 and "j/no: doveadm: " in nobody.stdout


def test_an_mbox_is_read_as_dovecot_does(folder: Path, mbox: Dovecot, migrate) -> None:
    inbox = mbox.maildir("joe").with_name("inbox")
    inbox.write_bytes(MBOX)
    os.chown(inbox, *os.stat(mbox.maildir("joe"))[4:6])
    server = ["--user", "joe", "--passwordfile", folder / "password", "--cleartext", f"pop3://{mbox.endpoint}"]
    done = migrate("copy", *server, "j/joe")
    assert done.stdout.startswith("j/joe: done, 5 messages, 5 brought (")
    same = migrate("verify", "--uidls", "dovecot", f"mbox:{inbox}", "j/joe")
    assert (same.returncode, same.stdout) == (0, "j/joe: done, 5 messages\n1 mailbox: 1 done\n")


def test_from_pserv(start: Callable[..., Daemon], make_mailbox, spool: Path, tmp_path: Path, migrate) -> None:
    path = make_mailbox("a/joe", [b"Subject: 1\r\n\r\nx\r\n", b"Subject: 2\r\n\r\n.\r\n"], [b"Subject: 3\r\n\r\n\r\n"])
    pserv = start("pserv", {"pserv": {"mailboxdir": spool}, "server": {"main": {"address": "127.0.0.1:0"}}})
    (tmp_path / "other").mkdir()
    done = migrate("copy", "-d", tmp_path / "other", f"xpop://{pserv.endpoint()}/a/joe", "b/joe")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "b/joe: done, 3 messages, 3 brought (50 octets)")
    copy = tmp_path / "other/b/joe"
    assert sorted(os.listdir(copy / "new") + os.listdir(copy / "cur")) == sorted(
        os.listdir(path / "new") + os.listdir(path / "cur"))
    assert shown(tmp_path / "other", "b/joe") == shown(spool, "a/joe")
    missing = migrate("copy", f"xpop://{pserv.endpoint()}/a/nobody", "b/nobody")
    assert missing.returncode == 1 and "b/nobody: failed, 0 messages" in missing.stdout


def test_onto_another_host(start: Callable[..., Daemon], spool: Path, tmp_path: Path, rundir: Path, migrate) -> None:
    (tmp_path / "users").write_text("joe:{PLAIN}x:store::3/2d/joe\n")
    plmtpd = start("plmtpd", {
        "plmtpd": {"mailboxdir": spool, "backends": "store", "takeover": "127.0.0.1"},
        "pdm": {"users": {"module": "passwd", "args": tmp_path / "users"}},
        "server": {"main": {"address": "127.0.0.1:0"}, "local": {"address": f"unix:{rundir}/lmtp"}}})
    (tmp_path / "box").write_bytes(MBOX)
    source = f"mbox:{tmp_path / 'box'}"
    words = ["--to", f"lmtp:{plmtpd.endpoint('main')}", "--state", tmp_path / "state", source]
    assert "5 messages, 5 would be brought" in migrate("copy", *words, "--dry-run", "a/max").stdout
    done = migrate("copy", *words, "a/max")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "a/max: done, 5 messages, 5 brought (220 octets)")
    assert migrate("copy", *words, "a/max").stdout.startswith("a/max: done, 5 messages, 0 brought (")
    assert migrate("copy", *words, "user:joe").returncode == 0
    shutil.rmtree(tmp_path / "state")    # so everything is sent again
    assert migrate("copy", *words, "a/max").returncode == 0
    for name in ("a/max", "3/2d/joe"):
        assert migrate("verify", source, name).stdout == f"{name}: done, 5 messages\n1 mailbox: 1 done\n"
        assert len(os.listdir(spool / name / "cur")) == 1
    refused = migrate("copy", "--to", f"lmtp:unix:{rundir}/lmtp", "--state", tmp_path / "other", source, "a/max")
    assert refused.returncode == 1 and "does not let this host take over mail" in refused.stdout
    unknown = migrate("copy", *words, "user:nobody")
    assert unknown.returncode == 1 and "user:nobody: LMTP: 550 " in unknown.stdout


def test_a_list_with_a_broken_mailbox(spool: Path, tmp_path: Path) -> None:
    lines = [f"mbox:{tmp_path}/{number}\tm/{number}" for number in range(6)]
    for number in range(6):
        (tmp_path / str(number)).write_bytes(b"no mbox\n" if number == 3 else MBOX)
    (tmp_path / "list").write_text("# all\n" + "\n".join([*lines, "mbox:/x"]) + "\n")
    words: list[str | bytes | Path] = ["-d", spool, "-j", "2", "--wait", "0", "--list", tmp_path / "list",
                                       "--report", tmp_path / "report"]
    done = run_tool("pmigrate", "copy", *words)
    broken = f"m/3: {tmp_path}/3: no line `From SENDER DATE` at octet 0"
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "line 8: must be SOURCE MAILBOX [USER [PASSWORD]]", "m/3: failed, 0 messages, 0 brought (0 octets)", broken,
        "7 mailboxes: 5 done, 2 failed; 25 brought (1100 octets)"]
    report = (tmp_path / "report").read_text().splitlines()
    assert broken in report and sum(": done, 5 messages, 5 brought (" in line for line in report) == 5
    assert os.stat(tmp_path / "report").st_mode & 0o777 == 0o600
    (tmp_path / "3").write_bytes(MBOX)
    (tmp_path / "list").write_text("\n".join(lines) + "\n")
    assert run_tool("pmigrate", "copy", *words).returncode == 0
    assert run_tool("pmigrate", "verify", *words).stdout == "6 mailboxes: 6 done\n"


def test_messages_without_an_id_are_told_once_for_a_list(spool: Path, tmp_path: Path, migrate) -> None:
    for number in range(3):
        for folder in ("new", "cur", "tmp"):
            (tmp_path / f"{number}/{folder}").mkdir(parents=True)
        (tmp_path / f"{number}/dovecot-uidlist").write_text("3 V1 N1 G0\n")
        (tmp_path / f"{number}/new/170000000{number}.M1P1.h").write_text("Subject: 1\n\n")
    (tmp_path / "list").write_text("".join(f"dovecot:{tmp_path}/{number} m/{number}\n" for number in range(3)))
    words = ["--list", tmp_path / "list", "--uidl-format", "%u", "--report", tmp_path / "report"]
    done = migrate("copy", *words)
    told = "without a UIDL of the old server yet, so that the name is the UIDL"
    sums = [f"3 {told}", "3 mailboxes: 3 done; 3 brought (42 octets)"]
    assert done.stdout.splitlines() == sums
    report = (tmp_path / "report").read_text().splitlines()
    assert report[-2:] == sums and report[1].endswith(f": 1 {told}")


def test_progress_is_shown_on_a_terminal(spool: Path, tmp_path: Path) -> None:
    (tmp_path / "box").write_bytes(MBOX)
    words = ["copy", "-d", str(spool), f"mbox:{tmp_path / 'box'}", "j/joe"]
    with Terminal([sys.executable, str(ROOT / "bin/pmigrate"), *words]) as terminal:
        terminal.wait_text("1 mailbox: 1 done")
        assert terminal.wait() == 0
        written = bytes(terminal.written)
        lines = [line.rstrip() for line in terminal.screen.display if line.strip()]
    assert b"\r\x1b[K1 of 5 messages, j/joe\r\x1b[K" in written
    assert lines == ["j/joe: done, 5 messages, 5 brought (220 octets)", "1 mailbox: 1 done; 5 brought (220 octets)"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can name an owner")
def test_the_owner_has_all_that_is_written(folder: Path, tmp_path: Path, migrate) -> None:
    (tmp_path / "box").write_bytes(MBOX)
    nobody, spool = getpwnam("nobody"), folder / "pop"
    spool.mkdir()
    os.chown(spool, nobody.pw_uid, getgrnam("daemon").gr_gid)
    for name, words, gid in (("a/joe", (), getgrnam("daemon").gr_gid), ("b/joe", ("--owner", "nobody"), nobody.pw_gid)):
        if words:
            spool.chmod(0o777)
        done = migrate("copy", "-d", spool, *words, f"mbox:{tmp_path / 'box'}", name)
        assert done.returncode == 0, done.stdout
        found = [spool / name[0], *(spool / name).rglob("*"), spool / name]
        assert {(path.stat().st_uid, path.stat().st_gid) for path in found} == {(nobody.pw_uid, gid)}
    refused = migrate("copy", "-d", spool, "--owner", "no such user", f"mbox:{tmp_path / 'box'}", "c/joe")
    assert refused.returncode == 1 and "no such user" in refused.stdout


def test_users_of_the_database(spool: Path, tmp_path: Path, migrate) -> None:
    (tmp_path / "box").write_bytes(MBOX)
    (tmp_path / "users").write_text("joe:{PLAIN}x:store::3/2d/joe\n")
    (tmp_path / "pproxy.conf").write_text(PPROXY.format(
        user="root" if os.geteuid() == 0 else "nobody", users=tmp_path / "users"))
    config = ["-c", tmp_path / "pproxy.conf", f"mbox:{tmp_path / 'box'}"]
    assert migrate("copy", *config, "user:joe").stdout.startswith("user:joe: done, 5 messages, 5 brought")
    assert len(shown(spool, "3/2d/joe")) == 5
    unknown = migrate("copy", *config, "user:max")
    assert unknown.returncode == 1 and "user:max: user 'max': no such user" in unknown.stdout


def test_a_rehearsal(spool: Path, tmp_path: Path, migrate) -> None:
    (tmp_path / "box").write_bytes(MBOX)
    told = migrate("copy", "--dry-run", f"mbox:{tmp_path / 'box'}", "j/joe")
    assert told.returncode == 0
    assert told.stdout.startswith("j/joe: done, 5 messages, 5 would be brought (0 octets)\n")
    assert os.listdir(spool) == []


@pytest.mark.parametrize("words, code, text", [
    (["copy"], 64, "give either SOURCE and MAILBOX or --list"), (["copy", "mbox:/x"], 64, "give either"),
    (["copy", "mbox:/x", "a", "--list", "/x"], 64, "give either"), (["take", "mbox:/x", "a"], 64, "invalid choice"),
    (["copy", "mbox:/x", "a", "-j", "0"], 64, "must be a number from 1 to 1000"),
    (["copy", "mbox:/x", "a", "--to", "smtp:x"], 64, "must be lmtp:"),
    (["copy", "mbox:/x", "a", "--to", "lmtp:h:24"], 64, "--to needs --state"),
    (["copy", "mbox:/x", "a", "--to", "lmtp:h:24", "--state", "/x", "--link"], 64, "without --delete-gone and --link"),
    (["verify", "mbox:/x", "a", "--to", "lmtp:h:24", "--state", "/x"], 64, "--to is for copy"),
    (["move", "mbox:/x", "a", "--state", "/x"], 64, "move needs --switch"),
    (["move", "mbox:/x", "a", "--switch", "x"], 64, "move needs --state"),
    (["copy", "mbox:/x", "a", "--switch", "x"], 64, "--switch is for move"),
    (["move", "mbox:/x", "a", "--switch", ""], 64, "must be a command"),
    (["move", "mbox:/x", "a", "--switch", "'x"], 64, "no closing quotation"),
    (["move", "mbox:/x", "a", "--switch", "x", "--state", "/x", "--to", "lmtp:h:24"], 64,
     "move with --to needs --pop3 xpop://"),
    (["copy", "--list", "/does/not/exist"], 66, "/does/not/exist: No such file"),
    (["copy", "mbox:/x", "a", "--passwordfile", "/does/not/exist"], 66, "/does/not/exist: No such file"),
    (["copy", "mbox:/x", "a", "--passwordfile", "/etc/passwd"], 66, "other users can read it"),
    (["copy", "mbox:/x", "a", "--report", "/does/not/exist"], 73, "/does/not/exist: No such file"),
    (["copy", "mbox:/x", "../a", "-d", "/tmp"], 1, ""), (["copy", "mbox:/x", "a", "-d", "/does/not/exist"], 1, "")])
def test_exit_codes(words: list[str], code: int, text: str) -> None:
    done = run_tool("pmigrate", *words)
    assert done.returncode == code and text in done.stderr


def test_a_list_with_passwords_is_for_its_owner_only(tmp_path: Path, migrate) -> None:
    path = tmp_path / "list"
    path.write_text("pop3s://127.0.0.1:1\ta\tjoe\tsecret\n")
    path.chmod(0o644)
    done = migrate("copy", "--list", path)
    assert (done.returncode, done.stderr) == (
        66, "pmigrate: the list has passwords, and other users can read it: chmod 600\n")


def test_a_large_message_takes_no_memory(spool: Path, request: pytest.FixtureRequest) -> None:
    mebibytes = 1024 if request.config.getoption("--long") else 48
    block = (b"x" * 1022 + b"\r\n") * 1024
    steps: list[Step] = [
        Say(b"+OK\r\n"), Expect(b"CAPA\r\n"), Say(b"-ERR\r\n"), Expect(b"USER joe\r\n"), Say(b"+OK\r\n"),
        Expect(b"PASS \r\n"), Say(b"+OK\r\n"), Expect(b"LIST\r\n"), Say(b"+OK\r\n1 5\r\n.\r\n"),
        Expect(b"UIDL\r\n"), Say(b"+OK\r\n1 a\r\n.\r\n"), Expect(b"LAST\r\n"), Say(b"-ERR\r\n"),
        Expect(b"RETR 1\r\n"), Say(b"+OK\r\n"),
        *[Say(block)] * mebibytes, Say(b".\r\n"), Expect(b"RSET\r\n"), Say(b"+OK\r\n"), Expect(b"QUIT\r\n"),
        Say(b"+OK\r\n")]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (160 << 20, 160 << 20))

    with FakeBackend(steps) as fake:
        done = subprocess.run(
            [sys.executable, ROOT / "bin/pmigrate", "copy", "-d", spool, "-j", "1", "--cleartext", "--user", "joe",
             f"pop3://{fake.endpoint}", "joe"], preexec_fn=limit, capture_output=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, b"")
    [name] = os.listdir(spool / "joe/new")
    assert name.endswith(f"_{mebibytes << 20},U")
