"""plmtpd takes mail as an MTA brings it: real sessions over a Unix socket and TCP, with mailboxes on disk."""

import os
import re
import shutil
import signal
import smtplib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from popular.store.mailbox import Mailbox
from popular.store.maildrop import MaildirMaildrop
from tests.harness.certificates import Authority, context_of
from tests.harness.control import tell
from tests.harness.daemon import Daemon, Settings
from tests.harness.lmtpclient import LmtpClient
from tests.harness.needs import need_program
from tests.harness.pstatus import pstatus
from tests.harness.system import wait_for

TEXT = b"Message-ID: <1@example.org>\r\nSubject: x\r\n\r\ntext\r\n"
SENDER = "chris@example.org"
MAXSIZE = 100_000
USERS = "".join(f"{name}:{{PLAIN}}secret:{backend}:{protocol}:{mailbox}\n" for name, backend, protocol, mailbox in (
    ("joe", "store1", "cxpop", "j/joe"), ("jane", "store1", "cxpop", "j/jane"), ("jim", "store1", "cxpop", "j/jim"),
    ("alias", "store1", "cxpop", "j/joe"), ("none", "store1", "cxpop", "n/none"), ("far", "store2", "cxpop", "f/far"),
    ("pop", "store1", "pop3", ":pop:secret"), ("full", "store1", "cxpop", "f/full")))


@pytest.fixture(scope="module")
def daemon(module_rundir: Path) -> Iterator[Daemon]:
    """A running daemon, with users in a file; one that cannot be read knows those of another domain."""
    folder = module_rundir
    (folder / "users").write_text(USERS)
    (folder / "users").chmod(0o600)
    spool = folder / "spool"
    spool.mkdir()
    main = {"address": f"unix:{folder}/lmtp", "userformat": "lower strip=example.org detail=+"}
    settings: Settings = {
        "plmtpd": {"mailboxdir": spool, "minspare": 1, "maxspare": 2, "backends": "store1", "maxsize": MAXSIZE,
                   "maxrecipients": 5, "takeover": "127.0.0.1", "idletimeout": 20},
        "pdm": {"users": {"module": "passwd", "args": f"{folder}/users"}},
        "server": {"main": main, "net": {"address": "127.0.0.1:0"}}}
    with Daemon.start("plmtpd", settings, folder) as running:
        yield running
        assert running.bugs() == []


@pytest.fixture
def spool(daemon: Daemon) -> Path:
    """The folder of mailboxes, with three empty ones."""
    folder = daemon.rundir / "spool"
    for name in os.listdir(folder):
        shutil.rmtree(folder / name)
    for name in ("j/joe", "j/jane", "j/jim", "f/full"):
        Mailbox(str(folder), name).create()
    return folder


def mta(daemon: Daemon, owner: str = "main") -> LmtpClient:
    """Connect as an MTA does."""
    return LmtpClient(daemon.endpoint(owner))


def mail(spool: Path, name: str) -> list[bytes]:
    """Return the messages of a mailbox."""
    assert os.listdir(spool / name / "tmp") == []
    return [path.read_bytes() for path in sorted((spool / name).glob("new/*"))]


def stored(text: bytes = TEXT) -> bytes:
    return b"Return-Path: <chris@example.org>\r\n" + text


DELIVERED, UNKNOWN = "250 2.0.0", "550 5.1.1"


@pytest.mark.parametrize("owner", ["main", "net"])
def test_a_mail_for_several(daemon: Daemon, spool: Path, owner: str) -> None:
    with mta(daemon, owner) as client:
        assert client.mail(["joe", "jane", "jim"], TEXT.replace(b"text", b"text\r\n..dot")) == [DELIVERED] * 3
        client.say("QUIT", 221)
    text = stored(TEXT.replace(b"text", b"text\r\n.dot"))
    assert [mail(spool, name) for name in ("j/joe", "j/jane", "j/jim")] == [[text]] * 3
    assert len({path.stat().st_ino for path in spool.glob("j/*/new/*")}) == 1
    [line] = [each for each in daemon.wait_log("message_delivered", 3) if "mailbox='j/jane'" in each][-1:]
    assert "message='<1@example.org>'" in line and f"server='{owner}'" in line and "recipient='jane'" in line
    assert f"name='{next(spool.glob('j/jane/new/*')).name}'" in line
    metrics = pstatus("-R", daemon.rundir, "-p", "plmtpd", "--metrics").stdout
    [asked] = re.findall(r'^popular_pdm_questions_total\{program="plmtpd",pdm="users"\} (\d+)$', metrics, re.MULTILINE)
    assert int(asked) >= 3


def test_the_client_of_the_standard_library(daemon: Daemon, spool: Path) -> None:
    endpoint = daemon.endpoint("main")
    with smtplib.LMTP(endpoint.host, 0, local_hostname="mta.example.org", timeout=30) as client:
        assert client.sendmail("j\u00f6rg@example.org", ["Joe+lists@Example.org"], b"x\r\n.\r\n", ["SMTPUTF8"]) == {}
    assert mail(spool, "j/joe") == ["Return-Path: <j\u00f6rg@example.org>\r\nx\r\n.\r\n".encode()]


@pytest.mark.parametrize("recipient, answer, why", [
    ("nobody", UNKNOWN, "recipient_unknown"), ("none", UNKNOWN, "recipient_unknown"),
    ("far", "550 5.1.2", "recipient_unknown"), ("pop", "550 5.1.2", "recipient_unknown"),
    ("\u00f6@x", "550 5.6.7", "")])
def test_recipients_who_are_not_here(daemon: Daemon, spool: Path, recipient: str, answer: str, why: str) -> None:
    with mta(daemon) as client:
        assert client.begin(["joe", recipient]) == ["250 2.1.5", answer]
        client.say("DATA", 354)
        client.send(TEXT + b".\r\n")
        client.want(250)
    assert len(mail(spool, "j/joe")) == 1
    assert not why or any(f"recipient='{recipient}'" in line for line in daemon.wait_log(why))


def test_a_mailbox_given_twice_gets_one_message_and_two_answers(daemon: Daemon, spool: Path) -> None:
    with mta(daemon) as client:
        assert client.mail(["joe", "alias", "joe"], TEXT) == [DELIVERED] * 3
    assert mail(spool, "j/joe") == [stored()]


def test_chunks_and_nul(daemon: Daemon, spool: Path) -> None:
    with mta(daemon) as client:
        client.begin(["joe"])
        client.send(b"BDAT 7\r\na\0\r\n.\r\nBDAT 3 LAST\r\nb\ncQUIT\r\n")
        client.want(250, 250, 221)
    assert mail(spool, "j/joe") == [stored(b"a\0\r\n.\r\nb\r\nc\r\n")]


def test_a_lone_line_end_smuggles_nothing(daemon: Daemon, spool: Path) -> None:
    evil = b"\n.\nMAIL FROM:<evil@example.org>\nRCPT TO:<jane>\nDATA\nforged\n.\n"
    with mta(daemon) as client:
        assert client.mail(["joe"], b"x" + evil + b"\r\n") == [DELIVERED]
        client.say("QUIT", 221)
    assert mail(spool, "j/joe") == [stored(b"x" + evil.replace(b"\n", b"\r\n") + b"\r\n")]
    assert mail(spool, "j/jane") == []


def test_a_return_path_that_is_there_is_replaced(daemon: Daemon, spool: Path) -> None:
    with mta(daemon) as client:
        assert client.mail(["joe"], b"Return-Path: <x@y>\r\nSubject: x\r\n\r\n", "") == [DELIVERED]
    assert mail(spool, "j/joe") == [b"Return-Path: <>\r\nSubject: x\r\n\r\n"]


# Limits

def test_a_large_message_is_refused_for_all_and_the_session_goes_on(daemon: Daemon, spool: Path) -> None:
    with mta(daemon) as client:
        assert client.mail(["joe", "jane"], b"x" * MAXSIZE + b"\r\n") == ["552 5.3.4"] * 2
        assert client.mail(["joe"], TEXT) == [DELIVERED]
    assert mail(spool, "j/joe") == [stored()]
    daemon.wait_log("message_refused")


def test_memory_has_a_limit_whatever_the_size(daemon: Daemon, spool: Path) -> None:
    tell(daemon, "set maxsize 0")
    tell(daemon, "sync")
    try:
        with mta(daemon) as client:
            pid = begun(client, daemon, spool)
            for _ in range(400):
                client.send(b"x" * 65536)
            peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line[:5] == "VmHWM")
            client.send(b"\r\n.\r\n")
            client.want(250, 250)
    finally:
        tell(daemon, f"set maxsize {MAXSIZE}")
        tell(daemon, "sync")
    assert int(peak.split()[1]) < 40_000
    assert len(mail(spool, "j/joe")[0]) > 400 * 65536


def test_a_full_mailbox(daemon: Daemon, spool: Path) -> None:
    tell(daemon, "set maxnum 1")
    try:
        for overquota, answer in (("defer", "452 4.2.2"), ("refuse", "552 5.2.2")):
            tell(daemon, f"set overquota {overquota}")
            tell(daemon, "sync")
            with mta(daemon) as client:
                if overquota == "defer":
                    assert client.mail(["full"], TEXT) == [DELIVERED]
                assert client.begin(["full", "joe"]) == [answer, "250 2.1.5"]
    finally:
        tell(daemon, "set maxnum 0")
        tell(daemon, "sync")
    assert "mailbox='f/full'" in daemon.wait_log("recipient_full")[0]


def test_a_missing_mailbox_is_made_where_that_is_wanted(daemon: Daemon, spool: Path) -> None:
    tell(daemon, "set missing create")
    tell(daemon, "sync")
    try:
        with mta(daemon) as client:
            assert client.mail(["none"], TEXT) == [DELIVERED]
    finally:
        tell(daemon, "set missing refuse")
        tell(daemon, "sync")
    assert mail(spool, "n/none") == [stored()]
    assert "mailbox='n/none'" in daemon.wait_log("recipient_made")[0]


def test_a_database_that_fails_defers(daemon: Daemon, spool: Path) -> None:
    users = daemon.rundir / "users"
    users.rename(users.with_suffix(".away"))
    tell(daemon, "reload")
    try:
        with mta(daemon) as client:
            assert client.begin(["joe"]) == ["451 4.3.0"]
    finally:
        users.with_suffix(".away").rename(users)
    daemon.wait_log("recipient_deferred")


# Faults

def test_a_mailbox_that_fails_is_the_failure_of_one(daemon: Daemon, spool: Path) -> None:
    """It goes away between the answer to RCPT and the text."""
    with mta(daemon) as client:
        client.begin(["joe", "jane", "jim"])
        shutil.rmtree(spool / "j/jane")
        client.say("DATA", 354)
        client.send(TEXT + b".\r\n")
        client.want(250, 451, 250)
    assert len(mail(spool, "j/joe")) == len(mail(spool, "j/jim")) == 1
    assert "mailbox='j/jane'" in daemon.wait_log("message_failed")[0]


def begun(client: LmtpClient, daemon: Daemon, spool: Path) -> int:
    """Begin a message of which a part is on disk; return the process that has it."""
    client.begin(["joe", "jane"])
    client.say("DATA", 354)
    client.send(TEXT + b"y" * 1000)
    wait_for(lambda: any(path.stat().st_size for path in spool.glob("j/*/tmp/*")), 20, "a part of the text on disk")
    [draft] = spool.glob("j/*/tmp/*")
    return int(draft.name.split(".")[1])


def test_a_client_that_goes_within_a_message_leaves_nothing(daemon: Daemon, spool: Path) -> None:
    with mta(daemon) as client:
        begun(client, daemon, spool)
    line = daemon.wait_log("message_cut")[0]
    assert "recipients=2" in line and "why='closed'" in line
    assert mail(spool, "j/joe") == mail(spool, "j/jane") == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_that_ends_within_a_message_delivers_nothing(daemon: Daemon, spool: Path,
                                                             number: signal.Signals) -> None:
    with mta(daemon) as client:
        os.kill(begun(client, daemon, spool), number)
        assert client.answer() == ""
    assert list(spool.glob("j/*/new/*")) == []
    daemon.wait_log("outcome='cut off: ")
    with mta(daemon) as client:
        assert client.mail(["joe"], TEXT) == [DELIVERED]


def test_a_child_that_retires_finishes_its_message_and_takes_no_other(daemon: Daemon, spool: Path) -> None:
    with mta(daemon) as client:
        os.kill(begun(client, daemon, spool), signal.SIGUSR1)
        client.send(b"\r\n.\r\nMAIL FROM:<>\r\n")
        client.want(250, 250, 421)
        assert client.answer() == ""
    assert len(mail(spool, "j/joe")) == len(mail(spool, "j/jane")) == 1


# TLS

def test_tls_when_the_client_asks_for_it_and_from_the_first_octet(
        daemon: Daemon, spool: Path, authority: Authority) -> None:
    pair = authority.sign("localhost")
    context = context_of(authority)
    for mode in ("starttls", "implicit"):
        tell(daemon, f"server add {mode} 127.0.0.1:0 tls={mode} certificate={pair.certificate} key={pair.key}")
        port = int(tell(daemon, "server list")[0].lines[-1].split()[1].rpartition(":")[2])
        with socket.create_connection(("localhost", port), 30) as bare:
            client = smtplib.LMTP(local_hostname="mta.example.org", timeout=30)
            client.sock = bare if mode == "starttls" else context.wrap_socket(bare, server_hostname="localhost")
            setattr(client, "_host", "localhost")    # for STARTTLS
            assert client.getreply()[0] == 220
            if mode == "starttls":
                assert client.starttls(context=context)[0] == 220
                client.ehlo()
                assert not client.has_extn("starttls")
            assert client.sendmail(SENDER, ["joe"], TEXT) == {}
            client.quit()
        tell(daemon, f"server remove {mode}")
    assert mail(spool, "j/joe") == [stored()] * 2


# Mail of another store

def test_mail_is_taken_over_with_id_time_and_place(daemon: Daemon, spool: Path) -> None:
    with mta(daemon, "net") as client:
        assert client.mail(["<> XMAILBOX=n/none XUIDL=b+2B1 XRECEIVED=1500000001 XSEEN"], TEXT) == [DELIVERED]
        assert client.mail(["<joe> XMAILBOX=n/none XUIDL=a XRECEIVED=1500000000"], TEXT) == [DELIVERED]
        assert client.mail(["<joe> XMAILBOX=n/none XUIDL=a XRECEIVED=1500000000"], TEXT) == [DELIVERED]
    maildrop = MaildirMaildrop(Mailbox(str(spool), "n/none"))
    assert [(entry.uid, entry.size) for entry in maildrop.entries] == [("b+1", len(TEXT)), ("a", len(TEXT))]
    assert maildrop.last_read() == 1
    maildrop.close()
    assert sorted(path.name.split(".")[0] for path in spool.glob("n/none/*/*_*")) == ["1500000000", "1500000001"]


def test_a_text_that_is_taken_over_stays_as_it_was(daemon: Daemon, spool: Path) -> None:
    text = b"Return-Path: <old@example.org>\r\n" + TEXT
    with mta(daemon, "net") as client:
        assert client.mail(["<> XMAILBOX=j/joe XRECEIVED=1500000000"], text) == [DELIVERED]
    assert mail(spool, "j/joe") == [text]


def test_a_message_has_one_id_in_a_mailbox(daemon: Daemon, spool: Path) -> None:
    with mta(daemon, "net") as client:
        assert client.begin(["<joe> XMAILBOX=j/joe XUIDL=a", "<joe> XMAILBOX=j/joe XUIDL=b"]) == [
            "250 2.1.5", "452 4.5.3"]


def test_others_cannot_take_over(daemon: Daemon, spool: Path) -> None:
    with mta(daemon) as client:
        assert client.begin(["<joe> XSEEN", "<> XMAILBOX=j/joe"]) == ["555 5.5.4"] * 2


# Programs of mail servers

def test_the_load_generator_of_postfix(daemon: Daemon, spool: Path) -> None:
    program = need_program("smtp-source")
    subprocess.run([program, "-L", "-m", "20", "-s", "2", "-d", "-l", "5000", "-f", SENDER, "-t", "joe",
                    f"unix:{daemon.endpoint('main').host}"], check=True, timeout=60, stdin=subprocess.DEVNULL)
    assert len(mail(spool, "j/joe")) == 20


@pytest.mark.parametrize("more", [(), ("--pipeline",)], ids=["alone", "pipelined"])
def test_swaks(daemon: Daemon, spool: Path, more: tuple[str, ...]) -> None:
    done = subprocess.run(
        [need_program("swaks"), "--protocol", "LMTP", "--socket", daemon.endpoint("main").host, "--helo", "mta",
         "--from", SENDER, "--to", "joe,jane,nobody", "--body", ".\n..\nbody", *more],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    assert done.stdout.count("250 2.0.0 delivered") == 2 and "550 5.1.1" in done.stdout, done.stdout + done.stderr
    [text], [other] = mail(spool, "j/joe"), mail(spool, "j/jane")
    assert text == other and b"\r\n\r\n.\r\n..\r\nbody\r\n" in text
