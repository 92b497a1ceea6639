"""The real daemons as carriers of transcripts: one pserv and one pproxy serve them all, one after the other."""

import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from popular.addresses import Endpoint
from tests.harness.daemon import Daemon
from tests.harness.memory import MAXERRORS, MAXTRIES, USERS
from tests.harness.transcript import Mismatch, Transcript

BOX = "box"                   # the mailbox that transcripts of xpop/ name
FIRST_TIME = 945113196        # in the names of messages, counting up


def connect(endpoint: Endpoint) -> socket.socket:
    """Return a connection."""
    return socket.create_connection((endpoint.host, endpoint.port), 10.0)


def say(sock: socket.socket, lines: bytes, answers: int) -> None:
    """Send `lines` and read that many one-line answers, octet by octet so that no more is taken."""
    sock.sendall(lines)
    for _ in range(answers):
        line = b""
        while not line.endswith(b"\n"):
            octet = sock.recv(1)
            assert octet, f"closed after {line!r} in answer to {lines!r}"
            line += octet
        assert line.startswith(b"+OK"), f"{lines!r} was answered {line!r}"


class MaildirStage:
    """A mailbox in pserv's spool and a connection to pserv."""

    def __init__(self, transcript: Transcript, spool: Path, endpoint: Endpoint) -> None:
        self.box = spool / BOX
        shutil.rmtree(self.box, ignore_errors=True)
        if transcript.mailbox is not None:
            for folder in ("tmp", "new", "cur"):
                (self.box / folder).mkdir(parents=True)
        for number, message in enumerate(transcript.messages):
            self._store(number, message)
        self.sock = connect(endpoint)
        if not transcript.starts_bare:
            say(self.sock, f"{BOX}\r\ntest-1\r\n{transcript.flags}\r\n".encode("ascii"), 1)

    def _store(self, number: int, message: bytes) -> None:
        (self.box / "new" / f"{FIRST_TIME + number}.14341_{len(message)}").write_bytes(message)

    def remove(self, number: int) -> None:
        """Remove the message as another session would."""
        for path in self.box.glob(f"*/{FIRST_TIME + number - 1}.*"):
            path.unlink()

    def deliver(self, message: bytes) -> None:
        """Put a message where a delivery would."""
        self._store(1000, message)

    def disk(self) -> dict[str, int]:
        """Count the messages."""
        return {folder: len([*(self.box / folder).iterdir()]) for folder in ("new", "cur")}


class ServCarrier:
    """Plays the transcripts tagged `pserv` on a real pserv."""

    def __init__(self, rundir: Path, spool: Path) -> None:
        """Start it; must be closed."""
        self.spool = spool
        self.daemon = Daemon.start("pserv", {
            "pserv": {"mailboxdir": spool, "maxerrors": MAXERRORS, "missing": "refuse"},
            "server": {"main": {"address": "127.0.0.1:0"}},
        }, rundir)

    @staticmethod
    def plays(transcript: Transcript) -> bool:
        """Whether its tags say so."""
        return "pserv" in transcript.tags

    @contextmanager
    def stage(self, transcript: Transcript) -> Iterator[MaildirStage]:
        """Make the mailbox and connect."""
        stage = MaildirStage(transcript, self.spool, self.daemon.endpoint())
        with stage.sock, log_in_failure(self.daemon):
            yield stage


class EmptyStage:
    """A connection to pproxy, which has no mailboxes of its own."""

    def __init__(self, transcript: Transcript, endpoint: Endpoint) -> None:
        self.sock = connect(endpoint)
        if not transcript.starts_bare:
            say(self.sock, b"USER joe\r\nPASS " + USERS["joe"] + b"\r\n", 3)

    def remove(self, number: int) -> None:
        """There is nothing to remove."""
        raise AssertionError("pproxy has no messages")

    def deliver(self, message: bytes) -> None:
        """There is no place to deliver to."""
        raise AssertionError("pproxy has no messages")

    def disk(self) -> dict[str, int]:
        """Count the messages."""
        return {"new": 0, "cur": 0}


class ProxyCarrier:
    """Plays the transcripts tagged `empty` or `authorization` on a real pproxy, whose backend is disabled."""

    def __init__(self, rundir: Path) -> None:
        """Start it; must be closed."""
        users = rundir / "users"
        lines = [b"%b:{PLAIN}%b:store::box\n" % (user.encode("utf-8"), password) for user, password in USERS.items()]
        users.write_bytes(b"".join(sorted(lines)))
        self.daemon = Daemon.start("pproxy", {
            "pproxy": {"maxerrors": MAXERRORS, "maxauthtries": MAXTRIES, "authdelay": "0"},
            "vserv": {"main": {"address": "127.0.0.1:0"}},
            "backend": {"store": {"protocol": "xpop", "address": "127.0.0.1:1", "enabled": "off"}},
            "pdm": {"users": {"module": "passwd", "args": users}},
        }, rundir)

    @staticmethod
    def plays(transcript: Transcript) -> bool:
        """Whether its tags say so."""
        return bool({"empty", "authorization"} & transcript.tags)

    @contextmanager
    def stage(self, transcript: Transcript) -> Iterator[EmptyStage]:
        """Connect, and log in unless the transcript does."""
        stage = EmptyStage(transcript, self.daemon.endpoint())
        with stage.sock, log_in_failure(self.daemon):
            yield stage


@contextmanager
def log_in_failure(daemon: Daemon) -> Iterator[None]:
    """Put the daemon's last log lines below a failure."""
    try:
        yield
    except Mismatch as why:
        why.add_note("\n".join(["log:", *daemon.log_lines()[-10:]]))
        raise
