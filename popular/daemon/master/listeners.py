"""Listeners: binding them, exchanging them while children run, and closing them for every process.

The starter binds; the master exchanges.  A port that is given up is shut down, not only closed, because
children with a session hold it too: the kernel would accept connections that nobody serves.  Listeners that
another master or a service manager continues to use are only closed.  Raises StartError; a failed exchange
changes nothing.
"""

import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Protocol

from popular.addresses import Endpoint
from popular.daemon.master.rings import MasterRings
from popular.daemon.spec import Listen, Listener
from popular.errors import StartError
from popular.net.listen import bind_tcp, bind_udp, bound_endpoint
from popular.net.unixsocket import bind_unix, open_unix, remove_unix
from popular.unix.rights import Rights


class PortBinder(Protocol):
    """Opens and closes listeners."""

    def bind(self, listen: Listen) -> Listener:
        """Bind one address; raises StartError."""

    def close(self, listener: Listener) -> None:
        """Close a listener, for every process that holds it if it is only ours."""


class OwnPorts:
    """Ports that this process binds itself."""

    def __init__(self, owner: Rights | None = None) -> None:
        """Make Unix sockets for `owner`; None: for the user that this process has."""
        self._owner = owner

    def bind(self, listen: Listen) -> Listener:
        """Bind one address; raises StartError."""
        endpoint = listen.endpoint
        if endpoint.is_unix:
            sock = bind_unix(endpoint, listen.backlog, listen.access, self._owner)
        else:
            sock = bind_udp(endpoint) if listen.kind == "udp" else bind_tcp(endpoint, listen.backlog)
        return Listener(listen.owner, bound_endpoint(sock), sock, listen)

    def close(self, listener: Listener) -> None:
        """Close a listener for every process; one that others may continue to use is only closed here."""
        _silence(listener)
        listener.sock.close()
        if listener.ours and listener.endpoint.is_unix:
            remove_unix(listener.endpoint)


class RingPorts(OwnPorts):
    """Ports of a master, which gets from ringd, and returns to it, those that a Listen requests from there."""

    def __init__(self, rings: MasterRings) -> None:
        """Use the connections `rings`."""
        super().__init__()
        self._rings = rings

    def bind(self, listen: Listen) -> Listener:
        """Bind one address, or let ringd do it; raises StartError."""
        if listen.ringd:
            return self._ask(listen.ringd, listen)
        try:
            return super().bind(listen)
        except StartError as why:
            return fall_back(listen, why, self._ask)

    def close(self, listener: Listener) -> None:
        """Close a listener, and release it if it came from ringd."""
        super().close(listener)
        if listener.ringd:
            self._rings.release(listener.ringd, listener.endpoint)

    def _ask(self, path: str, listen: Listen) -> Listener:
        return ring_listener(path, listen, self._rings.acquire(path, listen.endpoint, listen.backlog))


def ring_listener(path: str, listen: Listen, sock: socket.socket) -> Listener:
    """Return a socket that the ringd at `path` gave as a listener."""
    return Listener(listen.owner, bound_endpoint(sock), sock, listen, ours=False, ringd=path)


def fall_back(listen: Listen, why: StartError, ask: Callable[[str, Listen], Listener]) -> Listener:
    """Let the fallback ringd open a port that we may not open; raises StartError, which is `why` without a ringd."""
    if not listen.fallback or not isinstance(why.__cause__, PermissionError):
        raise why
    try:
        return ask(listen.fallback, listen)
    except StartError as other:
        raise StartError(f"{why}, or ringd(8), which the variable ringd names: {other}") from why


def is_in_use(why: StartError) -> bool:
    """Tell whether an address was refused because it is in use."""
    return isinstance(why.__cause__, OSError) and why.__cause__.errno == errno.EADDRINUSE


def close_all(listeners: Iterable[Listener], ports: PortBinder) -> None:
    """Close listeners so that none of our ports accepts connections that nobody serves."""
    for listener in listeners:
        ports.close(listener)


def borrowed(listeners: Iterable[Listener]) -> list[Listener]:
    """Return the listeners as those of another master, which are only to be closed here."""
    return [replace(listener, ours=False, ringd="") for listener in listeners]


class Exchange:
    """The change from the present listeners to the wanted ones: all of it, or nothing."""

    def __init__(self, present: Sequence[Listener], wanted: Sequence[Listen], ports: PortBinder) -> None:
        """Plan the change without doing anything."""
        self._ports = ports
        places: dict[tuple[str, Endpoint], list[Listener]] = {}
        for each in present:
            places.setdefault((each.listen.kind, each.listen.endpoint), []).append(each)
        self._kept = [_keep(places, listen) for listen in wanted]
        access = {each.sock: each.listen.access for each in present}
        self._opened_to_others = [each for each in self._kept if each is not None and each.ours
                                  and each.endpoint.is_unix and each.listen.access != access[each.sock]]
        self._leaving = [each for left in places.values() for each in left]
        self._wanted = wanted
        self._bound: list[Listener] = []
        self._silenced: list[Listener] = []
        self.listeners: list[Listener] = []    # the outcome of `begin`

    @property
    def is_empty(self) -> bool:
        """Tell whether no port is opened or closed."""
        return not self._leaving and None not in self._kept

    def begin(self) -> None:
        """Bind what is missing; raises StartError after `undo`."""
        try:
            self.listeners = [kept or self._bind_new(listen)
                              for kept, listen in zip(self._kept, self._wanted, strict=True)]
            for listener in self.listeners:
                _relisten(listener)
            for listener in self._opened_to_others:
                open_unix(listener.endpoint, listener.listen.access)
        except StartError:
            self.undo()
            raise

    @property
    def disturbed(self) -> bool:
        """Tell whether a port was shut down for a moment, so that children that watched it must be replaced."""
        return bool(self._silenced)

    def undo(self) -> None:
        """Close new listeners, and let silenced ones listen again."""
        close_all(self._bound, self._ports)
        for listener in self._silenced:
            _revive(listener)

    def finish(self) -> None:
        """Close the listeners that are no longer wanted."""
        close_all(self._leaving, self._ports)

    def _bind_new(self, listen: Listen) -> Listener:
        try:
            listener = self._ports.bind(listen)
        except StartError as why:
            if not is_in_use(why) or not self._silence_rivals(listen):
                raise
            listener = self._ports.bind(listen)
        self._bound.append(listener)
        return listener

    def _silence_rivals(self, listen: Listen) -> bool:
        """Shut down leaving ports that overlap with `listen`, such as 0.0.0.0:110 with 127.0.0.1:110."""
        rivals = [each for each in self._leaving if listen.endpoint.port
                  and each.ours and each.is_stream and each.endpoint.port == listen.endpoint.port]
        for rival in rivals:
            _silence(rival)
        self._silenced += rivals
        return bool(rivals)


def _keep(places: dict[tuple[str, Endpoint], list[Listener]], listen: Listen) -> Listener | None:
    """Take a present listener for `listen` from `places`; a port that the kernel chose stays with its owner."""
    same = places.get((listen.kind, listen.endpoint), [])
    owned = [number for number, each in enumerate(same) if each.owner == listen.owner]
    found = next(iter(owned or (range(len(same)) if listen.endpoint.port or listen.endpoint.is_unix else ())), None)
    return None if found is None else replace(same.pop(found), owner=listen.owner, listen=listen)


def _relisten(listener: Listener) -> None:
    """Set the backlog again, as it may have changed."""
    if listener.is_stream:
        try:
            listener.sock.listen(listener.listen.backlog)
        except OSError as why:
            raise StartError(f"cannot listen on {listener.endpoint}: {why.strerror}") from why


def _revive(listener: Listener) -> None:
    """Let a silenced listener listen again; raises StartError if another process was quicker."""
    endpoint = listener.endpoint
    try:
        if listener.listen.endpoint.port == 0:    # the shutdown has freed the kernel's number
            listener.sock.bind((endpoint.host, endpoint.port))
        listener.sock.listen(listener.listen.backlog)
    except OSError as why:
        raise StartError(f"cannot listen again on {endpoint}: {why.strerror}") from why


def _silence(listener: Listener) -> None:
    if listener.ours and listener.is_stream:
        try:
            listener.sock.shutdown(socket.SHUT_RDWR)
        except OSError:    # shut down before
            pass
