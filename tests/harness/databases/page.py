"""The pages on setting up databases (docs/databases), whose commands are typed to set up the servers of the tests."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.harness.markdown import code_blocks

ROOT = Path(__file__).resolve().parents[3]


def code_of(name: str, language: str) -> list[str]:
    """Return the blocks of code of a page that are in one language."""
    page = (ROOT / f"docs/databases/{name}.md").read_text()
    return [block.text for block in code_blocks(page) if block.language == language]


def type_commands(name: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Type all commands of a page in one shell, with `folder` for /etc/popular.

    Raises CalledProcessError for one that fails.
    """
    text = "\n".join(code_of(name, "sh")).replace("/usr/share/popular/examples", str(ROOT / "etc/examples"))
    text = text.replace("/etc/popular", str(folder)).replace("install -o pop ", "install ")
    subprocess.run(["sh", "-euc", text], check=True, env={**os.environ, **environment}, stdin=subprocess.DEVNULL)
