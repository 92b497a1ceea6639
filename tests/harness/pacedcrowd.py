"""Sessions at a steady rate, each checked for having seen one configuration and not half of two.

    python -m tests.harness.pacedcrowd PORT RATE USER PASSWORD

Run as a process of its own; plays whole sessions until its standard input ends.  Prints a line for
each session, `CLIENT-PORT BANNER`, and leaves with 1 when one fails.  A session that is late is not
made up for, so that a slow machine gets fewer sessions and no heap of them.
"""

import select
import sys
import time

from popular.addresses import Endpoint
from tests.harness.popclient import PopClient


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
