"""What commands have changed goes into the INI file, and nothing else of the file changes."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from popular.config.changes import Change, Told, changes, changes_from, render_changes, to_json
from popular.config.ini import save as inisave
from popular.config.ini.edit import edited
from popular.config.ini.file import read_ini
from popular.config.ini.save import save
from popular.config.store import FROM_COMMAND, Config, Source, default_config, with_item, with_variable, without_item
from popular.errors import UsageError
from popular.pproxy.settings import SCHEMA

FILE = """\
# The proxy of example.org

[pproxy]
maxsession=500      # was 400
#maxline = 255
  sidprefix = 'px'

# clients come here
[vserv]
    [[main]]
    # all of them
    address = 127.0.0.1:110
    namespace = "example.org"   # ours

    # the old one
    [[old]]
        address = 127.0.0.1:111

# and where mail is
[backend]
  [[store]]
  protocol = xpop
  address = 10.0.0.5:1110

"""


def present(*lines: str) -> tuple[Config, Config]:
    """Return what is in force after some changes, and what the file says."""
    base = default_config(SCHEMA)
    for name, text in (("maxsession", "500"), ("sidprefix", "px")):
        base = with_variable(base, SCHEMA, name, text)
    base = with_item(base, SCHEMA, "vserv", "main", {"address": "127.0.0.1:110", "namespace": "example.org"}, "file")
    base = with_item(base, SCHEMA, "vserv", "old", {"address": "127.0.0.1:111"}, "file")
    base = with_item(base, SCHEMA, "backend", "store", {"protocol": "xpop", "address": "10.0.0.5:1110"}, "file")
    config = base
    for line in lines:
        words = line.split()
        if words[0] == "set":
            config = with_variable(config, SCHEMA, words[1], " ".join(words[2:]))
        elif words[0] == "remove":
            config = without_item(config, SCHEMA, *words[1].split("/"))
        else:
            cls, ident = words[1].split("/")
            pairs = dict(word.split("=", 1) for word in words[2:])
            config = with_item(config, SCHEMA, cls, ident, pairs, FROM_COMMAND, keep=words[0] == "change")
    return config, base


def edit(text: str, *lines: str) -> str:
    """Return a file after changes."""
    config, base = present(*lines)
    return "\n".join(edited(text.split("\n"), changes(config, base, SCHEMA)))


@pytest.mark.parametrize(("line", "old", "new"), [
    pytest.param("set maxsession 600", "maxsession=500      # was", "maxsession=600      # was", id="in place"),
    pytest.param("set sidprefix p2", "  sidprefix = 'px'", "  sidprefix = p2", id="quoted"),
    pytest.param("set sidprefix", "  sidprefix = 'px'", "  sidprefix =", id="taken away"),
    pytest.param("set maxline 99", "#maxline = 255\n", "#maxline = 255\n  maxline = 99\n", id="behind its comment"),
    pytest.param("set maxerrors 9", "sidprefix = 'px'\n", "sidprefix = 'px'\n  maxerrors = 9\n", id="a new key"),
    pytest.param("change vserv/main namespace=a", '"example.org"   # ours', "a   # ours", id="of an object"),
    pytest.param("change vserv/main banner=#1", "# ours\n", '# ours\n    banner = "#1"\n', id="needs quotes"),
    pytest.param("change backend/store drain=on", ":1110\n", ":1110\n  drain = on\n", id="the last object"),
    pytest.param("remove vserv/old", "    [[old]]\n        address = 127.0.0.1:111\n", "", id="gone"),
    pytest.param("add vserv/new address=[::1]:110", "127.0.0.1:111\n",
                 "127.0.0.1:111\n    [[new]]\n    address = [::1]:110\n", id="a new object"),
    pytest.param("add pdm/any module=any", "1110\n\n",
                 "1110\n\n[pdm]\n    [[any]]\n    module = any\n", id="a new section"),
])
def test_only_what_has_changed_changes(line: str, old: str, new: str) -> None:
    assert FILE.count(old) == 1
    assert edit(FILE, line) == FILE.replace(old, new)
    assert edit(FILE.replace("\n", "\r\n"), line) == FILE.replace(old, new).replace("\n", "\r\n")


def test_what_differs_is_shown_as_an_ini_file() -> None:
    config, base = present("set maxsession 600", "set sidprefix", "change vserv/main namespace=a", "remove vserv/old",
                           "add pdm/any module=any")
    assert list(render_changes(changes(config, base, SCHEMA))) == [
        "[pproxy]", "maxsession = 600", "sidprefix =", "[vserv]", "    [[main]]", "    namespace = a",
        "    # no [[old]] any more", "[pdm]", "    [[any]]", "    module = any"]
    assert list(render_changes(changes(base, base, SCHEMA))) == []


def digest_of(path: Path) -> str:
    """Return what a Config tells of the file that it was read from."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The INI file."""
    path = tmp_path / "pproxy.conf"
    path.write_text(FILE)
    path.chmod(0o640)
    return path


def told(file: Path, *lines: str) -> Told:
    """Return what a daemon tells that has read the file and obeyed commands."""
    config, base = present(*lines)
    base = replace(base, source=Source(str(file), digest_of(file)))
    return changes_from(to_json("pproxy", base, changes(config, base, SCHEMA)))


def test_a_file_is_written_whole_with_the_old_one_beside_it(file: Path) -> None:
    if os.geteuid() == 0:
        os.chown(file, 0, 12)
    before = file.stat()
    assert save(told(file, "set maxsession 600"), SCHEMA) == str(file)
    assert file.read_text() == FILE.replace("500", "600")
    assert (file.parent / "pproxy.conf.old").read_text() == FILE
    for path in (file, file.parent / "pproxy.conf.old"):
        after = path.stat()
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert sorted(os.listdir(file.parent)) == ["pproxy.conf", "pproxy.conf.old"]
    save(told(file, "set maxsession 700"), SCHEMA)
    assert "=600" in (file.parent / "pproxy.conf.old").read_text()


def test_two_never_save_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their new files have one name, so one could put into place what the other has not yet written."""
    write = inisave._write
    refused = []

    def write_while_another_saves(*given):
        monkeypatch.setattr(inisave, "_write", write)
        with pytest.raises(UsageError) as why:
            save(told(file, "set maxsession 700"), SCHEMA)
        refused.append(str(why.value))
        return write(*given)

    monkeypatch.setattr(inisave, "_write", write_while_another_saves)
    save(told(file, "set maxsession 600"), SCHEMA)
    assert refused == [f"{file}: somebody else is saving; try again"]
    assert file.read_text() == FILE.replace("maxsession=500", "maxsession=600")
    save(told(file, "set maxline 99"), SCHEMA)


def test_what_a_link_leads_to_is_written(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.conf"
    link.symlink_to(file)
    save(told(link, "set maxsession 600"), SCHEMA)
    assert link.is_symlink() and "=600" in file.read_text()


@pytest.mark.parametrize(("change", "why"), [
    pytest.param(lambda file: file.write_text(FILE + "# a word\n"), "was changed after", id="edited"),
    pytest.param(lambda file: file.unlink(), "there is no file", id="gone"),
])
def test_a_file_that_changed_meanwhile_is_left_alone(file: Path, change, why: str) -> None:
    words = told(file, "set maxsession 600")
    change(file)
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    with pytest.raises(UsageError, match=why):
        save(words, SCHEMA)
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before


@pytest.mark.parametrize(("change", "why"), [
    pytest.param(Change("pproxy", "", {"user": "root"}), "user is read-only", id="fixed"),
    pytest.param(Change("pproxy", "", {"nix": "1"}), "no such variable", id="unknown"),
    pytest.param(Change("cron", "x", {"a": "b"}), "no such class", id="class"),
    pytest.param(Change("vserv", "x]\n[pproxy", {"address": "127.0.0.1:1"}, is_new=True), "is not an id", id="id"),
    pytest.param(Change("vserv", "main", {"banner": "a\nuser = root"}), "is not one line", id="two lines"),
])
def test_a_hostile_daemon_writes_nothing_that_commands_could_not(file: Path, change: Change, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        save(replace(told(file), changes=(change,)), SCHEMA)
    assert (file.read_text(), os.listdir(file.parent)) == (FILE, ["pproxy.conf"])


@pytest.mark.parametrize("text", [
    "", "{", "[]", '{"program": 1}', '{"program": "x", "path": "", "digest": "", "changes": [1]}', "[" * 100_000])
def test_what_is_no_word_of_a_daemon(text: str) -> None:
    with pytest.raises(ValueError, match="in an unknown form"):
        changes_from(text)


TEXTS = st.text("ab#'\"\\=[] %,;x1", max_size=12)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.dictionaries(st.sampled_from(["banner", "tlsciphers"]), TEXTS), TEXTS, st.booleans(),
       st.sampled_from(["main", "old", "new", "n-2"]))
def test_whatever_is_saved_reads_back(tmp_path_factory, values, args, is_gone, ident) -> None:
    """`save` itself proves it, and refuses a layout that it does not understand."""
    file = tmp_path_factory.mktemp("save") / "pproxy.conf"
    file.write_text(FILE)
    base = read_ini(str(file), SCHEMA, default_config(SCHEMA))
    assert base.source == Source(str(file), digest_of(file))
    config = base if not is_gone else without_item(base, SCHEMA, "vserv", "old")
    config = with_item(config, SCHEMA, "vserv", ident, {"address": "127.0.0.1:0", **values}, FROM_COMMAND)
    config = with_item(config, SCHEMA, "pdm", "p", {"module": "any", "args": args}, FROM_COMMAND)
    save(changes_from(to_json("pproxy", base, changes(config, base, SCHEMA))), SCHEMA)
    after = read_ini(str(file), SCHEMA, default_config(SCHEMA))
    assert {item.ident: item.values for item in after.items("vserv")} == {
        item.ident: item.values for item in config.items("vserv")}
    assert [item.values for item in after.items("pdm")] == [item.values for item in config.items("pdm")]
    assert digest_of(file.parent / "pproxy.conf.old") == base.source.digest
