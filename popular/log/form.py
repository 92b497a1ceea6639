"""The forms that a log line can have: `classic`, the original's, and `json` (setting `logformat`).

Data only, used by every process.
"""

from collections.abc import Callable
from dataclasses import dataclass

from popular.log.jsonline import json_line, json_text
from popular.log.line import classic_line, classic_text
from popular.log.message import Event


@dataclass(frozen=True, slots=True)
class LogForm:
    """How an event is written."""

    line: Callable[[Event], bytes]    # complete, with LF
    text: Callable[[Event], bytes]    # without LF, for a carrier that adds time, host, program and pid itself


CLASSIC = LogForm(classic_line, classic_text)
JSON = LogForm(json_line, json_text)

FORMS = {"classic": CLASSIC, "json": JSON}
