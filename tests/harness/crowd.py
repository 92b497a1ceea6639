"""A crowd of clients in one process: many sessions one after the other, some of them cut at random points.

    python -m tests.harness.crowd HOST PORT SESSIONS SEED

Run as a process of its own by the soak test.  Prints one line of JSON, outcome → count, and leaves
with 1 when a session that was not cut got an answer it should not get.
"""

import json
import random
import socket
import struct
import sys
from collections import Counter

from popular.addresses import Endpoint
from tests.harness.popclient import PopClient

CUT_SHARE = 0.15          # of the sessions end in the middle
RESET = struct.pack("ii", 1, 0)     # SO_LINGER: closing sends a reset at once

EMPTY = [b"USER empty\r\n", b"PASS pw\r\n", b"STAT\r\n", b"QUIT\r\n"]
FULL = [b"USER full\r\n", b"PASS pw\r\n", b"STAT\r\n", b"RETR 1\r\n", b"QUIT\r\n"]
WRONG = [b"USER empty\r\n", b"PASS wrong\r\n", b"QUIT\r\n"]
SCRIPTS = [("empty", EMPTY, 16), ("full", FULL, 3), ("wrong", WRONG, 1)]


def main(host: str, port: int, sessions: int, seed: int) -> int:
    """Play the sessions; returns the exit code."""
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    for _ in range(sessions):
        name, script, _weight = chance.choices(SCRIPTS, [weight for *_, weight in SCRIPTS])[0]
        if chance.random() < CUT_SHARE:
            cut(Endpoint(host, port), script, chance)
            outcomes["cut"] += 1
        else:
            outcomes[name if play(Endpoint(host, port), name, script) else "bad"] += 1
    print(json.dumps(outcomes))
    return 1 if outcomes["bad"] else 0


def play(endpoint: Endpoint, name: str, script: list[bytes]) -> bool:
    """Play one whole session; tells whether every answer was right."""
    try:
        with PopClient(endpoint, timeout=30.0) as client:
            client.greeting()
            for line in script:
                answer = client.command(line.removesuffix(b"\r\n"))
                is_good = answer.startswith(b"-ERR [AUTH]" if line == b"PASS wrong\r\n" else b"+OK")
                if not is_good:
                    print(f"{name}: {line!r} was answered {answer!r}", file=sys.stderr)
                    return False
                if line.startswith(b"RETR"):
                    client.lines()
            return client.rest() == b""
    except (AssertionError, OSError) as why:
        print(f"{name}: {why!r}", file=sys.stderr)
        return False


def cut(endpoint: Endpoint, script: list[bytes], chance: random.Random) -> None:
    """Begin a session and break it off anywhere, in the middle of a line too, by closing or by a reset."""
    text = b"".join(script)
    place = chance.randrange(len(text) + 1)
    with PopClient(endpoint, timeout=30.0) as client:
        try:
            if place:
                client.greeting()
                client.send(text[:place])
                if chance.random() < 0.5:       # what is waited for may never come, after half a line, for example
                    client.sock.settimeout(0.02)
                    client.sock.recv(chance.choice((1, 100, 65536)))
        except (AssertionError, OSError):
            pass        # nothing came, or it was cut from the other side: just as well
        if chance.random() < 0.5:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
