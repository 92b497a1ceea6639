"""A release of its own for one test: what lies on disk can be changed while daemons from it run."""

import shutil
from pathlib import Path

from tests.harness.daemon import ROOT

FOLDERS = ("bin", "popular", "pdm_modules")


class Release:
    """A copy of the programs."""

    def __init__(self, root: Path) -> None:
        """Copy everything to the new folder `root`; compiled files stay valid."""
        self.root = root
        for folder in FOLDERS:
            shutil.copytree(ROOT / folder, root / folder)
        self.env = {"PYTHONPATH": str(root)}    # else another release may be found

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text of one of the files, where it stands once."""
        file = self.root / path
        text = file.read_text()
        assert text.count(old) == 1, (path, old)
        fresh = file.with_suffix(".new")
        fresh.write_text(text.replace(old, new))
        fresh.rename(file)

    def append(self, path: str, text: str) -> None:
        """Add lines to the end of one of the files."""
        with (self.root / path).open("a") as file:
            file.write(text)
