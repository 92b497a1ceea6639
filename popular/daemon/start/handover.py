"""What the starter hands to the master over exec: JSON in a file in memory, and open descriptors.

Written by the starter, read by the master's bootstrap.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from popular.unix.descriptors import ReservedDescriptors
from popular.unix.rights import Rights


@dataclass(frozen=True, slots=True)
class Handle:
    """One bound socket."""

    owner: str
    fd: int
    ringd: str = ""        # see Listener, for both
    given: bool = False


@dataclass(frozen=True, slots=True)
class HandOver:
    """Everything a master begins with."""

    program: str
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
    base: str = ""                        # of a successor: what the INI file said when it was read last
    channel: int | None = None            # of a successor: the line to its predecessor; `ready_fd` too
    notify: str = ""                      # the socket of a service manager (unix.notify)
    watchdog: float = 0.0                 # seconds within which it wants to hear of us; 0: it does not

    @property
    def is_successor(self) -> bool:
        """Tell whether another master runs, whose place is to be taken."""
        return self.channel is not None

    @property
    def descriptors(self) -> list[int]:
        """All descriptors that go over the exec."""
        ready = [] if self.ready_fd is None else [self.ready_fd]
        return [self.log_fd, self.pid_fd, *ready, *self.reserved.descriptors,
                *(handle.fd for handle in (*self.handles, *self.rings))]

    def write(self) -> int:
        """Return an open descriptor from which the bootstrap reads all this; raises OSError."""
        return write_memory("popular-handover", asdict(self))

    @classmethod
    def from_raw(cls, raw: Mapping[str, Any]) -> "HandOver":
        """Return what `write` wrote, from its parsed JSON."""
        rights = raw["rights"]
        return cls(**{
            **raw,
            "path": tuple(raw["path"]),
            "capabilities": tuple(raw["capabilities"]),
            "argv": tuple(raw["argv"]),
            "rights": Rights(**{**rights, "groups": tuple(rights["groups"])}),
            "reserved": ReservedDescriptors(**raw["reserved"]),
            "handles": tuple(Handle(**handle) for handle in raw["handles"]),
            "rings": tuple(Handle(**handle) for handle in raw["rings"]),
        })


def write_memory(name: str, data: object) -> int:
    """Return an open descriptor from which `data` is read, as JSON, by whoever inherits it; raises OSError."""
    octets = json.dumps(data).encode()
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    while octets:
        octets = octets[os.write(fd, octets):]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
