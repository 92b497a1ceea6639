"""The text of DATA: strict about its end, whole whatever the blocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popular.lmtp.text import DotText


def read(*blocks: bytes) -> tuple[bytes, bytes | None]:
    """Return the text in `blocks`, and what follows it; None if its end has not come."""
    dots = DotText()
    text = b""
    rest: bytes | None = None
    for index, block in enumerate(blocks):
        ready, rest = dots.feed(block)
        text += ready
        if rest is not None:
            return text, rest + b"".join(blocks[index + 1:])
    return text, None


@pytest.mark.parametrize("raw, text, rest", [
    (b".\r\n", b"", b""),
    (b"a\r\n.\r\n", b"a\r\n", b""),
    (b"a\r\n.\r\nMAIL FROM:<>\r\n", b"a\r\n", b"MAIL FROM:<>\r\n"),
    (b"..\r\n.\r\n", b".\r\n", b""),
    (b"..a\r\n...\r\n.b\r\n.\r\n", b".a\r\n..\r\nb\r\n", b""),
    (b"\r\n\r\n.\r\n", b"\r\n\r\n", b""),
    (b".\r\r\n.\r\n", b"\r\r\n", b""),
    (b"a\0\xff\r\n.\r\n", b"a\0\xff\r\n", b""),
    (b"a\n.\nMAIL\r\n.\r\n", b"a\n.\nMAIL\r\n", b""),
    (b"a\n.\r\nMAIL\r\n.\r\n", b"a\n.\r\nMAIL\r\n", b""),
    (b"a\r.\rMAIL\r\n.\r\n", b"a\r.\rMAIL\r\n", b""),
    (b"a\r\n.\nMAIL\r\n.\r\n", b"a\r\n\nMAIL\r\n", b""),
    (b"a\r\n.\rMAIL\r\n.\r\n", b"a\r\n\rMAIL\r\n", b""),
    (b"a\r\r\n.\r\n", b"a\r\r\n", b""),
    (b"a", b"a", None),
])
def test_where_a_text_ends(raw: bytes, text: bytes, rest: bytes | None) -> None:
    assert read(raw) == (text, rest)
    assert read(*(raw[place:place + 1] for place in range(len(raw)))) == (text, rest)


def plainly(raw: bytes) -> tuple[bytes, bytes | None]:
    """Do the same line by line."""
    text = b""
    while (end := raw.find(b"\r\n")) >= 0:
        line, raw = raw[:end + 2], raw[end + 2:]
        if line == b".\r\n":
            return text, raw
        text += line.removeprefix(b".")
    return text, None


@given(st.lists(st.text(alphabet="\r\n.ab\0", max_size=8).map(str.encode), max_size=12))
def test_any_text_and_any_blocks(blocks: list[bytes]) -> None:
    assert read(*blocks, b"\r\n.\r\n") == plainly(b"".join(blocks) + b"\r\n.\r\n")
