"""State files with sessions that nobody serves, for tests of what shows them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from popular.addresses import Endpoint
from popular.statefile.layout import PROXY, SessionState, StateFileKind
from popular.statefile.writer import StateFile


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
def statefile_with(path: Path, sessions: Sequence[Made | None], kind: StateFileKind = PROXY, *,
                   owners: Sequence[str] = ("main", "tls"),
                   backends: Sequence[str] = ("store0", "store1")) -> Iterator[StateFile]:
    """Make a state file with these slots, which this process is the master and all children of."""
    statefile = StateFile(kind, len(sessions) + 10, str(path))
    statefile.make_room(len(sessions) + 10)
    statefile.learn([(kind.owner, owner) for owner in owners])
    statefile.learn([(other, backend) for other in kind.others for backend in backends])
    statefile.tell(maxsession=len(sessions), load=1.5, maxlocalload=20.0)
    for slot, made in enumerate(sessions):
        statefile.use(slot)
        put(statefile, slot, made)
    try:
        yield statefile
    finally:
        statefile.close()


def put(statefile: StateFile, slot: int, made: Made | None) -> None:
    """Have a session begin in a slot."""
    child = statefile.slot(slot)
    child.idle()
    if made is not None:
        child.begin(Endpoint(made.client, made.port), made.owner)
        child.call_session(made.sid or f"sid-{slot}")
        child.call_user(made.user)
        if statefile.kind.others:
            child.call_backend(made.backend)
        child.enter(made.state, made.bytes_in, made.bytes_out)
    child.release()


def many(count: int) -> list[Made]:
    """Return sessions that differ in everything: user000 to user999, from 10.0.0.0 on."""
    states = [SessionState.AUTH, SessionState.MAILCHECK, SessionState.EMPTY, SessionState.RELAY]
    return [Made(f"user{number:03}", f"10.0.{number >> 8}.{number & 255}", 40000 + number, ("main", "tls")[number % 2],
                 f"store{number % 2}", f"sid-{number}", states[number % len(states)], number, number * 1000)
            for number in range(count)]
