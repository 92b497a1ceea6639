"""Sessions at a steady rate, each checked for having seen one configuration and not half of two.

    python -m tests.harness.pacedcrowd PORT RATE USER PASSWORD

Run as a process of its own; plays whole sessions until its standard input ends.  Prints a line for
each session, `CLIENT-PORT BANNER`, and leaves with 1 when one fails.  A session that is late is not
made up for, so that a slow machine gets fewer sessions and no heap of them.
"""

import select
import subprocess
import sys
import time

from popular.addresses import Endpoint
from tests.harness.popclient import PopClient


def start_crowd(endpoint: Endpoint, rate: float, user: str, password: str) -> "subprocess.Popen[str]":
    """Start sessions at a steady rate, so many a second."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.harness.pacedcrowd", str(endpoint.port), str(rate), user, password],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def end_crowd(crowd: "subprocess.Popen[str]") -> list[tuple[str, str]]:
    """End a crowd, none of whose sessions may have failed; returns the client port of each and the banner it saw."""
    out, _ = crowd.communicate("", 60.0)
    assert crowd.returncode == 0, out[-1000:]
    return [(port, banner) for port, _, banner in (line.partition(" ") for line in out.splitlines())]


def main(port: int, rate: float, user: str, password: str) -> int:
    """Play sessions; returns the exit code."""
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        due = max(due + 1.0 / rate, time.monotonic())
        with PopClient(Endpoint("127.0.0.1", port)) as client:
            banner = client.greeting().decode("ascii")
            client.ok(f"USER {user}")
            client.ok(f"PASS {password}")
            client.ok("STAT")
            client.ok("QUIT")
            if client.rest() != b"":
                return 1
            print(client.sock.getsockname()[1], banner)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4]))
