"""The module passwd: records, small files in any order, large ones by bisection against a linear search."""

import os
import random
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popular.errors import PdmError
from popular.pdm import records
from popular.pdm.api import UNKNOWN, Answer, Found, Outcome
from tests.harness.pdm import make_module, make_request

JOE = "joe:{PLAIN}secret:store1:cxpop:3/2d/joe"
SORT = ["sort", "-t:", "-k1,1"]


@pytest.fixture
def source():
    """The module's own file as it was loaded last."""
    make_module("passwd", "/nowhere")
    return sys.modules["popular_pdm_passwd"]


@pytest.fixture
def users(tmp_path):
    """A function that writes a file of users and returns a module on it."""
    def write(text):
        path = tmp_path / "users"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return make_module("passwd", path)
    return write


@pytest.fixture
def open_bytes(tmp_path):
    """A function that writes octets to a file and returns a descriptor; closed with the test."""
    opened = []

    def write(data):
        fd = os.open(tmp_path / "data", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        opened.append(fd)
        os.write(fd, data)
        return fd
    yield write
    for fd in opened:
        os.close(fd)


def big(count=100_000, width=5):
    """Return sorted lines of many users, each with their mailbox."""
    return b"".join(b"user%0*d:{PLAIN}secret:store1::%d\n" % (width, number, number) for number in range(count))


@pytest.mark.parametrize("record, found", [
    ("{PLAIN}secret:s:cxpop:a/b", Found("s", "cxpop", "a/b")),
    ("{PLAIN}secret:s::a", Found("s", "", "a")),
    ("{PLAIN}secret:s:pop3::joe@x:p:w", Found("s", "pop3", "", "joe@x", b"p:w")),
    ("{PLAIN}secret:s::a:joe:pw", Found("s", "", "a", "joe", b"pw")),
    (b"{PLAIN}secret:s:pop3::j\xffe:\xfe", Found("s", "pop3", "", "j\udcffe", b"\xfe")),
])
def test_records(users, record, found):
    line = b"joe:" + (record if isinstance(record, bytes) else record.encode()) + b"\n"
    assert users(line).check(make_request("joe")) == Answer(Outcome.OK, found)
    assert users(line).check(make_request("joe", "x")) == Answer(Outcome.DENIED, found, "wrong password")


@pytest.mark.parametrize("record", ["", ":", "{PLAIN}secret", "{PLAIN}secret:s", "{PLAIN}secret:s:p", ":s::m",
                                    "{PLAIN}secret:s::m:u", "secret:s::m", "{WHAT}secret:s::m",
                                    "{PLAIN}secret:s::" + "m" * 5000])
def test_a_damaged_record_is_a_failure_of_that_user_only(users, record):
    module = users(f"ann:{record}\n{JOE}\n")
    answer = module.check(make_request("ann"))
    assert answer.outcome is Outcome.FAILED and answer.why and "secret" not in answer.why
    assert module.check(make_request("joe")).outcome is Outcome.OK


@pytest.mark.parametrize("text, user, is_there", [
    pytest.param(JOE, "joe", True, id="no line end"),
    pytest.param(JOE + "\r\n", "joe", True, id="CRLF"),
    pytest.param("\n\n# x\n" + JOE + "\n", "joe", True, id="behind comments"),
    pytest.param("zoe:{PLAIN}secret:s::z\n" + JOE + "\n", "joe", True, id="not sorted"),
    pytest.param(JOE.replace("joe", "joey") + "\n" + JOE, "joe", True, id="behind a longer name"),
    pytest.param(JOE.replace("joe", "joey", 1), "joe", False, id="begins alike"),
    pytest.param("x" + JOE, "joe", False, id="ends alike"),
    pytest.param("#" + JOE, "joe", False, id="closed by a comment"),
    pytest.param("#" + JOE, "#joe", False, id="a comment is no user"),
    pytest.param(JOE, "", False, id="empty name"),
    pytest.param(JOE, "joe:{PLAIN}secret", False, id="colon in the name"),
    pytest.param("x:\n" + JOE, "x:\njoe", False, id="line end in the name"),
    pytest.param(JOE, "JOE", False, id="upper case"),
    pytest.param(JOE, "j" * 256, False, id="long name"),
    pytest.param("", "joe", False, id="empty file"),
    pytest.param(JOE.replace("joe", "jöe"), "jöe", True, id="UTF-8"),
    pytest.param(b"j\xffe:{PLAIN}secret:s::m", "j\udcffe", True, id="octets"),
    pytest.param(JOE, "\ud800", False, id="no octets"),
])
def test_names(users, text, user, is_there):
    assert users(text).check(make_request(user)).outcome is (Outcome.OK if is_there else Outcome.UNKNOWN)


def test_the_first_of_several_lines_counts(users):
    lines = b"".join(b"joe:{PLAIN}secret:s::%d\n" % number for number in range(3))
    assert users(lines).check(make_request("joe")).found.mailbox == "0"
    around = big(60_000)
    dozens = around.replace(b"user30000:", b"user29999:").replace(b"user30001:", b"user29999:")
    assert users(dozens).check(make_request("user29999")).found.mailbox == "29999"


def test_a_large_file_is_searched_by_bisection(users, source, monkeypatch):
    module = users(b"# users\n\n" + big())
    assert os.path.getsize(module.path) > 2 * source.MAX_UNSORTED
    reads = []
    pread = os.pread

    def counted(*args):
        reads.append(args)
        return pread(*args)
    monkeypatch.setattr(os, "pread", counted)
    for number in (0, 1, 4711, 50_000, 99_998, 99_999):
        reads.clear()
        assert module.check(make_request(f"user{number:05}")).found.mailbox == str(number)
        assert len(reads) < 25
    for name in ("a", "user", "user0471", "user047110", "user99999x", "zoe", "user5"):
        assert module.check(make_request(name)) == UNKNOWN


def test_a_large_file_that_is_not_sorted_is_refused_with_the_command_that_mends_it(users):
    lines = big().splitlines(keepends=True)
    random.Random(1).shuffle(lines)
    module = users(b"".join(lines))
    with pytest.raises(PdmError) as caught:
        module.check(make_request("user00123"))
    path = module.path
    command = f"LC_ALL=C sort -t: -k1,1 -o {path} {path}"
    assert str(caught.value).startswith(f"{path}: not sorted at user '") and str(caught.value).endswith(command)
    subprocess.run(command, shell=True, check=True, timeout=60)
    assert module.check(make_request("user00123")).found.mailbox == "123"


@pytest.mark.parametrize("tail", [b"bob:{PLAIN}secret:s::b\n", b"bob:{PLAIN}secret:s::b\ncarl:{PLAIN}secret:s::c"])
def test_lines_added_at_the_end_of_a_large_file_are_noticed(users, tail):
    module = users(big() + tail)
    for name in ("bob", "user00001", "user77777", "zoe"):
        with pytest.raises(PdmError, match="not sorted"):
            module.check(make_request(name))


def test_two_sorted_files_in_one_are_noticed_before_a_user_is_called_unknown(users):
    lines = big().splitlines(keepends=True)
    module = users(b"".join(lines[1::2] + lines[::2]))
    for number in range(0, 100_000, 9_973):
        try:
            assert module.check(make_request(f"user{number:05}")).found.mailbox == str(number)
        except PdmError as why:
            assert "not sorted" in str(why)
    with pytest.raises(PdmError, match="not sorted"):
        module.check(make_request("user77777x"))


def test_a_large_file_in_the_order_of_whole_lines_is_not_in_ours(users):
    """`-` comes before `:`, so a plain sort would put joe-x before joe; the key alone puts it behind."""
    module = users(big() + b"zoe:{PLAIN}secret:s::z\nzoe-x:{PLAIN}secret:s::zx\nzoe.y:{PLAIN}secret:s::zy\n")
    assert [module.check(make_request(name)).found.mailbox for name in ("zoe", "zoe-x", "zoe.y")] == ["z", "zx", "zy"]


@pytest.mark.parametrize("where", ["front", "middle", "end"])
def test_long_comments_in_a_large_file(users, where):
    lines = big(60_000).splitlines(keepends=True)
    place = {"front": 0, "middle": 30_000, "end": len(lines)}[where]
    lines[place:place] = [b"# a comment: of some length, out of order\n"] * 30_000
    module = users(b"".join(lines))
    for number in (0, 29_999, 30_000, 59_999):
        assert module.check(make_request(f"user{number:05}")).found.mailbox == str(number)
    assert module.check(make_request("user29999x")) == UNKNOWN


def test_an_endless_line_in_a_large_file_is_refused(users):
    module = users(b"a" * (2 << 20))
    with pytest.raises(PdmError, match="more than 4096 octets"):
        module.check(make_request("joe"))


NAMES = st.binary(min_size=1, max_size=6).filter(lambda name: not set(b":\n\r\0") & set(name) and name[:1] != b"#")
ALIKE = st.text("ab-.", min_size=1, max_size=5).map(str.encode)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES | ALIKE, max_size=40, unique=True), others=st.lists(NAMES | ALIKE, max_size=6),
       fill=st.integers(0, 40), comments=st.lists(st.integers(0, 60), max_size=10), ends=st.booleans())
def test_bisection_finds_what_a_linear_search_finds(source, open_bytes, names, others, fill, comments, ends):
    lines = [name + b":" + b"x" * fill + name for name in sorted(names)]
    for place in comments:
        lines.insert(min(place, len(lines)), (b"#zz: out of order", b"", b"zz has no colon")[place % 3])
    text = b"\n".join(lines) + b"\n" * ends
    fd = open_bytes(text)
    block, source.BLOCK = source.BLOCK, 16
    try:
        for name in {*names, *others, *(name + b"a" for name in names), *(name[:-1] or b"a" for name in names)}:
            if records.key_of(name.decode("utf-8", "surrogateescape")) is not None:
                assert source.find_sorted(fd, name, len(text)) == source.find_unsorted(fd, name, len(text)), name
    finally:
        source.BLOCK = block


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES | ALIKE, min_size=1, max_size=30))
def test_the_order_of_sort_is_the_order_that_is_searched(source, open_bytes, names):
    text = b"".join(name + b":" + name + b"\n" for name in names)
    ordered = subprocess.run(SORT, input=text, env={"LC_ALL": "C", "PATH": os.environ["PATH"]}, check=True,
                             timeout=20, stdout=subprocess.PIPE).stdout
    fd = open_bytes(ordered)
    block, source.BLOCK = source.BLOCK, 16
    try:
        assert [source.find_sorted(fd, name, len(ordered)) for name in names] == names
    finally:
        source.BLOCK = block


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300), key=NAMES)
def test_garbage_ends_in_an_answer_or_a_value_error(source, open_bytes, data, key):
    fd = open_bytes(data)
    block, source.BLOCK = source.BLOCK, 16
    try:
        source.find_sorted(fd, key, len(data) + 50)    # cut short meanwhile
    except ValueError:
        pass
    finally:
        source.BLOCK = block
