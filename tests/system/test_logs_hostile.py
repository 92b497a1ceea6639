"""Names, passwords, backend answers and mailbox names of all kinds, at real daemons: none forges a line or a field.

Each example is a session whose texts hypothesis made up; then the logs are read back by a strict
reader.  The events that a session causes are known, so one line too many is seen as well.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popular.addresses import Endpoint
from popular.names import is_mailbox, is_sid
from popular.net.transport import PROXY_V1
from tests.harness.daemon import Daemon
from tests.harness.fake_backend import Close, FakeBackend, ReadLines, Say, Step
from tests.harness.logs import READERS, Line
from tests.harness.popclient import PopClient
from tests.harness.proxy import PASSWORD, PAUL, XENIA, StartProxy, store
from tests.harness.system import wait_for

NOWHERE = Endpoint("127.0.0.1", 1)    # a port on which nobody listens

FORMS = pytest.mark.parametrize("form", ["classic", "json"])
# One daemon serves all examples: the examples are sessions, and each has lines of its own.
FUZZ = settings(deadline=None, max_examples=40, derandomize=True,
                suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

FORGERIES = [
    b"joe' user='root", b"joe'", b"joe\\", b"\\x27", b"joe\r20040821 121929 mx1 pproxy 1 - SOS 0007 out_of_memory",
    b"\x85", "\u2028".encode(), b"\x1b[2J\x1b[1;1H", b'joe"}', b'","level":"SOS', b'\\"', b"%s%n{0}${jndi:x}",
    b"joe\xff", b"\xed\xa0\x80", b" ", b"a b", b"=", b"a=1 b=2", b"<0>", b"-",
]


def texts(longest: int) -> st.SearchStrategy[bytes]:
    """Texts that can stand in a line of POP3: any octets but NUL and LF."""
    octets = st.binary(min_size=1, max_size=longest).map(lambda text: text.replace(b"\0", b"\1").replace(b"\n", b"\r"))
    return st.sampled_from([text for text in FORGERIES if len(text) <= longest]) | octets


class Journal:
    """The log of a daemon, read from where the last session ended."""

    def __init__(self, daemon: Daemon, form: str) -> None:
        self._daemon = daemon
        self._read = READERS[form]
        self._seen = len(daemon.logfile.read_bytes())

    def until(self, name: str) -> list[Line]:
        """Return the events up to the one called `name`, waiting for it."""
        return wait_for(lambda: self._new(name), 10.0, f"the event {name}")

    def _new(self, name: str) -> list[Line]:
        data = self._daemon.logfile.read_bytes()[self._seen:]
        assert b"\r" not in data
        whole = data[:data.rfind(b"\n") + 1]
        lines = [self._read(line) for line in whole.decode("ascii").split("\n")[:-1]]
        if not any(line.name == name for line in lines):
            return []
        self._seen += len(whole)
        return lines


@contextmanager
def visit(endpoint: Endpoint) -> Iterator[PopClient]:
    """Be a client for one example."""
    client = PopClient(endpoint)
    try:
        yield client
    finally:
        client.close()


def names_of(lines: list[Line]) -> list[str]:
    """Return which events there were."""
    return [line.name for line in lines]


@FORMS
def test_users_and_passwords_of_all_kinds(proxy: StartProxy, form: str) -> None:
    daemon = proxy(store(NOWHERE), logformat=form, debug="on", maxspare=16)
    journal = Journal(daemon, form)

    @FUZZ
    @given(texts(150), texts(150))
    def attempt(user: bytes, password: bytes) -> None:
        with visit(daemon.endpoint()) as client:
            client.greeting()
            client.command(b"USER " + user)
            client.command(b"PASS " + password)
            client.send(b"QUIT\r\n")
            client.rest()
        lines = journal.until("session_end")
        assert len({line.session for line in lines}) == 1
        assert {line.level for line in lines} <= {"INF", "ERR", "DBG"}
        names = names_of(lines)
        assert names[0] == "session_start" and names[-1] == "session_end"
        assert set(names) <= {"session_start", "session_end", "login_refused", "command"}
        told = [line.fields["line"] for line in lines if line.name == "command"]    # but not what is no command at all
        assert all(line.startswith(b"USER ") or line in (b"PASS ***", b"QUIT") for line in told)

    attempt()


@FORMS
def test_answers_of_a_backend_of_all_kinds(proxy: StartProxy, form: str) -> None:
    answer = b""

    def script(number: int) -> list[Step]:
        return [Say(b"+OK\r\n"), ReadLines(1), Say(b"+OK\r\n"), ReadLines(1), Say(answer + b"\r\n"), Close()]

    with FakeBackend(script) as fake:
        daemon = proxy(store(fake), logformat=form, maxspare=16)
        journal = Journal(daemon, form)

        @FUZZ
        @given(texts(400), st.sampled_from([b"", b"-ERR ", b"-ERR [AUTH] ", b"-ERR ["]))
        def attempt(text: bytes, before: bytes) -> None:
            nonlocal answer
            answer = before + text
            with visit(daemon.endpoint()) as client:
                client.login(PAUL, PASSWORD)
                client.send(b"QUIT\r\n")
                client.rest()
            lines = journal.until("session_end")
            assert len({line.session for line in lines}) == 1
            names = names_of(lines)
            assert names in (
                ["session_start", "login", "backend_refused", "session_end"],
                ["session_start", "login", "backend_failed", "session_end"],
                ["session_start", "login", "session_end"])
            assert before == b"" or names[2] == "backend_refused"

        attempt()


@FORMS
def test_octets_that_end_a_connection_at_once(proxy: StartProxy, form: str) -> None:
    daemon = proxy(store(NOWHERE), logformat=form, maxspare=16, peerlines=0)
    journal = Journal(daemon, form)

    @FUZZ
    @given(st.binary(max_size=60), st.binary(max_size=60))
    def attempt(before: bytes, after: bytes) -> None:
        before = before.replace(b"\n", b"\r")
        with visit(daemon.endpoint()) as client:
            client.greeting()
            client.send(before + b"\0" + after)
            client.rest()
        lines = journal.until("null_byte_in_input")
        while names_of(lines)[-2:] != ["session_end", "null_byte_in_input"]:
            lines += journal.until("null_byte_in_input")
        assert lines[-1].fields["data"] == b"***"

    attempt()


def is_no_balancer(text: bytes) -> bool:
    """Tell whether this is answered: a header of the PROXY protocol is not."""
    return not text.startswith(PROXY_V1)


@FORMS
def test_preambles_of_all_kinds(start: Callable[..., Daemon], spool: Path, form: str) -> None:
    daemon = start("pserv", {"pserv": {"mailboxdir": spool, "missing": "refuse", "logformat": form, "maxspare": 16,
                                       "peerlines": 0},
                             "server": {"main": {"address": "127.0.0.1:0"}}})
    journal = Journal(daemon, form)

    @FUZZ
    @given(texts(150).filter(is_no_balancer) | st.just(b"joe"), texts(150) | st.just(b"sid-1"),
           texts(20) | st.just(b"M"))
    def attempt(mailbox: bytes, sid: bytes, flags: bytes) -> None:
        with visit(daemon.endpoint()) as client:
            client.send(b"\r\n".join((mailbox, sid, flags, b"")))
            assert client.line().startswith(b"-ERR [SYS/")
            client.rest()
        (line,) = wait_for(lambda: journal._new("preamble_refused") or journal._new("mailbox_missing")
                           or journal._new("name_too_long") or journal._new("dir_access_failed"), 10.0, "the event")
        if line.name == "preamble_refused":
            assert line.session == "-"
        else:
            assert is_sid(line.session) and is_mailbox(line.fields["mailbox"].decode())

    attempt()


@FORMS
def test_mail_checks_of_all_kinds(start: Callable[..., Daemon], spool: Path, form: str) -> None:
    daemon = start("pcheckd", {"pcheckd": {"mailboxdir": spool, "host": "127.0.0.1", "port": 0, "logformat": form,
                                           "debug": "on"}})
    journal = Journal(daemon, form)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10.0)
        sock.connect((daemon.endpoint().host, daemon.endpoint().port))

        @FUZZ
        @given(st.binary(min_size=1, max_size=300) | texts(200).map(lambda name: b"M " + name + b"\n"))
        def attempt(datagram: bytes) -> None:
            if datagram.startswith((b"+", b"-")):    # an answer is never answered
                datagram = b"M" + datagram
            sock.send(datagram)
            assert sock.recv(1000)
            lines = journal.until("packet_sent")
            assert names_of(lines) == ["packet_received", "packet_sent"]

        attempt()


@FORMS
def test_a_record_with_hostile_values(proxy: StartProxy, rundir: Path, form: str) -> None:
    """What a database module brings is as hostile as what comes over the network."""
    with FakeBackend(lambda number: [ReadLines(3), Say(b"-ERR no\r\n"), Close()]) as fake:
        daemon = proxy(store(fake), logformat=form, maxspare=16)
        journal = Journal(daemon, form)

        @FUZZ
        @given(texts(100), texts(100))
        def attempt(backend: bytes, mailbox: bytes) -> None:
            record = b"%s:{PLAIN}%s:%s:xpop:%s\n" % (
                XENIA.encode(), PASSWORD.encode(), backend.replace(b":", b"."), mailbox.replace(b":", b"."))
            (rundir / "users").write_bytes(record)
            with visit(daemon.endpoint()) as client:
                assert client.login(XENIA, PASSWORD).startswith(b"-ERR [SYS/TEMP]")
                client.send(b"QUIT\r\n")
                client.rest()
            names = names_of(journal.until("session_end"))
            assert names[0] == "session_start" and names[-1] == "session_end"
            assert set(names[1:-1]) <= {"route_unusable", "pdm_invalid_answer", "pdm_failed", "login_failed"}

        attempt()
