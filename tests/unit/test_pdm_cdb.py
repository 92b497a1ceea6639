"""Constant databases: our reader and writer against pure-cdb, the module, damage, and pmakecdb."""

import grp
import io
import os
import stat
import sys

import cdblib
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popular.errors import PdmError
from popular.pdm.api import Outcome
from popular.pdm.databases import cdbfile
from popular.tools import pmakecdb
from tests.harness.pdm import make_module, make_request

PAIRS = st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=40)), max_size=80)
QUIET = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = b"# users\n\njoe:{PLAIN}secret:store1:cxpop:3/2d/joe\r\nann:{PLAIN}secret:store2:pop3::ann:a:b\n"


@pytest.fixture
def fd(tmp_path):
    """A descriptor to write octets to and read a database from."""
    number = os.open(tmp_path / "scratch", os.O_RDWR | os.O_CREAT)
    yield number
    os.close(number)


def fill(fd, data):
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)
    return fd


def ours(pairs):
    output = io.BytesIO()
    assert cdbfile.write(output, pairs) == len(pairs)
    return output.getvalue()


def theirs(pairs):
    output = io.BytesIO()
    with cdblib.Writer(output) as writer:
        for key, data in pairs:
            writer.put(key, data)
    return output.getvalue()


@QUIET
@given(pairs=PAIRS, other=st.binary(max_size=12))
def test_we_read_what_another_writes(fd, pairs, other):
    fill(fd, theirs(pairs))
    first = dict(reversed(pairs))
    for key in {*first, other}:
        assert cdbfile.find(fd, key, 100) == first.get(key)


@QUIET
@given(pairs=PAIRS, other=st.binary(max_size=12))
def test_another_reads_what_we_write(pairs, other):
    reader = cdblib.Reader(ours(pairs))
    first = dict(reversed(pairs))
    assert list(reader.iteritems()) == pairs
    for key in {*first, other}:
        assert reader.get(key) == first.get(key)


def test_a_table_that_is_longer_than_one_read(fd):
    wanted = [key for key in (b"%d" % number for number in range(60_000)) if cdbfile.hash_of(key) & 255 == 7]
    fill(fd, ours([(key, b"=" + key) for key in wanted]))
    assert [cdbfile.find(fd, key, 100) for key in wanted] == [b"=" + key for key in wanted]


def test_the_search_goes_on_at_the_begin_of_its_table(fd):
    alike = [key for key in (b"%d" % number for number in range(400_000))
             if cdbfile.hash_of(key) & 255 == 7 and (cdbfile.hash_of(key) >> 8) % 6 == 5][:3]
    fill(fd, ours([(key, b"=" + key) for key in alike]))
    assert [cdbfile.find(fd, key, 100) for key in alike] == [b"=" + key for key in alike]


@QUIET
@given(pairs=PAIRS, data=st.data())
def test_damage_ends_in_an_answer_or_a_value_error(fd, pairs, data):
    good = bytearray(ours(pairs))
    for place, octet in data.draw(st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(0, 255)), max_size=20)):
        good[place] = octet
    fill(fd, bytes(good[:data.draw(st.integers(0, len(good)))]))
    for key in {b"x", *(key for key, _ in pairs)}:
        try:
            cdbfile.find(fd, key, 100)
        except ValueError:
            pass


def test_a_record_has_a_limit(fd):
    fill(fd, ours([(b"a", b"x" * 100), (b"b", b"x" * 101)]))
    assert cdbfile.find(fd, b"a", 100) == b"x" * 100
    with pytest.raises(ValueError, match="more than 100 octets"):
        cdbfile.find(fd, b"b", 100)


def test_no_database_is_larger_than_its_numbers(monkeypatch):
    monkeypatch.setattr(cdbfile, "_MAX_POSITION", 3000)
    ours([(b"k", b"x" * 900)])
    with pytest.raises(ValueError, match="4 GiB"):
        ours([(b"k", b"x" * 950)])


# the module

@pytest.fixture
def users(tmp_path):
    """A module on a database with joe, and a function that puts another one into its place."""
    path = tmp_path / "users.cdb"

    def replace(data):
        (tmp_path / "new").write_bytes(data)
        os.rename(tmp_path / "new", path)
    replace(theirs([(b"joe", b"{PLAIN}secret:store1:cxpop:3/2d/joe")]))
    return make_module("cdb", path), replace


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\xff" * 2048, b"\xff" * 10_000],
                         ids=["empty", "short", "table", "all"])
def test_a_damaged_file_is_an_error(users, data):
    module, replace = users
    replace(data)
    with pytest.raises(PdmError, match="users.cdb: the constant database is damaged or cut short"):
        module.check(make_request("joe"))


def test_a_damaged_record_is_a_failure(users):
    module, replace = users
    replace(ours([(b"joe", b"{PLAIN}secret:s")]))
    answer = module.check(make_request("joe"))
    assert answer.outcome is Outcome.FAILED and "secret" not in answer.why


# pmakecdb

@pytest.fixture
def made(tmp_path):
    """A function that runs pmakecdb on a text and returns exit code and database."""
    def run(text):
        (tmp_path / "text").write_bytes(text)
        return pmakecdb.run([str(tmp_path / "out.cdb"), str(tmp_path / "text")]), tmp_path / "out.cdb"
    return run


def test_pmakecdb_makes_what_the_module_reads(made):
    code, path = made(TEXT)
    assert code == 0
    assert dict(cdblib.Reader(path.read_bytes()).iteritems()) == {
        b"joe": b"{PLAIN}secret:store1:cxpop:3/2d/joe", b"ann": b"{PLAIN}secret:store2:pop3::ann:a:b"}
    assert make_module("cdb", path).check(make_request("ann")).found.password == b"a:b"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(path.parent)) == ["out.cdb", "text"]


def test_pmakecdb_keeps_rights_and_replaces_as_a_whole(made):
    _, path = made(TEXT)
    path.chmod(0o604)
    before = path.stat()
    with open(path, "rb") as old:
        assert made(b"")[0] == 0
        assert len(old.read()) > len(path.read_bytes())
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert path.stat().st_ino != before.st_ino


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to a group that is not its own")
def test_a_new_file_of_root_can_be_read_by_the_daemons(made, monkeypatch, capsys):
    monkeypatch.setattr(grp, "getgrnam", {"pop": grp.struct_group(("pop", "x", 4711, []))}.__getitem__)
    code, path = made(TEXT)
    assert (code, path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (0, 4711, 0o640)
    os.chown(path, -1, 4712)
    assert (made(TEXT)[0], path.stat().st_gid) == (0, 4712)    # it is the administrator's
    path.unlink()
    with pytest.raises(SystemExit):
        pmakecdb.run(["--group", "none", str(path), str(path.parent / "text")])
    assert "no such group 'none'" in capsys.readouterr().err


def test_an_error_of_pmakecdb_that_nobody_expected_is_70(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pmakecdb", "out", "text"])
    monkeypatch.setattr(pmakecdb, "open_text", lambda path: 1 / 0)
    assert pmakecdb.main() == 70
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_pmakecdb_brings_file_and_folder_to_disk_in_order(made, monkeypatch):
    events = []

    def watch(name):
        real = getattr(os, name)

        def noted(*args):
            events.append(name)
            return real(*args)
        monkeypatch.setattr(os, name, noted)
    watch("fsync")
    watch("rename")
    assert made(TEXT)[0] == 0
    assert events == ["fsync", "rename", "fsync"]


@pytest.mark.parametrize("text, told", [
    (b"joe", "text:1: the record has 1 fields"), (b"joe:x:s", "has 2 fields"),
    (b":x:s::m", "text:1: must have a user's name"),
    (b"joe::s::m", "has no password"), (b"joe:x:s::../m", "not well-formed"), (b"joe:x:s:imap:m", "protocol 'imap'"),
    (b"joe:x:::m", "text:1: no backend"),
    (b"joe:x:s::joe@a", "'joe@a' is not well-formed: it must have letters, digits"),
    (b"\n" + TEXT + b"joe:x:s::m", "text:6: the user is given twice"),
])
def test_pmakecdb_reports_mistakes_and_leaves_the_file_alone(made, capsys, text, told):
    _, path = made(TEXT)
    before = path.stat()
    code, _ = made(text + b"\n:another:\n")
    assert code == 65
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and told in lines[0] and ":another:" not in lines[1]
    assert path.stat() == before
    assert sorted(os.listdir(path.parent)) == ["out.cdb", "text"]


def test_pmakecdb_and_files_that_cannot_be_used(made, tmp_path, capsys):
    assert pmakecdb.run([str(tmp_path / "out"), str(tmp_path / "none")]) == 66
    made(TEXT)
    assert pmakecdb.run([str(tmp_path / "none" / "out"), str(tmp_path / "text")]) == 73
    assert all(line.startswith("pmakecdb: ") for line in capsys.readouterr().err.splitlines())
    with pytest.raises(SystemExit) as caught:
        pmakecdb.run([])
    assert caught.value.code == 64
