"""The rows of the message catalogue (spec 5.2), and events, each with its row: data only.

Read by every process and by the generated documents.  Rows are in the `messages.py` of their owners.  Numbers are
unique over all programs and never reused once retired; `tests/meta/test_messages.py` checks that.
"""

from dataclasses import dataclass, field

DBG = "DBG"    # for developers; always number 0000
INF = "INF"    # normal operation: no action needed
ERR = "ERR"    # caused by users, a wrong password for example
ADM = "ADM"    # the administrator should look, not urgent
SOS = "SOS"    # critical, act now
BUG = "BUG"    # an internal assertion failed: ours to fix

LEVELS = (DBG, INF, ERR, ADM, SOS, BUG)


@dataclass(frozen=True, slots=True)
class Message:
    """One kind of event that can appear in a log file."""

    number: int             # four hex digits in the log
    level: str              # one of LEVELS
    name: str               # one word, underscores inside
    fields: str             # names of the parameters, in order, separated by spaces
    help: str               # what it means and what an administrator should do
    names: tuple[str, ...] = field(init=False, repr=False, compare=False)    # of the parameters, one by one
    label: str = field(init=False, repr=False, compare=False)    # level, number and name as in the log file

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.fields.split()))
        object.__setattr__(self, "label", f"{self.level} {self.number:04x} {self.name}")


@dataclass(slots=True)    # not frozen: that would make a short line 25 % slower
class Event:
    """What happened, where and when, as every form of log line takes it; the values of `fields` are hostile."""

    when: float                  # seconds since 1970
    host: str                    # one word, without the domain
    program: str                 # one word
    pid: int
    sid: str                     # one word; `-` outside a session
    message: Message             # a row of the catalogue; for debug events, one made for them
    fields: dict[str, object]    # in the order in which the line shows them
