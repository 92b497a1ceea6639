"""The loader: what is loaded, and one clear line for everything that is not."""

import importlib.util
import os
import sys
from typing import Any

import pytest

from popular.errors import PdmError
from popular.pdm.asking import loader
from popular.pdm.asking.loader import load_module

GOOD = """
from __future__ import annotations
from dataclasses import dataclass
from popular.pdm.api import *

@dataclass
class Kept:
    word: str

class Module(PdmModule):
    def __init__(self, ident, args):
        if args[:1] == ["wrong"]:
            raise ValueError("wanted:\\nsomething else")
        self.kept = Kept(args[0] if args else "")
        {}["x"] if args[:1] == ["boom"] else None
        self.args = args
    def check(self, request):
        return UNKNOWN
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pdm_good.py").write_text(GOOD)
    (tmp_path / "pdm_good.py").chmod(0o644)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("popular_pdm_"):
            del sys.modules[name]


def write(folder, source, name="bad"):
    path = folder / f"pdm_{name}.py"
    path.write_text(source)
    path.chmod(0o644)
    return path


def refusal(folder, name="bad", args=()):
    with pytest.raises(PdmError) as caught:
        load_module(str(folder), "users", name, list(args))
    text = str(caught.value)
    assert "\n" not in text and "Traceback" not in text
    return text


def test_spec_7_2_a_module_gets_its_id_and_free_arguments(folder):
    path = list(sys.path)
    module = load_module(str(folder), "users", "good", ["a", "b c"])
    assert (module.ident, module.name, module.args) == ("users", "good", ["a", "b c"])
    assert module.describe() == "a 'b c'"
    assert module.namespaces == frozenset()
    assert sys.path == path


def test_no_bytecode_is_made_or_taken(folder, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    planted = folder / "__pycache__"
    planted.mkdir()
    cached = planted / os.path.basename(importlib.util.cache_from_source(str(folder / "pdm_good.py")))
    cached.write_bytes(b"garbage")
    load_module(str(folder), "users", "good", [])
    assert cached.read_bytes() == b"garbage"
    assert [path.name for path in planted.iterdir()] == [cached.name]


def test_the_file_as_it_is_now_is_loaded(folder):
    load_module(str(folder), "users", "good", [])
    path = write(folder, GOOD.replace("Kept", "Held"), "good")
    stamp = path.stat()
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns - 10 ** 12))
    module: Any = load_module(str(folder), "users", "good", [])
    assert type(module.kept).__name__ == "Held"


@pytest.mark.parametrize("args, namespaces, words", [
    pytest.param(["namespace=a"], {"a"}, [], id="one"),
    pytest.param(["x", "namespace=a.org,b.org", "y"], {"a.org", "b.org"}, ["x", "y"], id="two, in between"),
    pytest.param(["x", "mynamespace=a"], set(), ["x", "mynamespace=a"], id="another word"),
])
def test_the_scope_is_taken_out_of_the_arguments(folder, args, namespaces, words):
    module = load_module(str(folder), "users", "good", args)
    assert (module.namespaces, module.args) == (namespaces, words)


@pytest.mark.parametrize("args", [["namespace="], ["namespace=a,"], ["namespace=a", "namespace=b"]])
def test_a_wrong_scope_is_refused(folder, args):
    assert "give namespace=NS[,NS…] only once" in refusal(folder, "good", args)


@pytest.mark.parametrize("name", ["../x", "", "Good", "a-b", "a.b", "a/b", "ü", "a\n", "x" * 65])
def test_names_of_modules(folder, name):
    assert "is not a module name" in refusal(folder, name)


@pytest.mark.parametrize("source, wanted", [
    pytest.param("x = 1\nclass Module(:\n", "pdm_bad.py:2: invalid syntax", id="syntax"),
    pytest.param("\n\nimport no_such_driver\n", "pdm_bad.py:3: ModuleNotFoundError: No module named 'no_such_driver'",
                 id="driver missing"),
    pytest.param("import json\njson.loads('{')", "pdm_bad.py:2: JSONDecodeError", id="fault deep below"),
    pytest.param("raise SystemExit(3)", "pdm_bad.py:1: SystemExit: 3", id="exits"),
    pytest.param("raise GeneratorExit('x')", "pdm_bad.py:1: GeneratorExit: x", id="ends a generator"),
    pytest.param(GOOD + "    def __init__(self, ident, args):\n        raise GeneratorExit('x')", ": x",
                 id="ends a generator in the constructor"),
    pytest.param("x = '\\0", "pdm_bad.py:1: ", id="open string"),
    pytest.param("x = 1\0", "pdm_bad.py:", id="NUL"),
    pytest.param("x = 1\n", "has no class Module derived from", id="no Module"),
    pytest.param("Module = 3", "has no class Module derived from", id="no class"),
    pytest.param("class Module: pass", "has no class Module derived from", id="stranger"),
    pytest.param(GOOD + "    API = (2, 0)", "is written for API 2.0, this POPular has 1.2", id="major"),
    pytest.param(GOOD + "    API = (0, 9)", "is written for API 0.9, this POPular has 1.2", id="older major"),
    pytest.param(GOOD + "    API = (1, 3)", "is written for API 1.3, this POPular has 1.2", id="newer minor"),
    pytest.param(GOOD + "    API = '1.0'", "its API is '1.0', but must be a pair", id="API of text"),
    pytest.param("from popular.pdm.api import *\nclass Module(PdmModule): pass", "none of check, auth and token",
                 id="mute"),
    pytest.param("#" * (loader.MAX_SOURCE + 1), "more than 1048576 octets", id="long"),
])
def test_what_cannot_be_loaded_is_one_clear_line(folder, source, wanted):
    write(folder, source)
    assert wanted in refusal(folder)


def test_a_failed_module_leaves_nothing_behind(folder):
    write(folder, "import no_such_driver")
    refusal(folder)
    assert "popular_pdm_bad" not in sys.modules


def test_an_older_minor_version_is_taken(folder, monkeypatch):
    monkeypatch.setattr(loader, "API", (1, 3))
    write(folder, GOOD + "    API = (1, 2)")
    assert load_module(str(folder), "users", "bad", []).API == (1, 2)


def test_wrong_arguments_are_one_line(folder):
    assert refusal(folder, "good", ["wrong"]) == "users: module good: wanted: something else"


def test_a_constructor_that_breaks_is_told_with_its_line(folder):
    assert refusal(folder, "good", ["boom"]) == f"users: {folder}/pdm_good.py:15: 'x'"


@pytest.mark.parametrize("what, mode", [("file", 0o664), ("file", 0o646), ("folder", 0o775), ("folder", 0o1777)])
def test_what_others_can_write_is_refused_with_the_chmod_that_mends_it(folder, what, mode):
    path = folder if what == "folder" else folder / "pdm_good.py"
    path.chmod(mode)
    told = refusal(folder, "good")
    assert f"chmod go-w {path}" in told
    path.chmod(mode & ~0o022)
    load_module(str(folder), "users", "good", [])


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_belongs_to_another_is_refused(folder, monkeypatch, what):
    path = folder if what == "folder" else folder / "pdm_good.py"
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert "belongs to uid" in refusal(folder, "good")


@pytest.mark.parametrize("fault", ["file", "folder", None])
def test_a_link_is_followed_and_both_ends_are_proved(folder, tmp_path_factory, fault):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    elsewhere.chmod(0o755)
    target = elsewhere / "real.py"
    target.write_text(GOOD)
    target.chmod(0o666 if fault == "file" else 0o644)
    elsewhere.chmod(0o777 if fault == "folder" else 0o755)
    (folder / "pdm_link.py").symlink_to(target)
    if fault is None:
        assert load_module(str(folder), "users", "link", []).name == "link"
    else:
        assert f"chmod go-w {target if fault == 'file' else elsewhere}" in refusal(folder, "link")


def test_missing_and_odd_files(folder):
    assert "No such file" in refusal(folder, "missing")
    assert "No such file" in refusal(folder / "nowhere", "good")
    assert refusal(folder, "paswd").endswith("pdm_paswd.py: No such file or directory; did you mean 'passwd'?")
    assert refusal(folder, "goood").endswith("pdm_goood.py: No such file or directory; did you mean 'good'?")
    (folder / "pdm_folder.py").mkdir()
    assert "not a regular file" in refusal(folder, "folder")
    os.mkfifo(folder / "pdm_pipe.py", 0o600)
    assert "not a regular file" in refusal(folder, "pipe")
    (folder / "pdm_loop.py").symlink_to("pdm_loop.py")
    assert "pdm_loop.py" in refusal(folder, "loop")
