"""pdeliver's options, formats, quota and exit codes (spec 10.1), without a process of its own."""

import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popular.store.mailbox import Mailbox
from popular.tools.pdeliver import main as pdeliver, options as pdeliver_options
from popular.tools.pdeliver.options import DELIVERY_OPTIONS, make_parser, read_command_line

MAIL = b"Subject: x\n\ntext\n"
STORED = b"Subject: x\r\n\r\ntext\r\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the log will be."""
    return tmp_path / "log"


@pytest.fixture
def box(spool: Path) -> Path:
    """An empty mailbox."""
    Mailbox(str(spool), "joe").create()
    return spool / "joe"


def run(spool: Path, log: Path, *options: str, mailbox: str = "joe", mail: bytes = MAIL) -> int:
    return pdeliver.run(["-m", str(spool), "-l", str(log), *options, mailbox], io.BytesIO(mail))


def delivered(box: Path) -> list[bytes]:
    assert list((box / "tmp").iterdir()) == []
    return [path.read_bytes() for path in (box / "new").iterdir()]


@pytest.mark.parametrize(("options", "mail", "wanted"), [
    pytest.param((), b"a\n\n..b\n.\n", b"a\r\n\r\n..b\r\n.\r\n", id="default-is-LF"),
    pytest.param(("-f", "LF"), b"a\n\n..b\n.\n", b"a\r\n\r\n..b\r\n.\r\n", id="LF"),
    pytest.param(("--format", "CRLF"), b"a\r\n\r\n..b\r\n.\r\n", b"a\r\n\r\n..b\r\n.\r\n", id="CRLF"),
    pytest.param(("--format=NET",), b"a\r\n\r\n..b\r\n.\r\nmore\r\n", b"a\r\n\r\n.b\r\n", id="NET"),
    pytest.param(("-f", "NET"), b"a\r\n", b"a\r\n", id="NET-ended-by-end-of-file"),
    pytest.param(("-f", "LF"), b"a\0b", b"a\0b\r\n", id="NUL-is-kept"),
])
def test_spec_10_1_formats(spool: Path, box: Path, log: Path, options: tuple[str, ...], mail: bytes,
                           wanted: bytes) -> None:
    assert run(spool, log, *options, mail=mail) == 0
    assert delivered(box) == [wanted]


MIB = 1024 * 1024


@pytest.mark.parametrize(("held", "options", "code"), [
    pytest.param([MIB], ("-q", "1"), 1, id="size-reached"),
    pytest.param([MIB - 1], ("-q", "1"), 0, id="one-octet-below-whatever-comes"),
    pytest.param([MIB, MIB], ("--quota", "2"), 1, id="sum"),
    pytest.param([9 * MIB], ("-q", "0"), 0, id="size-0-is-no-check"),
    pytest.param([1, 1], ("-Q", "2"), 1, id="number-reached"),
    pytest.param([1], ("--maxnum=2",), 0, id="number-below"),
    pytest.param([1] * 9, ("-Q", "0"), 0, id="number-0-is-no-check"),
    pytest.param([1], ("-q", "1", "-Q", "1"), 1, id="one-of-both"),
    pytest.param([], ("-q", "1", "-Q", "1"), 0, id="empty"),
])
def test_spec_10_1_quota_is_tested_before_delivery(spool: Path, box: Path, log: Path, held: list[int],
                                                   options: tuple[str, ...], code: int) -> None:
    for number, size in enumerate(held):
        (box / ("new" if number % 2 else "cur") / f"{number}.1_{size}").write_bytes(b"")
    assert run(spool, log, *options) == code
    assert delivered(box).count(STORED) == (code == 0)
    assert ("over_quota" in log.read_text()) == (code == 1)


def test_parallel_deliveries_exceed_the_quota_by_one_message_each(spool: Path, box: Path, log: Path) -> None:
    """The worst case: all have looked at the mailbox before the first gets its mail in."""
    everybody = threading.Barrier(100)

    class Held(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if not self.tell():
                everybody.wait(60)
            return super().read(size)

    with ThreadPoolExecutor(100) as pool:
        codes = list(pool.map(lambda _: pdeliver.run(["-m", str(spool), "-l", str(log), "-Q", "1", "joe"], Held(MAIL)),
                              range(100)))
    assert codes == [0] * 100
    assert len(delivered(box)) == 100
    assert run(spool, log, "-Q", "1") == 1


@pytest.mark.parametrize(("options", "head"), [
    pytest.param(["--return-path", "a@example.org"], b"Return-Path: <a@example.org>\r\n", id="sender"),
    pytest.param(["--return-path=<a@example.org>"], b"Return-Path: <a@example.org>\r\n", id="sender-in-brackets"),
    pytest.param(["--return-path="], b"Return-Path: <>\r\n", id="bounce"),
    pytest.param(["--return-path", ""], b"Return-Path: <>\r\n", id="empty-word"),
    pytest.param(["--delivered-to", "j\u00f6@example.org"], b"Delivered-To: j\xc3\xb6@example.org\r\n", id="utf-8"),
    pytest.param(["--delivered-to=joe@example.org", "--return-path=a@example.org"],
                 b"Return-Path: <a@example.org>\r\nDelivered-To: joe@example.org\r\n", id="both"),
    pytest.param([f"--return-path={'a' * 512}"], b"Return-Path: <%s>\r\n" % (b"a" * 512), id="long"),
])
def test_header_lines_precede_the_mail(spool: Path, box: Path, log: Path, options: list[str], head: bytes) -> None:
    assert run(spool, log, *options, mail=b"From me Mon\n" + MAIL) == 0
    assert delivered(box) == [head + STORED]
    assert f"size={len(head + STORED)} " in log.read_text()


@pytest.mark.parametrize("option", ["--return-path", "--delivered-to"])
@pytest.mark.parametrize("value", ["a\nSubject: x", "a\r", "a\tb", "\x7f", "a>\x00", "a> <b", "a" * 513])
def test_hostile_header_lines_are_wrong_usage(spool: Path, box: Path, log: Path, option: str, value: str) -> None:
    with pytest.raises(SystemExit) as caught:
        run(spool, log, f"{option}={value}")
    assert caught.value.code == 64
    assert delivered(box) == []


def test_a_warning_follows_the_mail_that_reaches_a_level(spool: Path, box: Path, log: Path) -> None:
    for _ in range(2):
        assert run(spool, log, "-Q", "4", "--warn", "75,50") == 0
    mails = delivered(box)
    assert len(mails) == 3 and sum(b"Your mailbox holds 2 of 4 messages." in mail for mail in mails) == 1
    assert "INF 02b7 quota_warned mailbox='joe' percent=50" in log.read_text()
    assert run(spool, log, "-Q", "9", "--warn", "20") == 0
    assert run(spool, log, "--warn", "20") == 0
    assert log.read_text().count("quota_warned") == 1


@pytest.mark.parametrize(("text", "why"), [
    (None, "No such file"), (b"no headers", "no headers"), (b"Subject: \xff\n\n", "utf-8")])
def test_a_warning_that_fails_is_logged_and_the_mail_delivered(spool: Path, box: Path, log: Path, tmp_path: Path,
                                                               text: bytes | None, why: str) -> None:
    if text is not None:
        (tmp_path / "text").write_bytes(text)
    assert run(spool, log, "-Q", "1", "--warn", "100", "--warning", str(tmp_path / "text")) == 0
    assert delivered(box) == [STORED]
    (line,) = [line for line in log.read_text().splitlines() if "ADM 02b8 quota_not_warned mailbox='joe' why=" in line]
    assert why in line


def test_quota_counts_foreign_files(spool: Path, box: Path, log: Path) -> None:
    with (box / "cur" / "1.M1P1.host:2,S").open("wb") as file:
        file.truncate(MIB)
    assert run(spool, log, "-q", "1") == 1
    assert run(spool, log, "-q", "2") == 0


@pytest.mark.parametrize(("argv", "word"), [
    pytest.param(["joe", "jane"], "unrecognized", id="two-mailboxes"),
    pytest.param([], "mailbox", id="no-mailbox"),
    pytest.param(["-q", "-1", "joe"], "quota", id="negative"),
    pytest.param(["-q", "1.5", "joe"], "quota", id="fraction"),
    pytest.param(["-Q", "many", "joe"], "maxnum", id="word"),
    pytest.param(["-Q", "9" * 13, "joe"], "maxnum", id="endless"),
    pytest.param(["--warn", "80,101", "joe"], "from 1 to 100", id="level"),
    pytest.param(["--warn", "", "joe"], "from 1 to 100", id="no-level"),
    pytest.param(["-f", "lf", "joe"], "format", id="format"),
    pytest.param(["--mailbox", "x", "joe"], "unrecognized", id="abbreviation"),
])
def test_wrong_usage_is_64(argv: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        pdeliver.run(argv, io.BytesIO(MAIL))
    assert caught.value.code == 64
    assert word in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_spec_10_1_help_and_version(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        pdeliver.run([option], io.BytesIO(MAIL))
    assert caught.value.code == 0
    assert "pdeliver" in capsys.readouterr().out


def test_spec_10_1_defaults() -> None:
    arguments = vars(read_command_line(["joe"]))
    assert arguments == {"quota": 0, "maxnum": 0, "mailboxdir": "/pop", "format": "LF",
                         "logfile": "/var/log/popular/pdeliver", "id": "-", "create": False, "mailbox": "joe",
                         "user": None, "config": "/etc/popular/pproxy.conf", "namespace": "", "backend": [],
                         "warn": (), "warning": "", "return_path": None, "delivered_to": None}


WORDS = [*(name for option in DELIVERY_OPTIONS for name in option.names), "joe", "5", "-5", "", "-", "--", "-q5",
         "-q=5", "-qx", "-m=/x", "-m/x", "-mcreate", "-x", "--quota=5", "--quota=", "--id=-", "--id==", "--create=1",
         "-f", "NET", "-fLF", "--format=net", "--backen", "a b", "-a b", "--user=", "-ujoe", "--help", "-b=b"]


@given(st.lists(st.sampled_from(WORDS), max_size=6))
@settings(max_examples=100, deadline=None)
def test_what_is_read_without_argparse_is_what_argparse_reads(words: list[str]) -> None:
    usual = pdeliver_options._read_usual(words)
    if usual is not None:
        assert vars(usual) == vars(make_parser().parse_args(words))


def test_the_usual_command_lines_are_read_without_argparse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(pdeliver_options, "make_parser")
    arguments = read_command_line(["-q9", "--maxnum", "5", "-m", "/x", "--format=NET", "--create", "-b", "a", "-bb",
                                   "joe"])
    assert vars(arguments) == vars(read_command_line(["joe"])) | {
        "quota": 9, "maxnum": 5, "mailboxdir": "/x", "format": "NET", "create": True, "backend": ["a", "b"]}


@pytest.mark.parametrize(("mailbox", "code"), [
    pytest.param("jane", 67, id="missing"),
    pytest.param("joe/deep/down", 67, id="missing-below"),
    pytest.param("../joe", 64, id="upward"),
    pytest.param("/joe", 64, id="absolute"),
    pytest.param("jo e", 64, id="bad-letter"),
    pytest.param("", 64, id="empty"),
    pytest.param("a" * 600, 64, id="long"),
])
def test_bad_mailboxes(spool: Path, box: Path, log: Path, mailbox: str, code: int) -> None:
    assert run(spool, log, mailbox=mailbox) == code
    assert run(spool, log, "-Q", "5", mailbox=mailbox) == code
    assert "no_such_mailbox" in log.read_text()
    assert delivered(box) == []


def test_a_missing_spool_is_75(tmp_path: Path, log: Path) -> None:
    for options in ((), ("--create",), ("-q", "1")):
        assert run(tmp_path / "not-mounted", log, *options) == 75
    assert not (tmp_path / "not-mounted").exists()


def test_create_makes_the_mailbox(spool: Path, log: Path) -> None:
    assert run(spool, log, "--create", mailbox="3/2d/jane") == 0
    assert delivered(spool / "3/2d/jane") == [STORED]
    assert run(spool, log, "--create", "-Q", "1", mailbox="3/2d/jane") == 1


def test_a_failed_delivery_is_75_and_leaves_nothing(spool: Path, box: Path, log: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run(spool, log) == 75
    monkeypatch.undo()
    assert delivered(box) == []
    assert "ADM 02b2 not_delivered mailbox='joe' why='joe: No space left on device'" in log.read_text()


@pytest.mark.parametrize("error", [ZeroDivisionError, MemoryError, AssertionError])
def test_a_mistake_of_ours_is_75_and_never_over_quota(spool: Path, box: Path, log: Path, error: type[Exception],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, head: bytes) -> None:
        raise error

    monkeypatch.setattr(pdeliver, "deliver", fail)
    assert run(spool, log) == 75
    assert f"BUG 02b4 delivery_bug mailbox='joe' type='{error.__name__}' place='test_pdeliver.py" in log.read_text()


def test_a_log_that_cannot_be_written_is_no_obstacle(spool: Path, box: Path, tmp_path: Path,
                                                     capfd: pytest.CaptureFixture[str]) -> None:
    assert run(spool, tmp_path / "nowhere" / "log") == 0
    assert delivered(box) == [STORED]
    assert "nowhere" in capfd.readouterr().err


@pytest.mark.parametrize(("options", "word"), [
    pytest.param((), "-", id="none"),
    pytest.param(("-i", "<4711.abc@example.org>"), "<4711.abc@example.org>", id="message-id"),
    pytest.param(("--id=a b\nc\u00fc",), "a?b?c?", id="cleaned"),
    pytest.param(("-i", ""), "-", id="empty"),
])
def test_spec_10_1_id_stands_in_every_log_line(spool: Path, box: Path, log: Path, options: tuple[str, ...],
                                               word: str) -> None:
    run(spool, log, *options)
    run(spool, log, "-Q", "1", *options)
    run(spool, log, *options, mailbox="jane")
    lines = log.read_text().splitlines()
    assert [line.split(" ")[5:9] for line in lines] == [
        [word, "INF", "02b0", "delivered"], [word, "ERR", "02b1", "over_quota"],
        [word, "ADM", "02b3", "no_such_mailbox"]]
    (name,) = [path.name for path in (box / "new").iterdir()]
    assert lines[0].endswith(f" mailbox='joe' size={len(STORED)} name='{name}'")
