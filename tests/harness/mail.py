"""Real messages: the e-mail samples that CPython ships in its own test package.

Debian keeps that package apart (`libpythonX.Y-testsuite`); `tests/prepare.sh` brings it.
"""

import importlib.util
from functools import cache
from pathlib import Path


@cache
def sample_folder() -> Path | None:
    """Return the folder of the samples, or None where Python came without its test package."""
    try:
        spec = importlib.util.find_spec("test.test_email")
    except ModuleNotFoundError:
        return None
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "data"
    return folder if folder.is_dir() else None


def samples() -> dict[str, bytes]:
    """Return the samples by file name, as they lie on disk; raises LookupError where there are none."""
    folder = sample_folder()
    if folder is None:
        raise LookupError("this Python has no test.test_email; on Debian install libpython3-testsuite")
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.txt"))}


def crlf(message: bytes) -> bytes:
    """Return a message as it must lie in a mailbox: every line ends in CRLF, the last one too."""
    lines = message.replace(b"\r\n", b"\n").split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def without_envelope(message: bytes) -> bytes:
    """Return a message without the line with which an mbox begins it, which pdeliver leaves out."""
    return message.partition(b"\n")[2] if message.startswith(b"From ") else message
