"""Common code of tools: the reader of their lines may leave, the user may interrupt, texts are hostile or secret.

Part of such tools; raises what they raise.
"""

import io
import os
import sys
from collections.abc import Callable, Sequence

from popular.stderr import INTERRUPTED


def main_of(run: Callable[[Sequence[str]], int], unread: int) -> int:
    """Run a tool with the words of its command line; return its exit code, `unread` if the reader has left."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
        return code
    except BrokenPipeError:    # the reader of our lines has left, as `head` does
        forget_output()
        return unread
    except KeyboardInterrupt:
        return INTERRUPTED


def main_of_secrets(run: Callable[[Sequence[str]], int], complain: Callable[[str], None]) -> int:
    """Run a tool that handles passwords, with the words of its command line; return its exit code.

    Of an unexpected error only the type is reported, as its text may hold a secret.
    """
    try:
        return run(sys.argv[1:])
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as why:
        complain(type(why).__name__)
        return os.EX_SOFTWARE


def forget_output() -> None:
    """Discard what could not be written, or Python complains about it at the end."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def harmless(text: str, is_kept: Callable[[str], bool] = str.isprintable) -> str:
    """Return a text of which a terminal shows every character and obeys none; others are `\\xNN` or `\\uNNNN`."""
    return "".join(char if is_kept(char) else f"\\x{ord(char):02x}" if char <= "\xff" else f"\\u{ord(char):04x}"
                   for char in text)
