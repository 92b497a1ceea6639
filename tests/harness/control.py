"""Giving control commands to the daemons of a test."""

from popular.addresses import Endpoint, parse_endpoint
from popular.control.client import ControlClient, Reply, default_path
from popular.control.grammar import split_words
from tests.harness.daemon import Daemon
from tests.harness.popclient import PopClient


def control(daemon: Daemon) -> ControlClient:
    """Connect to the control socket of a daemon."""
    return ControlClient(default_path(str(daemon.rundir), daemon.program), patience=30.0)


def tell(daemon: Daemon, *lines: str) -> list[Reply]:
    """Give commands that must be carried out, and wait until new connections see them."""
    with control(daemon) as client:
        replies = [client.ask(line) for line in (*lines, "sync")]
    wrong = [(line, reply) for line, reply in zip(lines, replies) if not reply.ok]
    assert not wrong, wrong
    return replies[:-1]


def refused(daemon: Daemon, line: str) -> Reply:
    """Give a command that must be refused."""
    with control(daemon) as client:
        reply = client.ask(line)
    assert not reply.ok, (line, reply)
    return reply


def listening(daemon: Daemon, ident: str, cls: str = "vserv") -> list[Endpoint]:
    """Return where an object listens, as the daemon tells."""
    [reply] = tell(daemon, f"{cls} list")
    [line] = [words for words in map(split_words, reply.lines) if words[0] == ident]
    return [parse_endpoint(word) for word in line[1:] if "=" not in word]


def variable(daemon: Daemon, name: str) -> str:
    """Return the text of a variable."""
    [reply] = tell(daemon, f"show {name}")
    return reply.lines[0].partition(" = ")[2]


def greeting(endpoint: Endpoint) -> bytes:
    """Return the greeting of a new connection."""
    with PopClient(endpoint) as client:
        return client.greeting()
