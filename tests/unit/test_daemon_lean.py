"""How a master gets dataclasses without what they rarely need."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("program, told", [
    pytest.param("import_dataclasses(); print('inspect' in sys.modules, 'dataclasses' in sys.modules)",
                 "False True", id="left out"),
    pytest.param("import_dataclasses(); import dataclasses; print(dataclasses.make_dataclass('A', ['x']).__doc__)",
                 "A(x: 'typing.Any')", id="there when it is needed"),
    pytest.param("import_dataclasses(); import inspect; print(inspect.isclass(int))", "True",
                 id="for others the real one"),
    *(pytest.param(f"import_dataclasses(); import popular.{name}.spec; print('inspect' in sys.modules)", "False",
                   id=f"not needed by {name}") for name in ("pproxy", "pserv", "pcheckd", "ringd")),
    pytest.param("import inspect; import_dataclasses(); print(sys.modules['inspect'] is inspect)", "True",
                 id="loaded before"),
])
def test_dataclasses_without_inspect(program, told):
    words = [sys.executable, "-I", "-S", "-c",
             f"import sys; sys.path.insert(0, {str(ROOT)!r}); from popular.daemon.start.slim import *; {program}"]
    assert subprocess.run(words, capture_output=True, text=True, timeout=20).stdout.strip() == told
