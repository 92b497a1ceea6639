"""Names of users as the database modules see them."""

import pytest

from popular.pdm.asking.userformat import NameForm, UserFormat

ALL = "lower separators=%# detail=+ swap=old.example:new.example strip=example.org domain=Example.net"


@pytest.mark.parametrize(("text", "user", "wanted"), [
    ("", "Joe+x%Old@A", "Joe+x%Old@A"),
    ("lower", "JOE@Example.ORG", "joe@example.org"),
    ("lower", "\udce9\udcff", "\udce9\udcff"),
    ("separators=%", "joe%example.org", "joe@example.org"),
    ("separators=%", "a%b%c", "a%b@c"),
    ("separators=%", "joe%example.org@x", "joe%example.org@x"),
    ("separators=%#", "joe#example.org", "joe@example.org"),
    ("separators=%#", "a#b%c", "a#b@c"),
    ("detail=+", "joe+lists@example.org", "joe@example.org"),
    ("detail=+", "joe+a+b", "joe"),
    ("detail=+", "+joe", "+joe"),
    ("swap=old.example:new.example", "joe@OLD.example", "joe@new.example"),
    ("swap=a:b swap=b:c", "joe@a", "joe@b"),
    ("strip=example.org", "joe@Example.org", "joe"),
    ("strip=example.org", "joe@example.com", "joe@example.com"),
    ("strip", "joe@example.com", "joe"),
    ("strip domain=x", "joe@example.com", "joe@x"),
    ("domain=example.org", "joe", "joe@example.org"),
    ("domain=example.org", "joe@a@b", "joe@a@b"),
    ("domain=example.org", "joe@", "joe@example.org"),
    ("domain=example.org", "@a", "@a"),
    ("strip", "@a", ""),
    ("domain=example.org", "", "@example.org"),
    (ALL, "JOE", "joe@Example.net"),
    (ALL, "Joe+x%Old.Example", "joe@new.example"),
    (ALL, "joe#EXAMPLE.org", "joe@Example.net"),
])
def test_names(text: str, user: str, wanted: str) -> None:
    assert UserFormat().parse(text).applied(user) == wanted


def test_many_spellings_are_one_user() -> None:
    form = UserFormat().parse("lower separators=% domain=example.org")
    assert {form.applied(name) for name in ("Joe", "JOE", "joe@example.org", "joe%example.org", "joe@EXAMPLE.ORG")} == {
        "joe@example.org"}


@pytest.mark.parametrize("text", [
    "upper", "lower=1", "lower lower", "separators", "separators=", "separators=a", "separators=@", "detail=",
    "detail=++", "detail=+ separators=+", "swap=", "swap=a", "swap=a:b:c", "swap=a:", "swap=a:b swap=a:c", "strip=a:b",
    "strip=@", "domain", "domain=", "domain=a@b", "domain=a domain=b", "domain=ä", "=",
])
def test_mistakes(text: str) -> None:
    with pytest.raises(ValueError, match="words of lower"):
        UserFormat().parse(text)


@pytest.mark.parametrize("text", ["", "lower", "  lower   strip ", ALL])
def test_what_is_shown_is_read_back(text: str) -> None:
    kind = UserFormat()
    assert kind.parse(kind.show(kind.parse(text))) == kind.parse(text)
    assert kind.parse("") == NameForm()
