"""Words that are not used in what administrators and programmers read: a client or user is "they"."""

import re
import subprocess

import pytest

from tests.harness.daemon import ROOT

PLACES = ("README.md", "docs", "man/src", "etc", "debian", "popular", "pdm_modules", "demo", "scripts")
INSTEAD = {r"\b(he|him|his|himself)\b": "they", r"\bparted by\b": "separated by"}


@pytest.mark.parametrize("pattern, word", INSTEAD.items())
def test_words_that_have_a_better_one(pattern: str, word: str) -> None:
    names = subprocess.run(["git", "ls-files", "--", *PLACES], cwd=ROOT, capture_output=True, text=True, check=True)
    found = [f"{name}:{number}: {line}" for name in names.stdout.splitlines()
             for number, line in enumerate((ROOT / name).read_text(errors="replace").splitlines(), 1)
             if re.search(pattern, line, re.IGNORECASE)]
    assert found == [], f"write {word}"
