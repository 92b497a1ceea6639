"""What a master leaves to its successor (pcontrol's upgrade, USR2): JSON in a file in memory, and open descriptors.

Written by the old master, read by the starter of the new one, which may be of another version: what is
unknown is ignored.  `Estate.read` raises UsageError for what is no estate.
"""

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, cast

from popular.addresses import parse_endpoint
from popular.daemon.spec import Listen, Listener
from popular.daemon.start.handover import Handle, write_memory
from popular.errors import UsageError
from popular.net.listen import bound_endpoint
from popular.unix.descriptors import ReservedDescriptors

WORD = "--succeed"    # on the command line of a successor, before the number of a descriptor; for nobody else

_MAX_SIZE = 256 << 20    # octets


@dataclass(frozen=True, slots=True)
class Heirloom:
    """One listener, and what was asked for when it was bound."""

    fd: int
    kind: str
    owner: str
    endpoint: str
    backlog: int
    ringd: str
    given: bool = False

    @classmethod
    def of(cls, listener: Listener) -> "Heirloom":
        """Describe a listener."""
        listen = listener.listen
        return cls(listener.sock.fileno(), listen.kind, listen.owner, str(listen.endpoint), listen.backlog,
                   listen.ringd, listener.given)

    def listener(self) -> Listener:
        """Return the listener, of which other processes have a part: to be closed, never to be shut down."""
        kind = cast(Literal["tcp", "udp"], self.kind)
        listen = Listen(kind, self.owner, parse_endpoint(self.endpoint), self.backlog, self.ringd)
        sock = socket.socket(fileno=self.fd)
        return Listener(self.owner, bound_endpoint(sock), sock, listen, ours=False, ringd=self.ringd,
                        given=self.given)


@dataclass(frozen=True, slots=True)
class Estate:
    """Everything a successor begins with."""

    program: str
    channel: int               # the successor's end of the line between both; its stderr too
    config: str                # of config.store.dump: what holds now
    base: str                  # the same: what the file said when it was read last
    log_fd: int
    pid_path: str
    reserved: ReservedDescriptors
    heirlooms: tuple[Heirloom, ...]
    rings: tuple[Handle, ...]     # connections to ringd, by the names of their sockets
    argv: tuple[str, ...]         # the words of the start, for reload
    folder: str                   # from which relative names among them count
    notify: str                   # the socket of a service manager; empty: none
    watchdog: float = 0.0         # see HandOver

    @property
    def descriptors(self) -> list[int]:
        """All descriptors that the successor inherits, itself aside."""
        return [self.channel, self.log_fd, *self.reserved.descriptors, *(each.fd for each in self.heirlooms),
                *(ring.fd for ring in self.rings)]

    def write(self) -> int:
        """Return an open descriptor from which the successor reads all this; raises OSError."""
        return write_memory("popular-estate", asdict(self))

    @classmethod
    def read(cls, fd: int, program: str) -> "Estate":
        """Return what `write` wrote, and close the descriptor; raises UsageError when it is nothing of the kind."""
        try:
            with open(fd, "rb") as file:
                raw = json.loads(file.read(_MAX_SIZE))
            estate = cls(**{
                **_known(cls, raw),
                "reserved": ReservedDescriptors(**raw["reserved"]),
                "heirlooms": tuple(Heirloom(**_known(Heirloom, each)) for each in raw["heirlooms"]),
                "rings": tuple(Handle(**_known(Handle, each)) for each in raw["rings"]),
                "argv": tuple(raw["argv"]),
            })
            for each in estate.descriptors:
                os.fstat(each)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as why:
            raise UsageError(f"this is no estate of a running daemon: {why}") from why
        if estate.program != program:
            raise UsageError(f"this is the estate of {estate.program}, not of {program}")
        return estate


def _known(cls: type, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return those items that are fields of `cls`."""
    names = {field.name for field in fields(cls)}
    return {name: value for name, value in raw.items() if name in names}
