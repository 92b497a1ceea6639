"""Warnings that a mailbox fills up: at which levels, and what they look like."""

from email import message_from_bytes, policy
from pathlib import Path

import pytest

from popular.store.delivery.quotawarning import MAX_WARNING, warn_of_quota, warning
from popular.store.mailbox import Mailbox
from popular.store.quota import Quota, Usage

MIB = 1024 * 1024


@pytest.fixture
def mailbox(spool: Path) -> Mailbox:
    """An empty mailbox."""
    made = Mailbox(str(spool), "joe")
    made.create()
    return made


def hold(mailbox: Mailbox, *sizes: int) -> None:
    for number, size in enumerate(sizes):
        (Path(mailbox.cur) / f"{number + 1}.1_{size}").touch()


@pytest.mark.parametrize(("quota", "before", "sizes", "levels", "percent"), [
    pytest.param(Quota(100), Usage(79, 1), [80], (80, 95), 80, id="reached"),
    pytest.param(Quota(100), Usage(79, 1), [79], (80, 95), 0, id="below"),
    pytest.param(Quota(100), Usage(80, 1), [94], (80, 95), 0, id="between"),
    pytest.param(Quota(100), Usage(10, 1), [99], (80, 95), 99, id="both-at-once-are-one-warning"),
    pytest.param(Quota(100), Usage(95, 1), [400], (80, 95), 0, id="above-all"),
    pytest.param(Quota(100), Usage(10, 1), [400], (80, 95), 400, id="beyond-the-quota"),
    pytest.param(Quota(0, 4), Usage(9, 1), [1, 1], (50,), 50, id="number"),
    pytest.param(Quota(1000, 4), Usage(9, 1), [1, 1], (50,), 50, id="number-of-both"),
    pytest.param(Quota(100, 1000), Usage(9, 1), [50, 1], (50,), 51, id="size-of-both"),
    pytest.param(Quota(), Usage(9, 1), [50, 1], (50,), 0, id="no-quota"),
    pytest.param(Quota(100), Usage(9, 1), [100], (), 0, id="no-levels"),
])
def test_a_level_is_told_when_it_is_reached(mailbox: Mailbox, quota: Quota, before: Usage, sizes: list[int],
                                            levels: tuple[int, ...], percent: int) -> None:
    hold(mailbox, *sizes)
    assert warn_of_quota(mailbox, quota, before, levels) == percent
    assert len(list(Path(mailbox.new).iterdir())) == (percent > 0)


@pytest.mark.parametrize(("quota", "usage", "told"), [
    (Quota(10 * MIB), Usage(8 * MIB + 104_858, 3), "joe: 81 %, 8.1 of 10.0 MiB\n"),
    (Quota(10 * MIB, 100), Usage(1, 95), "joe: 95 %, 95 of 100 messages\n"),
    (Quota(10 * MIB, 100), Usage(9 * MIB, 20), "joe: 90 %, 9.0 of 10.0 MiB\n"),
])
def test_the_text_has_the_figures(quota: Quota, usage: Usage, told: str) -> None:
    text = "Subject: {percent} %\n\n{mailbox}: {percent} %, {used} of {limit}\n"
    mail = message_from_bytes(warning(text, "joe", quota, usage), policy=policy.default)
    assert mail["Subject"] == f"{quota.percent(usage)} %"
    assert mail.get_content() == told
    assert mail["From"] and mail["Date"] and mail["Message-ID"] and not mail.defects


def test_a_text_of_ones_own_keeps_its_headers_and_letters(mailbox: Mailbox, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("From: Die Post <post@example.org>\r\nSubject: Postfach füllt sich {x}\r\n\r\n"
                                    "Zu {percent} % {}\r\n".encode())
    hold(mailbox, 100)
    assert warn_of_quota(mailbox, Quota(100), Usage(0, 0), (100,), str(tmp_path / "text")) == 100
    [path] = Path(mailbox.new).iterdir()
    raw = path.read_bytes()
    mail = message_from_bytes(raw, policy=policy.default)
    assert raw.partition(b"\r\n\r\n")[0].isascii() and raw.count(b"\n") == raw.count(b"\r\n")
    assert (mail["From"], mail["Subject"]) == ("Die Post <post@example.org>", "Postfach füllt sich {x}")
    assert mail.get_content().replace("\r\n", "\n") == "Zu 100 % {}\n"


@pytest.mark.parametrize("text", [
    b"", b"\n\nx", b"Subject: x", b"Dear user\n\nx", b"Subject: x\n y\n\nx", b"A\xc3: x\n\n", b"Subject: \xff\n\n",
    b"Subject: x\n\n" + b"x" * MAX_WARNING])
def test_a_text_that_is_no_message_is_refused(mailbox: Mailbox, tmp_path: Path, text: bytes) -> None:
    (tmp_path / "text").write_bytes(text)
    hold(mailbox, 100)
    with pytest.raises(ValueError):
        warn_of_quota(mailbox, Quota(100), Usage(0, 0), (100,), str(tmp_path / "text"))
    assert list(Path(mailbox.new).iterdir()) == []
