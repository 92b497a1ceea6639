"""Encryption of tokens at rest, with keys in a file of its own (Fernet: AES-128 in CBC mode, with an HMAC).

The file has one key a line.  The first one encrypts; any may decrypt, so that keys can be changed while tokens that
were encrypted with a former one remain.  Only the user that pproxy runs as may read it.

Runs in PDM workers, by the module `poauth`, and in the tool poauth.  Raises PdmError, with texts that hold no secrets.
"""

import os
import shlex
import stat
from collections.abc import Sequence
from typing import Any

from popular.pdm import records
from popular.pdm.api import PdmError
from popular.pdm.drivers import driver

MAX_STORE_KEYS = 16

_MAX_FILE = 4096    # octets
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class WrongKey(PdmError):
    """Something was encrypted with none of the keys, or was changed since."""


class KeyFile:
    """The keys of one file, which are read again when it was replaced."""

    def __init__(self, path: str) -> None:
        """Load the driver; the file is read when it is needed."""
        self.path = path
        self._driver: Any = driver("cryptography.fernet", "cryptography")
        self._fernet: Any = None
        self._seen: tuple[int, ...] = ()

    def prove(self) -> None:
        """Raise PdmError unless the file has keys that can be used."""
        self._now()

    def encrypted(self, secret: str, purpose: str) -> bytes:
        """Return a secret, encrypted; only with the same `purpose` is it decrypted again."""
        octets: bytes = self._now().encrypt(f"{purpose}\0{secret}".encode("utf-8", "surrogateescape"))
        return octets

    def decrypted(self, octets: bytes, purpose: str) -> str:
        """Return a secret; raises WrongKey."""
        fernet = self._now()
        try:
            text: str = fernet.decrypt(octets).decode("utf-8", "surrogateescape")
        except (self._driver.InvalidToken, TypeError):
            raise WrongKey(f"{self.path}: has not the key with which the tokens were encrypted") from None
        head = f"{purpose}\0"
        if not text.startswith(head):
            raise WrongKey("a token was stored for somebody else")
        return text[len(head):]

    def keys(self) -> list[bytes]:
        """Return all keys, the present one first."""
        records.prove_file(self.path)
        try:
            with open(self.path, "rb") as file:
                status, raw = os.fstat(file.fileno()), file.read(_MAX_FILE + 1)
        except OSError as why:
            raise PdmError(f"{self.path}: {why.strerror}") from None
        if status.st_mode & _OTHERS:
            raise PdmError(f"{self.path}: group or others may read or write it: chmod 400 {shlex.quote(self.path)}")
        keys = raw.split()
        if not keys or len(keys) > MAX_STORE_KEYS or len(raw) > _MAX_FILE:
            raise PdmError(f"{self.path}: must have from 1 to {MAX_STORE_KEYS} keys")
        return keys

    def _now(self) -> Any:
        """Return what encrypts and decrypts with the keys that the file has now."""
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            raise PdmError(f"{self.path}: No such file; poauth makes it") from None
        except OSError as why:
            raise PdmError(f"{self.path}: {why.strerror}") from None
        seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if self._fernet is None or seen != self._seen:
            keys = self.keys()
            try:
                self._fernet = self._driver.MultiFernet([self._driver.Fernet(key) for key in keys])
            except ValueError:    # its text holds the key
                raise PdmError(f"{self.path}: not a key; `poauth` makes such files") from None
            self._seen = seen
        return self._fernet


def new_key() -> bytes:
    """Return a new key."""
    key: bytes = driver("cryptography.fernet", "cryptography").Fernet.generate_key()
    return key


def write_keys(path: str, keys: Sequence[bytes], uid: int, gid: int, *, is_new: bool = False) -> None:
    """Write or replace a file with keys that only one user may read, and have it on disk; raises OSError.

    `is_new`: the file must not exist, or FileExistsError is raised.
    """
    fresh = f"{path}.new"
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o400)
    try:
        with open(fd, "wb") as file:
            file.write(b"".join(key + b"\n" for key in keys))
            if os.geteuid() == 0:
                os.fchown(fd, uid, gid)
            file.flush()
            os.fsync(fd)
        if is_new:
            os.link(fresh, path)
            os.unlink(fresh)
        else:
            os.rename(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
