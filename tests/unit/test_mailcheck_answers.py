"""What pcheckd answers to good, bad and hostile requests (spec 3 and 8.2)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from popular.errors import StoreError
from popular.log.writer import Log
from popular.mailcheck.packet import MailState
from popular.pcheckd.answers import Answers
from popular.unix.load import LoadAverage

MAILBOXES = {
    "3/2d/joe.doe": MailState.NEW_MAIL,
    "old": MailState.OLD_MAIL,
    "empty": MailState.EMPTY,
    "Lx": MailState.EMPTY,
}


def mail_state(mailbox: str) -> MailState | None:
    """The store behind the answers; `broken` cannot be read."""
    if mailbox.startswith("broken"):
        raise StoreError(f"{mailbox}: Permission denied")
    return MAILBOXES.get(mailbox)


@pytest.fixture
def logfile(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def log(logfile: Path) -> Iterator[Log]:
    log = Log.open("pcheckd", str(logfile))
    yield log
    os.close(log.fileno())


@pytest.fixture
def answers(log: Log) -> Answers:
    return Answers(mail_state, lambda: 3.23, None, log)


TABLE = [
    pytest.param(b"*L", b"+OK 3.23\n", id="load"),
    pytest.param(b"*L\r\n", b"+OK 3.23\n", id="load-crlf"),
    pytest.param(b"*M3/2d/joe.doe", b"+OK 2 new mail\n", id="new"),
    pytest.param(b"*Mold\n", b"+OK 1 mail\n", id="old"),
    pytest.param(b"*Mempty\r\n", b"+OK 0 no mail\n", id="empty"),
    pytest.param(b"3/2d/joe.doe", b"+OK 2 new mail\n", id="old-form"),
    pytest.param(b"Lx\r\n", b"+OK 0 no mail\n", id="old-form-is-no-load-request"),
    pytest.param(b"*Mnobody", b"-ERR no such mailbox\n", id="missing"),
    pytest.param(b"nobody", b"-ERR no such mailbox\n", id="missing-old-form"),
    pytest.param(b"*M", b"-ERR illegal mailbox name\n", id="no-name"),
    pytest.param(b"", b"-ERR illegal mailbox name\n", id="nothing"),
    pytest.param(b"*M/old", b"-ERR illegal mailbox name\n", id="absolute"),
    pytest.param(b"*Mx/../old", b"-ERR illegal mailbox name\n", id="dot-dot"),
    pytest.param(b"*Mold\0", b"-ERR illegal mailbox name\n", id="nul"),
    pytest.param(b"*Mold\nold", b"-ERR illegal mailbox name\n", id="lf-inside"),
    pytest.param(b"*M old", b"-ERR illegal mailbox name\n", id="space"),
    pytest.param(b"*M\xc3\xb6", b"-ERR illegal mailbox name\n", id="8-bit"),
    pytest.param(b"*M" + b"x" * 513, b"-ERR illegal mailbox name\n", id="long-name"),
    pytest.param(b"*Mbroken", b"-ERR mailbox cannot be read\n", id="unreadable"),
    pytest.param(b"*", b"-ERR unknown request\n", id="no-letter"),
    pytest.param(b"*X", b"-ERR unknown request\n", id="unknown-letter"),
    pytest.param(b"*mold", b"-ERR unknown request\n", id="lower-case-letter"),
    pytest.param(b"*\xff\xfe", b"-ERR unknown request\n", id="binary-letter"),
    pytest.param(b"x" * 1025, b"-ERR request too long\n", id="over-long"),
    pytest.param(b"+OK 0 no mail\n", None, id="an-answer"),
    pytest.param(b"-ERR illegal mailbox name\n", None, id="a-refusal"),
]


@pytest.mark.parametrize("datagram, answer", TABLE)
def test_spec_8_2_answer(answers: Answers, datagram: bytes, answer: bytes | None) -> None:
    assert answers(datagram) == answer


def test_no_answer_is_answered(answers: Answers) -> None:
    """Else two servers, one forged datagram between them, would talk for ever."""
    for datagram, *_ in (param.values for param in TABLE):
        assert isinstance(datagram, bytes)
        first = answers(datagram)
        assert first is None or answers(first) is None


@pytest.mark.parametrize("load, datagram, answer", [
    pytest.param(4.0, b"*Mold", b"+OK 3 load too high\n", id="at-the-limit"),
    pytest.param(9.9, b"old", b"+OK 3 load too high\n", id="above-old-form"),
    pytest.param(9.9, b"*Mnobody", b"+OK 3 load too high\n", id="missing-mailbox"),
    pytest.param(9.9, b"*L", b"+OK 9.90\n", id="load-is-answered"),
    pytest.param(9.9, b"*X", b"-ERR unknown request\n", id="others-are-refused"),
    pytest.param(3.99, b"*Mold", b"+OK 1 mail\n", id="below"),
])
def test_spec_3_1_emptyload(log: Log, load: float, datagram: bytes, answer: bytes) -> None:
    assert Answers(mail_state, lambda: load, 4.0, log)(datagram) == answer


def test_spec_3_1_emptyload_0_is_always_too_high(log: Log) -> None:
    assert Answers(mail_state, lambda: 0.0, 0.0, log)(b"*Mold") == b"+OK 3 load too high\n"


def test_an_unreadable_mailbox_is_logged_once_a_minute(answers: Answers, logfile: Path) -> None:
    for _ in range(5):
        answers(b"*Mbroken/box")
    (line,) = logfile.read_text().splitlines()
    assert line.endswith("ADM 02a0 mailbox_unreadable mailbox='broken/box' why='broken/box: Permission denied'")


def test_spec_3_3_load_is_the_first_field(tmp_path: Path) -> None:
    (tmp_path / "loadavg").write_text("1.25 9.00 8.00 2/345 6789\n")
    assert LoadAverage(str(tmp_path / "loadavg"))() == 1.25


def test_load_is_read_once_a_second(tmp_path: Path) -> None:
    (tmp_path / "loadavg").write_text("1.25 9.00 8.00 2/345 6789\n")
    load = LoadAverage(str(tmp_path / "loadavg"))
    load()
    (tmp_path / "loadavg").write_text("7.00 9.00 8.00 2/345 6789\n")
    assert load() == 1.25


@pytest.mark.parametrize("content", [None, "", "many 1 2\n"])
def test_a_load_that_cannot_be_read_is_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "loadavg").write_text(content)
    assert LoadAverage(str(tmp_path / "loadavg"))() == 0.0
