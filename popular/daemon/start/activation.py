"""Sockets that a service manager has opened for us, by the protocol of sd_listen_fds(3).

Each socket has the name of the object that is to listen on it, such as a virtual server, and replaces the
socket that we would bind.  Runs in the starter only.  Raises nothing: errors are added to the other
mistakes of the configuration.
"""

import os
import socket
from collections.abc import Mapping, Sequence

from popular.addresses import Endpoint
from popular.config.mistakes import Mistake
from popular.config.setting import quoted
from popular.daemon.spec import Listen
from popular.errors import StartError, UsageError
from popular.net.listen import bound_endpoint, prepare_tcp
from popular.net.ring.packet import canonical

_FIRST = 3    # the lowest descriptor that is handed over

ActivatedSockets = Mapping[Listen, socket.socket]

_WANTED = {"tcp": "a listening TCP socket", "udp": "a UDP socket", "unix": "a listening Unix stream socket"}
_FORMS = {    # family, type, whether it listens
    "tcp": ((socket.AF_INET, socket.SOCK_STREAM, True), (socket.AF_INET6, socket.SOCK_STREAM, True)),
    "udp": ((socket.AF_INET, socket.SOCK_DGRAM, False), (socket.AF_INET6, socket.SOCK_DGRAM, False)),
    "unix": ((socket.AF_UNIX, socket.SOCK_STREAM, True),),
}
_FAMILIES = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6", socket.AF_UNIX: "Unix"}
_TYPES = {socket.SOCK_STREAM: "stream", socket.SOCK_DGRAM: "datagram"}


class _Unfit(Exception):
    """A socket cannot be used; the text says what was found and what is wanted."""

    def __init__(self, found: str, wanted: str) -> None:
        super().__init__(f"it is {found}, not {wanted}")


def given_sockets(program: str, listens: Sequence[Listen], environment: Mapping[str, str],
                  mistakes: list[Mistake]) -> dict[Listen, socket.socket]:
    """Return the sockets that are meant for this process, by their purpose; adds to `mistakes`."""
    taken: dict[Listen, socket.socket] = {}
    for fd, name in _handed_over(program, environment, mistakes):
        try:
            owned = _owned(listens, name)
            sock = _socket(fd, owned)
            try:
                listen = _find(sock, [listen for listen in owned if listen not in taken])
                _prepare(sock, listen)
            except _Unfit:
                sock.close()
                raise
        except _Unfit as why:
            mistakes.append(Mistake(f"{program}: socket {quoted(name)}, descriptor {fd}", str(why)))
        else:
            taken[listen] = sock
    return taken


def _handed_over(program: str, environment: Mapping[str, str], mistakes: list[Mistake]) -> list[tuple[int, str]]:
    """Return the descriptors and names that are meant for this process; adds to `mistakes`."""
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environment.get("LISTEN_FDS", "")
    if not count.isascii() or not count.isdigit() or len(count) > 5:
        mistakes.append(Mistake(f"{program}: LISTEN_FDS", f"{quoted(count)} is not a number"))
        return []
    names = environment.get("LISTEN_FDNAMES", "").split(":") if int(count) else []
    if len(names) != int(count):
        what = f"{len(names)} names for the {count} sockets of LISTEN_FDS"
        mistakes.append(Mistake(f"{program}: LISTEN_FDNAMES", what))
        return []
    return list(enumerate(names, _FIRST))


def _owned(listens: Sequence[Listen], name: str) -> list[Listen]:
    """Return the addresses of the object called `name`; raises _Unfit if it has none."""
    owned = [listen for listen in listens if listen.owner == name]
    if not owned:
        names = ", ".join(dict.fromkeys(listen.owner for listen in listens)) or "none: nothing listens"
        raise _Unfit("for a name that does not listen", f"for one that does: {names}")
    return owned


def _socket(fd: int, owned: Sequence[Listen]) -> socket.socket:
    """Return the socket of a descriptor; raises _Unfit if it is of no kind of the `owned` ones."""
    kinds = {listen.kind for listen in owned}
    wanted = " or ".join(text for kind, text in _WANTED.items() if kind in kinds)
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
    except OSError as why:
        raise _Unfit(f"no socket ({why.strerror})", wanted) from why
    is_listening = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    if (sock.family, sock.type, is_listening) in {form for kind in kinds for form in _FORMS[kind]}:
        return sock
    found = [_FAMILIES.get(sock.family, "another family"), _TYPES.get(sock.type, "another type"),
             "listening" if is_listening else "not listening"]
    sock.close()
    raise _Unfit(f"a socket: {', '.join(found)}", wanted)


def _find(sock: socket.socket, wanted: Sequence[Listen]) -> Listen:
    """Return the purpose of a socket; raises _Unfit if its address is not among those still `wanted`."""
    try:
        endpoint = _canonical(bound_endpoint(sock))
        for listen in wanted:
            if listen.endpoint.is_numeric and _canonical(listen.endpoint) == endpoint:
                return listen
    except (StartError, UsageError) as why:
        raise _Unfit(str(why), "an address") from why
    addresses = ", ".join(str(listen.endpoint) for listen in wanted) or "no further one"
    raise _Unfit(str(endpoint), f"an address from the configuration: {addresses}")


def _canonical(endpoint: Endpoint) -> Endpoint:
    return endpoint if endpoint.is_unix else canonical(endpoint)


def _prepare(sock: socket.socket, listen: Listen) -> None:
    """Prepare a socket as if we had bound it; raises _Unfit."""
    if _canonical(listen.endpoint).host == "::" and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        raise _Unfit("a socket for IPv4 too", "one for IPv6 alone (BindIPv6Only=ipv6-only)")
    try:
        sock.setblocking(False)
        if listen.kind == "tcp":
            prepare_tcp(sock, listen.backlog)
        elif listen.kind == "unix":
            sock.listen(listen.backlog)
    except OSError as why:
        raise _Unfit(f"{listen.endpoint}: {why.strerror}", "a socket that can be used") from why
