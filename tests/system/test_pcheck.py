"""pcheck as its users run it: options, output, exit codes (spec 3.4), against a server that follows a script."""


import pytest

from popular.tools.pcheck import make_parser
from tests.harness.fake_pcheckd import Behaviour, FakePcheckd, Reply, always
from tests.harness.tools import run_tool


def pcheck(*options: str) -> tuple[int, str, str]:
    """Run pcheck; returns exit code, stdout and stderr."""
    done = run_tool("pcheck", *options)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def ask(behaviour: Behaviour, *options: str) -> tuple[int, str]:
    """Run pcheck against a fake server; returns exit code and stdout."""
    with FakePcheckd(behaviour) as fake:
        code, out, _ = pcheck("-s", fake.endpoint.host, "-p", str(fake.endpoint.port), *options)
        return code, out


ANSWERS = [
    pytest.param(b"+OK 0 no mail\n", 0, "+OK 0 no mail\n", id="empty"),
    pytest.param(b"+OK 1 mail\n", 1, "+OK 1 mail\n", id="old"),
    pytest.param(b"+OK 2 new mail\n", 1, "+OK 2 new mail\n", id="new"),
    pytest.param(b"+OK 3 load too high\n", 0, "+OK 3 load too high\n", id="overloaded"),
    pytest.param(b"-ERR no such mailbox\n", 2, "-ERR no such mailbox\n", id="err"),
    pytest.param(b"+OK 1 no line end", 1, "+OK 1 no line end\n", id="no-line-end"),
    pytest.param(b"+OK 9 what\n", 2, "+OK 9 what\n", id="no-such-state"),
    pytest.param(b"hello\n", 2, "hello\n", id="no-answer-at-all"),
    pytest.param(b"", 2, "\n", id="nothing"),
    pytest.param(b"+OK 1 \x1b]0;x\x07\r\nmore\xff\n", 1, "+OK 1 \\x1b]0;x\\x07\\x0d\\x0amore\\xff\n", id="terminal"),
]


@pytest.mark.parametrize("answer, code, out", ANSWERS)
def test_spec_3_4_mailbox(answer: bytes, code: int, out: str) -> None:
    assert ask(always(Reply(answer)), "-m", "3/2d/joe.doe") == (code, out)


@pytest.mark.parametrize("answer, code, out", [
    pytest.param(b"+OK 3.23\n", 0, "+OK 3.23\n", id="float"),
    pytest.param(b"+OK 1\n", 0, "+OK 1\n", id="integer"),
    pytest.param(b"-ERR unknown request\n", 2, "-ERR unknown request\n", id="err"),
    pytest.param(b"+OK 1 mail\n", 2, "+OK 1 mail\n", id="a-state"),
])
def test_spec_3_4_load(answer: bytes, code: int, out: str) -> None:
    assert ask(always(Reply(answer)), "-l") == (code, out)


@pytest.mark.parametrize("options, request_", [
    pytest.param(("-m", "joe"), b"*Mjoe", id="m"),
    pytest.param(("--get-mailbox=joe",), b"*Mjoe", id="get-mailbox"),
    pytest.param(("-m", "../x"), b"*M../x", id="illegal-names-are-sent"),
    pytest.param(("-l",), b"*L", id="l"),
    pytest.param(("--get-load",), b"*L", id="get-load"),
])
def test_spec_3_4_long_options_and_requests(options: tuple[str, ...], request_: bytes) -> None:
    with FakePcheckd(always(Reply(b"+OK 0\n"))) as fake:
        pcheck(f"--server={fake.endpoint.host}", f"--port={fake.endpoint.port}", "--timeout=20", *options)
        assert [asked.data for asked in fake.asked] == [request_]


def test_spec_3_4_port_default_is_50110() -> None:
    assert make_parser().parse_args(["-l"]).port == 50110


def test_spec_3_4_server_default_is_127_0_0_1() -> None:
    with FakePcheckd(always(Reply(b"+OK 0\n"))) as fake:
        assert pcheck("-p", str(fake.endpoint.port), "-m", "joe")[0] == 0


def test_server_by_name() -> None:
    with FakePcheckd(always(Reply(b"+OK 0\n"))) as fake:
        assert pcheck("-s", "127.1", "-p", str(fake.endpoint.port), "-m", "joe")[0] == 0


def test_ipv6() -> None:
    with FakePcheckd(always(Reply(b"+OK 2\n")), host="::1") as fake:
        assert pcheck("-s", "::1", "-p", str(fake.endpoint.port), "-m", "joe")[0] == 1


@pytest.mark.parametrize("behaviour", [
    pytest.param(always(), id="silence"),
    pytest.param(always(Reply(b"+OK 1 mail\n", foreign=True)), id="forged"),
])
def test_spec_3_4_no_answer_is_2(behaviour: Behaviour) -> None:
    assert ask(behaviour, "-t", "0.1", "-m", "joe") == (2, "")


def test_spec_3_4_system_errors_are_2() -> None:
    code, out, err = pcheck("-s", "no..host", "-m", "joe")    # refused before anyone asks the DNS
    assert (code, out) == (2, "") and err.startswith("pcheck: ") and err.count("\n") == 1


def test_spec_3_4_connection_errors_are_2() -> None:
    with FakePcheckd(always()) as fake:
        port = str(fake.endpoint.port)
    code, out, err = pcheck("-p", port, "-t", "20", "-m", "joe")
    assert (code, out) == (2, "") and "nobody listens there" in err


@pytest.mark.parametrize("options", [
    pytest.param((), id="no-question"),
    pytest.param(("-l", "-m", "joe"), id="both-questions"),
    pytest.param(("-m",), id="no-mailbox"),
    pytest.param(("-l", "-p", "0"), id="port-0"),
    pytest.param(("-l", "-p", "65536"), id="port-too-large"),
    pytest.param(("-l", "-p", "pop3"), id="port-by-name"),
    pytest.param(("-l", "-t", "0"), id="timeout-0"),
    pytest.param(("-l", "-t", "nan"), id="timeout-nan"),
    pytest.param(("-l", "-t", "x"), id="timeout-x"),
    pytest.param(("-l", "-x"), id="unknown-option"),
    pytest.param(("-l", "joe"), id="surplus-word"),
    pytest.param(("--get-l",), id="abbreviation"),
])
def test_spec_3_4_bad_command_line_is_3(options: tuple[str, ...]) -> None:
    code, out, err = pcheck(*options)
    assert (code, out) == (3, "") and "usage:" in err


def test_spec_3_4_help_and_version() -> None:
    code, out, _ = pcheck("--help")
    assert code == 0 and all(option in out for option in ("--get-load", "--get-mailbox", "--server", "--port"))
    code, out, _ = pcheck("--version")
    assert code == 0 and out.startswith("pcheck ")
