"""Asking something in a process of its own, which may give up its rights for it.

Part of pmigrate.  Raises StoreError.
"""

import os
import traceback
from collections.abc import Callable

from popular.errors import PopularError, StoreError


def run_apart(ask: Callable[[], str]) -> str:
    """Return what `ask` returns in a forked process; what it raises there becomes a StoreError."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = os.EX_SOFTWARE
        try:
            os.close(reading)
            code = _answer(ask, writing)
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read().decode("utf-8", "surrogateescape")
    _, status = os.waitpid(pid, 0)
    if status != 0:
        raise StoreError(answer or f"a process ended with status {status}")
    return answer


def _answer(ask: Callable[[], str], writing: int) -> int:
    """Write the answer or the reason why there is none; return the exit code."""
    try:
        answer, code = ask(), os.EX_OK
    except PopularError as why:
        answer, code = str(why), os.EX_UNAVAILABLE
    except Exception as why:
        place = traceback.extract_tb(why.__traceback__)[-1]
        answer, code = f"{type(why).__name__} in {os.path.basename(place.filename)}:{place.lineno}", os.EX_SOFTWARE
    with open(writing, "wb") as pipe:
        pipe.write(answer.encode("utf-8", "surrogateescape"))
    return code
