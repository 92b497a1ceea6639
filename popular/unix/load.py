"""The machine's load, reported by pcheckd, compared by all daemons (spec 3.3, 5.3): the first field of /proc/loadavg.

Used in the children of pcheckd and in masters.  Raises nothing: a load that cannot be read counts as 0.
"""

import time

PATH = "/proc/loadavg"
_INTERVAL = 1.0    # seconds for which a reading is valid; the kernel updates it every five seconds


class LoadAverage:
    """The 1-minute load, read at most once a second."""

    def __init__(self, path: str = PATH) -> None:
        self._path = path
        self._load = 0.0
        self._stale_at = 0.0    # time.monotonic() from which the next call reads again

    def __call__(self) -> float:
        """Return the load; 0.0 if it cannot be read."""
        now = time.monotonic()
        if now >= self._stale_at:
            self._load = read_load(self._path)
            self._stale_at = now + _INTERVAL
        return self._load


def read_load(path: str) -> float:
    """Return the load in the file; 0.0 if it cannot be read or is not a load."""
    try:
        with open(path, "rb") as file:
            load = float(file.read(64).split(None, 1)[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return load if 0 <= load < float("inf") else 0.0    # false for nan, too
