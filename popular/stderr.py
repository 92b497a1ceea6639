"""Writing to standard error from tools, starters, and a master that fails to start, even if nobody reads it.

The terminal or the reader of a pipe may be gone, or a disk full.  If Python cannot write there, it complains and
ends with 1 or, since Python 3.13, with 120, instead of the intended exit code.
"""

import os
import sys

INTERRUPTED = 130    # exit code after ^C, as in shells


def complain(text: str) -> None:
    """Write lines to standard error, or discard them if that fails; never raises OSError."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)    # for the rest of the buffer
        os.dup2(nowhere, 2)
        os.close(nowhere)


def complain_as(program: str, text: str) -> None:
    """Do as `complain`, for a program whose text may come from files: characters outside ASCII are escaped."""
    complain(f"{program}: {text.encode('ascii', 'backslashreplace').decode('ascii')}")
