"""Which process has a port, according to /proc, for the report that a port is in use.

Used by the starter.  Raises nothing: what cannot be read is unknown.  Only root can read another user's descriptors.
"""

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from popular.addresses import Endpoint

_MAX_NAME = 40    # characters of a program's name

_LISTENS = {"tcp": "0A", "udp": "07"}    # the state of a socket that waits for peers (include/net/tcp_states.h)

_UNIX_LISTENS = "00010000"    # its flags (__SO_ACCEPTCON)


@dataclass(frozen=True, slots=True)
class Holder:
    """One process that holds a port."""

    pid: int
    name: str    # of its program, printable

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def holders(kind: str, endpoint: Endpoint) -> list[Holder]:
    """Return the processes that keep `endpoint` from being bound, the lowest pid first; empty if unknown.

    `kind` is tcp, udp or unix; `endpoint` is numeric, or a Unix socket.
    """
    if endpoint.is_unix:
        inodes = {f"socket:[{inode}]" for inode, path in _unix_sockets() if path == endpoint.host}
    else:
        inodes = {f"socket:[{inode}]" for inode, host, port in _sockets(kind)
                  if port == endpoint.port and _overlap(host, endpoint.host)}
    if not inodes:
        return []
    return [Holder(pid, _name(pid)) for pid in _processes() if not inodes.isdisjoint(_open_files(pid))]


def who_has(kind: str, endpoint: Endpoint, reason: str) -> str:
    """Return the `reason` why an address in use was refused, with the name of the program that has it, if known."""
    found = holders(kind, endpoint)
    return reason.replace("another program listens", f"{found[0]} listens") if found else reason


def can_look_into(pid: int) -> bool:
    """Tell whether the descriptors of a process can be read."""
    return os.access(f"/proc/{pid}/fd", os.R_OK)


def _overlap(one: str, other: str) -> bool:
    """Tell whether two addresses cannot share a port; an IPv6 socket on all addresses may also serve IPv4."""
    return one == other or "::" in (one, other) or ("0.0.0.0" in (one, other) and ":" not in one + other)


def _sockets(kind: str) -> Iterator[tuple[str, str, int]]:
    """Yield inode, host and port of each socket that waits for peers."""
    for name in (kind, f"{kind}6"):
        try:
            with open(f"/proc/net/{name}", encoding="ascii") as table:
                lines = table.readlines()[1:]
        except OSError:    # no IPv6 on this host
            continue
        for words in map(str.split, lines):
            if len(words) > 9 and words[3] == _LISTENS[kind]:
                host, _, port = words[1].partition(":")
                yield words[9], _host(host), int(port, 16)


def _unix_sockets() -> Iterator[tuple[str, str]]:
    """Yield inode and path of each Unix socket that waits for peers."""
    try:
        with open("/proc/net/unix", encoding="utf-8", errors="surrogateescape") as table:
            lines = table.read().splitlines()
    except OSError:
        return
    for words in (line.split(maxsplit=7) for line in lines):
        if len(words) == 8 and words[3] == _UNIX_LISTENS:
            yield words[6], words[7]


def _host(digits: str) -> str:
    """Read an address as the kernel writes it: words of 32 bits, each in the host's byte order."""
    raw = b"".join(int(digits[at:at + 8], 16).to_bytes(4, "little") for at in range(0, len(digits), 8))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _processes() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def _open_files(pid: int) -> Iterator[str]:
    """Yield the targets of a process's descriptors, as far as they can be read."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:    # ended, or another user's
        return
    for name in names:
        try:
            yield os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:    # closed in the meantime
            continue


def _name(pid: int) -> str:
    """Return the name of a program, from the command line of its process."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).replace(b"\0", b" ").split()
    except OSError:
        words = []
    name = os.path.basename(words[0].rstrip(b":").decode("ascii", "replace")) if words else ""
    return "".join(char for char in name if " " < char <= "~")[:_MAX_NAME] or "a program"
