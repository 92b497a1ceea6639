"""What one session of each workload says and what must be answered; a wrong answer is a failed session.

A script is a tuple of steps; the load generator plays it and knows nothing else of POP3.
"""

from collections.abc import Sequence
from typing import NamedTuple

from tests.bench.population import BIG_MESSAGE, BULK_MESSAGES, MAIL_SIZE, PASSWORD, Population


class Step(NamedTuple):
    """One command and its answer."""

    command: bytes          # what is sent; nothing before the greeting
    answer: bytes           # what the answer begins with
    is_multi: bool = False  # whether it goes on to the line with one dot
    least: int = 0          # octets that it has at least


Script = tuple[Step, ...]

OK = b"+OK"
GREETING = Step(b"", OK)
QUIT = Step(b"QUIT\r\n", OK)
GOOD_LOGIN = Step(f"PASS {PASSWORD}\r\n".encode(), OK)
BAD_LOGIN = Step(b"PASS wrong-word\r\n", b"-ERR")

EMPTY = (Step(b"STAT\r\n", b"+OK 0 0"), QUIT)
MAIL = (Step(b"STAT\r\n", b"+OK 1 "), Step(b"UIDL\r\n", OK, True, 10), Step(b"RETR 1\r\n", OK, True, MAIL_SIZE), QUIT)
BULK = (Step(b"STAT\r\n", b"+OK %d " % BULK_MESSAGES),
        *(Step(b"RETR %d\r\n" % number, OK, True, BIG_MESSAGE) for number in range(1, BULK_MESSAGES + 1)), QUIT)
REST = (Step(b"STAT\r\n", b"+OK 1 "),)

SERIAL = ("empty", "mail", "mix", "bulk", "bulk-text")    # workloads whose sessions can also be played one by one
MIX_EMPTY = 4               # sessions of an empty mailbox for one with mail


def box_steps(messages: int) -> Script:
    """Return what a client does who looks whether there is anything new in a mailbox of so many messages."""
    return (Step(b"STAT\r\n", b"+OK %d " % messages), Step(b"UIDL\r\n", OK, True, 5 * messages), QUIT)


def login(name: str, after: Sequence[Step]) -> Script:
    """Return the script of a user who logs in and then does `after`."""
    return (GREETING, Step(f"USER {name}\r\n".encode(), OK), GOOD_LOGIN, *after)


def refusal(name: str) -> Script:
    """Return the script of a user with a wrong password."""
    return (GREETING, Step(f"USER {name}\r\n".encode(), OK), BAD_LOGIN)     # nginx waits for no QUIT


def scripts_of(workload: str, population: Population) -> list[Script]:
    """Return the scripts that the sessions of a workload play in turn."""
    empty = [login(name, EMPTY) for name in population.empty_users()]
    mail = [login(name, MAIL) for name in population.mail_users()]
    match workload:
        case "empty":
            return empty
        case "mail":
            return mail
        case "mix":
            return [script for number, script in enumerate(mail)
                    for script in (*(empty[(MIX_EMPTY * number + i) % len(empty)] for i in range(MIX_EMPTY)), script)]
        case "bulk":
            return [login(name, BULK) for name in population.bulk_users()]
        case "bulk-text":
            return [login(name, BULK) for name in population.bulk_text_users()]
        case "login-fail":
            return [refusal(name) for name in population.empty_users()]
        case "rest":
            return [login(name, REST) for name in population.mail_users()]
    raise ValueError(f"no scripts for {workload}")
