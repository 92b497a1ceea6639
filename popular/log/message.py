"""The rows of the message catalogue (spec 5.2), and events, each with its row: data only.

Read by every process and by the generated documents.  Rows are in the `messages.py` of their owners.  Numbers are
unique over all programs and never reused once retired; `tests/meta/test_messages.py` checks that.
"""

DBG = "DBG"    # for developers; always number 0000
INF = "INF"    # normal operation: no action needed
ERR = "ERR"    # caused by users, a wrong password for example
ADM = "ADM"    # the administrator should look, not urgent
SOS = "SOS"    # critical, act now
BUG = "BUG"    # an internal assertion failed: ours to fix

LEVELS = (DBG, INF, ERR, ADM, SOS, BUG)


class Message:
    """One kind of event that can appear in a log file."""

    __slots__ = ("number", "level", "name", "fields", "help", "names", "label")

    def __init__(self, number: int, level: str, name: str, fields: str, help: str) -> None:
        self.number = number                   # four hex digits in the log
        self.level = level                     # one of LEVELS
        self.name = name                       # one word, underscores inside
        self.fields = fields                   # names of the parameters, in order, separated by spaces
        self.help = help                       # what it means and what an administrator should do
        self.names = tuple(fields.split())     # of the parameters, one by one
        self.label = f"{level} {number:04x} {name}"    # as in the log file


class Event:
    """What happened, where and when, as every form of log line takes it; the values of `fields` are hostile."""

    __slots__ = ("when", "host", "program", "pid", "sid", "message", "fields")

    def __init__(self, when: float, host: str, program: str, pid: int, sid: str, message: Message,
                 fields: dict[str, object]) -> None:
        self.when = when          # seconds since 1970
        self.host = host          # one word, without the domain
        self.program = program    # one word
        self.pid = pid
        self.sid = sid            # one word; `-` outside a session
        self.message = message    # a row of the catalogue; for debug events, one made for them
        self.fields = fields      # in the order in which the line shows them
