"""Which messages pmigrate has brought, so that a second run brings only new ones, and none that a client has removed.

Part of pmigrate.  The file holds the line `popular-moved 1`, then the unique id of each message, a line each, added and
synced when the message is on disk.  A last line without an end, which a crash has cut off, does not count.  While the
file is open it is locked, so two runs cannot work on one mailbox.  Raises StoreError and OSError.
"""

import fcntl
import os
from collections.abc import Iterable

from popular.errors import StoreError
from popular.store.folders import sync_folder

LEDGER_NAME = ".popular-moved"    # in the folder of the mailbox

_HEAD = b"popular-moved 1\n"


class Ledger:
    """The file of one mailbox, open and locked."""

    def __init__(self, path: str) -> None:
        """Open the file, made if it is missing, and read it."""
        self.uids: set[str] = set()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                             0o600)
        try:
            self._lock(path)
            self._load(path)
        except BaseException:
            os.close(self._file)
            raise

    def add(self, uids: Iterable[str]) -> None:
        """Add unique ids, and sync them to disk."""
        found = list(uids)
        if not found:
            return
        rest = memoryview("".join(f"{uid}\n" for uid in found).encode("ascii"))
        while rest:
            rest = rest[os.write(self._file, rest):]
        os.fsync(self._file)
        self.uids.update(found)

    def close(self) -> None:
        """Close and unlock the file."""
        os.close(self._file)

    def _lock(self, path: str) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"{path}: another pmigrate works on this mailbox") from None

    def _load(self, path: str) -> None:
        """Read what is there, and remove a line that a crash has cut off."""
        with open(self._file, "rb", closefd=False) as file:
            text = file.read()
        self.uids.update(_parsed(text, path))
        whole = text.rpartition(b"\n")[0]
        if not whole:
            os.ftruncate(self._file, 0)
            os.write(self._file, _HEAD)
            os.fsync(self._file)
            sync_folder(os.path.dirname(path))
        elif not text.endswith(b"\n"):
            os.ftruncate(self._file, len(whole) + 1)


def read_ledger(path: str) -> frozenset[str]:
    """Return the unique ids in such a file, and none if it is missing; raises StoreError and OSError."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return frozenset()
    with open(file, "rb") as opened:
        return frozenset(_parsed(opened.read(), path))


def _parsed(text: bytes, path: str) -> list[str]:
    """Return the unique ids that count; raises StoreError."""
    if not text.startswith(_HEAD[:len(text)]):
        raise StoreError(f"{path}: not a list of moved messages")
    return text.rpartition(b"\n")[0].decode("ascii", "replace").split("\n")[1:]
