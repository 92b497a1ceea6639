"""What pmigrate is asked to do with one mailbox, how, and what has become of it.

Part of pmigrate.  Raises StoreError for lines of a list.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from popular.addresses import Endpoint
from popular.errors import StoreError

_MAX_LINE = 16384    # characters of a list's line

_SERVER = re.compile(r"[a-z0-9]+://([^/]*)")


@dataclass(frozen=True, slots=True)
class MoveJob:
    """One mailbox to be moved: two words of the command line, or a line of a list."""

    source: str           # `maildir:PATH`, `pop3s://HOST`
    mailbox: str          # its name below the spool, or `user:NAME`
    user: str = ""        # for sources with a login
    password: str = field(default="", repr=False)

    @property
    def server(self) -> str:
        """The host and port that the source names; empty for one without."""
        found = _SERVER.match(self.source)
        return "" if found is None else found[1].rpartition("@")[2]


class MoveCommand(Enum):
    """What is done with each mailbox."""

    COPY = "copy"
    INPLACE = "inplace"
    VERIFY = "verify"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class MoveOptions:
    """How it is done."""

    command: MoveCommand
    mailboxdir: str
    owner: str | None = None     # of the mailboxes; None: that of the spool
    to: Endpoint | str | None = None    # an LMTP server in place of the spool, or the path of its socket
    state: str = ""              # folder for what was brought there
    is_dry: bool = False
    removes: bool = False        # what the source no longer has
    links: bool = False          # in place of copies, where possible
    quoting: str = "none"        # of lines From in an mbox
    uidls: str = "x-uidl"        # that clients of an mbox know
    uidlformat: str = ""         # pop3_uidl_format of Dovecot for a Maildir; empty: that of the Dovecot here
    pop3: str = ""               # for verify, the server that is asked in place of the spool; for move with `to`, too
    login: str = "%u"            # how the name of a user is sent
    timeout: float = 60.0        # seconds without an octet
    wait: float = 300.0          # seconds without progress, after which attempts end
    cafile: str = ""
    is_verified: bool = True     # certificates
    is_cleartext: bool = False   # passwords may be sent without TLS
    dovecot: str = ""            # its configuration, for `doveadm:USER`; empty: the default
    switch: tuple[str, ...] = ()    # for move: the site's command
    settle: float = 10.0         # seconds after which everything knows that a mailbox is held
    statefile: str = ""          # of the pserv that has mailboxes of `popular:`
    store: str = ""              # for the command, the backend that the mailbox moves to
    config: str = ""             # of pproxy, for `user:NAME`
    namespace: str = ""
    backends: tuple[str, ...] = ()


class MoveVerdict(Enum):
    """What has become of a mailbox."""

    DONE = "done"
    DIFFERS = "differs"    # found by verify
    FAILED = "failed"      # some of it, or all


@dataclass(frozen=True, slots=True)
class MoveResult:
    """What was done with one mailbox."""

    verdict: MoveVerdict
    found: int = 0                   # messages of the source
    brought: int = 0                 # of those, which were written to the target now
    octets: int = 0                  # of those that were written
    removed: int = 0                 # from the target, with --delete-gone
    unnamed: int = 0                 # of the source: its server has not given them a unique id yet
    remarks: tuple[str, ...] = ()    # what people should know, one line each: what differs, what was not moved


def jobs_of(lines: Iterable[str], default: MoveJob) -> Iterator[MoveJob | StoreError]:
    """Yield a job for each line of a list, or what is wrong with it; empty lines and those with # are skipped.

    Words are separated by tabs or, in a line without tabs, by blanks.  What a line does not tell is that of `default`.
    """
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        if not text.strip() or text.startswith("#"):
            continue
        words = text.split("\t") if "\t" in text else text.split()
        if len(text) > _MAX_LINE or not 2 <= len(words) <= 4 or not (words[0] and words[1]):
            yield StoreError(f"line {number}: must be SOURCE MAILBOX [USER [PASSWORD]]")
            continue
        user, password = (*words[2:], "", "")[:2]
        yield MoveJob(words[0], words[1], user or default.user, password or default.password)
