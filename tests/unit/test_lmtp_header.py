"""The header of a message in blocks: Message-ID, Return-Path, and the lines that are added."""

import pytest

from popular.lmtp.grammar import Recipient, Sender
from popular.lmtp.header import HeaderText, delivered_to, return_path

BODY = b"\r\nReturn-Path: <in the body>\r\nMessage-ID: <body>\r\n"


def read(text: bytes, piece: int, *, drops: bool = True) -> tuple[bytes, str]:
    """Return the text and the id after reading in pieces."""
    header = HeaderText(drops_return_path=drops)
    parts = [header.ready(text[place:place + piece]) for place in range(0, len(text), piece)]
    return b"".join([*parts, header.end()]), header.message_id


@pytest.mark.parametrize("header, left, message_id", [
    (b"Subject: x\r\n", None, ""),
    (b"Message-ID: <a@b>\r\nSubject: x\r\n", None, "<a@b>"),
    (b"Subject: x\r\nmessage-id:<a@b> (c)\r\n", None, "<a@b>"),
    (b"Message-ID:\r\n <long@folded>\r\n", None, "<long@folded>"),
    (b"X-Message-ID: <a@b>\r\n", None, ""),
    (b"Message-ID: \xff\r\n", None, ""),
    (b"Return-Path: <x@y>\r\nSubject: x\r\n", b"Subject: x\r\n", ""),
    (b"Subject: x\r\nreturn-path:\r\n <x@y>\r\n\t(c)\r\nTo: z\r\n", b"Subject: x\r\nTo: z\r\n", ""),
    (b"Subject: x\r\n Return-Path: <folded>\r\n", None, ""),
    (b"", None, ""),
])
@pytest.mark.parametrize("piece", [1, 7, 65536])
def test_headers(header: bytes, left: bytes | None, message_id: str, piece: int) -> None:
    assert read(header + BODY, piece) == ((header if left is None else left) + BODY, message_id)
    assert read(header + BODY, piece, drops=False) == (header + BODY, message_id)


def test_a_header_without_a_body_is_passed_on_at_the_end() -> None:
    assert read(b"Return-Path: <x>\r\nMessage-ID: <a@b>\r\n", 5) == (b"Message-ID: <a@b>\r\n", "<a@b>")
    assert read(b"", 1) == (b"", "")


def test_little_is_held_of_an_endless_header() -> None:
    header = HeaderText(drops_return_path=True)
    held = 0
    for _ in range(10):
        held += 65536 - len(header.ready(b"X: y\r\n" * 10922 + b"Z: z"))
    assert held == 0


def test_lines_that_are_added() -> None:
    assert return_path(Sender("")) == b"Return-Path: <>\r\n"
    assert return_path(Sender("\"a b\"@c")) == b"Return-Path: <\"a b\"@c>\r\n"
    assert return_path(Sender("j\u00f6rg\udcff@b")) == b"Return-Path: <j\xc3\xb6rg\xff@b>\r\n"
    assert delivered_to(Recipient("joe@b", "joe@b")) == b"Delivered-To: joe@b\r\n"
