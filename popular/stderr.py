"""Standard error of tools, starters, and of a master that does not come up: nobody need listen.

A terminal may be gone, the reader of a pipe too, a disk full.  What Python cannot write there it would complain of,
and end with 1 or, since Python 3.13, with 120, whatever the exit code is to be.
"""

import os
import sys

INTERRUPTED = 130    # exit code after ^C, as shells say it


def complain(text: str) -> None:
    """Write lines to standard error, or to nobody where that fails; never raises OSError."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)    # what is left in the buffer goes there
        os.dup2(nowhere, 2)
        os.close(nowhere)


def complain_as(program: str, text: str) -> None:
    """Do as `complain`, for a program whose text may come from files: what is not ASCII is escaped."""
    complain(f"{program}: {text.encode('ascii', 'backslashreplace').decode('ascii')}")
