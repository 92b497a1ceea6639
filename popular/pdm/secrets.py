"""Whether a password matches what a database stores, in all the forms that Dovecot and crypt(3) know.

    {PLAIN} {CLEAR} {CLEARTEXT}                        the password itself
    $1$ $5$ $6$ $y$ $2a$ $2b$ $2y$ and 13-character DES hashes, alone or after
    {CRYPT} {DES-CRYPT} {MD5-CRYPT} {SHA256-CRYPT} {SHA512-CRYPT} {BLF-CRYPT}    crypt(3)
    {SHA} {SHA1} {SSHA} {SHA256} {SSHA256} {SHA512} {SSHA512}                    hashlib, salt after the digest
    {ARGON2I} {ARGON2ID}                               argon2-cffi
    {SCRAM-SHA-1} {SCRAM-SHA-256}                      secrets of SCRAM, see popular.pdm.proofs
    .HEX .B64 .BASE64 after a scheme's name            the encoding of what follows

A text without a prefix that is not a crypt(3) hash is an error, never a password in clear.  `!` or `*`
at the start of a crypt(3) hash means a closed account: no password matches.  Cost parameters are capped,
so that a hostile record cannot stall the process: 1,000,000 rounds, bcrypt cost 14, yescrypt and argon2
256 MiB.

Runs in the process that asks.  Other modules that a form needs are loaded when such a form is first met
(`DRIVERS`).  Raises ValueError for a stored form that cannot be used; its text never holds the form
itself.
"""

import _operator
import re

from popular.pdm.drivers import Drivers

MAX_PASSWORD = 511               # octets that crypt(3) takes
MAX_ROUNDS = 1_000_000           # SHA-crypt; the default of crypt(3) is 5,000
MAX_ARGON2_KIB = 256 * 1024      # memory of one verification
MAX_ARGON2_WORK = 1024 * 1024    # KiB × passes
MAX_ARGON2_LANES = 64
BCRYPT_OCTETS = 72                   # bcrypt has always ignored the rest

_PREFIX = re.compile(r"\{([A-Za-z0-9-]{1,32})(?:\.(hex|b64|base64))?\}", re.ASCII | re.IGNORECASE)
_B64 = "[./0-9A-Za-z]"
_FORMS = {kind: re.compile(form, re.ASCII) for kind, form in {
    "DES": rf"{_B64}{{13}}",
    "MD5": rf"\$1\$[^$:\s]{{0,8}}\${_B64}{{22}}",
    "SHA256": rf"\$5\$(?:rounds=(?P<rounds>[0-9]{{1,9}})\$)?[^$:\s]{{0,16}}\${_B64}{{43}}",
    "SHA512": rf"\$6\$(?:rounds=(?P<rounds>[0-9]{{1,9}})\$)?[^$:\s]{{0,16}}\${_B64}{{86}}",
    # the costs that crypt_gensalt(3) makes, 1 to 9 of 11: 1 MiB to 256 MiB
    "YESCRYPT": rf"\$y\$j(?:[78]5|[789ABCD]T)\${_B64}{{0,86}}\${_B64}{{43}}",
    "BLF": rf"\$2[aby]\$(?:0[4-9]|1[0-4])\${_B64}{{53}}",
}.items()}
_IN_CLEAR = ("PLAIN", "CLEAR", "CLEARTEXT")
_CRYPT_SCHEMES = {
    "CRYPT": ("DES", "MD5", "SHA256", "SHA512", "YESCRYPT", "BLF"), "DES-CRYPT": ("DES",), "MD5-CRYPT": ("MD5",),
    "SHA256-CRYPT": ("SHA256",), "SHA512-CRYPT": ("SHA512",), "BLF-CRYPT": ("BLF",),
}
_DIGESTS = {"SHA": "sha1", "SHA1": "sha1", "SHA256": "sha256", "SHA512": "sha512",
            "SSHA": "sha1", "SSHA256": "sha256", "SSHA512": "sha512"}
_ARGON2 = re.compile(r"\$(argon2id?)\$v=19\$m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,9})"
                     r"\$[A-Za-z0-9+/]{11,128}\$[A-Za-z0-9+/]{16,256}", re.ASCII)

# Master and child identify them by their index.  For argon2 we use the bindings below argon2-cffi, whose own modules
# make every fork 0.1 ms slower; before its version 21.2, as in Debian 12, the bindings were a part of it.
ARGON2_BINDINGS = ("_argon2_cffi_bindings", "argon2._ffi")
DRIVERS = Drivers(("binascii", "hashlib", "popular.pdm.libcrypt", "bcrypt", *ARGON2_BINDINGS, "popular.pdm.proofs"))

# The function that hmac uses without OpenSSL.  Importing hmac would load OpenSSL, and every fork copy its mappings.
compare_digest = _operator._compare_digest

# Nobody's hash: it makes a refusal take as long for a user who does not exist.
_NOBODY = "$6$popularnobody$" + "." * 86


def verify(stored: str, password: bytes) -> bool:
    """Tell whether `password` is the one from which `stored` was made.

    `stored` may hold surrogates for octets that are not UTF-8.  A password with NUL matches nothing.  Raises
    ValueError if `stored` has no known form, costs too much, or needs a library that is not installed.
    """
    if b"\0" in password:
        return False
    scheme, encoding, body = _parts(stored)
    if scheme in _IN_CLEAR:
        return compare_digest(_clear(encoding, body), password)
    if scheme in _CRYPT_SCHEMES:
        return _verify_crypt(_text(body, encoding), password, _CRYPT_SCHEMES[scheme])
    if scheme in _DIGESTS:
        return _verify_digest(body, encoding, password, _DIGESTS[scheme], is_salted=scheme[:2] == "SS")
    if scheme in ("ARGON2I", "ARGON2ID"):
        return _verify_argon2(_text(body, encoding), password, scheme)
    if scheme.startswith("SCRAM-"):
        secret = DRIVERS.get("popular.pdm.proofs").ScramSecret.parse(stored)
        return bool(secret.is_of(password))
    raise ValueError(f"password scheme {{{scheme}}} is not known")


def password_in(stored: str) -> bytes | None:
    """Return the password, if it is stored in clear; raises ValueError if that cannot be used."""
    scheme, encoding, body = _parts(stored)
    return _clear(encoding, body) if scheme in _IN_CLEAR else None


def verify_nothing(password: bytes) -> None:
    """Take as long as a usual verification, for a user who does not exist or an account that is closed."""
    try:
        _crypt(password.replace(b"\0", b"")[:MAX_PASSWORD], _NOBODY)
    except ValueError:
        pass    # no libcrypt: `verify` reports that if it is needed


def _parts(stored: str) -> tuple[str, str, bytes]:
    """Return the scheme of a stored form, the encoding of what follows, and that; both words in capitals."""
    scheme, encoding, begin = "CRYPT", "", 0    # without a prefix it is a crypt(3) hash
    prefix = _PREFIX.match(stored)
    if prefix is not None:
        scheme, encoding, begin = prefix[1].upper(), (prefix[2] or "").upper(), prefix.end()
    return scheme, encoding, stored[begin:].encode("utf-8", "surrogateescape")


def _clear(encoding: str, body: bytes) -> bytes:
    secret = _octets(body, encoding) if encoding else body
    if not secret:
        raise ValueError("the password in clear is empty")
    return secret


def _text(body: bytes, encoding: str) -> str:
    return (_octets(body, encoding) if encoding else body).decode("ascii", "replace")


def _octets(body: bytes, encoding: str) -> bytes:
    """Return the octets that are written in hex or base64; without an encoding, in base64.  Raises ValueError."""
    try:
        if encoding == "HEX":
            return bytes.fromhex(body.decode("ascii"))
        octets: bytes = DRIVERS.get("binascii").a2b_base64(body + b"=" * (-len(body) % 4), strict_mode=True)
        return octets
    except ValueError:
        raise ValueError(f"the password is not written in {'hex' if encoding == 'HEX' else 'base64'}") from None


def _verify_digest(body: bytes, encoding: str, password: bytes, algorithm: str, *, is_salted: bool) -> bool:
    hashlib = DRIVERS.get("hashlib")
    size = hashlib.new(algorithm, usedforsecurity=False).digest_size
    if not encoding and not is_salted and len(body) == 2 * size:
        encoding = "HEX"    # as in Dovecot: no digest in base64 is that long
    stored = _octets(body, encoding)
    if len(stored) < size or (len(stored) > size) != is_salted:
        raise ValueError(f"the {algorithm} digest has a wrong length")
    digest, salt = stored[:size], stored[size:]
    made: bytes = hashlib.new(algorithm, password + salt, usedforsecurity=False).digest()
    return compare_digest(digest, made)


def _verify_crypt(stored: str, password: bytes, kinds: tuple[str, ...]) -> bool:
    if stored[:1] in ("!", "*"):
        verify_nothing(password)
        return False
    form, kind = next(((match, kind) for kind in kinds if (match := _FORMS[kind].fullmatch(stored))), (None, ""))
    if form is None:
        raise ValueError("the password is stored in no known form, or its hash is damaged or costs too much")
    if kind.startswith("SHA") and int(form["rounds"] or 0) > MAX_ROUNDS:
        raise ValueError(f"the password's hash has more than {MAX_ROUNDS} rounds")
    if len(password) > MAX_PASSWORD:
        return False
    return _verify_bcrypt(stored, password) if kind == "BLF" else _same(_crypt(password, stored), stored)


def _crypt(password: bytes, setting: str) -> str:
    """Return the hash that crypt(3) makes; raises ValueError."""
    libcrypt = DRIVERS.get("popular.pdm.libcrypt")
    if libcrypt is None:
        raise ValueError("hashes of crypt(3) need Python's ctypes")
    made: str = libcrypt.crypt(password, setting)
    return made


def _verify_bcrypt(stored: str, password: bytes) -> bool:
    bcrypt = DRIVERS.get("bcrypt")
    if bcrypt is None:
        return _same(_crypt(password, stored), stored)
    # since version 5 it refuses longer passwords; the prefix of PHP's hashes means the same
    made: bytes = bcrypt.hashpw(password[:BCRYPT_OCTETS], stored.encode("ascii"))
    return _same(made.decode("ascii"), stored)


def _verify_argon2(stored: str, password: bytes, scheme: str) -> bool:
    form = _ARGON2.fullmatch(stored)
    if form is None or form[1].upper() != scheme:
        raise ValueError(f"the {{{scheme}}} hash is damaged or of another kind")
    kib, passes, lanes = (int(number) for number in form.groups()[1:])
    if kib > MAX_ARGON2_KIB or kib * passes > MAX_ARGON2_WORK or lanes > MAX_ARGON2_LANES:
        raise ValueError(f"the {{{scheme}}} hash costs too much")
    argon2 = next(filter(None, map(DRIVERS.get, ARGON2_BINDINGS)), None)
    if argon2 is None:
        raise ValueError(f"{{{scheme}}} needs the Python package argon2-cffi")
    library = argon2.lib
    kind = library.Argon2_id if scheme == "ARGON2ID" else library.Argon2_i
    code: int = library.argon2_verify(stored.encode("ascii"), password, len(password), kind)
    if code not in (library.ARGON2_OK, library.ARGON2_VERIFY_MISMATCH):
        raise ValueError(f"the {{{scheme}}} hash is damaged (error {code})")
    return code == int(library.ARGON2_OK)


def _same(made: str, stored: str) -> bool:
    return compare_digest(made.encode("ascii"), stored.encode("ascii"))
