"""No public name is defined twice in the package: who reads one, or looks for one, finds one thing."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The same name means the same in every program: see docs/architecture.md, "Layers".
ALLOWED = {
    "main": "what bin/PROGRAM calls",
    "run": "a tool on the words of its command line, which tests call without a process",
    "make_parser": "the command line of a tool",
    "SCHEMA": "the settings of a program",
    "CLASSES": "what is configured in a program beside its variables",
    "SPEC": "what makes a daemon itself",
    "policy": "what the children of a daemon may do with files",
    "check": "what is wrong in a program's settings beyond single rows",
    "listens": "where a daemon listens",
    "make_job": "what the children of a daemon do",
    "make_stage": "where sessions of a program are rehearsed",
    "prepare": "what a starter makes of the settings before it checks them",
    "attempt": "what a starter tries before it takes anything",
    "commands": "the control commands of a program, or those that several have",
    "sum_up": "the last line of a session whose child has died",
}
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def public_names(source: str) -> Iterator[str]:
    """Yield the public names that the text of a module defines at its top; what it imports is not its own."""
    for node in ast.parse(source).body:
        targets: list[ast.expr] = []
        if isinstance(node, DEFINITIONS):
            names = [node.name]
        else:
            targets = node.targets if isinstance(node, ast.Assign) else []
            targets += [node.target] if isinstance(node, ast.AnnAssign) else []
            names = [name.id for target in targets for name in ast.walk(target)
                     if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)]
        yield from (name for name in names if not name.startswith("_"))


def owners() -> dict[str, list[str]]:
    """Return the modules that define each public name."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "popular").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for name in dict.fromkeys(public_names(path.read_text())):
            found[name].append(module)
    return found


def test_no_public_name_is_defined_twice() -> None:
    twice = {name: modules for name, modules in owners().items() if len(modules) > 1 and name not in ALLOWED}
    assert twice == {}, "give each a name of its own; what only its module uses begins with an underscore"


def test_what_may_be_defined_twice_is() -> None:
    modules = owners()
    assert {name for name in ALLOWED if len(modules[name]) < 2} == set()


@pytest.mark.parametrize(("source", "names"), [
    pytest.param("class A: ...\ndef b(): ...", ["A", "b"], id="definitions"),
    pytest.param("A = B, C = 1, 2\nD: int = 3", ["A", "B", "C", "D"], id="assignments"),
    pytest.param("_A = 1\ndef _b(): ...", [], id="private"),
    pytest.param("from x import A\nimport b\nb.c = A[0] = 1", [], id="not its own"),
    pytest.param("def a():\n    B = 1", ["a"], id="within"),
])
def test_public_names(source: str, names: list[str]) -> None:
    assert list(public_names(source)) == names
