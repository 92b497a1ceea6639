"""What a master begins with: JSON in a file in memory, and open descriptors.

Written by the starter, and read by the master's bootstrap after the exec.  In an upgrade it is written by the old
master first, for the starter that lies on disk.  That may be of another version, so items that it does not know
are ignored, and an item that is added here needs a default.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast

from popular.addresses import parse_endpoint
from popular.daemon.spec import Listen, Listener
from popular.errors import UsageError
from popular.net.listen import bound_endpoint
from popular.net.ringclient import RingClient
from popular.unix.descriptors import ReservedDescriptors
from popular.unix.rights import Rights
from popular.version import VERSION

WORD = "--succeed"    # on the command line of an upgrade's starter, before the number of a descriptor; for nobody else


@dataclass(frozen=True, slots=True)
class Handle:
    """One bound socket."""

    owner: str
    fd: int
    ringd: str = ""        # see Listener, for both
    given: bool = False
    kind: str = ""         # see Listen, for both: what was asked for
    endpoint: str = ""

    @classmethod
    def of(cls, listener: Listener) -> "Handle":
        """Describe a listener."""
        listen = listener.listen
        return cls(listener.owner, listener.sock.fileno(), listener.ringd, listener.given, listen.kind,
                   str(listen.endpoint))

    @classmethod
    def of_ring(cls, ring: RingClient) -> "Handle":
        """Describe a connection to ringd."""
        return cls(ring.path, ring.fileno())

    def listener(self) -> Listener:
        """Return the listener, of which the old master has a part: to be closed, never to be shut down."""
        kind = cast(Literal["tcp", "udp"], self.kind)
        sock = socket.socket(fileno=self.fd)
        return Listener(self.owner, bound_endpoint(sock), sock,
                        Listen(kind, self.owner, parse_endpoint(self.endpoint), backlog=0),
                        ours=False, ringd=self.ringd, given=self.given)


@dataclass(frozen=True, slots=True)
class HandOver:
    """Everything a master begins with."""

    program: str
    version: str               # of the one that wrote this first: the starter, or the old master
    module: str                # where SPEC stands
    config: str                # of config.store.dump
    path: tuple[str, ...]      # sys.path
    prefix: str                # sys.prefix of the starter: with -S nobody finds a virtual environment
    rights: Rights             # to drop to, or to keep
    drops: bool                # whether the master is still root's
    detached: bool             # stderr is the ready pipe until the master is ready
    log_fd: int
    pid_path: str
    pid_fd: int
    ready_fd: int | None
    reserved: ReservedDescriptors
    handles: tuple[Handle, ...]
    argv: tuple[str, ...] = ()            # the words of the start, for reload
    folder: str = "/"                     # from which relative names among them count
    rings: tuple[Handle, ...] = ()        # connections to ringd, by the names of their sockets
    capabilities: tuple[int, ...] = ()    # to keep when root's rights are dropped
    base: str = ""                        # in an upgrade: what the INI file said when it was read last
    line: int | None = None               # in an upgrade: the socket that leads to the old master
    notify: str = ""                      # the socket of a service manager (unix.notify)
    watchdog: float = 0.0                 # seconds within which it wants to hear of us; 0: it does not

    @property
    def is_upgrade(self) -> bool:
        """Tell whether another master runs, whose place is to be taken."""
        return self.line is not None

    @property
    def descriptors(self) -> list[int]:
        """All descriptors that go over the exec."""
        return [self.log_fd, self.pid_fd, *(fd for fd in (self.ready_fd, self.line) if fd is not None),
                *self.reserved.descriptors, *(handle.fd for handle in (*self.handles, *self.rings))]

    def write(self) -> int:
        """Return an open descriptor from which the bootstrap reads all this; raises OSError."""
        return write_memory("popular-handover", asdict(self))

    @classmethod
    def read(cls, fd: int, program: str) -> "HandOver":
        """Return what the old master of `program` wrote, and close the descriptor; raises UsageError."""
        try:
            with open(fd, "rb") as file:
                hand = cls.from_raw(json.load(file))
            for each in hand.descriptors:
                os.fstat(each)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as why:
            raise UsageError(f"the running daemon hands over what version {VERSION} cannot begin with "
                             f"({type(why).__name__}: {why}): it must be restarted") from why
        if hand.program != program or not hand.is_upgrade:
            raise UsageError(f"this is no hand-over of a running {program}")
        return hand

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any]) -> "HandOver":
        """Return what `write` wrote, from its parsed JSON; raises KeyError and TypeError when it is something else."""
        rights = raw["rights"]
        return cls(**{
            **_known(cls, raw),
            "path": tuple(raw["path"]),
            "capabilities": tuple(raw["capabilities"]),
            "argv": tuple(raw["argv"]),
            "rights": Rights(**_known(Rights, {**rights, "groups": tuple(rights["groups"])})),
            "reserved": ReservedDescriptors(**_known(ReservedDescriptors, raw["reserved"])),
            "handles": tuple(Handle(**_known(Handle, each)) for each in raw["handles"]),
            "rings": tuple(Handle(**_known(Handle, each)) for each in raw["rings"]),
        })


def _known(cls: type, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return those items that are fields of `cls`."""
    names = {field.name for field in fields(cls)}
    return {name: value for name, value in raw.items() if name in names}


def write_memory(name: str, data: object) -> int:
    """Return an open descriptor from which `data` is read, as JSON, by whoever inherits it; raises OSError."""
    octets = json.dumps(data).encode()
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    while octets:
        octets = octets[os.write(fd, octets):]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
