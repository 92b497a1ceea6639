"""crypt(3) of the system, for the same hashes as in /etc/shadow.

Runs wherever a password is verified; importing it loads the library.  It calls the re-entrant crypt_r
with its own buffer.  Raises ValueError if the library cannot make such a hash, or is missing.
"""

import ctypes
from typing import Any

# struct crypt_data has 32,768 octets in libxcrypt and 131,232 in the libcrypt of old glibc; untouched memory costs
# nothing.
_BUFFER = 1 << 18


def _load() -> Any:
    """Return the library's crypt_r; None if there is none."""
    for name in ("libcrypt.so.1", "libcrypt.so.2", None):    # None: the C library has it (musl)
        try:
            function: Any = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            continue
        function.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        function.restype = ctypes.c_char_p
        return function
    return None


_CRYPT_R = _load()


def crypt(password: bytes, setting: str) -> str:
    """Return the hash of `password` with the method and salt of `setting` (a salt or a whole hash).

    `password` has no NUL and at most 511 octets, CRYPT_MAX_PASSPHRASE_SIZE less the NUL; `setting` is
    ASCII.  Raises ValueError.
    """
    if _CRYPT_R is None:
        raise ValueError("this system has no libcrypt")
    made: bytes | None = _CRYPT_R(password, setting.encode("ascii"), ctypes.create_string_buffer(_BUFFER))
    if made is None or made.startswith(b"*"):
        raise ValueError("libcrypt cannot make such a hash")
    return made.decode("ascii")
