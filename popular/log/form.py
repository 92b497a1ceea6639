"""The form of a log line, and that of the original; `log.jsonline` has another.

Data only, used by every process.
"""

from collections.abc import Callable

from popular.log.line import classic_line, classic_text
from popular.log.message import Event


class LogForm:
    """How an event is written."""

    __slots__ = ("line", "text")

    def __init__(self, line: Callable[[Event], bytes], text: Callable[[Event], bytes]) -> None:
        self.line = line    # complete, with LF
        self.text = text    # without LF, for a carrier that adds time, host, program and pid itself


CLASSIC = LogForm(classic_line, classic_text)
