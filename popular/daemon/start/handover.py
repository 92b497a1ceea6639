"""What a master is started with: JSON in a file in memory, and open descriptors.

The starter writes it, and the master's bootstrap reads it after the exec.  In an upgrade, the old master first
writes one for the installed starter, which may be of another version.  Unknown items are therefore ignored, and an
item that is added here needs a default.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast

from popular.addresses import parse_listening
from popular.daemon.spec import Listen, Listener, ListenKind
from popular.errors import UsageError
from popular.net.listen import bound_endpoint
from popular.net.ring.client import RingClient
from popular.net.unixsocket import SocketAccess
from popular.unix.descriptors import ReservedDescriptors
from popular.unix.rights import Rights
from popular.version import VERSION

WORD = "--succeed"    # precedes a descriptor's number on the command line of an upgrade's starter; internal


@dataclass(frozen=True, slots=True)
class Handle:
    """One bound socket."""

    owner: str
    fd: int
    ringd: str = ""        # see Listener, for both
    given: bool = False
    kind: str = ""         # what was asked for; see Listen, for all four
    endpoint: str = ""
    mode: int = SocketAccess().mode
    group: str = ""

    @classmethod
    def of(cls, listener: Listener) -> "Handle":
        """Describe a listener."""
        listen = listener.listen
        return cls(listener.owner, listener.sock.fileno(), listener.ringd, listener.given, listen.kind,
                   str(listen.endpoint), listen.access.mode, listen.access.group)

    @classmethod
    def of_ring(cls, ring: RingClient) -> "Handle":
        """Describe a connection to ringd."""
        return cls(ring.path, ring.fileno())

    def listener(self) -> Listener:
        """Return the listener, which the old master shares: it may be closed, but never be shut down."""
        kind = cast(ListenKind, self.kind)
        sock = socket.socket(fileno=self.fd)
        return Listener(self.owner, bound_endpoint(sock), sock,
                        Listen(kind, self.owner, parse_listening(self.endpoint), backlog=0,
                               access=SocketAccess(self.mode, self.group)),
                        ours=False, ringd=self.ringd, given=self.given)


@dataclass(frozen=True, slots=True)
class HandOver:
    """Everything that a master is started with."""

    program: str
    version: str               # of its first writer, which is the starter or the old master
    module: str                # which defines SPEC
    config: str                # from config.store.dump
    path: tuple[str, ...]      # sys.path
    prefix: str                # sys.prefix of the starter: with -S Python finds no virtual environment
    rights: Rights             # to drop to, or to keep
    drops: bool                # whether the master still runs as root
    detached: bool             # stderr is the ready pipe until the master is ready
    log_fd: int
    pid_path: str
    pid_fd: int
    ready_fd: int | None
    reserved: ReservedDescriptors
    handles: tuple[Handle, ...]
    argv: tuple[str, ...] = ()            # the starter's command line, for reload
    folder: str = "/"                     # which relative names in it refer to
    rings: tuple[Handle, ...] = ()        # connections to ringd, by the paths of its sockets
    capabilities: tuple[int, ...] = ()    # to keep when root's rights are dropped
    is_confined: bool = False             # nothing that it starts later needs a right of root
    base: str = ""                        # in an upgrade: the contents of the INI file when it was last read
    line: int | None = None               # in an upgrade: the socket that is connected to the old master
    notify: str = ""                      # the socket of a service manager (unix.notify)
    watchdog: float = 0.0                 # seconds within which it expects a sign of life; 0: none

    @property
    def is_upgrade(self) -> bool:
        """Tell whether this master is to replace a running one."""
        return self.line is not None

    @property
    def descriptors(self) -> list[int]:
        """All descriptors that stay open over the exec."""
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
        """Return what `write` wrote, from its parsed JSON; raises KeyError and TypeError for any other data."""
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
    """Return the items that are fields of `cls`."""
    names = {field.name for field in fields(cls)}
    return {name: value for name, value in raw.items() if name in names}


def write_memory(name: str, data: object) -> int:
    """Return an open descriptor from which a process that inherits it reads `data` as JSON; raises OSError."""
    octets = json.dumps(data).encode()
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    while octets:
        octets = octets[os.write(fd, octets):]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
