"""The floors: what they take part in, and that their sources are clean."""

import shutil
import subprocess

import pytest

from tests.bench.contenders import CONTENDERS, contender
from tests.bench.floor import SOURCES
from tests.bench.workloads import WORKLOADS

LONGEST = 40      # lines of a function


def test_contenders_take_workloads_that_exist():
    assert {workload for each in CONTENDERS for workload in each.workloads} <= set(WORKLOADS)


@pytest.mark.parametrize("name, taken", [
    ("popular-pooled", list(WORKLOADS)), ("nginx", list(WORKLOADS)), ("floor-c-direct", ["bulk", "bulk-text"]),
])
def test_a_contender_takes_all_workloads_or_some(name, taken):
    assert [workload for workload in WORKLOADS if contender(name).takes(workload)] == taken


@pytest.mark.parametrize("source", sorted(SOURCES.glob("*.c")), ids=lambda source: source.stem)
def test_programs_in_c_compile_without_a_warning(source, tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("cc is not installed")
    done = subprocess.run([compiler, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-c", source,
                           "-o", tmp_path / "object"], stderr=subprocess.PIPE, timeout=50, check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("source", sorted(SOURCES.glob("*.c")), ids=lambda source: source.stem)
def test_programs_in_c_have_short_functions(source):
    lines = source.read_text().splitlines()
    starts = [number for number, line in enumerate(lines) if line == "{"]
    lengths = {lines[start - 1]: lines.index("}", start) - start for start in starts}
    assert lengths and {name: length for name, length in lengths.items() if length > LONGEST} == {}
