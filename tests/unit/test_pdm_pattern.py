"""pdm.pattern: mailboxes by a pattern, with digits that any other program can work out."""

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from popular.names import is_mailbox
from popular.pdm.api import UNKNOWN
from popular.pdm.pattern import Pattern, pattern_of_levels
from tests.harness.daemon import ROOT
from tests.harness.needs import need_program
from tests.harness.pdm import make_module, make_request

PATTERNS = ["%u", "%1h/%2h/%u", "%n/%d/%8h/%l", "%%%1h-%u", "x/%4h"]


@pytest.mark.parametrize(("pattern", "user", "mailbox"), [
    pytest.param("%1h/%2h/%u", "joe.doe", "9/3e/joe.doe", id="two levels"),
    pytest.param("%u/%2h/%1h", "joe.doe", "joe.doe/93/e", id="from the left, wherever they stand"),
    pytest.param("%8h%8h%8h%8h", "joe.doe", hashlib.md5(b"joe.doe").hexdigest(), id="all digits"),
    pytest.param("%1h/%l", "joe.doe@example.org", "d/joe.doe", id="of the whole name"),
    pytest.param("%d/%n/%%%l", "joe@example.org", "example.org/ns/%joe", id="no digits"),
    pytest.param("%1h", "jö e\udcff", hashlib.md5("jö e".encode() + b"\xff").hexdigest()[:1], id="of octets"),
])
def test_mailboxes(pattern: str, user: str, mailbox: str) -> None:
    assert Pattern(pattern).mailbox(user, "ns") == mailbox


def test_the_digits_are_those_of_md5sum() -> None:
    done = subprocess.run([need_program("md5sum")], input=b"joe.doe", stdout=subprocess.PIPE, check=True, timeout=30)
    assert Pattern("%8h").mailbox("joe.doe", "ns") == done.stdout[:8].decode()


@pytest.mark.parametrize("user", ["", ".joe", "a/b", "a@b", "j\u00f6", "a b", "a..b"])
def test_names_of_which_there_is_no_mailbox(user: str) -> None:
    assert Pattern("%1h/%u").mailbox(user, "ns") is None


@pytest.mark.parametrize(("pattern", "names", "filled"), [
    ("%{Mail.Host-1}:%u", {"mail.host-1"}, "<h%st>:<j@e>"), ("%{none}", {"none"}, "<>"), ("%%{none}", set(), "%{none}"),
    ("%1h%{mail.host-1}%1h", {"mail.host-1"}, "b<h%st>5"),
])
def test_values_by_name_and_an_escape(pattern: str, names: set[str], filled: str) -> None:
    made = Pattern(pattern, with_names=True)
    assert made.names == names
    assert made.fill("j@e", "ns", {"mail.host-1": "h%st"}, lambda text: f"<{text}>") == filled


def test_what_the_user_does_not_choose_may_be_any_part_of_a_mailbox() -> None:
    made = Pattern("%{folder}/%u", with_names=True)
    assert made.mailbox("joe", "ns", {"folder": "a b/c"}) == "a b/c/joe"
    assert made.mailbox("joe", "ns", {}) is None
    assert made.mailbox("a/b", "ns", {"folder": "c"}) is None


@pytest.mark.parametrize(("pattern", "is_constant"), [
    ("store1", True), ("100%%", True), ("%u", False), ("%1h", False), ("%{host}", False),
])
def test_constant_patterns(pattern: str, is_constant: bool) -> None:
    assert Pattern(pattern, with_names=True).is_constant is is_constant


@pytest.mark.parametrize("text", ["%{}", "%{a b}", "%{a", "%x"])
def test_wrong_names(text: str) -> None:
    with pytest.raises(ValueError, match=r"is unknown .* allowed are %\{NAME\}, %u"):
        Pattern(text, with_names=True)


@pytest.mark.parametrize("text", ["%{host}", "%x", "%h", "%0h", "%9h", "%12h", "%1u", "a%", "%1h" * 33, "%8h" * 5])
def test_wrong_patterns(text: str) -> None:
    with pytest.raises(ValueError, match="is unknown|there are only 32"):
        Pattern(text)


@pytest.mark.parametrize(("levels", "pattern"), [([1, 2], "%1h/%2h/%u"), ([], "%u"), ([3], "%3h/%u")])
def test_patterns_of_levels(levels: list[int], pattern: str) -> None:
    assert pattern_of_levels(levels) == pattern


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=60)
@given(user=st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n")) | st.from_regex(r"[a-z.@%]{1,20}\Z"))
def test_the_module_any_makes_the_same_mailboxes(pattern: str, user: str) -> None:
    answer = make_module("any", "store1", pattern, "protocol=xpop").check(make_request(user, namespace="ns"))
    mailbox = Pattern(pattern).mailbox(user, "ns")
    if mailbox is None:
        assert answer == UNKNOWN
    else:
        assert answer.found.mailbox == mailbox
        assert len(mailbox) > 512 or is_mailbox(mailbox)


def test_without_digits_no_library_is_loaded() -> None:
    """A master with the module any must not carry OpenSSL through every fork."""
    code = """if True:
        import sys
        from popular.pdm.pattern import Pattern
        Pattern("%u")
        assert "hashlib" not in sys.modules
        Pattern("%1h")
        assert "hashlib" in sys.modules"""
    subprocess.run([sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}"], check=True,
                   timeout=30)
