"""The last line of a session says how it went: real sessions of each kind, their lines read back (spec 5)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.fake_backend import Close, Expect, FakeBackend, Reset, Say, Step
from tests.harness.fake_pcheckd import FakePcheckd, Reply, always
from tests.harness.logs import READERS, Line, only, times_of
from tests.harness.popclient import PopClient
from tests.harness.proxy import CASPER, PASSWORD, PAUL, XENIA, StartProxy, script_for, store

NOWHERE = Endpoint("127.0.0.1", 1)    # a port on which nobody listens
MAIL = b"Subject: x\r\n\r\n.text\r\n"

Pop = Callable[..., PopClient]
FORMS = pytest.mark.parametrize("form", ["classic", "json"])


class Counting:
    """A client that knows how many octets went each way."""

    def __init__(self, client: PopClient) -> None:
        self._client = client
        self.sent = 0
        self.got = 0

    def send(self, data: bytes) -> None:
        """Send octets."""
        self.sent += len(data)
        self._client.send(data)

    def line(self) -> bytes:
        """Return a line without its CRLF."""
        line = self._client.line()
        self.got += len(line) + 2
        return line

    def command(self, words: str) -> bytes:
        """Send a command and return the first line of the answer."""
        self.send(words.encode() + b"\r\n")
        return self.line()

    def log_in(self, user: str, password: str = PASSWORD) -> None:
        """Read the greeting and log in, whatever the answer."""
        self.line()
        self.command(f"USER {user}")
        self.command(f"PASS {password}")

    def fetch(self, number: int) -> int:
        """Retrieve a message; returns its octets as STAT counts them, without what the wire adds."""
        self.command(f"RETR {number}")
        octets = 0
        while (line := self.line()) != b".":
            octets += len(line.removeprefix(b".")) + len(b"\r\n")
        return octets

    def finish(self) -> None:
        """Read to the end."""
        self.got += len(self._client.rest())

    def leave(self) -> None:
        """Close without a word."""
        self._client.close()


def quit_at_once(client: Counting) -> None:
    client.line()
    client.command("QUIT")
    client.finish()


def leave_at_once(client: Counting) -> None:
    client.line()
    client.leave()


def stay_silent(client: Counting) -> None:
    client.line()
    client.finish()


def guess(client: Counting) -> None:
    client.log_in("eve", "x")
    client.command("USER eve")
    client.command("PASS y")
    client.finish()


def guess_and_quit(client: Counting) -> None:
    client.log_in("eve", "x")
    client.command("QUIT")
    client.finish()


def fetch_as(user: str) -> Callable[[Counting], None]:
    def talk(client: Counting) -> None:
        client.log_in(user)
        client.command("STAT")
        client.command("QUIT")
        client.finish()
    return talk


def leave_as(user: str) -> Callable[[Counting], None]:
    def talk(client: Counting) -> None:
        client.log_in(user)
        client.leave()
    return talk


def be_reset(client: Counting) -> None:
    client.log_in(XENIA)
    client.command("STAT")
    client.send(b"QUIT\r\n")
    client.finish()


@dataclass(frozen=True)
class Kind:
    """One kind of session and what its last line says."""

    talk: Callable[[Counting], None]
    outcome: str
    user: str = ""
    backend: str = ""
    protocol: str = ""
    states: str = ""                 # those it must have been in, beside what every session is in
    script: tuple[Step, ...] = ()
    check: bytes = b"+OK 2 new mail\n"
    more: tuple[tuple[str, object], ...] = ()    # variables, and keys of vserv. and backend.


def relayed(user: str, protocol: str, states: str, outcome: str = "relayed: server closed") -> Kind:
    return Kind(fetch_as(user), outcome, user, "store", protocol, states, tuple(script_for(user)))


KINDS = {
    "quit": Kind(quit_at_once, "quit", states="auth"),
    "gone": Kind(leave_at_once, "no login: closed"),
    "silent": Kind(stay_silent, "no login: timeout", more=(("authtimeout", "200ms"),)),
    "guessed": Kind(guess, "refused: too many refused logins", "eve", states="auth", more=(("maxauthtries", 2),)),
    "gave up": Kind(guess_and_quit, "quit", "eve", states="auth"),
    "empty": Kind(fetch_as(CASPER), "empty", CASPER, "store", "cxpop", "auth mailcheck empty",
                  check=b"+OK 0 no mail\n"),
    "overloaded": Kind(fetch_as(CASPER), "overloaded", CASPER, "store", "cxpop", "auth mailcheck empty",
                       check=b"+OK 3 load too high\n"),
    "empty and gone": Kind(leave_as(CASPER), "empty: closed", CASPER, "store", "cxpop", "auth mailcheck empty",
                           check=b"+OK 0 no mail\n"),
    "vserv disabled": Kind(fetch_as(XENIA), "vserv disabled", XENIA, "store", "xpop", "auth empty",
                           more=(("vserv.enabled", "off"),)),
    "backend disabled": Kind(fetch_as(XENIA), "backend disabled", XENIA, "store", "xpop", "auth empty",
                             more=(("backend.enabled", "off"),)),
    "soft failure": Kind(fetch_as(XENIA), "soft failure", XENIA, "store", "xpop", "auth connecting empty",
                         (Say(b"what?\r\n"), Close())),
    "xpop": relayed(XENIA, "xpop", "auth connecting relay"),
    "pop3": relayed(PAUL, "pop3", "auth connecting relay"),
    "cxpop": relayed(CASPER, "cxpop", "auth mailcheck connecting relay"),
    "reset": Kind(be_reset, "relayed: server reset", XENIA, "store", "xpop", "auth connecting relay",
                  (*script_for(XENIA, Expect(b"STAT\r\n"), Say(b"+OK 1 17\r\n"), Expect(b"QUIT\r\n"), Reset()),)),
}


@pytest.fixture(params=[pytest.param(kind, id=name) for name, kind in KINDS.items()])
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each kind of session."""
    found: Kind = request.param
    return found


@pytest.fixture
def told(kind: Kind, proxy: StartProxy, pop: Pop) -> Iterator[Callable[[str], tuple[Line, Counting]]]:
    """A function (form) that has the session and returns its last line, and the client."""
    fake, check = FakeBackend(kind.script), FakePcheckd(always(Reply(kind.check)))

    def have(form: str) -> tuple[Line, Counting]:
        more: dict[str, dict[str, object]] = {"": {}, "vserv": {}, "backend": {}}
        for name, each in kind.more:
            section, _, key = name.rpartition(".")
            more[section][key] = each
        daemon = proxy(store(fake, check.endpoint, **more["backend"]),
                       vserv={"namespace": "example.org", **more["vserv"]}, logformat=form, **more[""])
        client = Counting(pop(daemon.endpoint()))
        kind.talk(client)
        daemon.wait_log("session_end")
        lines = [READERS[form](line) for line in daemon.log_lines()]
        ours = {line.session for line in lines} - {"-"}
        assert len(ours) == 1, "every line of the session bears its id"
        return only(lines, "session_end"), client

    with fake, check:
        yield have


@FORMS
def test_the_end_of_each_kind_of_session(
        told: Callable[[str], tuple[Line, Counting]], kind: Kind, form: str) -> None:
    line, client = told(form)
    assert (line.level, line.number) == ("INF", "024e")
    assert list(line.fields) == ["client", "vserv", "namespace", "user", "backend", "protocol", "outcome", "bytes_in",
                                 "bytes_out", "seconds", "times"]
    wanted = {"vserv": "main", "namespace": "example.org", "user": kind.user, "backend": kind.backend,
              "protocol": kind.protocol, "outcome": kind.outcome}
    assert {name: line.fields[name].decode() for name in wanted} == wanted
    assert line.fields["client"].startswith(b"127.0.0.1:")
    assert line.fields["bytes_in"] == client.sent
    assert line.fields["bytes_out"] == client.got
    check_times(line, "greeting " + kind.states)


def check_times(line: Line, states: str) -> None:
    """Check that the states are those that were gone through, and that their times are the whole."""
    times = times_of(line)
    assert set(times) == set(states.split())
    assert min(times.values()) >= 0
    assert abs(sum(times.values()) - line.fields["seconds"]) < 0.1


@dataclass(frozen=True)
class Visit:
    """One session of pserv and what its last line says."""

    commands: tuple[str, ...]
    outcome: str
    retrieved: int = 0
    deleted: int = 0
    variables: tuple[tuple[str, str], ...] = ()
    leaves: bool = False


VISITS = {
    "quit": Visit(("QUIT",), "quit"),
    "all": Visit(("RETR 1", "RETR 2", "DELE 1", "QUIT"), "quit", 2, 1),
    "gone": Visit(("RETR 1", "DELE 1"), "closed", 1, leaves=True),
    "idle": Visit(("RETR 1",), "timeout", 1, variables=(("idletimeout", "1s"),)),
    "nonsense": Visit(("X", "X"), "too many errors", variables=(("maxerrors", "2"),)),
}


@FORMS
@pytest.mark.parametrize("visit", VISITS.values(), ids=VISITS)
def test_the_end_of_each_kind_of_session_at_the_server(
        start: Callable[..., Daemon], pop: Pop, spool: Path, make_mailbox: Callable[..., Path], visit: Visit,
        form: str) -> None:
    make_mailbox("joe", [MAIL, MAIL])
    daemon = start("pserv", {"pserv": {"mailboxdir": spool, "logformat": form, **dict(visit.variables)},
                             "server": {"main": {"address": "127.0.0.1:0"}}})
    client = Counting(pop(daemon.endpoint()))
    client.send(b"joe\r\nsid-1\r\n\r\n")
    client.line()
    octets = 0
    for command in visit.commands:
        if command.startswith("RETR"):
            octets += client.fetch(int(command.split()[1]))
        else:
            client.command(command)
    if visit.leaves:
        client.leave()
    else:
        client.finish()
    daemon.wait_log("mailbox_closed")
    line = only([READERS[form](line) for line in daemon.log_lines()], "mailbox_closed")
    assert (line.session, line.level, line.number) == ("sid-1", "INF", "0281")
    assert list(line.fields) == ["peer", "server", "mailbox", "outcome", "retrieved", "octets", "deleted", "failed",
                                 "bytes_in", "bytes_out", "seconds", "times"]
    assert {name: line.fields[name].decode() for name in ("server", "mailbox", "outcome")} == {
        "server": "main", "mailbox": "joe", "outcome": visit.outcome}
    assert {name: line.fields[name] for name in ("retrieved", "octets", "deleted", "failed")} == {
        "retrieved": visit.retrieved, "octets": octets, "deleted": visit.deleted, "failed": 0}
    assert (line.fields["bytes_in"], line.fields["bytes_out"]) == (client.sent, client.got)
    check_times(line, "preamble opening transaction" + (" update" if visit.outcome == "quit" else ""))
