"""Arguments of database modules as KEY=VALUE words, and secrets in files."""

import os

import pytest

from popular.errors import PdmError
from popular.pdm.options import Choice, File, Int, Options, Setting, Time, read_secret, secret, secret_rows

OPTIONS = Options(
    Setting("address", Int(1), None, "Where the server is.  More.", required=True),
    Setting("tls", Choice("off", "on"), "off", "Whether to encrypt."),
    Setting("timeout", Time(0.001, 60.0), 5.0, "The longest wait."),
    Setting("cafile", File(), None, "Who may sign."),
    *secret_rows("password", "password of the database user"),
)


def test_values_have_their_kinds_and_defaults():
    values = OPTIONS.parse(["address=7", "timeout=1s500ms"])
    assert dict(values) == {"address": 7, "tls": "off", "timeout": 1.5, "cafile": None, "password": None,
                            "passwordfile": None}


@pytest.mark.parametrize("word, name, value", [
    ("password=a=b", "password", "a=b"),
    ("password= ", "password", None),
    ("tls=ON", "tls", "on"),
    ("cafile=", "cafile", None),
    ("cafile=/a b", "cafile", "/a b"),
])
def test_a_value_is_all_after_the_first_equals_sign(word, name, value):
    assert OPTIONS.parse(["address=7", word])[name] == value


@pytest.mark.parametrize("words, why", [
    ([], "'address' is missing: where the server is"),
    (["address="], "address: '' is not a whole number from 1 up"),
    (["adress=7"], "unknown key 'adress'; did you mean 'address'?"),
    (["zzz=7"], "unknown key 'zzz'; the keys are address, tls, timeout, cafile, password, passwordfile"),
    (["address=7", "s3cret"],
     "argument 2 is not KEY=VALUE, or quotes are missing; the keys are address, tls, timeout, cafile, password, "
     "passwordfile"),
    (["=7"], "unknown key ''; the keys are address, tls, timeout, cafile, password, passwordfile"),
    (["address=7", "address=7"], "address is given twice"),
    (["address=0"], "address: '0' is not 1 or more"),
    (["tls=onn"], "tls: 'onn' is not one of off, on; did you mean 'on'?"),
    (["timeout=1 hour"], "timeout: '1 hour' is not a time from 1ms to 1m such as 5d3h10m4s"),
    (["cafile=ca.pem"], "cafile: 'ca.pem' does not begin with /"),
    (["password=s3cret\n"], "password: *** is not one line of text of at most 1024 characters"),
    (["address=7", "passwordfile=/a", "password=s3cret"], "give password or passwordfile, not both"),
    (["pasword=s3cret"], "unknown key 'pasword'; did you mean 'password'?"),
])
def test_mistakes_are_reported_without_secrets(words, why):
    with pytest.raises(ValueError) as caught:
        OPTIONS.parse(words)
    assert str(caught.value) == why


def test_describe_masks_secrets_only():
    words = ["address=7", "password=s3cret word", "passwordfile=/etc/a b"]
    assert OPTIONS.describe(words) == "address=7 'password=***' 'passwordfile=/etc/a b'"


# secrets

@pytest.fixture
def secret_file(tmp_path):
    """Return a function that writes a file which only its owner can read."""
    def write(content: bytes, mode: int = 0o600) -> str:
        path = tmp_path / "secret"
        path.write_bytes(content)
        os.chmod(path, mode)
        return str(path)
    return write


@pytest.mark.parametrize("content, text", [
    (b"s3cret", "s3cret"), (b"s3cret\n", "s3cret"), (b"s3cret\r\n", "s3cret"), (b" s \n", " s "),
    ("sécret".encode(), "sécret"), (b"x" * 4096, "x" * 4096),
])
def test_a_secret_is_the_only_line_of_its_file(secret_file, content, text):
    assert read_secret(secret_file(content)) == text


@pytest.mark.parametrize("content, mode, why", [
    (b"", 0o600, "must have one line of at most 4096 octets"),
    (b"\n", 0o600, "must have one line of at most 4096 octets"),
    (b"s3cret\nword\n", 0o600, "must have one line of at most 4096 octets"),
    (b"s3cret\0", 0o600, "must have one line of at most 4096 octets"),
    (b"x" * 4097, 0o600, "must have one line of at most 4096 octets"),
    (b"s3cret\xff", 0o600, "not UTF-8"),
    (b"s3cret", 0o644, "can be read by everybody: chmod o-r "),
    (b"s3cret", 0o602, "can be written by everybody: chmod o-w "),
])
def test_a_file_that_everybody_knows_or_that_is_malformed_is_refused(secret_file, content, mode, why):
    with pytest.raises(PdmError, match=why) as caught:
        read_secret(secret_file(content, mode))
    assert "s3cret" not in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(PdmError, match="/no/such/file: No such file or directory"):
        read_secret("/no/such/file")


@pytest.mark.parametrize("words, text", [
    ([], ""), (["password=direct"], "direct"), (["passwordfile=FILE"], "filed"),
])
def test_a_secret_is_given_directly_or_in_a_file(secret_file, words, text):
    path = secret_file(b"filed\n")
    values = OPTIONS.parse(["address=7", *(word.replace("FILE", path) for word in words)])
    assert secret(values, "password") == text
