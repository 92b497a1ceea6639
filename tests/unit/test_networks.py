"""popular.networks and the kinds that read them: which addresses are in which networks."""

import pytest

from popular.config.netkinds import NetworkList, Prefixes
from popular.networks import MAX_NETWORKS, Networks, ClientAddress, PrefixLengths, file_words

LIST = "192.0.2.0/24, 198.51.100.7 2001:db8::/32\n10.0.0.0/8"


@pytest.mark.parametrize("host, is_in", [
    ("192.0.2.1", True), ("192.0.3.1", False), ("198.51.100.7", True), ("198.51.100.8", False), ("10.255.0.1", True),
    ("2001:db8:1::1", True), ("2001:db9::1", False), ("::1", False), ("::10.0.0.1", False),
    ("fe80::1%eth0", False)])
def test_members(host: str, is_in: bool) -> None:
    assert (ClientAddress.of(host) in NetworkList().parse(LIST)) is is_in


def test_the_empty_list_and_the_whole_world() -> None:
    assert ClientAddress.of("192.0.2.1") not in Networks()
    assert not Networks() and not NetworkList().parse("none")
    assert ClientAddress.of("192.0.2.1") in NetworkList().parse("0.0.0.0/0")
    assert ClientAddress.of("::1") not in NetworkList().parse("0.0.0.0/0")


@pytest.mark.parametrize("text", [LIST, "none", "", "192.0.2.1/24"])
def test_what_is_shown_is_read_back(text: str) -> None:
    kind = NetworkList()
    assert kind.parse(kind.show(kind.parse(text))) == kind.parse(text)


@pytest.mark.parametrize("text", ["192.0.2", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/-1", "192.0.2.0/x", "store1",
                                  "2001:db8::/129", "::1%lo", "192.0.2.1 all", "1.2.3.4/٣", "\0"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match="a list of networks such as"):
        NetworkList().parse(text)


def test_a_list_has_a_limit() -> None:
    with pytest.raises(ValueError, match="more than"):
        Networks.read("::1" for _ in range(MAX_NETWORKS + 1))


def test_a_file_has_comments() -> None:
    assert list(file_words(["# all\n", "192.0.2.1 ::1 # two\n", "\n", "10.0.0.0/8,"])) == [
        "192.0.2.1", "::1", "10.0.0.0/8"]


@pytest.mark.parametrize("text, lengths", [("24 48", PrefixLengths(24, 48)), ("32,128", PrefixLengths(32, 128)),
                                           (" 1  1 ", PrefixLengths(1, 1))])
def test_lengths(text: str, lengths: PrefixLengths) -> None:
    assert Prefixes().parse(text) == lengths == Prefixes().parse(Prefixes().show(lengths))


@pytest.mark.parametrize("text", ["", "24", "24 48 1", "0 48", "33 48", "24 129", "24 x", "24 -1", "1e1 2"])
def test_what_are_no_lengths(text: str) -> None:
    with pytest.raises(ValueError, match="such as 24 48"):
        Prefixes().parse(text)


@pytest.mark.parametrize("one, other, are_one", [
    ("192.0.2.1", "192.0.2.254", True), ("192.0.2.1", "192.0.3.1", False),
    ("2001:db8:0:1::1", "2001:db8:0:2::1", True), ("2001:db8:1::1", "2001:db8:2::1", False),
    ("0.0.0.0", "::", False)])
def test_who_is_counted_together(one: str, other: str, are_one: bool) -> None:
    lengths = PrefixLengths(24, 48)
    assert (lengths.key(ClientAddress.of(one)) == lengths.key(ClientAddress.of(other))) is are_one
