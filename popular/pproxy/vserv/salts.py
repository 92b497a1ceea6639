"""Salts of SCRAM for users who have none, so that nobody learns who exists.

Loaded in the master if a virtual server offers SCRAM, and used in its children.
"""

import binascii
import os
from _blake2 import blake2b    # hashlib would load OpenSSL, and every fork copy its mappings
from functools import lru_cache

_ITERATIONS, _SALT_OCTETS = 15_000, 16    # as popular.pdm.proofs has them for new secrets
_KEY_OCTETS = 32


def made_up_salt(*words: str) -> bytes:
    """Return `ITERATIONS,SALT` for somebody whom these words name, always the same on this machine."""
    text = "\0".join(words).encode("utf-8", "surrogateescape")
    salt = blake2b(text, digest_size=_SALT_OCTETS, key=machine_key()).digest()
    return b"%d,%b" % (_ITERATIONS, binascii.b2a_base64(salt, newline=False))


@lru_cache(maxsize=1)
def machine_key() -> bytes:
    """Return octets that stay the same on this machine, and that no client knows; called first in the master."""
    try:
        with open("/etc/machine-id", "rb") as file:
            return file.read(_KEY_OCTETS) or os.urandom(_KEY_OCTETS)
    except OSError:
        return os.urandom(_KEY_OCTETS)
