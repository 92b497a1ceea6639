"""Mboxes as sources of pmigrate: where messages begin and end, what is quoted, ids, dates, locks."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from popular.store.lineends import BLOCK, wire_blocks
from popular.tools.pmigrate.sources.mbox import Mbox
from popular.tools.pmigrate.sources.source import SourceMessage, SourceError

FROM = b"From joe@example.com Mon Jan  5 10:00:00 2026\n"
HOLD = ("import fcntl, sys; file = open(sys.argv[1], 'r+'); fcntl.lockf(file, fcntl.LOCK_EX); "
        "print('.', end='', flush=True); sys.stdin.read()")


@pytest.fixture
def mailbox(tmp_path: Path) -> Callable[..., list[tuple[SourceMessage, bytes]]]:
    """Return messages and octets of an mbox with this content."""
    def read(content: bytes, **more: str) -> list[tuple[SourceMessage, bytes]]:
        path = tmp_path / "mbox"
        path.write_bytes(content)
        source = Mbox(str(path), 0.0, **more)
        try:
            return [(message, octets_of(source, message)) for message in source.messages()]
        finally:
            source.close()
            assert os.listdir(tmp_path) == ["mbox"]
    return read


def octets_of(source: Mbox, message: SourceMessage) -> bytes:
    with source.open(message) as octets:
        return b"".join(wire_blocks(octets))


@pytest.mark.parametrize("content, wanted", [
    pytest.param(b"", [], id="empty"),
    pytest.param(FROM + b"A: 1\n\none\n\n" + FROM + b"A: 2\n\ntwo\n", [b"A: 1\n\none\n", b"A: 2\n\ntwo\n"], id="two"),
    pytest.param(FROM + b"A: 1\n\none\n\n\n" + FROM + b"A: 2\n\ntwo", [b"A: 1\n\none\n\n", b"A: 2\n\ntwo\n"],
                 id="one empty line belongs to From"),
    pytest.param(FROM + b"A: 1\n\none\n" + FROM + b"A: 2\n\ntwo\n", [b"A: 1\n\none\n", b"A: 2\n\ntwo\n"],
                 id="no empty line before From"),
    pytest.param(FROM.replace(b"\n", b"\r\n") + b"A: 1\r\n\r\none\r\n\r\n" + FROM + b"A: 2\n\ntwo\n",
                 [b"A: 1\n\none\n", b"A: 2\n\ntwo\n"], id="CRLF"),
    pytest.param(FROM + b"A: 1\n\n" + FROM + b"A: 2\n\n\n", [b"A: 1\n", b"A: 2\n\n"], id="headers only"),
    pytest.param(FROM + b"\nno header\n\n" + FROM + b"\n", [b"\nno header\n", b"\n"], id="no headers"),
    pytest.param(FROM + FROM + b"A: 2\n\n\n", [b"", b"A: 2\n\n"], id="nothing"),
    pytest.param(FROM + b"A: 1\n" + FROM + b"A: 2\n\nx\n", [b"A: 1\n", b"A: 2\n\nx\n"], id="a header without an end"),
    pytest.param(FROM + b"A: 1\n\nFrom the start\nFrom\nFrom joe Monday\n",
                 [b"A: 1\n\nFrom the start\nFrom\nFrom joe Monday\n"], id="From without a date is text"),
    pytest.param(FROM + b"Content-Length: %d\n\nx\n\n%sy\n\n%sB: 2\n\nz\n" % (5 + len(FROM), FROM, FROM),
                 [b"\nx\n\n" + FROM + b"y\n", b"B: 2\n\nz\n"], id="From within Content-Length is text"),
    pytest.param(FROM + b"Content-Length: 3\n\nlonger\n\n" + FROM + b"B: 2\n\nz\n", [b"\nlonger\n", b"B: 2\n\nz\n"],
                 id="Content-Length too short"),
    pytest.param(FROM + b"Content-Length: 99999\n\nx\n\n" + FROM + b"B: 2\n\nz\n", [b"\nx\n", b"B: 2\n\nz\n"],
                 id="Content-Length too long"),
    pytest.param(FROM + b"Content-Length: -1\n\nx\n\n" + FROM + b"B: 2\n\nz\n", [b"\nx\n", b"B: 2\n\nz\n"],
                 id="Content-Length that is no number"),
    pytest.param(FROM + b"Subject: DON'T DELETE\nX-IMAP: 5 9\n\npseudo\n\n" + FROM + b"A: 2\n\nx\n", [b"A: 2\n\nx\n"],
                 id="the pseudo message of c-client"),
    pytest.param(FROM + b"A: 1\nStatus: RO\nX-Keywords: a\n b\nX-UIDL: u\nx-status: A\n\nStatus: kept\n",
                 [b"A: 1\nX-UIDL: u\n\nStatus: kept\n"], id="headers of the mailbox itself are left out"),
    pytest.param(FROM + b"\n" + b"x" * 200_000 + b"\n\n" + FROM + b"\ny\n", [b"\n" + b"x" * 200_000 + b"\n", b"\ny\n"],
                 id="a long line"),
])
def test_messages(mailbox, content: bytes, wanted: list[bytes]) -> None:
    assert [octets for _, octets in mailbox(content)] == [text.replace(b"\n", b"\r\n") for text in wanted]


@pytest.mark.parametrize("shift", range(-8, 3))
def test_a_line_from_at_the_end_of_a_block_is_found(mailbox, shift: int) -> None:
    body = b"x" * (BLOCK + shift) + b"\n"
    assert [octets[-4:] for _, octets in mailbox(FROM + b"\n" + body + b"\n" + FROM + b"\nyy\n")] == [
        b"xx\r\n", b"yy\r\n"]


@pytest.mark.parametrize("quoting, wanted", [
    ("none", b">From a\n>>From b\n> From c\nx >From\n"), ("mboxo", b"From a\n>>From b\n> From c\nx >From\n"),
    ("mboxrd", b"From a\n>From b\n> From c\nx >From\n")])
def test_quoting(mailbox, quoting: str, wanted: bytes) -> None:
    [(_, octets)] = mailbox(FROM + b"\n>From a\n>>From b\n> From c\nx >From\n", quoting=quoting)
    assert octets == b"\r\n" + wanted.replace(b"\n", b"\r\n")


@pytest.mark.parametrize("shift", range(-8, 3))
def test_quoting_across_blocks(mailbox, shift: int) -> None:
    long = b"y" * (BLOCK + shift)
    [(_, octets)] = mailbox(FROM + b"\n" + long + b">From here\n>From there\n", quoting="mboxrd")
    assert octets.endswith(b"y>From here\r\nFrom there\r\n")


@pytest.mark.parametrize("header, uidls, uid", [
    (b"X-UIDL: abc \nX-IMAPbase: 255 9\nX-UID: 16\n", "x-uidl", "abc"),
    (b"X-UIDL: abc\nX-IMAPbase: 255 9\nX-UID: 16\n", "dovecot", "00000010000000ff"),
    (b"X-IMAPbase: 255 9 Label\nX-UID: 16\n", "x-uidl", "00000010000000ff"),
    (b"X-IMAPbase: 255\nX-UID: 16\n", "x-uidl", None), (b"X-UID: 16\n", "x-uidl", None), (b"", "dovecot", None)])
def test_unique_ids(mailbox, header: bytes, uidls: str, uid: str | None) -> None:
    [(message, _)] = mailbox(FROM + header + b"\nx\n", uidls=uidls)
    assert message.uid == uid


@pytest.mark.parametrize("status, is_read", [(b"RO", True), (b"R", True), (b"O", False), (b"", False)])
def test_read_messages(mailbox, status: bytes, is_read: bool) -> None:
    [(message, _)] = mailbox(FROM + b"Status: " + status + b"\n\nx\n")
    assert message.is_read is is_read


@pytest.mark.parametrize("line, received", [
    (b"From a Mon Jan  5 10:00:00 2026 +0100", 1767603600), (b"From a Mon Jan  5 09:00 GMT 2026", 1767603600),
    (b"From a Mon Jan  5 04:00:00 -0500 2026 remote from b", 1767603600),
    (b"From  Mon Jan 05 09:00:00 UTC 2026", 1767603600),
    (b"From a b c Mon Jan  5 10:00:00 2026", int(time.mktime((2026, 1, 5, 10, 0, 0, 0, 0, -1)))),
    (b"From a Mon Feb 99 10:00:00 GMT 9999", None)])
def test_the_date_of_delivery(mailbox, line: bytes, received: int | None) -> None:
    [(message, _)] = mailbox(line + b"\n\nx\n")
    assert message.received == received or received is None


@pytest.mark.parametrize("content", [b"Subject: no mbox\n\nx\n", b"\n" + FROM + b"\nx\n", b"From a friend\n\nx\n"])
def test_what_is_no_mbox(mailbox, content: bytes) -> None:
    with pytest.raises(SourceError, match="no line .From SENDER DATE. at octet 0"):
        mailbox(content)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        Mbox(str(tmp_path / "mbox"), 0.0)


@pytest.mark.parametrize("how", ["fcntl", "dotlock"])
def test_a_locked_file(tmp_path: Path, how: str) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"\nx\n")
    if how == "dotlock":
        path.with_name("mbox.lock").touch()
        with pytest.raises(SourceError, match="another program has locked it"):
            Mbox(str(path), 0.0)
        assert path.with_name("mbox.lock").exists()
        return
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as holder:    # since a process does not lock out itself
        assert holder.stdout is not None and holder.stdout.read(1) == b"."
        with pytest.raises(SourceError, match="another program has locked it"):
            Mbox(str(path), 0.0)
        assert not path.with_name("mbox.lock").exists()


def test_a_lock_that_nobody_holds_any_more(tmp_path: Path) -> None:
    path, lock = tmp_path / "mbox", tmp_path / "mbox.lock"
    path.write_bytes(FROM + b"\nx\n")
    lock.touch()
    os.utime(lock, (1, 1))
    Mbox(str(path), 1.0).close()
    assert not lock.exists()


def test_a_long_header(mailbox) -> None:
    text = b"A: " + b"x" * 300_000 + b"\nX-UIDL: u\n\nbody\n"
    assert [(message.uid, octets) for message, octets in mailbox(FROM + text + b"\n" + FROM + b"\ny\n")] == [
        ("u", text.replace(b"\n", b"\r\n")), (None, b"\r\ny\r\n")]


def test_a_file_that_becomes_shorter_while_it_is_searched(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"\n" + b"x" * 100_000)
    source = Mbox(str(path), 0.0)
    os.truncate(path, len(FROM) + 8)
    assert len(list(source.messages())) == 1
    source.close()


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = tmp_path / "mbox"
    path.write_bytes(FROM + b"A: 1\n\nlong enough\n")
    source = Mbox(str(path), 0.0)
    [message] = source.messages()
    os.truncate(path, len(FROM) + 8)
    with pytest.raises(SourceError, match="has become shorter"):
        octets_of(source, message)
    source.close()
