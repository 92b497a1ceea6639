"""The reader of log lines that the tests use must itself see forgeries."""

import pytest

from tests.harness.logs import read_classic, read_json, times_of

HEAD = "20040821 121929 mx1 pproxy 4711 - ADM 0035 something"


def test_both_forms() -> None:
    line = read_classic(HEAD + r" user='joe\x0a' len=12 seconds=1.500 none='' times='auth=0.250 relay=2.000'")
    assert (line.time, line.pid, line.session, line.name) == ("20040821 121929", 4711, "-", "something")
    assert line.fields == {
        "user": b"joe\n", "len": 12, "seconds": 1.5, "none": b"", "times": b"auth=0.250 relay=2.000"}
    assert times_of(line) == {"auth": 0.25, "relay": 2.0}
    same = read_json(
        '{"time":"20040821 121929","host":"mx1","program":"pproxy","pid":4711,"session":"-","level":"ADM",'
        r'"number":"0035","name":"something","fields":{"user":"joe\n","len":12,"seconds":1.5,"none":"",'
        r'"times":{"auth":0.25,"relay":2.0}}}')
    assert times_of(same) == times_of(line)
    assert {**same.fields, "times": b""} == {**line.fields, "times": b""}


@pytest.mark.parametrize("text", [
    "", "joe", HEAD + " user='joe", HEAD + " user='joe' x", HEAD + " user='jo'e'", HEAD + "  a=1", HEAD + " ",
    HEAD + " user='joe' user='root'", HEAD + r" user='\joe'", HEAD + " user='jo\x7fe'", HEAD + " user=Joe",
    HEAD.replace("ADM", "adm"), HEAD.replace("0035", "0x35"),
])
def test_what_is_no_classic_line(text: str) -> None:
    with pytest.raises(AssertionError):
        read_classic(text)


@pytest.mark.parametrize("text", ["", "{}", '{"time":1}', '{"a":1,"a":2}', "[]", '{"time":"é"}'])
def test_what_is_no_json_line(text: str) -> None:
    with pytest.raises((AssertionError, ValueError, AttributeError)):
        read_json(text)
