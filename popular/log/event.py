"""One event as every form of log line takes it (spec 5.1): data only, made by `log.writer` in every process."""

from dataclasses import dataclass

from popular.log.message import Message


@dataclass(slots=True)    # not frozen: that would make a short line a quarter dearer
class Event:
    """What happened, where and when; the values of `fields` are hostile."""

    when: float         # seconds since 1970
    host: str           # one word, without the domain
    program: str        # one word
    pid: int
    sid: str            # one word; `-` outside a session
    message: Message    # a row of the catalogue; of debug events, one made up
    fields: dict[str, object]    # in the order in which the line shows them
