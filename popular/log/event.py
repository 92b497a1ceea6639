"""One event as every form of log line takes it (spec 5.1): data only, made by `log.writer` in every process."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """What happened, where and when; the values of `fields` are hostile."""

    when: float         # seconds since 1970
    host: str           # one word, without the domain
    program: str        # one word
    pid: int
    sid: str            # one word; `-` outside a session
    level: str          # one of message.LEVELS
    number: int         # of the message; 0 for debug events
    name: str           # one word
    fields: tuple[tuple[str, object], ...]
