"""The places that an unexpected error passed through, for one log line (master and children).

Never the error's text: it may contain what a client sent, for example a password.
"""

import os
from types import TracebackType

MAX_PLACES = 8    # the innermost ones


def places(error: BaseException | None) -> str:
    """Return `file:line < file:line`, the innermost place first; empty without an error."""
    found: list[str] = []
    trace: TracebackType | None = error.__traceback__ if error is not None else None
    while trace is not None:
        found.append(f"{os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}")
        trace = trace.tb_next
    return " < ".join(reversed(found[-MAX_PLACES:]))
