"""The open ports, and how many references each client holds (spec 8.3): counting, no protocol.

Runs in ringd.  Raises StartError for a port that cannot be given, with the reason for the client.
"""

import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from popular.addresses import Endpoint
from popular.errors import StartError

_MAX_PORTS = 512          # open at once; together with all clients well below the usual limit of 1024 descriptors
_MAX_REFERENCES = 1024    # of one holder

_Bind = Callable[[Endpoint], socket.socket]


@dataclass(frozen=True, slots=True)
class Port:
    """One open port."""

    endpoint: Endpoint
    sock: socket.socket
    holders: Counter[int] = field(default_factory=Counter)    # holder → references

    @property
    def references(self) -> int:
        """The number of all references; 0: the port is closed."""
        return self.holders.total()


class PortTable:
    """All open ports.  A holder is a number that the caller never uses twice."""

    def __init__(self, bind: _Bind) -> None:
        """Start with none; `bind` opens one and raises StartError."""
        self._bind = bind
        self._ports: dict[Endpoint, Port] = {}

    def __len__(self) -> int:
        return len(self._ports)

    def take(self, holder: int, endpoint: Endpoint) -> Port:
        """Count one more reference to `endpoint`, which is opened if it is not open; raises StartError."""
        if self._held_by(holder) >= _MAX_REFERENCES:
            raise StartError("too many ports for one program")
        port = self._ports.get(endpoint)
        if port is None:
            if len(self._ports) >= _MAX_PORTS:
                raise StartError("too many ports")
            port = self._ports[endpoint] = Port(endpoint, self._bind(endpoint))
        port.holders[holder] += 1
        return port

    def give_back(self, holder: int, endpoint: Endpoint) -> Port:
        """Count one reference less; the port is closed with the last; raises StartError if `holder` has none."""
        port = self._ports.get(endpoint)
        if port is None or port.holders[holder] < 1:
            raise StartError("not yours")
        self._take_off(port, holder, 1)
        return port

    def drop(self, holder: int) -> list[Port]:
        """Remove all references of `holder`; return the ports that it had."""
        held = [port for port in self._ports.values() if holder in port.holders]
        for port in held:
            self._take_off(port, holder, port.holders[holder])
        return held

    def has_any(self, holder: int) -> bool:
        """Tell whether `holder` has a reference to any port."""
        return self._held_by(holder) > 0

    def leave(self) -> None:
        """Forget all ports without ending them: programs that have them continue to use them."""
        for port in self._ports.values():
            port.sock.close()
        self._ports.clear()

    def _held_by(self, holder: int) -> int:
        return sum(port.holders[holder] for port in self._ports.values())

    def _take_off(self, port: Port, holder: int, count: int) -> None:
        port.holders[holder] -= count
        if port.holders[holder] < 1:
            del port.holders[holder]
        if not port.holders:
            del self._ports[port.endpoint]
            _end(port.sock)


def _end(sock: socket.socket) -> None:
    """End a port for every process that holds it, for example a forgotten child, so that the port is free again."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:    # another process did it before
        pass
    sock.close()
