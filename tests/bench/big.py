"""The workload `big`: one client after the other in a mailbox with very many messages.

Beside the times of each step stands that of a bare scandir of the two folders, the least that
anybody must do who has no index.  The first session of each turn is not counted: it warms caches and,
for Dovecot, makes the index.
"""

import os
import socket
import time
from contextlib import closing
from pathlib import Path

from tests.bench.population import BIG_USER, PASSWORD, Store, mailbox_of
from tests.bench.results import Turn
from tests.bench.ward import Ward

SESSIONS = 3
_SECONDS = 120.0


class BigFailed(Exception):
    """The server's answer was not what it must be."""


def measure_big(ward: Ward, store: Store, messages: int, number: int) -> Turn:
    """Measure one turn; figures in seconds are those of the quickest of a few sessions."""
    play(ward, messages)
    before = ward.settled_cpu()
    times = [play(ward, messages) for _ in range(SESSIONS)]
    cpu = ward.settled_cpu() - before
    scan = min(scan_seconds(store.spool / mailbox_of(BIG_USER)) for _ in range(SESSIONS))
    best = {name: min(each[name] for each in times) for name in times[0]}
    return Turn("big", ward.name, 1, number, SESSIONS, cpu=cpu, cost=1000 * cpu / SESSIONS,
                more={**best, "scandir": scan, "stat_per_scandir": best["stat"] / scan})


def play(ward: Ward, messages: int) -> dict[str, float]:
    """Play one session; returns the seconds of its steps, that of STAT counted from the connection on."""
    times: dict[str, float] = {}
    begun = time.monotonic()
    with closing(socket.create_connection((ward.endpoint.host, ward.endpoint.port), _SECONDS)) as sock:
        _answer(sock)
        _ask(sock, f"USER {BIG_USER}")
        _ask(sock, f"PASS {PASSWORD}")
        told = _ask(sock, "STAT")
        times["stat"] = time.monotonic() - begun
        if told.split()[1] != str(messages).encode():
            raise BigFailed(f"{ward.name}: STAT says {told!r}, there are {messages} messages")
        for name, command in (("uidl", "UIDL"), ("retr", f"RETR {messages}")):
            begun = time.monotonic()
            text = _ask(sock, command, is_multi=True)
            times[name] = time.monotonic() - begun
            if name == "uidl" and text.count(b"\n") != messages + 2:
                raise BigFailed(f"{ward.name}: UIDL has {text.count(10)} lines")
        _ask(sock, "QUIT")
    return times


def scan_seconds(mailbox: Path) -> float:
    """Return the seconds that listing new/ and cur/ takes."""
    begun = time.monotonic()
    for folder in ("new", "cur"):
        with os.scandir(mailbox / folder) as entries:
            for _ in entries:
                pass
    return time.monotonic() - begun


def _ask(sock: socket.socket, command: str, *, is_multi: bool = False) -> bytes:
    sock.sendall(command.encode() + b"\r\n")
    return _answer(sock, is_multi=is_multi)


def _answer(sock: socket.socket, *, is_multi: bool = False) -> bytes:
    parts: list[bytes] = []
    tail, end = b"", b"\r\n.\r\n" if is_multi else b"\n"
    while not tail.endswith(end):
        part = sock.recv(1 << 18)
        if not part or (not parts and not part.startswith(b"+OK")):
            raise BigFailed(f"unexpected answer {part[:80]!r}")
        parts.append(part)
        tail = (tail + part)[-5:]
    return b"".join(parts)
