"""The reader and player of transcripts: a test of a test must be able to fail too."""

from pathlib import Path

import pytest

from tests.harness.memory import MemoryCarrier
from tests.harness.transcript import (
    BadTranscript, Mismatch, Step, Transcript, octets, parse, pattern, play, transcripts)


def read(tmp_path: Path, text: str, name: str = "transaction/x") -> Transcript:
    path = tmp_path / "x.pop"
    path.write_text(text, encoding="latin-1")
    return parse(path, name)


@pytest.mark.parametrize("text, sent", [
    pytest.param(b"DELE 1", b"DELE 1", id="plain"),
    pytest.param(b"a\\x00\\xfF*\\r\\n\\\\", b"a\0\xff*\r\n\\", id="escapes"),
    pytest.param(b"\\{3*ab}c", b"abababc", id="repeated"),
    pytest.param(b"", b"", id="empty"),
])
def test_what_the_client_sends(text: bytes, sent: bytes) -> None:
    assert octets(Step("C", text, "x:1")) == sent


@pytest.mark.parametrize("text, line, fits", [
    pytest.param(b"+OK *", b"+OK", True, id="nothing"),
    pytest.param(b"+OK *", b"+OK x y", True, id="something"),
    pytest.param(b"+OK *", b"+OKAY", False, id="longer word"),
    pytest.param(b"+OK *", b"-ERR", False, id="another"),
    pytest.param(b"1 *", b"1 uid", True, id="uid"),
    pytest.param(b"a*c", b"abbc", True, id="in the middle"),
    pytest.param(b"a\\x2ac", b"abc", False, id="a star of its own"),
    pytest.param(b"a\\x2ac", b"a*c", True, id="that star"),
    pytest.param(b"a.c", b"abc", False, id="a dot is a dot"),
    pytest.param(b"", b"", True, id="empty"),
])
def test_what_the_server_may_send(text: bytes, line: bytes, fits: bool) -> None:
    assert (pattern(Step("S", text, "x:1")).fullmatch(line) is not None) is fits


@pytest.mark.parametrize("text, complaint", [
    pytest.param("tags: memory\nX: y\n", "x.pop:2", id="unknown word"),
    pytest.param("tags: memory\nQUIT\n", "x.pop:2", id="no word"),
    pytest.param("tags: memroy\nC: QUIT\n", "x.pop:1", id="unknown tag"),
    pytest.param("tags: memory\nmailbox: nonesuch\n", "x.pop:2", id="unknown mailbox"),
    pytest.param("tags: memory\nC: \\y\n", "x.pop:2: bad escape at column 4", id="unknown escape"),
    pytest.param("tags: memory\n", "needs tags and steps", id="no steps"),
    pytest.param("C: QUIT\n", "needs tags and steps", id="no tags"),
])
def test_a_transcript_that_cannot_be_read(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(BadTranscript, match=complaint):
        read(tmp_path, text)


@pytest.mark.parametrize("steps, place, wanted, found", [
    pytest.param("C: NOOP\nS: +OK x\n", "x.pop:4", "+OK x", "+OK", id="another line"),
    pytest.param("C: NOOP\nC: NOOP\nS: +OK\n", "x.pop:5", "the end of the connection", "+OK", id="surplus"),
    pytest.param("C: QUIT\nS: +OK *\nS: +OK *\n", "x.pop:5", "+OK *", "the end of the connection", id="no line"),
    pytest.param("C: QUIT\nclosed:\n", "x.pop:4", "the end of the connection", "+OK bye", id="said something"),
    pytest.param("C: RETR 1\nS: +OK *\nmessage: 2\n", "x.pop:5", "line 2 of it, Subject: two", "Subject: one",
                 id="another message"),
    pytest.param("C: DELE 1\nS: +OK *\ndisk: new/1 cur/0\n", "x.pop:5", "new/1 cur/0", "new/2 cur/0", id="disk"),
])
def test_a_failure_tells_place_wanted_and_found(tmp_path: Path, steps: str, place: str, wanted: str,
                                                found: str) -> None:
    transcript = read(tmp_path, "tags: memory\nmailbox: two\n" + steps)
    with pytest.raises(Mismatch) as caught:
        play(MemoryCarrier(), transcript)
    lines = str(caught.value).splitlines()
    assert place in lines[0]
    assert lines[1] == f"  expected: {wanted}"
    assert found in lines[2]


def test_every_transcript_is_played_somewhere() -> None:
    assert len(transcripts()) >= 70
    assert {transcript.name.split("/")[0] for transcript in transcripts()} == {"authorization", "transaction", "xpop"}
