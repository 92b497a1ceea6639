"""How a session gets from a child to a relay process: one packet with both connections, and one octet back.

Made in the master, once, with a pair of sockets for each relay process; a process that replaces a dead one has the same
pair.  The child keeps the session unless the octet comes: then it relays by itself.  So no session is lost, and none is
relayed by both; design 5.14 shows what happens at each failure.
"""

import json
import os
import select
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum

from popular.net.transport import SharedSocket
from popular.statefile.layout import SID, SLOT, STATES, TAKES_NONE, CountedBy
from popular.statefile.slot import ChildSlot

HAND_OVER_SECONDS = 2.0    # seconds that a child waits for the octet
MAX_HAND_OVER = 65_536     # octets, which a process may have to keep; a session with more stays with its child

ABOUT = ("client", "vserv", "namespace", "user", "backend", "protocol")

_MAX_IDLE = 86_400.0     # seconds, the most that idletimeout may be
_MAX_OCTETS = 1 << 62    # that a session can have moved, so that the sum with what follows has room in a record

_HEAD = struct.Struct(f"={SLOT.size}s{len(CountedBy)}QdIII")    # record, keys, idle time, sizes of the three parts
_TAKEN = b"+"
_MAX_FDS = 253    # in one packet (SCM_MAX_FD); one that is not received is closed by the kernel, which may wait


@dataclass(frozen=True, slots=True)
class Story:
    """What the last line of a session in the log needs, and is known when it is handed over."""

    sid: str
    about: Mapping[str, str]      # the fields in ABOUT
    times: Mapping[str, float]    # seconds in each state before
    bytes_in: int        # from the client, those that are still on their way to the server not counted
    bytes_out: int
    began: float         # time.monotonic()
    entered: float       # the same: when the relay began

    def write(self) -> bytes:
        """Return it as octets."""
        return json.dumps(asdict(self)).encode("ascii")

    @classmethod
    def read(cls, octets: bytes) -> "Story":
        """Read what `write` has written; raises ValueError for anything else, which a hostile child may have sent."""
        try:
            raw = json.loads(octets)
            about, times = raw["about"], raw["times"]
            return cls(str(raw["sid"]), {name: str(about[name]) for name in ABOUT},
                       {state: float(times[state]) for state in STATES if state in times}, int(raw["bytes_in"]),
                       int(raw["bytes_out"]), float(raw["began"]), float(raw["entered"]))
        except (TypeError, LookupError, OverflowError, RecursionError) as why:
            raise ValueError("not a story") from why


@dataclass(frozen=True, slots=True)
class RelayHandOver:
    """A session on its way to a relay process."""

    record: bytes             # of its slot in the state file (SLOT)
    keys: tuple[int, ...]     # by which it is counted (CountedBy)
    idle: float               # idletimeout, seconds
    story: bytes              # a Story
    to_server: bytes          # received from the other side, and not yet sent
    to_client: bytes

    def write(self) -> bytes:
        """Return it as octets."""
        parts = self.story, self.to_server, self.to_client
        return b"".join((_HEAD.pack(self.record, *self.keys, self.idle, *map(len, parts)), *parts))

    @classmethod
    def read(cls, packet: bytes) -> "RelayHandOver":
        """Read what `write` has written; raises ValueError for anything else, which a hostile child may have sent."""
        try:
            record, *keys, idle, first, second, third = _HEAD.unpack_from(packet)
        except struct.error as why:
            raise ValueError("too short") from why
        start = _HEAD.size
        if len(packet) != start + first + second + third or not 0.0 < idle <= _MAX_IDLE:
            raise ValueError("of another form")
        ends = start + first, start + first + second
        story = packet[start:ends[0]]
        _check(record, Story.read(story))
        return cls(record, tuple(keys), idle, story, packet[ends[0]:ends[1]], packet[ends[1]:])


class HandedOver(Enum):
    """What became of a session that a child wanted to hand over."""

    NO = 0      # the child keeps it
    YES = 1     # a process has it, and sums it up, or the master does when that is dead
    LOST = 2    # a process had it and died before the child had let go: the child sums it up


class RelayChannel:
    """The way to one relay process."""

    def __init__(self) -> None:
        """Make the sockets; raises OSError.

        `outer` is the end of children, `inner` that of the process; orders go from the master's end to its other one.
        """
        kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        self.outer, self.inner = socket.socketpair(socket.AF_UNIX, kind)
        self.masters, self.orders = socket.socketpair(socket.AF_UNIX, kind)

    def give(self, hand: RelayHandOver, client: socket.socket, server: socket.socket) -> socket.socket | None:
        """Hand a session over; return None if the process does not have it.  Raises nothing: if in doubt, it has not.

        If it has, the socket tells for a second whether the process lives: its other end is there.
        """
        packet = hand.write()
        if len(packet) > MAX_HAND_OVER:
            return None
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        except OSError:
            return None
        try:
            with theirs:
                socket.send_fds(self.outer, [packet], [client.fileno(), server.fileno(), theirs.fileno()],
                                socket.MSG_NOSIGNAL)
            if _is_taken(ours):
                return ours
        except OSError:    # full, gone, or too many descriptors on their way
            pass
        ours.close()
        return None

    def take(self) -> tuple[RelayHandOver, SharedSocket, SharedSocket, SharedSocket] | None:
        """Return a session that was handed over, its client, its server, and where to say so by `accept`.

        None: it could not be taken, and its child keeps it.  Raises BlockingIOError if there is none, and EOFError when
        none will come any more.
        """
        packet, fds, flags, _ = socket.recv_fds(self.inner, MAX_HAND_OVER, _MAX_FDS, socket.MSG_CMSG_CLOEXEC)
        if not packet and not fds:
            raise EOFError
        sockets = _sockets(fds)
        try:
            client, server, answer = sockets
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ValueError("not whole")
            return RelayHandOver.read(packet), client, server, answer
        except ValueError:    # a hostile child has sent something else
            for sock in sockets:
                sock.close()
            return None

    def close(self) -> None:
        """Close all ends; for tests, because a master keeps them to its end."""
        for sock in (self.outer, self.inner, self.masters, self.orders):
            sock.close()


class RelayChannels:
    """The ways to all relay processes."""

    def __init__(self, count: int) -> None:
        """Make them; raises OSError."""
        self.each = tuple(RelayChannel() for _ in range(count))

    def give(self, slot: ChildSlot, story: Story, idle: float, client: socket.socket, server: socket.socket,
             to_server: bytes, to_client: bytes) -> HandedOver:
        """Hand the session of a child over to the process that has fewest, and have its slot let go of it."""
        loads = slot.relays()
        least = min(range(len(loads)), key=loads.__getitem__)
        if loads[least] == TAKES_NONE:
            return HandedOver.NO
        hand = RelayHandOver(*slot.record(), idle, story.write(), to_server, to_client)
        receipt = self.each[least].give(hand, client, server)
        if receipt is None:
            return HandedOver.NO
        with receipt:
            slot.let_go()
            if _is_gone(receipt) and not slot.is_relayed(sid_field(story.sid)):
                return HandedOver.LOST    # the master has found it here, too, and has left the last line to us
        return HandedOver.YES


def sid_field(sid: str) -> bytes:
    """Return a session id as records and orders have it."""
    return SID.pack(sid.encode("ascii", "replace"))


def accept(answer: socket.socket) -> bool:
    """Tell a child that its session was taken; return False if it did not wait and goes on by itself."""
    try:
        return answer.send(_TAKEN, socket.MSG_NOSIGNAL) == len(_TAKEN)
    except OSError:
        return False


def _check(record: bytes, story: Story) -> None:
    """Raise ValueError if a record has numbers without room, or another session id than the last line will have."""
    _, _, _, _, _, _, bytes_in, bytes_out, _, _, _, sid, _, _ = SLOT.unpack(record)
    if max(bytes_in, bytes_out) > _MAX_OCTETS:
        raise ValueError("too many octets")
    if not story.sid.isprintable() or sid_field(story.sid) != sid:
        raise ValueError("two session ids")


def _is_taken(ours: socket.socket) -> bool:
    """Wait for the answer.  Whatever has not been said when this returns can no longer be said."""
    poll = select.poll()
    poll.register(ours, select.POLLIN)
    poll.poll(HAND_OVER_SECONDS * 1000)
    try:
        ours.shutdown(socket.SHUT_RD)    # from now on `accept` fails
        return ours.recv(1) == _TAKEN
    except OSError:
        return False


def _is_gone(receipt: socket.socket) -> bool:
    """Tell whether the other end is closed."""
    poll = select.poll()
    poll.register(receipt, 0)
    return any(mask & select.POLLHUP for _, mask in poll.poll(0))


def _sockets(fds: Iterable[int]) -> list[SharedSocket]:
    """Return the sockets among these descriptors; close the others."""
    found = []
    for fd in fds:
        try:
            found.append(SharedSocket(fileno=fd))
        except OSError:
            os.close(fd)
    return found
