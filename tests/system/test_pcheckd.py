"""pcheckd as a real daemon: mailboxes on disk, options, signals, processes (spec 3 and 8.2)."""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.addresses import Endpoint, parse_endpoint
from popular.mailcheck.client import ask_pcheckd, exchange
from popular.mailcheck.packet import MailState, parse_load_answer
from popular.pcheckd.settings import SCHEMA
from popular.version import VERSION
from tests.harness.daemon import ROOT, Daemon, StartFailed
from tests.harness.system import descriptors_of, is_alive, state_of, title_of, wait_for

MESSAGE = b"Subject: x\r\n\r\nx\r\n"

StartPcheckd = Callable[..., Daemon]


@pytest.fixture
def pcheckd(start: Callable[..., Daemon], spool: Path) -> StartPcheckd:
    """A function (*options, **settings) that starts a pcheckd on the spool and a port from the kernel."""
    def start_one(*options: str, **settings: object) -> Daemon:
        values = {"mailboxdir": spool, "host": "127.0.0.1", "port": 0, **settings}
        return start("pcheckd", {"pcheckd": values}, options=options)
    return start_one


def query(endpoint: Endpoint, request: bytes) -> bytes:
    """Return the answer to one datagram as it came."""
    with socket.socket(socket.AF_INET6 if endpoint.is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10.0)
        sock.connect((endpoint.host, endpoint.port))
        sock.send(request)
        return sock.recv(65536)


MAILBOXES = [
    pytest.param(b"*M3/2d/joe.doe", b"+OK 2 new mail\n", id="new"),
    pytest.param(b"*M3/2d/joe.doe\r\n", b"+OK 2 new mail\n", id="new-crlf"),
    pytest.param(b"*Mboth\n", b"+OK 2 new mail\n", id="new-and-old"),
    pytest.param(b"*Mold", b"+OK 1 mail\n", id="old"),
    pytest.param(b"*Mempty", b"+OK 0 no mail\n", id="empty"),
    pytest.param(b"*Mtmp-only", b"+OK 0 no mail\n", id="being-delivered"),
    pytest.param(b"*Mdot-files", b"+OK 0 no mail\n", id="dot-files-are-no-mail"),
    pytest.param(b"3/2d/joe.doe", b"+OK 2 new mail\n", id="old-form"),
    pytest.param(b"old\r\n", b"+OK 1 mail\n", id="old-form-crlf"),
    pytest.param(b"*Mlost-new", b"+OK 1 mail\n", id="new-was-lost"),
    pytest.param(b"*Mnobody", b"+OK 0 no mail\n", id="missing"),
    pytest.param(b"*Mno-mailbox", b"+OK 0 no mail\n", id="a-folder-that-is-no-mailbox"),
    pytest.param(b"*Mfile", b"-ERR no such mailbox\n", id="a-file"),
    pytest.param(b"*M../spool/old", b"-ERR illegal mailbox name\n", id="dot-dot"),
    pytest.param(b"*M/old", b"-ERR illegal mailbox name\n", id="absolute"),
    pytest.param(b"*Mold\0", b"-ERR illegal mailbox name\n", id="nul"),
    pytest.param(b"*Xold", b"-ERR unknown request\n", id="unknown-letter"),
]


def test_spec_8_2_requests_and_answers(pcheckd: StartPcheckd, spool: Path,
                                       make_mailbox: Callable[..., Path]) -> None:
    make_mailbox("3/2d/joe.doe", new=[MESSAGE])
    make_mailbox("both", new=[MESSAGE], cur=[MESSAGE])
    make_mailbox("old", cur=[MESSAGE])
    make_mailbox("empty")
    (make_mailbox("tmp-only") / "tmp/945113196.14341_5").write_bytes(MESSAGE)
    (make_mailbox("dot-files") / "new/.hidden").write_bytes(MESSAGE)
    (make_mailbox("lost-new", cur=[MESSAGE]) / "new").rmdir()
    (spool / "no-mailbox").mkdir()
    (spool / "file").write_bytes(b"")
    endpoint = pcheckd().endpoint()
    wrong = {}
    for param in MAILBOXES:
        request, wanted = param.values
        assert isinstance(request, bytes)
        if (answer := query(endpoint, request)) != wanted:
            wrong[param.id] = answer
    assert not wrong


@pytest.mark.parametrize(("missing", "answer"), [
    ("empty", b"+OK 0 no mail\n"), ("create", b"-ERR no such mailbox\n"), ("refuse", b"-ERR no such mailbox\n")])
def test_a_mailbox_that_is_missing(pcheckd: StartPcheckd, spool: Path, missing: str, answer: bytes) -> None:
    endpoint = pcheckd(missing=missing).endpoint()
    (spool / "file").write_bytes(b"")
    assert query(endpoint, b"*Mnobody") == answer
    assert query(endpoint, b"*Mfile") == b"-ERR no such mailbox\n"
    (spool / "file").unlink()
    assert os.listdir(spool) == [], "whoever asks makes nothing"
    spool.rmdir()
    assert query(endpoint, b"*Mnobody") == b"-ERR mailbox cannot be read\n", "a spool that is away is not empty"
    spool.mkdir()


def test_spec_8_2_load_is_the_1_minute_load(pcheckd: StartPcheckd) -> None:
    answer = query(pcheckd().endpoint(), b"*L\n")
    assert answer.startswith(b"+OK ") and answer.endswith(b"\n")
    assert abs(float(answer[4:]) - os.getloadavg()[0]) < 1.0 and b"." in answer


def test_the_asking_side_understands_it(pcheckd: StartPcheckd, make_mailbox: Callable[..., Path]) -> None:
    make_mailbox("joe", new=[MESSAGE])
    make_mailbox("empty")
    endpoint = pcheckd().endpoint()
    assert ask_pcheckd(endpoint, "joe", 10.0, 1) is MailState.NEW_MAIL
    assert ask_pcheckd(endpoint, "empty", 10.0, 1) is MailState.EMPTY


def test_a_mailbox_is_looked_at_each_time(pcheckd: StartPcheckd, make_mailbox: Callable[..., Path]) -> None:
    folder = make_mailbox("joe")
    endpoint = pcheckd().endpoint()
    assert ask_pcheckd(endpoint, "joe", 10.0, 1) is MailState.EMPTY
    (folder / "new/945113196.14341_17").write_bytes(MESSAGE)
    assert ask_pcheckd(endpoint, "joe", 10.0, 1) is MailState.NEW_MAIL
    (folder / "new/945113196.14341_17").rename(folder / "cur/945113196.14341_17")
    assert ask_pcheckd(endpoint, "joe", 10.0, 1) is MailState.OLD_MAIL


def test_garbage_does_no_harm(pcheckd: StartPcheckd) -> None:
    daemon = pcheckd("--debug")
    children = wait_for(daemon.children)
    dice = random.Random(50110)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((daemon.endpoint().host, daemon.endpoint().port))
        for size in (0, 1, 2, 512, 1023, 1024, 1025, 9000, 65507):
            for lead in (b"", b"*", b"*M", b"*L", b"+OK ", b"-ERR "):
                sock.send((lead + dice.randbytes(size))[:65507])
            # With retries: garbage may have filled the port's buffer.
            exchange(daemon.endpoint(), b"*L", parse_load_answer, 1.0, 20)
    assert query(daemon.endpoint(), b"x" * 1025) == b"-ERR request too long\n"
    assert daemon.children() == children


def test_answers_are_not_answered(pcheckd: StartPcheckd) -> None:
    """A datagram that seems to come from another server must not set the two talking for ever."""
    endpoint = pcheckd().endpoint()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((endpoint.host, endpoint.port))
        for answer in (b"+OK 2 new mail\n", b"-ERR illegal mailbox name\n", b"+OK 3.23\n"):
            sock.send(answer)
        sock.send(b"*Mnobody")
        sock.settimeout(10.0)
        assert sock.recv(100) == b"+OK 0 no mail\n"    # the first answer is for the last datagram


def test_a_spool_that_is_away_is_no_missing_mailbox(pcheckd: StartPcheckd, spool: Path,
                                                    make_mailbox: Callable[..., Path]) -> None:
    make_mailbox("joe", new=[MESSAGE])
    daemon = pcheckd()
    spool.rename(spool.with_name("away"))
    assert query(daemon.endpoint(), b"*Mjoe") == b"-ERR mailbox cannot be read\n"
    daemon.wait_log("ADM 02a0 mailbox_unreadable mailbox='joe'")
    spool.with_name("away").rename(spool)
    assert query(daemon.endpoint(), b"*Mjoe") == b"+OK 2 new mail\n"


def test_spec_3_1_emptyload_answers_3_for_every_mailbox(pcheckd: StartPcheckd,
                                                        make_mailbox: Callable[..., Path]) -> None:
    make_mailbox("joe", new=[MESSAGE])
    endpoint = pcheckd("-e", "0").endpoint()
    for request in (b"*Mjoe", b"joe", b"*Mnobody"):
        assert query(endpoint, request) == b"+OK 3 load too high\n"
    assert query(endpoint, b"*L").startswith(b"+OK ")


def test_spec_3_1_emptyload_above_the_load_changes_nothing(pcheckd: StartPcheckd,
                                                           make_mailbox: Callable[..., Path]) -> None:
    make_mailbox("joe", new=[MESSAGE])
    assert query(pcheckd("--emptyload", "100000").endpoint(), b"*Mjoe") == b"+OK 2 new mail\n"


@pytest.mark.parametrize("options, number", [
    pytest.param((), 1, id="default-0"),
    pytest.param(("-f", "2"), 3, id="short"),
    pytest.param(("--fork", "1"), 2, id="long"),
])
def test_spec_3_1_fork_num_and_one_answer(pcheckd: StartPcheckd, options: tuple[str, ...],
                                          number: int) -> None:
    daemon = pcheckd(*options)
    children = wait_for(lambda: found if len(found := daemon.children()) == number else [])
    for one in children:
        others = [pid for pid in children if pid != one]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
            wait_for(lambda: state_of(pid) == "T")
        try:
            assert query(daemon.endpoint(), b"*L").startswith(b"+OK ")
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT, signal.SIGTERM, signal.SIGPWR],
                         ids=lambda number: number.name)
def test_spec_3_2_signals_that_end_it(pcheckd: StartPcheckd, number: signal.Signals) -> None:
    daemon = pcheckd("-f", "1")
    children = wait_for(lambda: found if len(found := daemon.children()) == 2 else [])
    daemon.signal(number)
    assert daemon.wait() == 0
    wait_for(lambda: not any(is_alive(pid) for pid in children))
    assert len(daemon.log_lines(" INF 0078 shutdown")) == 1


def test_spec_3_2_hup_reopens_the_log(pcheckd: StartPcheckd) -> None:
    daemon = pcheckd("--debug")
    old = daemon.logfile.with_suffix(".old")
    daemon.logfile.rename(old)
    daemon.signal(signal.SIGHUP)
    wait_for(daemon.logfile.exists)

    def is_logged_anew() -> list[str]:
        assert query(daemon.endpoint(), b"*Mafter-hup") == b"+OK 0 no mail\n"
        return daemon.log_lines("after-hup")

    wait_for(is_logged_anew)


def test_spec_3_1_debug_logs_every_packet(pcheckd: StartPcheckd) -> None:
    daemon = pcheckd("--debug")
    query(daemon.endpoint(), b"*Mnobody\r\nx DBG 0000 forged\xff\0")
    (received,) = daemon.wait_log(" DBG 0000 packet_received peer=")
    (sent,) = daemon.wait_log(" DBG 0000 packet_sent peer=")
    assert received.endswith(r"data='*Mnobody\x0d\x0ax DBG 0000 forged\xff\x00'")
    assert sent.endswith(r"data='-ERR illegal mailbox name\x0a'")


def test_without_debug_packets_are_not_logged(pcheckd: StartPcheckd) -> None:
    daemon = pcheckd()
    query(daemon.endpoint(), b"*Mnobody")
    assert daemon.stop() == 0
    assert daemon.log_lines("nobody") == []


def test_spec_3_1_pid_file_in_rundir(pcheckd: StartPcheckd) -> None:
    daemon = pcheckd()
    assert (daemon.rundir / "pcheckd.pid").read_text().strip() == str(daemon.pid)
    assert daemon.stop() == 0
    assert not (daemon.rundir / "pcheckd.pid").exists()


def test_titles(pcheckd: StartPcheckd) -> None:
    daemon = pcheckd()
    assert title_of(daemon.pid) == "pcheckd: master"
    wait_for(lambda: [title_of(pid) for pid in daemon.children()] == ["pcheckd: answering"])


def test_a_killed_child_is_replaced(pcheckd: StartPcheckd) -> None:
    daemon = pcheckd()
    (first,) = wait_for(daemon.children)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: daemon.children() not in ([], [first]))
    assert query(daemon.endpoint(), b"*L").startswith(b"+OK ")


def test_children_of_a_killed_master_leave_and_a_restart_works(pcheckd: StartPcheckd) -> None:
    daemon = pcheckd("-f", "1")
    children = wait_for(lambda: found if len(found := daemon.children()) == 2 else [])
    daemon.kill()
    wait_for(lambda: not any(is_alive(pid) for pid in children))
    again = pcheckd(port=daemon.endpoint().port)
    assert query(again.endpoint(), b"*L").startswith(b"+OK ")


def test_many_requests_leave_nothing_open(pcheckd: StartPcheckd,
                                          make_mailbox: Callable[..., Path]) -> None:
    make_mailbox("joe", cur=[MESSAGE])
    daemon = pcheckd()
    (child,) = wait_for(daemon.children)
    query(daemon.endpoint(), b"*Mjoe")
    before = descriptors_of(child)
    for _ in range(300):
        assert query(daemon.endpoint(), b"*Mjoe") == b"+OK 1 mail\n"
    assert descriptors_of(child) == before


@pytest.mark.parametrize("host, asked", [
    pytest.param("::1", "::1", id="ipv6"),
    pytest.param("localhost", "127.0.0.1", id="name"),
    pytest.param("0.0.0.0", "127.0.0.9", id="all"),
])
def test_spec_3_1_h_is_host(pcheckd: StartPcheckd, make_mailbox: Callable[..., Path], host: str, asked: str) -> None:
    make_mailbox("joe", new=[MESSAGE])
    bound = pcheckd("-h", host).endpoint()
    endpoint = Endpoint(asked if bound.is_ipv6 == (":" in asked) else "::1", bound.port)
    assert ask_pcheckd(endpoint, "joe", 10.0, 1) is MailState.NEW_MAIL


def run(*options: str, **more: object) -> "subprocess.CompletedProcess[str]":
    """Run pcheckd to the end of its starter."""
    return subprocess.run([sys.executable, str(ROOT / "bin/pcheckd"), *options], capture_output=True, text=True,
                          timeout=30, stdin=subprocess.DEVNULL, cwd="/", **more)    # type: ignore[call-overload]


def test_spec_3_1_help_and_version() -> None:
    done = run("--help")
    for option in ("-l", "--logfile", "-m", "--mailboxdir", "-p", "--port", "-e", "--emptyload", "-f", "--fork", "-r",
                   "--rundir", "-h", "--host", "--nodeamon", "--debug", "--help", "--version"):
        assert option in done.stdout, option
    assert done.returncode == 0
    done = run("--version")
    assert done.returncode == 0 and VERSION in done.stdout


def test_spec_3_1_defaults() -> None:
    assert {row.name: row.default for row in SCHEMA.settings if row.option and row.name not in ("user", "group")} == {
        "logfile": "/var/log/popular/pcheckd", "mailboxdir": "/pop", "port": 50110, "emptyload": None, "fork": 0,
        "rundir": "/var/run/popular", "host": "0.0.0.0", "debug": False, "logformat": "classic", "logto": "file"}


@pytest.mark.parametrize("short", [True, False], ids=["short", "long"])
def test_spec_3_1_options_to_the_letter(rundir: Path, spool: Path, make_mailbox: Callable[..., Path],
                                        short: bool) -> None:
    """In the background, as an init script starts it; with nothing from a file."""
    make_mailbox("joe", new=[MESSAGE])
    (rundir / "none.conf").write_text("")
    names = ("-l", "-m", "-p", "-e", "-f", "-r", "-h") if short else (
        "--logfile", "--mailboxdir", "--port", "--emptyload", "--fork", "--rundir", "--host")
    values = (str(rundir / "log"), str(spool), "0", "99999", "1", str(rundir), "127.0.0.1")
    options = [word for pair in zip(names, values) for word in pair]
    whom = ["-u", "root", "-g", "root"] if os.geteuid() == 0 else []
    read_end, write_end = os.pipe()
    with open(read_end, "rb") as ready:
        done = run(*options, "--debug", *whom, "-c", str(rundir / "none.conf"), "--ready-fd", str(write_end),
                   pass_fds=(write_end,))
        os.close(write_end)
        told = ready.read().decode().splitlines()
    master = int((rundir / "pcheckd.pid").read_text())
    try:
        assert done.returncode == 0, done.stderr
        assert query(parse_endpoint(told[1].split()[1]), b"*Mjoe") == b"+OK 2 new mail\n"
        assert "packet_received" in (rundir / "log").read_text()
    finally:
        os.kill(master, signal.SIGTERM)
        wait_for(lambda: not is_alive(master))


def test_spec_3_1_nodeamon_stays_in_the_foreground(pcheckd: StartPcheckd) -> None:
    daemon = pcheckd("--nodeamon")
    assert daemon.process.poll() is None
    assert query(daemon.endpoint(), b"*L").startswith(b"+OK ")


@pytest.mark.parametrize("options, code, words", [
    pytest.param(("--port", "70000"), os.EX_USAGE, "port", id="port"),
    pytest.param(("--fork", "-1"), os.EX_USAGE, "fork", id="fork"),
    pytest.param(("-e", "high"), os.EX_USAGE, "emptyload", id="emptyload"),
    pytest.param(("-h",), os.EX_USAGE, "-h", id="h-wants-a-host"),
    pytest.param(("--what",), os.EX_USAGE, "--what", id="unknown"),
    pytest.param(("-h", "no..host"), os.EX_CONFIG, "host", id="no-such-host"),
])
def test_wrong_options(pcheckd: StartPcheckd, options: tuple[str, ...], code: int, words: str) -> None:
    with pytest.raises(StartFailed) as caught:
        pcheckd(*options)
    assert caught.value.code == code and words in caught.value.stderr


def test_a_spool_that_does_not_exist_is_a_mistake(pcheckd: StartPcheckd, spool: Path) -> None:
    with pytest.raises(StartFailed) as caught:
        pcheckd(mailboxdir=spool / "nowhere")
    assert caught.value.code == os.EX_CONFIG and "mailboxdir" in caught.value.stderr


def test_a_port_in_use_is_said(pcheckd: StartPcheckd) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with pytest.raises(StartFailed) as caught:
            pcheckd(port=port)
    assert caught.value.code == os.EX_UNAVAILABLE and f"127.0.0.1:{port}" in caught.value.stderr
