"""Words to avoid in texts for administrators and programmers; a client or user, for example, is "they"."""

import re
import subprocess

import pytest

from tests.harness.daemon import ROOT

PLACES = ("README.md", "NEWS", "docs", "man/src", "etc", "debian", "popular", "pdm_modules", "demo", "scripts")
INSTEAD = {
    r"\b(he|him|his|himself)\b": "they", r"\bparted by\b": "separated by", r"\bof no use\b": "invalid or useless",
    r"\b(leads?|led) (it|them) there\b": "connect", r"\bfor want of\b": "for lack of", r"\bmended\b": "fixed",
    r"\b(at its|from) begin\b": "beginning", r"\b(its|their) kin\b": "derivatives",
}


@pytest.mark.parametrize("pattern, word", INSTEAD.items())
def test_words_that_have_a_better_one(pattern: str, word: str) -> None:
    names = subprocess.run(["git", "ls-files", "--", *PLACES], cwd=ROOT, capture_output=True, text=True, check=True)
    found = [f"{name}:{number}: {line}" for name in names.stdout.splitlines()
             for number, line in enumerate((ROOT / name).read_text(errors="replace").splitlines(), 1)
             if re.search(pattern, line, re.IGNORECASE)]
    assert found == [], f"write {word}"
