"""crypt(3) of the system, for the same hashes as in /etc/shadow.

Runs wherever a password is verified; the library is loaded by `load`, once, in the master.  The
re-entrant crypt_r is called with a buffer of our own.  Raises ValueError when the library cannot
make such a hash, or is missing.
"""

import ctypes
from functools import cache
from typing import Any

MAX_PASSWORD = 511    # CRYPT_MAX_PASSPHRASE_SIZE less the NUL

# struct crypt_data has 32,768 octets in libxcrypt and 131,232 in the libcrypt of old glibc; what is not touched costs
# nothing.
_BUFFER = 1 << 18


@cache
def load() -> Any:
    """Return the library's crypt_r; raises ValueError if there is none."""
    for name in ("libcrypt.so.1", "libcrypt.so.2", None):    # None: the C library has it (musl)
        try:
            function: Any = ctypes.CDLL(name).crypt_r
        except (OSError, AttributeError):
            continue
        function.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
        function.restype = ctypes.c_char_p
        return function
    raise ValueError("this system has no libcrypt")


def crypt(password: bytes, setting: str) -> str:
    """Return the hash of `password` made as `setting` (a salt or a whole hash) says.

    `password` holds no NUL and at most MAX_PASSWORD octets; `setting` is ASCII.  Raises ValueError.
    """
    made: bytes | None = load()(password, setting.encode("ascii"), ctypes.create_string_buffer(_BUFFER))
    if made is None or made.startswith(b"*"):
        raise ValueError("libcrypt cannot make such a hash")
    return made.decode("ascii")
