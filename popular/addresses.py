"""Addresses of TCP and UDP ports as administrators write them: `10.0.0.5:110`, `[::]:110`, `store1:1110`.

Where a program listens may also be a Unix socket: `unix:/run/popular/lmtp`.

Pure text; nothing here asks the DNS.  Used by the settings, the listeners and the backends.
"""

import re
import socket
from dataclasses import dataclass

_HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)

MAX_UNIX = 107    # octets of the path of a Unix socket (sockaddr_un, without its NUL)
_UNIX = "unix"
_PATH = re.compile(r"/[!-+\--~]*")    # without blanks and commas, which separate addresses

_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One host and port, or a Unix socket."""

    host: str    # numeric IPv4 or IPv6 (no brackets), or a host name; or the path of a Unix socket
    port: int    # 0 to 65535; 0 lets the kernel choose when bound; 0 with a path

    def __str__(self) -> str:
        if not self.port and self.is_unix:
            return self.host if self.host == _UNIX else f"{_UNIX}:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_numeric(self) -> bool:
        """Tell whether no name has to be resolved."""
        return self.is_unix or is_ip(self.host)

    @property
    def is_ipv6(self) -> bool:
        """Tell whether the host is a numeric IPv6 address."""
        return ":" in self.host and not self.is_unix

    @property
    def is_unix(self) -> bool:
        """Tell whether this is a Unix socket, or who has connected to one."""
        return not self.port and (self.host.startswith("/") or self.host == _UNIX)


UNIX_PEER = Endpoint(_UNIX, 0)    # whoever has connected to a Unix socket: they have no address


def is_ip(host: str) -> bool:
    """Tell whether `host` is a numeric IPv4 or IPv6 address (a zone such as `%eth0` is allowed)."""
    address, percent, zone = host.partition("%")
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
    except (OSError, ValueError):    # ValueError: it cannot be a C string
        return False
    return not percent or (":" in address and _ZONE.fullmatch(zone) is not None)


def parse_endpoint(text: str) -> Endpoint:
    """Read `HOST:PORT` or `[IPv6]:PORT`; raises ValueError with what is wanted."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise ValueError("HOST:PORT or [IPV6]:PORT, the port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        if ":" not in host or not is_ip(host[1:-1]):
            raise ValueError("an IPv6 address in the brackets")
        return Endpoint(host[1:-1], int(port))
    if ":" in host or not (is_ip(host) or _is_hostname(host)) or (host == _UNIX and not int(port)):
        raise ValueError("an IPv4 address, an IPv6 address in brackets, or a host name")
    return Endpoint(host, int(port))


def parse_listening(text: str) -> Endpoint:
    """Read the same, or `unix:/PATH`; raises ValueError with what is wanted."""
    kind, _, path = text.strip().partition(":")
    if kind != _UNIX or not path.startswith("/"):
        return parse_endpoint(text)
    if len(path) > MAX_UNIX or not _PATH.fullmatch(path):
        raise ValueError(f"a path of at most {MAX_UNIX} ASCII characters after unix:")
    return Endpoint(path, 0)


def _is_hostname(host: str) -> bool:
    """Tell whether `host` can be a name; digits and dots alone are a mistyped IPv4 address."""
    return (len(host) <= 253 and _HOSTNAME.fullmatch(host) is not None
            and not re.fullmatch(r"[0-9.]+", host))
