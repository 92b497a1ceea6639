"""Names of message files: which promise a size, what stays of them, and in what order they come."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from popular.store import filename

OURS = "945113196.14341_1067"
PLAIN = "1" + OURS


@pytest.mark.parametrize(("name", "size"), [
    pytest.param(OURS, 1067, id="ours"),
    pytest.param("945113196.14341.M000123_1067", 1067, id="ours-with-microseconds"),
    pytest.param(OURS + ":2,S", 1067, id="ours-flagged-by-another-program"),
    pytest.param(OURS + ",S=1050,W=1070:2,S", 1067, id="ours-with-sizes-of-another-program"),
    pytest.param("945113196.14341_0", 0, id="nothing"),
    pytest.param("1234.M5P6.host,S=1000,W=1030:2,S", 1030, id="wire-size"),
    pytest.param("1234.M5P6.host,W=1030", 1030, id="wire-size-alone"),
    pytest.param("1234.M5P6.host,W=1030,S=1000", 1030, id="wire-size-first"),
    pytest.param("1234.M5P6.host,S=1000:2,S", None, id="only-the-size-on-disk"),
    pytest.param("1234.M5P6.host:2,W=3", None, id="a-flag-is-no-size"),
    pytest.param("1234.M5P6.host,W=10x", None, id="no-number"),
    pytest.param("1234.M5P6.host,W=-10", None, id="negative"),
    pytest.param("1234.M5P6.host,W=" + "9" * 19, None, id="endless-number"),
    pytest.param("1075238321.16373_1.host", None, id="procmail"),
    pytest.param("1075238321.16373.mx_1", None, id="host-with-an-underscore"),
    pytest.param("945113196.14341", None, id="no-size"),
    pytest.param("945113196.14341_", None, id="empty-size"),
    pytest.param("945113196_1067", None, id="no-pid"),
    pytest.param("\u0661.1_1", None, id="digits-of-another-script"),
    pytest.param("letter", None, id="plain"),
    pytest.param("", None, id="empty"),
])
def test_spec_9_1_size_is_in_the_name(name: str, size: int | None) -> None:
    assert filename.size_of(name) == size


@pytest.mark.parametrize(("names", "octets"), [
    pytest.param([], 0, id="none"),
    pytest.param([PLAIN], 1067, id="one"),
    pytest.param([PLAIN, OURS, "1.1_1"], 2135, id="short-times"),
    pytest.param([PLAIN, "1700000000.1.M000042_0", "9999999999.123456789012345678_" + "9" * 18], 10**18 + 1066,
                 id="all-forms"),
    *[pytest.param([PLAIN, odd, PLAIN], None, id=f"odd-{ascii(odd)}") for odd in (
        PLAIN + ":2,S", PLAIN + ",S=1", "01234567890.1_1", "\u0661234567890.1_1",
        "1234567890.1_\u0661", "1234567890.1_" + "1" * 19, "1234567890." + "1" * 19 + "_1", "1234567890._1",
        "1234567890.1_", "1234567890.1", "1234567890.1_1.host", "1234567890.1_1\n", " 1234567890.1_1",
        "1234567890.1_1\n1234567890.1_1", "1234567890.1.M_1", "1234567890.1.M1", "1234567890_1", "bad\udcff", "")],
])
def test_octets_of_plain_names(names: list[str], octets: int | None) -> None:
    assert filename.plain_octets(names) == octets


def test_spec_9_1_name_is_time_dot_pid_underscore_size() -> None:
    assert filename.new_name(945113196, 14341, 1067) == OURS
    assert filename.new_name(945113196, 14341, 1067, 42) == "945113196.14341.M000042_1067"


@pytest.mark.parametrize("microseconds", [None, 0, 999999], ids=str)
def test_new_names_are_read_back(microseconds: int | None) -> None:
    name = filename.new_name(945113196, 14341, 1067, microseconds)
    assert filename.is_ours(name)
    assert filename.size_of(name) == 1067
    assert filename.uid_of(name) == name


@pytest.mark.parametrize(("name", "uid"), [
    pytest.param(OURS, OURS, id="ours"),
    pytest.param(OURS + ":2,RS", OURS, id="flags-are-cut"),
    pytest.param("1234.host,S=1,W=2:2,S", "1234.host", id="sizes-are-cut"),
    pytest.param("1234:2,a,b", "1234", id="colon-first"),
    pytest.param("x" * 70, "x" * 70, id="as-long-as-may-be"),
])
def test_uid_is_the_part_that_stays(name: str, uid: str) -> None:
    assert filename.uid_of(name) == uid


@pytest.mark.parametrize("base", ["x" * 71, "a b", "a\tb", "gr\u00fc\u00dfe", "bad\udcff", ""], ids=ascii)
def test_uid_of_a_base_that_is_no_id_is_a_stable_hash(base: str) -> None:
    uid = filename.uid_of(base)
    assert 1 <= len(uid) <= filename.MAX_UID
    assert all("!" <= char <= "~" for char in uid)
    assert uid == filename.uid_of(base + ":2,S") == filename.uid_of(base + ",W=5")
    assert uid != filename.uid_of(base + "x")


@pytest.mark.parametrize("base", [OURS, "945113196.14341.M000042_1067", "1234.host", "x" * 70, "a b"])
def test_twin_base_is_a_new_id_of_the_same_form(base: str) -> None:
    twin = filename.twin_base(base + ":2,S", 4711)
    assert twin != filename.uid_of(base)
    assert twin != filename.twin_base(base, 4712)
    assert filename.uid_of(twin) == twin
    assert filename.size_of(twin) == filename.size_of(base)


def test_with_base_keeps_the_flags() -> None:
    assert filename.with_base("1234.host,S=90:2,S", "other") == "other,S=90:2,S"
    assert filename.with_base("1234.host", "other") == "other"


@pytest.mark.parametrize(("name", "foreign", "all_names"), [
    ("1.1_20", "1.1_20", "1.1_20:2,S"),
    ("1.1_20:2,", "1.1_20:2,S", "1.1_20:2,S"),
    ("1.1_20:2,FT", "1.1_20:2,FST", "1.1_20:2,FST"),
    ("1.x.host,S=9", "1.x.host,S=9:2,S", "1.x.host,S=9:2,S"),
    ("1.x.host:2,RSa", "1.x.host:2,RSa", "1.x.host:2,RSa"),
    ("1.x.host:2,Fab", "1.x.host:2,FSab", "1.x.host:2,FSab"),
    ("1.x.host:1,x", "1.x.host:1,x", "1.x.host:1,x"),
    ("1.x.host:2,F,x=1", "1.x.host:2,F,x=1", "1.x.host:2,F,x=1"),
    ("1." + "x" * 250, "1." + "x" * 250, "1." + "x" * 250),
])
def test_what_was_read_gets_the_flag_where_names_have_flags(name: str, foreign: str, all_names: str) -> None:
    assert filename.read_name(name, False) == foreign
    assert filename.read_name(name, True) == all_names
    assert filename.base_of(foreign) == filename.base_of(name)


def test_rank_is_by_time_then_base_and_names_without_a_time_come_last() -> None:
    names = ["9.1_1", "10.1_1", "10.2_1", "10.2_1x", "100.M1P2.host,W=4:2,S", "1000000000.1_1", "aaa", "x.5"]
    assert sorted(reversed(names), key=filename.rank_of) == names


@pytest.mark.parametrize("names", [
    pytest.param(["10.7_9", "10.7.M000003_5", "10.7.M000020_1", "11.7_1"], id="ours"),
    pytest.param(["10.999_1", "10.1000_1", "10.1000.M000001_1", "10.5.M000002_1"], id="process-ids-are-numbers"),
    pytest.param(["10.M5P9.host,S=3:2,S", "10.M42P1.host", "10.M100000P6.host"], id="dovecot"),
    pytest.param(["10.1_5", "10.V801I2c3M6.host", "10.7.M000007_1", "10.M8P1Q1.host"], id="mixed"),
    pytest.param(["10.H999P1.host", "10.H5000P1.host"], id="exim"),
    pytest.param(["10.9_1.host", "10.10_1.host"], id="procmail"),
    pytest.param(["10.7.M1234567_1", "10.7_1", "10.8_1", "10.7.M000001_1"], id="the-number-of-a-twin-is-no-time"),
])
def test_within_a_second_rank_is_the_order_of_delivery_as_far_as_names_tell(names: list[str]) -> None:
    assert sorted(reversed(names), key=filename.rank_of) == names


@given(st.lists(st.from_regex(r"1[0-3][0-9]{0,1}\.[1-9][0-9]{0,2}(\.M[0-9]{1,8})?_[0-9]{1,2}", fullmatch=True)))
def test_plain_names_are_sorted_by_rank_whatever_they_are(names: list[str]) -> None:
    ranked = sorted(names, key=filename.rank_of)
    filename.sort_plain(names)
    assert names == ranked


@pytest.mark.parametrize("names", [
    [], ["1.1_1"], ["1700000000.10_1", "1700000000.1_1", "1600000000.2_1", "1700000000.1.M5_1"],
    ["999999999.1_1", "1000000000.1_1", "1.1_1", "0999999999.2_1"]], ids=["none", "one", "one-length", "two-lengths"])
def test_plain_names_are_sorted_by_rank(names: list[str]) -> None:
    ranked = sorted(names, key=filename.rank_of)
    filename.sort_plain(names)
    assert names == ranked


def test_rank_does_not_hang_on_flags() -> None:
    assert filename.rank_of("10.1_1:2,S") == filename.rank_of("10.1_1")
