"""Passwords against every stored form: fixed vectors, and hashes made by other programs on the spot."""

import base64
import hashlib
import importlib
import subprocess
import sys
import time

import argon2
import bcrypt
import pytest

from popular.pdm import libcrypt, secrets
from popular.pdm.drivers import Drivers

BCRYPT = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"    # of U*U
ARGON = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


def b64(octets):
    return base64.b64encode(octets).decode()


def openssl(kind, password):
    return subprocess.run(["openssl", "passwd", kind, "-salt", "saltsalt", password], check=True, timeout=20,
                          stdout=subprocess.PIPE).stdout.decode().strip()


def argon(kind, password):
    hasher = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=2, type=kind)
    return hasher.hash(password)


def take_away(monkeypatch, *drivers):
    """Let drivers be missing here."""
    monkeypatch.setattr(secrets, "DRIVERS", Drivers((*drivers, "popular.pdm.libcrypt", "bcrypt")))
    for driver in drivers:
        monkeypatch.setitem(sys.modules, driver, None)


KNOWN = {    # id: (stored, password)
    "plain": ("{PLAIN}geheim", "geheim"),
    "cleartext": ("{CLEARTEXT}geheim", "geheim"),
    "clear": ("{clear}geheim", "geheim"),
    "plain with spaces": ("{PLAIN} a b ", " a b "),
    "plain with a closed account's mark": ("{PLAIN}!x", "!x"),
    "plain of hex": ("{PLAIN.HEX}613a62", "a:b"),
    "plain of base64": ("{PLAIN.b64}YTpi", "a:b"),
    "DES": ("rl.3StKT.4T8M", "rasmuslerdorf"),
    "DES with a prefix": ("{CRYPT}rl.3StKT.4T8M", "rasmuslerdorf"),
    "DES with its prefix": ("{DES-CRYPT}rl.3StKT.4T8M", "rasmuslerdorf"),
    "MD5": ("$1$rasmusle$rISCgZzpwk3UhDidwXvin0", "rasmuslerdorf"),
    "MD5 with its prefix": ("{MD5-CRYPT}$1$rasmusle$rISCgZzpwk3UhDidwXvin0", "rasmuslerdorf"),
    "SHA-256": ("$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5", "Hello world!"),
    "SHA-512": ("{SHA512-CRYPT}$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnI"
                "FNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1", "Hello world!"),
    "bcrypt": (BCRYPT, "U*U"),
    "bcrypt with its prefix": ("{BLF-CRYPT}" + BCRYPT, "U*U"),
    "bcrypt with crypt's prefix": ("{CRYPT}" + BCRYPT, "U*U"),
    "bcrypt of PHP": ("{BLF-CRYPT}" + BCRYPT.replace("$2b$", "$2y$"), "U*U"),
    "SHA": ("{SHA}" + b64(hashlib.sha1(b"pw").digest()), "pw"),
    "SHA1": ("{SHA1}" + b64(hashlib.sha1(b"pw").digest()), "pw"),
    "SHA in hex": ("{SHA.HEX}" + hashlib.sha1(b"pw").hexdigest(), "pw"),
    "SHA in hex, not said": ("{SHA}" + hashlib.sha1(b"pw").hexdigest(), "pw"),
    "SSHA": ("{SSHA}" + b64(hashlib.sha1(b"pw" + b"salt").digest() + b"salt"), "pw"),
    "SSHA without padding": ("{SSHA}" + b64(hashlib.sha1(b"pw" + b"salz!").digest() + b"salz!").rstrip("="), "pw"),
    "SHA256": ("{SHA256}" + b64(hashlib.sha256(b"pw").digest()), "pw"),
    "SSHA256": ("{SSHA256.b64}" + b64(hashlib.sha256(b"pw" + b"salt").digest() + b"salt"), "pw"),
    "SHA512": ("{SHA512.hex}" + hashlib.sha512(b"pw").hexdigest(), "pw"),
    "SSHA512": ("{SSHA512.HEX}" + (hashlib.sha512(b"pw" + b"salt").digest() + b"salt").hex(), "pw"),
}


@pytest.mark.parametrize("stored, password", KNOWN.values(), ids=KNOWN.keys())
def test_known_forms(stored, password):
    assert secrets.verify(stored, password.encode())
    assert not secrets.verify(stored, password.encode() + b"x") or "rl.3StKT" in stored    # DES sees 8 octets
    assert not secrets.verify(stored, b"wrong")
    assert not secrets.verify(stored, b"")


@pytest.mark.parametrize("stored, password", [
    pytest.param(openssl("-1", "grün x"), "grün x", id="openssl MD5"),
    pytest.param(openssl("-5", "grün x"), "grün x", id="openssl SHA-256"),
    pytest.param(openssl("-6", "grün x"), "grün x", id="openssl SHA-512"),
    pytest.param(bcrypt.hashpw("grün x".encode(), bcrypt.gensalt(4)).decode(), "grün x", id="bcrypt"),
    pytest.param("{ARGON2ID}" + argon(argon2.Type.ID, "grün x"), "grün x", id="argon2id"),
    pytest.param("{ARGON2I}" + argon(argon2.Type.I, "grün x"), "grün x", id="argon2i"),
    pytest.param(libcrypt.crypt("grün x".encode(), "$y$j75$saltsaltsaltsalt"), "grün x", id="yescrypt"),
    pytest.param(libcrypt.crypt("grün x".encode(), "$5$rounds=1000$saltsalt"), "grün x", id="rounds"),
    pytest.param("{CRYPT.B64}" + b64(openssl("-1", "pw").encode()), "pw", id="crypt in base64"),
])
def test_hashes_of_other_programs(stored, password):
    assert secrets.verify(stored, password.encode())
    assert not secrets.verify(stored, password.encode() + b"x")
    assert not secrets.verify(stored, b"")


def test_eight_bit_passwords_need_no_charset():
    raw = b"gr\xfcn \xff"
    assert secrets.verify("{PLAIN}" + raw.decode("utf-8", "surrogateescape"), raw)
    assert secrets.verify("{SHA256.HEX}" + hashlib.sha256(raw).hexdigest(), raw)


@pytest.mark.parametrize("has_bcrypt", [True, False], ids=["bcrypt", "libcrypt"])
def test_bcrypt_looks_at_72_octets(monkeypatch, has_bcrypt):
    if not has_bcrypt:
        take_away(monkeypatch, "bcrypt")
    stored = bcrypt.hashpw(b"a" * 72, bcrypt.gensalt(4)).decode()
    assert secrets.verify(stored, b"a" * 72)
    assert secrets.verify(stored, b"a" * 80)
    assert not secrets.verify(stored, b"a" * 71)
    assert secrets.verify("{BLF-CRYPT}" + BCRYPT.replace("$2b$", "$2y$"), b"U*U")


def test_argon2_without_its_library_is_an_error(monkeypatch):
    take_away(monkeypatch, *secrets.ARGON2_BINDINGS)
    with pytest.raises(ValueError, match="needs the Python package argon2-cffi"):
        secrets.verify("{ARGON2ID}" + ARGON.hash("pw"), b"pw")


def test_argon2_where_its_bindings_are_a_part_of_it(monkeypatch):
    """As in the argon2-cffi of Debian 12."""
    first, second = secrets.ARGON2_BINDINGS
    bindings = importlib.import_module(first)
    take_away(monkeypatch, first, second)
    monkeypatch.setitem(sys.modules, second, bindings)
    assert secrets.verify("{ARGON2ID}" + ARGON.hash("pw"), b"pw")
    assert not secrets.verify("{ARGON2ID}" + ARGON.hash("pw"), b"px")


@pytest.mark.parametrize("stored", ["!", "*", "!!", "*LK*", "!" + openssl("-6", "pw"), "{CRYPT}!" + BCRYPT, "{CRYPT}*"])
def test_closed_accounts_match_nothing(stored):
    assert secrets.verify(stored, b"pw") is False


@pytest.mark.parametrize("stored", [
    pytest.param("", id="empty"),
    pytest.param("geheim", id="no prefix and no hash"),
    pytest.param("{PLAIN}", id="empty password in clear"),
    pytest.param("{NEWFANGLED}x", id="unknown scheme"),
    pytest.param("{PLAIN", id="open brace"),
    pytest.param("{CRYPT}geheim", id="crypt of nothing"),
    pytest.param("{MD5-CRYPT}" + openssl("-6", "geheim"), id="another kind than the prefix says"),
    pytest.param(openssl("-6", "geheim")[:-1], id="cut"),
    pytest.param(openssl("-6", "geheim") + "\n", id="with a line end"),
    pytest.param(openssl("-6", "geheim")[:-1] + "ü", id="not ASCII"),
    pytest.param("$9$salt$" + "a" * 43, id="unknown crypt"),
    pytest.param("{SHA}geheim!", id="no base64"),
    pytest.param("{SHA.HEX}xyz", id="no hex"),
    pytest.param("{SHA}" + b64(b"x" * 19), id="short digest"),
    pytest.param("{SHA}" + b64(b"x" * 21), id="long digest"),
    pytest.param("{SSHA}" + b64(b"x" * 20), id="no salt"),
    pytest.param("{ARGON2ID}" + argon(argon2.Type.I, "geheim"), id="another argon2"),
    pytest.param("{ARGON2ID}" + ARGON.hash("geheim").replace("$m=64,t=1,", "$m=1,t=1,"), id="argon2 says no"),
])
def test_damaged_forms_are_errors_not_refusals(stored):
    with pytest.raises(ValueError) as caught:
        secrets.verify(stored, b"geheim")
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("stored", [
    pytest.param("$6$rounds=1000001$salt$" + "a" * 86, id="SHA-512"),
    pytest.param("$5$rounds=999999999$salt$" + "a" * 43, id="SHA-256"),
    pytest.param(BCRYPT.replace("$05$", "$15$"), id="bcrypt"),
    pytest.param(BCRYPT.replace("$05$", "$31$"), id="bcrypt at its most"),
    pytest.param("$y$jFT$saltsalt$" + "a" * 43, id="yescrypt"),
    pytest.param("{ARGON2ID}" + ARGON.hash("x").replace("m=64", "m=262145"), id="argon2 memory"),
    pytest.param("{ARGON2ID}" + ARGON.hash("x").replace("t=1,", "t=999999999,"), id="argon2 passes"),
    pytest.param("{ARGON2ID}" + ARGON.hash("x").replace("p=1", "p=1000"), id="argon2 lanes"),
])
def test_hostile_costs_are_refused_at_once(stored):
    began = time.process_time()
    with pytest.raises(ValueError):
        secrets.verify(stored, b"x")
    assert time.process_time() - began < 0.1


@pytest.mark.parametrize("stored", ["{PLAIN}a", "rl.3StKT.4T8M", BCRYPT, "{ARGON2ID}" + ARGON.hash(b"a\0b"),
                                    "{SHA256.HEX}" + hashlib.sha256(b"a\0b").hexdigest()])
def test_a_password_with_nul_matches_nothing(stored):
    assert not secrets.verify(stored, b"a\0b")


def test_a_password_longer_than_crypt_takes_is_wrong():
    assert not secrets.verify(openssl("-6", "a"), b"a" * 600)


def test_an_unknown_user_costs_as_much_as_a_wrong_password(monkeypatch):
    calls = []

    def noted(password, setting):
        calls.append((password, setting))
        return "x"
    monkeypatch.setattr(libcrypt, "crypt", noted)
    secrets.verify_nothing(b"a\0b" * 400)
    assert calls == [((b"ab" * 400)[:511], secrets._NOBODY)]
    secrets.verify("!", b"pw")
    assert calls[1] == (b"pw", secrets._NOBODY)


@pytest.mark.parametrize("missing, why", [("the library", "no libcrypt"), ("ctypes", "need Python's ctypes")])
def test_without_libcrypt_only_crypt_fails(monkeypatch, missing, why):
    if missing == "ctypes":
        take_away(monkeypatch, "popular.pdm.libcrypt")
    else:
        monkeypatch.setattr(libcrypt, "_CRYPT_R", None)
    secrets.verify_nothing(b"x")
    assert secrets.verify("{PLAIN}x", b"x")
    with pytest.raises(ValueError, match=why):
        secrets.verify(openssl("-6", "a"), b"a")
