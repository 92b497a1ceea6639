"""Ports for servers that must be told one."""

import socket

from popular.addresses import Endpoint


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port of an address that nobody used a moment ago."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def free_endpoint(host: str = "127.0.0.1") -> Endpoint:
    """Return an address with such a port."""
    return Endpoint(host, free_port(host))
