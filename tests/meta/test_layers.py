"""The layer rule and the rule of the lean master, read from the imports.

An import may only go down a layer or stay in its package; the programs never import each other; a
database module knows its contract and its driver only.  What a master or a child imports never
brings threading and its like, because every fork would pay for it.
"""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LAYERS = {
    "errors": 0, "version": 0, "paths": 0, "names": 0, "lean": 0, "addresses": 0, "networks": 0, "stderr": 0,
    "config": 1, "log": 1, "unix": 1, "statefile": 1,
    "proc": 2, "net": 2, "sasl": 2,
    "pop3": 3, "lmtp": 3, "store": 3, "mailcheck": 3, "pdm": 3, "control": 3, "smtpafterpop": 3,
    "daemon": 4,
    "pproxy": 5, "pserv": 5, "plmtpd": 5, "pcheckd": 5, "ringd": 5,
    "tools": 6,
}
EXCEPTIONS = {("popular.store.maildrop", "popular.pop3.maildrop")}
FOR_PDMS = {"popular.paths", "popular.addresses",
            *(f"popular.pdm.{name}" for name in (
                "api", "bases", "drivers", "options", "pattern", "records", "secrets", "timelimit", "databases.cdbfile",
                "databases.directory", "databases.httpclient", "databases.libpam", "databases.redisservers",
                "databases.sql", "oauth.gateway", "oauth.jwks", "oauth.tokens"))}

HEAVY = {"threading", "logging", "argparse", "configobj", "subprocess", "tempfile", "concurrent", "asyncio",
         "multiprocessing", "daemon", "setproctitle"}
HEAVY_FILES = {"main", "starter", "file", "save", "cmdline", "parser", "render", "scan", "trial"}


def sources() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    found: dict[str, Path] = {}
    for path in sorted((ROOT / "popular").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, source: str, known: set[str], is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything a module imports, wherever in the file it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                parts = module.split(".")
                kept = parts[:len(parts) - node.level + is_package]
                origin = ".".join([*kept, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield node.lineno, inner if inner in known else origin


def may_import(module: str, other: str) -> bool:
    """Tell whether one module of the package may import another."""
    if (module, other) in EXCEPTIONS or other == "popular":
        return True
    package, wanted = module.split(".")[1], other.split(".")[1]
    if package == wanted:
        return True
    own, its = LAYERS[package], LAYERS[wanted]
    return its < own or own == its == 0


def is_lean(module: str) -> bool:
    """Tell whether a module may be imported by a master or a child."""
    parts = module.split(".")
    return parts[-1] not in HEAVY_FILES and parts[1:2] != ["tools"]


def upward(module: str, source: str, known: set[str]) -> list[str]:
    """Return the imports of a module that break the layer rule."""
    return [f"{module}:{line} imports {other}" for line, other in imports(module, source, known, _is_package(module))
            if other.split(".")[0] == "popular" and not may_import(module, other)]


def heavy(module: str, source: str, known: set[str]) -> list[str]:
    """Return the imports of a lean module that would burden every fork."""
    return [f"{module}:{line} imports {other}" for line, other in imports(module, source, known, _is_package(module))
            if other.split(".")[0] in HEAVY or (other.split(".")[0] == "popular" and not is_lean(other))]


def _is_package(module: str) -> bool:
    return (ROOT / Path(*module.split("."))).is_dir()


def test_every_package_has_a_layer():
    packages = {module.split(".")[1] for module in sources() if "." in module}
    assert packages <= set(LAYERS)


def test_imports_only_go_down():
    known = sources()
    found = [line for module, path in known.items() if "." in module
             for line in upward(module, path.read_text(), set(known))]
    assert found == []


def test_what_forks_is_lean():
    known = sources()
    found = [line for module, path in known.items() if is_lean(module)
             for line in heavy(module, path.read_text(), set(known))]
    assert found == []


def test_lean_modules_bring_no_heavy_ones_indirectly():
    lean = [module for module in sources() if is_lean(module)]
    code = f"""if True:
        import importlib, json, sys
        sys.path.insert(0, {str(ROOT)!r})
        for module in {lean!r}:
            importlib.import_module(module)
        print(json.dumps(sorted(sys.modules)))"""
    loaded = json.loads(subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=60,
                                       stdout=subprocess.PIPE).stdout)
    assert [name for name in loaded if name.split(".")[0] in HEAVY] == []


@pytest.mark.parametrize("path", sorted((ROOT / "pdm_modules").glob("*.py")), ids=lambda path: path.stem)
def test_pdms_know_their_contract_only(path):
    found = [f"line {line}: {other}" for line, other in imports(path.stem, path.read_text(), set(sources()))
             if other.split(".")[0] == "popular" and other not in FOR_PDMS]
    assert found == []


@pytest.mark.parametrize("module, source, is_good", [
    pytest.param("popular.net.wire", "from popular.errors import Gone", True, id="down"),
    pytest.param("popular.net.wire", "from popular.net import dial", True, id="own package"),
    pytest.param("popular.names", "from popular import addresses", True, id="leaf to leaf"),
    pytest.param("popular.store.maildrop", "from popular.pop3.maildrop import Entry", True, id="the exception"),
    pytest.param("popular.store.mailbox", "from popular.pop3.maildrop import Entry", False, id="sideways"),
    pytest.param("popular.net.wire", "from popular.proc import pool", False, id="net and proc"),
    pytest.param("popular.errors", "import popular.log.message", False, id="up"),
    pytest.param("popular.pproxy.session", "from popular.pserv import spec", False, id="program to program"),
    pytest.param("popular.net.wire", "def f():\n    from ..daemon import spec", False, id="relative and inside"),
])
def test_the_layer_rule_itself(module, source, is_good):
    known = {"popular.pserv.spec", "popular.proc.pool", "popular.daemon.spec", "popular.net.dial", "popular.addresses"}
    assert (upward(module, source, known) == []) is is_good


@pytest.mark.parametrize("source, is_good", [
    pytest.param("import socket, select", True, id="light"),
    pytest.param("import logging.handlers", False, id="heavy"),
    pytest.param("def f():\n    import subprocess", False, id="heavy inside"),
    pytest.param("from popular.config.ini.file import read_ini", False, id="a starter's file"),
    pytest.param("from popular.config.ini import file", False, id="a starter's file by its package"),
])
def test_the_lean_rule_itself(source, is_good):
    assert (heavy("popular.net.wire", source, {"popular.config.ini.file"}) == []) is is_good
