"""The sessions that the demo shows, one of each kind."""

from dataclasses import dataclass

from demo.accounts import ANNA, BEN, CARLA, MASTER_PASSWORD, Account
from demo.databases import WITHOUT_LOGINS
from demo.screen import Screen
from popular.addresses import Endpoint
from tests.harness.popclient import PopClient

MULTI_LINE = ("LIST", "UIDL", "RETR", "TOP", "CAPA")
MAX_LINES = 12     # of a multi-line answer on the screen


@dataclass(frozen=True, slots=True)
class Scene:
    """One session as a client plays it."""

    title: str
    account: Account
    password: str
    commands: tuple[str, ...] = ("QUIT",)

    def play(self, proxy: Endpoint, screen: Screen, number: int) -> Endpoint:
        """Play the session on the screen as the `number`th; returns the client's own address."""
        screen.title(f"{number}. {self.title}")
        with PopClient(proxy) as client:
            here = Endpoint(*client.sock.getsockname()[:2])
            screen.server(_text(client.line()))
            for command in (f"USER {self.account.name}", f"PASS {self.password}", *self.commands):
                screen.client(command)
                answer = client.command(command)
                screen.server(_text(answer))
                if command in MULTI_LINE or command.startswith(("RETR ", "TOP ")) and answer.startswith(b"+OK"):
                    _show(client.lines(), screen)
            client.rest()
        return here


def scenes(database: str) -> tuple[Scene, ...]:
    """Return all sessions, in the order in which they are shown."""
    credentials = "the client's credentials" if database in WITHOUT_LOGINS else "credentials from the database"
    return (
        Scene("An empty mailbox: played by the proxy without contacting the server", BEN, BEN.password,
              ("STAT", "LIST", "QUIT")),
        Scene("Mail over CXPOP: mail check, then pserv", ANNA, ANNA.password,
              ("STAT", "UIDL", "RETR 1", "DELE 1", "QUIT")),
        Scene(f"A POP3 server as backend: the proxy logs in with {credentials}", CARLA, CARLA.password,
              ("STAT", "RETR 1", "QUIT")),
        Scene("A refused login", ANNA, "wrong password"),
        Scene("A master session: support reads anna's mail, and it stays new for her", ANNA, MASTER_PASSWORD,
              ("STAT", "RETR 1", "QUIT")),
    )


def _show(lines: list[bytes], screen: Screen) -> None:
    for line in lines[:MAX_LINES]:
        screen.server(_text(line))
    if len(lines) > MAX_LINES:
        screen.server(f"… {len(lines) - MAX_LINES} more lines")
    screen.server(".")


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace")
