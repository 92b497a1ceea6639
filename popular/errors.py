"""Every error POPular raises on purpose, and the one outcome that is not an error.

    PopularError
     ├ UsageError    wrong words from an administrator       exit 64, or `-ERR usage: …`
     ├ ConfigError   wrong settings, all mistakes at once    exit 78
     ├ StartError    the machine says no (port, file, right) exit 69
     ├ CommandRefused  a POP3 command, the session goes on
     ├ LoginRefused  a login, the client may try again
     ├ StoreError    a mailbox or message cannot be used
     │  ├ MailboxError  a mailbox's folder cannot be opened, or there is no such mailbox
     │  ├ MessageGone  a message that was listed is no longer there
     │  └ CommitError  some messages could not be removed at QUIT
     ├ BackendError  a backend cannot be used                soft failure or [SYS/TEMP]
     ├ MailcheckError  no usable answer: treated as "has mail"
     │  └ NoMailbox    there is none: the server decides what becomes of the user
     ├ PdmError      a database module cannot be loaded or used
     └ Gone          the peer closed, timed out or misbehaved: the session ends, no fault of ours
        ├ NulByte    a NUL from the network: drop at once, say nothing (spec 1.5)
        ├ ProxyHeader  a header of the PROXY protocol, which is not spoken here
        └ NoTls      the peer's TLS is broken, or not what was agreed on
    Leave            not an error: a POP3 state hands its result to its caller

The text of an error is for the one who can mend it (administrator, log).  What a client may see
stands in fields of its own, because client text never holds paths, errno or class names.
"""

import errno
import os
from dataclasses import dataclass, field


class PopularError(Exception):
    """The root: whatever POPular itself raises."""


class UsageError(PopularError):
    """Words that do not make a command line or a control command (EX_USAGE, 64)."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong in a configuration, in the words of whoever has to mend it."""

    where: str    # "/etc/popular/pproxy.conf: line 7: [vserv] main"; "[vserv] main: address"; may be empty
    what: str     # "unknown key 'adress'; did you mean 'address'?"

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


@dataclass(slots=True)
class Findings:
    """What a starter found wrong before it took anything (daemon.start.trial)."""

    mistakes: list[Mistake] = field(default_factory=list)    # no daemon starts with one of them
    faults: list[Mistake] = field(default_factory=list)      # it starts, but those who log in will not be served
    warnings: list[Mistake] = field(default_factory=list)    # it starts, and does what the settings say
    remarks: list[Mistake] = field(default_factory=list)     # warnings that the master itself puts into the log
    refused: list[Mistake] = field(default_factory=list)     # the system lacks something: a folder, a right, a port

    @property
    def lists(self) -> tuple[list[Mistake], ...]:
        """All of them, in this order."""
        return self.mistakes, self.faults, self.warnings, self.remarks, self.refused


class ConfigError(PopularError):
    """A configuration that cannot be used; carries every mistake, not only the first (EX_CONFIG, 78)."""

    def __init__(self, mistakes: "list[Mistake] | tuple[Mistake, ...]") -> None:
        super().__init__("\n".join(str(mistake) for mistake in mistakes))
        self.mistakes = tuple(mistakes)


class StartError(PopularError):
    """The system refused what a start needs: a port, a file, a right (EX_UNAVAILABLE, 69)."""


class CommandRefused(PopularError):
    """A POP3 command is refused; `text` goes to the client behind `-ERR [code]`.

    `is_own_fault`: the client could have known better, so it counts toward `maxerrors`.
    """

    def __init__(self, text: str, *, code: str = "", is_own_fault: bool = True) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.is_own_fault = is_own_fault


class LoginRefused(PopularError):
    """A login is refused.

    `text` and `code` go to the client (RFC 2449, 3206); `why` is for the log only.
    """

    def __init__(self, text: str, *, code: str, why: str) -> None:
        super().__init__(why)
        self.text = text
        self.code = code
        self.why = why


class StoreError(PopularError):
    """A mailbox or a message cannot be used; unless more is told, it may be usable later."""


class MailboxError(StoreError):
    """A folder of a mailbox cannot be opened: `path`, and the system's reason as an errno `number`.

    `no_such_mailbox`: it is missing, while the spool is in its place, so trying again does not help.
    """

    def __init__(self, path: str, number: int, *, no_such_mailbox: bool = False) -> None:
        super().__init__(f"{path}: {os.strerror(number)}")
        self.path = path
        self.number = number
        self.no_such_mailbox = no_such_mailbox

    @property
    def is_missing(self) -> bool:
        """Tell whether the folder is simply not there."""
        return self.number == errno.ENOENT


class MessageGone(StoreError):
    """A message that was listed is no longer there: another session has removed it."""


class CommitError(StoreError):
    """At QUIT, `failed` of the `wanted` messages to be removed could not be removed (RFC 1939 section 6).

    A message that was already gone counts as removed.  `why` is for the log only.
    """

    def __init__(self, failed: int, wanted: int, why: str) -> None:
        super().__init__(why)
        self.failed = failed
        self.wanted = wanted


class BackendError(PopularError):
    """A backend cannot be reached or does not speak its protocol.

    `kind` is one of those that are counted for each backend (statefile.layout.FAILURES).
    """

    def __init__(self, why: str, kind: str = "protocol") -> None:
        super().__init__(why)
        self.kind = kind


class MailcheckError(PopularError):
    """A mail check brought no usable answer."""


class NoMailbox(MailcheckError):
    """A mail check was answered: there is no such mailbox."""


class PdmError(PopularError):
    """A database module cannot be loaded, or its arguments are wrong."""


class Gone(PopularError):
    """The peer is no longer there to talk to: closed, timed out, or dropped for misbehaving."""


class NulByte(Gone):
    """A NUL byte came from the network (spec 1.5): drop the connection at once and say nothing."""

    def __init__(self, length: int, data: bytes) -> None:
        super().__init__("NUL byte in input")
        self.length = length
        self.data = data


class ProxyHeader(Gone):
    """A load balancer began with a header of the PROXY protocol (version 1 or 2), which is not spoken here.

    Whatever was answered would be taken for the answer to its client's next command.
    """

    def __init__(self) -> None:
        super().__init__("header of the PROXY protocol")


class NoTls(Gone):
    """The peer's TLS is broken, or not what was agreed on; the text is OpenSSL's reason."""


class Leave(Exception):
    """A handler ends its POP3 state and hands `result` to whoever runs the state."""

    def __init__(self, result: object = None) -> None:
        super().__init__()
        self.result = result
