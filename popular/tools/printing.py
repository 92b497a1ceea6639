"""What tools that print lines have in common: whoever reads them may leave, and the user may interrupt.

Part of such tools; raises what they raise.
"""

import io
import os
import sys
from collections.abc import Callable, Sequence

from popular.stderr import INTERRUPTED


def main_of(run: Callable[[Sequence[str]], int], unread: int) -> int:
    """Run a tool with the words of its command line; returns its exit code, `unread` when its reader left."""
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
        return code
    except BrokenPipeError:    # the reader of our lines left, as `head` does
        forget_output()
        return unread
    except KeyboardInterrupt:
        return INTERRUPTED


def forget_output() -> None:
    """Let what could not be written go nowhere, or Python complains of it at the end."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
