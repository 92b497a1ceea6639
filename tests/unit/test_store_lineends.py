"""Line ends: three forms in, CRLF out, the same whatever the size of the blocks."""

import io
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popular.store.lineends import (
    BLOCK, MAIL_FORMS, CrlfReader, CrlfText, MailForm, crlf_blocks, message_blocks, wire_size)


class Dribble:
    """A source that gives its octets in blocks of the sizes told, as a pipe may."""

    def __init__(self, octets: bytes, sizes: Iterable[int]) -> None:
        self._octets = octets
        self._sizes = iter(sizes)

    def read(self, size: int, /) -> bytes:
        count = min(size, next(self._sizes, size))
        block, self._octets = self._octets[:count], self._octets[count:]
        return block


def stored(octets: bytes, form: str, step: int = BLOCK) -> bytes:
    return b"".join(message_blocks(Dribble(octets, iter(lambda: step, None)), form))


LINES = [
    pytest.param(b"a\nb\n", b"a\r\nb\r\n", id="lf"),
    pytest.param(b"a\r\nb\r\n", b"a\r\nb\r\n", id="crlf"),
    pytest.param(b"a\nb\r\nc\n", b"a\r\nb\r\nc\r\n", id="mixed"),
    pytest.param(b"a", b"a\r\n", id="no-line-end"),
    pytest.param(b"a\r", b"a\r\n", id="half-a-line-end"),
    pytest.param(b"a\rb\n", b"a\rb\r\n", id="lone-cr-stays"),
    pytest.param(b"a\r\r\nb\n", b"a\r\r\nb\r\n", id="two-cr"),
    pytest.param(b"\n\n\n", b"\r\n\r\n\r\n", id="empty-lines"),
    pytest.param(b"", b"\r\n", id="nothing"),
    pytest.param(b"\r", b"\r\n", id="only-cr"),
    pytest.param(b"\n", b"\r\n", id="only-lf"),
    pytest.param(b"a\0b\n\0", b"a\0b\r\n\0\r\n", id="nul"),
    pytest.param(b"\x80\xff\n", b"\x80\xff\r\n", id="8-bit"),
    pytest.param(b"..a\n.\nb\n", b"..a\r\n.\r\nb\r\n", id="dots-mean-nothing"),
]

NET = [
    pytest.param(b"a\r\nb\r\n.\r\n", b"a\r\nb\r\n", id="dot-ends"),
    pytest.param(b"a\r\n.\r\nb\r\n", b"a\r\n", id="reading-stops-there"),
    pytest.param(b"a\r\n", b"a\r\n", id="end-of-file-ends"),
    pytest.param(b"..a\r\n...\r\nx..\r\n.\r\n", b".a\r\n..\r\nx..\r\n", id="doubled-dots"),
    pytest.param(b".a\r\n.\r\n", b"a\r\n", id="single-dot-of-a-line-goes"),
    pytest.param(b".\r\n", b"\r\n", id="nothing"),
    pytest.param(b"", b"\r\n", id="nothing-at-all"),
    pytest.param(b".", b"\r\n", id="dot-at-end-of-file"),
    pytest.param(b"a\r\n.", b"a\r\n", id="line-and-dot-at-end-of-file"),
    pytest.param(b"a\r\n.\r", b"a\r\n", id="dot-and-half-a-line-end"),
    pytest.param(b"a\r\n..", b"a\r\n.\r\n", id="doubled-dot-at-end-of-file"),
    pytest.param(b"..\r\n..\r\n.\r\n", b".\r\n.\r\n", id="lines-of-one-dot"),
    pytest.param(b"a\n.\nb\r\n.\r\n", b"a\r\n.\r\nb\r\n", id="lf-dot-lf-ends-nothing"),
    pytest.param(b"a\n.\r\nb\r\n.\r\n", b"a\r\n.\r\nb\r\n", id="lf-dot-crlf-ends-nothing"),
    pytest.param(b"a\r\n.\nb\r\n.\r\n", b"a\r\n\r\nb\r\n", id="crlf-dot-lf-ends-nothing"),
    pytest.param(b"a\r\n.\rb\r\n.\r\n", b"a\r\n\rb\r\n", id="dot-cr-ends-nothing"),
    pytest.param(b"a\r\n\r\n.\r\n", b"a\r\n\r\n", id="empty-line-before"),
    pytest.param(b"a\0\r\n.\r\n", b"a\0\r\n", id="nul"),
]


@pytest.mark.parametrize("step", [1, 2, 3, BLOCK])
@pytest.mark.parametrize("form", [MailForm.LF, MailForm.CRLF])
@pytest.mark.parametrize(("octets", "wanted"), LINES)
def test_spec_10_1_lf_and_crlf_are_stored_with_crlf(octets: bytes, wanted: bytes, form: str, step: int) -> None:
    assert stored(octets, form, step) == wanted


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, BLOCK])
@pytest.mark.parametrize(("octets", "wanted"), NET)
def test_spec_10_1_net_ends_at_a_single_dot(octets: bytes, wanted: bytes, step: int) -> None:
    assert stored(octets, MailForm.NET, step) == wanted


def test_spec_10_1_net_does_not_wait_behind_the_single_dot() -> None:
    class Open:
        blocks = [b"a\r\n.\r\n"]

        def read(self, size: int, /) -> bytes:
            return self.blocks.pop()    # a second read would fail

    assert b"".join(message_blocks(Open(), MailForm.NET)) == b"a\r\n"


@given(st.lists(st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"a", b"\0"])).map(b"".join), st.lists(st.integers(1, 4)))
def test_blocks_make_no_difference(octets: bytes, sizes: list[int]) -> None:
    for form in MAIL_FORMS:
        parts = b"".join(message_blocks(Dribble(octets, sizes), form))
        assert parts == b"".join(message_blocks(io.BytesIO(octets), form))
        assert parts.endswith(b"\r\n")
        assert parts.count(b"\n") == parts.count(b"\r\n")


@given(st.lists(st.sampled_from([b".", b"..", b"\r\n", b"a\r\n", b"\r\n.", b"text"])).map(b"".join))
def test_net_is_the_inverse_of_stuffing(octets: bytes) -> None:
    message = octets + b"\r\n"
    lines = message.split(b"\r\n")[:-1]
    sent = b"".join(b"." * line.startswith(b".") + line + b"\r\n" for line in lines) + b".\r\n"
    assert stored(sent + b"not read\r\n", MailForm.NET) == message


def test_a_long_line_is_never_held_as_a_whole() -> None:
    longest = 0
    for block in message_blocks(Dribble(b"x" * 5_000_000, []), MailForm.NET):
        longest = max(longest, len(block))
    assert longest <= BLOCK + 4


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a"])).map(b"".join), st.integers(1, 7))
def test_reader_gives_crlf_and_the_size_is_right(octets: bytes, step: int) -> None:
    wanted = b"".join(crlf_blocks(iter([octets]))) if octets else b""
    wanted += b"" if not wanted or wanted.endswith(b"\r\n") else b"\r\n"
    assert wire_size(io.BytesIO(octets)) == len(wanted)
    with CrlfReader(io.BytesIO(octets)) as reader:    # type: ignore[arg-type]
        got = b"".join(iter(lambda: reader.read(step) or b"", b""))
    assert got == wanted


@pytest.mark.parametrize("border", [-2, -1, 0, 1])
def test_reader_over_the_border_of_its_blocks(tmp_path: Path, border: int) -> None:
    octets = b"x" * (BLOCK + border) + b"\r\ny\n" + b"z" * BLOCK + b"\n"
    file = tmp_path / "foreign"
    file.write_bytes(octets)
    with CrlfReader(io.FileIO(file)) as reader:
        assert reader.read() == octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def test_reader_closes_its_file(tmp_path: Path) -> None:
    (tmp_path / "foreign").write_bytes(b"a\n")
    file = io.FileIO(tmp_path / "foreign")
    reader = CrlfReader(file)
    reader.close()
    reader.close()
    assert file.closed


@pytest.mark.parametrize("form", MAIL_FORMS)
@pytest.mark.parametrize("step", [1, 2, 5, 6, BLOCK])
@pytest.mark.parametrize(("octets", "wanted"), [
    pytest.param(b"From joe@example.org Mon Jan  1 00:00:00 2026\r\nSubject: x\r\n\r\n", b"Subject: x\r\n\r\n",
                 id="mbox"),
    pytest.param(b"From \r\nFrom b\r\n", b"From b\r\n", id="only-the-first-line"),
    pytest.param(b"From a", b"\r\n", id="nothing-else"),
    pytest.param(b"From " + b"a" * 70_000 + b"\r\nb\r\n", b"b\r\n", id="endless"),
    pytest.param(b"From: a\r\n", b"From: a\r\n", id="header"),
    pytest.param(b"From : a\r\n", b"From : a\r\n", id="obsolete-header"),
    pytest.param(b"From \t : a\r\n", b"From \t : a\r\n", id="obsolete-header-with-blanks"),
    pytest.param(b"From", b"From\r\n", id="too-short"),
    pytest.param(b"from a\r\n", b"from a\r\n", id="small-letter"),
    pytest.param(b">From a\r\n", b">From a\r\n", id="quoted"),
    pytest.param(b"Subject: x\r\nFrom a\r\n", b"Subject: x\r\nFrom a\r\n", id="later"),
])
def test_the_line_of_an_mbox_is_left_out(octets: bytes, wanted: bytes, form: str, step: int) -> None:
    assert stored(octets, form, step) == wanted


@pytest.mark.parametrize("piece", [1, 2, 100])
@pytest.mark.parametrize("text", [b"", b"a", b"a\n", b"a\r\n", b"a\r", b"\r\n", b"a\nb\r\nc\r", b"\r\r\n\n"])
def test_a_text_that_is_given_in_blocks_becomes_the_same(text: bytes, piece: int) -> None:
    crlf = CrlfText()
    parts = [crlf.ready(text[place:place + piece]) for place in range(0, len(text), piece)]
    assert b"".join(parts) + crlf.end() == b"".join(message_blocks(io.BytesIO(text), MailForm.CRLF))
