"""What pmigrate is asked to do with one mailbox, and what has become of it.

Part of pmigrate.  Nothing here raises.
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Job:
    """One mailbox to be moved: two words of the command line, or a line of a list."""

    source: str           # `maildir:PATH`, `pop3s://HOST`
    mailbox: str          # its name below the spool, or `user:NAME`
    user: str = ""        # for sources with a login
    password: str = ""


class Verdict(Enum):
    """What has become of a mailbox."""

    DONE = "done"
    DIFFERS = "differs"    # found by verify
    FAILED = "failed"      # some of it, or all


@dataclass(frozen=True, slots=True)
class Result:
    """What was done with one mailbox."""

    verdict: Verdict
    found: int = 0                   # messages of the source
    brought: int = 0                 # of those, which were written to the target now
    octets: int = 0                  # of those that were written
    removed: int = 0                 # from the target, with --delete-gone
    remarks: tuple[str, ...] = ()    # what people should know, one line each: what differs, what was not moved
