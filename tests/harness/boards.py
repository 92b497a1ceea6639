"""State files with sessions that nobody serves, for tests of what shows them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from popular.addresses import Endpoint
from popular.statefile.layout import PROXY, BoardKind, SessionState
from popular.statefile.writer import Board


@dataclass(frozen=True, slots=True)
class Made:
    """A session to be made; None for a child that waits."""

    user: str
    client: str = "192.0.2.7"
    port: int = 50000
    owner: str = "main"
    backend: str = "store0"
    sid: str = ""
    state: SessionState = SessionState.RELAY
    bytes_in: int = 100
    bytes_out: int = 1000


@contextmanager
def board_with(path: Path, sessions: Sequence[Made | None], kind: BoardKind = PROXY, *,
               owners: Sequence[str] = ("main", "tls"),
               backends: Sequence[str] = ("store0", "store1")) -> Iterator[Board]:
    """Make a state file with these slots, which this process is the master and all children of."""
    board = Board(kind, len(sessions) + 10, str(path))
    board.make_room(len(sessions) + 10)
    board.learn([(kind.owner, owner) for owner in owners])
    board.learn([(other, backend) for other in kind.others for backend in backends])
    board.tell(maxsession=len(sessions), load=1.5, maxlocalload=20.0)
    for slot, made in enumerate(sessions):
        board.use(slot)
        put(board, slot, made)
    try:
        yield board
    finally:
        board.close()


def put(board: Board, slot: int, made: Made | None) -> None:
    """Have a session begin in a slot."""
    entry = board.entry(slot)
    entry.idle()
    if made is not None:
        entry.begin(Endpoint(made.client, made.port), made.owner)
        entry.call_session(made.sid or f"sid-{slot}")
        entry.call_user(made.user)
        if board.kind.others:
            entry.call_backend(made.backend)
        entry.enter(made.state, made.bytes_in, made.bytes_out)
    entry.release()


def many(count: int) -> list[Made]:
    """Return sessions that differ in everything: user000 to user999, from 10.0.0.0 on."""
    states = [SessionState.AUTH, SessionState.MAILCHECK, SessionState.EMPTY, SessionState.RELAY]
    return [Made(f"user{number:03}", f"10.0.{number >> 8}.{number & 255}", 40000 + number, ("main", "tls")[number % 2],
                 f"store{number % 2}", f"sid-{number}", states[number % len(states)], number, number * 1000)
            for number in range(count)]
