"""No file over 400 lines, no function over 60: what is longer hides its worst faults."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("popular", "pdm_modules", "bin", "demo", "scripts", "etc", "tests")
MAX_FILE = 400
MAX_FUNCTION = 60


def files() -> list[Path]:
    """Return every file of ours that is read by people, Python or not."""
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
    return [path for path in found if path.suffix in ("", ".py", ".sh")] + [ROOT / "Makefile"]


def long_functions(source: str) -> list[str]:
    """Return name and length of every function that is too long, decorators counted."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            length = (node.end_lineno or first) - first + 1
            if length > MAX_FUNCTION:
                found.append(f"{node.name} has {length} lines")
    return found


def test_files_are_short():
    lengths = {path.relative_to(ROOT): len(path.read_text().splitlines()) for path in files()}
    assert len(lengths) > 20
    assert {path: length for path, length in lengths.items() if length > MAX_FILE} == {}


def test_functions_are_short():
    found = {str(path.relative_to(ROOT)): long_functions(path.read_text()) for path in files()
             if path.suffix == ".py"}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize("length, is_good", [(MAX_FUNCTION, True), (MAX_FUNCTION + 1, False)])
def test_the_measure_itself(length, is_good):
    source = "@decorated\ndef f():\n" + "    pass\n" * (length - 2)
    assert (long_functions(source) == []) is is_good
