"""The module ldap without a directory: its arguments, and what it makes of names."""

from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popular.errors import PdmError
from popular.pdm.api import UNKNOWN
from popular.pdm.databases.directory import LdapUri, escape
from tests.harness.pdm import make_module, make_request

WORDS = {"uri": "ldaps://ldap1.example.org,ldaps://ldap2.example.org", "base": "ou=people,dc=example,dc=org",
         "backend": "store1", "mailbox": "%{uid}"}


def words(**more: str | None) -> list[str]:
    """Return usual arguments, changed; None removes one."""
    return [f"{name}={value}" for name, value in {**WORDS, **more}.items() if value is not None]


def test_usual_arguments():
    module = make_module("ldap", *words(bpass="s3cret", buser="%u"))
    assert module.blocking and module.backends == ("store1",)
    assert "s3cret" not in module.describe() and "'mailbox=%{uid}'" in module.describe()
    assert make_module("ldap", *words(backend="%{mailHost}")).backends == ()


@pytest.mark.parametrize("more, why", [
    ({"uri": None}, "'uri' is missing: the servers, separated"),
    ({"base": None}, "'base' is missing"),
    ({"backend": None}, "'backend' is missing"),
    ({"urii": "x"}, "unknown key 'urii'; did you mean 'uri'?"),
    ({"uri": "ldap.example.org"}, "'ldap.example.org' is not ldaps://HOST"),
    ({"uri": "ldaps://a.example.org,"}, "'' is not ldaps://HOST"),
    ({"uri": "ldaps://a.example.org:66000"}, "'ldaps://a.example.org:66000' is not"),
    ({"filter": "(uid=x)"}, "neither filter nor base has %u or %l"),
    ({"filter": "(uid=%{uid})"}, r"%{uid} is unknown in \(uid=%{uid}\); allowed are %u"),
    ({"mailbox": "%x"}, r"%x is unknown in %x; allowed are %{NAME}, %u"),
    ({"binddn": "cn=x"}, "binddn and its password must be given together"),
    ({"bindpassword": "s3cret"}, "binddn and its password must be given together"),
    ({"key": "/etc/key"}, "certificate and key must be given together"),
    ({"cafile": "ca.pem"}, "cafile: 'ca.pem' does not begin with /"),
    ({"password": "{PLAIN}"}, "password must have one attribute"),
    ({"scope": "subtree"}, "scope: 'subtree' is not one of sub, one, base"),
    ({"starttls": "maybe"}, "starttls: 'maybe' is not on or off"),
])
def test_wrong_arguments(more, why):
    with pytest.raises(PdmError, match=why) as caught:
        make_module("ldap", *words(**more))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("uri, place", [
    ("ldaps://a.example.org", ("ldaps", "a.example.org", 636)),
    ("ldap://a.example.org:1389/", ("ldap", "a.example.org", 1389)),
    ("ldap://[::1]:389", ("ldap", "::1", 389)),
    ("ldapi://%2fvar%2frun%2fldapi", ("ldapi", "", 0)),
])
def test_uris(uri, place):
    made = LdapUri.parse(uri)
    assert (made.scheme, made.host, made.port) == place


@pytest.mark.parametrize("uri", ["", "http://a", "ldap://", "ldap://a:b", "ldap://a/dc=x", "ldap://a?b", "ldap://::1"])
def test_wrong_uris(uri):
    with pytest.raises(ValueError, match="is not ldaps://HOST"):
        LdapUri.parse(uri)


@pytest.mark.parametrize("user", ["", "joe\0", "joe\r\n", "x" * 256, "j\udcff", "\ud800"])
def test_names_that_no_directory_has_are_unknown_without_asking(user):
    assert make_module("ldap", *words()).check(make_request(user)) == UNKNOWN


@given(st.text(st.characters(codec="utf-8")))
def test_what_is_escaped_cannot_break_out_and_means_the_same(text):
    made = escape(text)
    assert set(made) <= {*"\\@._-", *ascii_letters, *digits}
    first, *others = made.split("\\")
    octets = [first.encode(), *(bytes.fromhex(each[:2]) + each[2:].encode() for each in others)]
    assert b"".join(octets).decode() == text
