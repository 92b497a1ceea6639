"""All errors that POPular raises on purpose, and one outcome that is not an error.

    PopularError
     ├ UsageError    wrong words from an administrator       exit 64, or `-ERR usage: …`
     ├ ConfigError   wrong settings, in config.mistakes      exit 78
     ├ StartError    the system refuses a port, file, right  exit 69
     ├ CommandRefused  a POP3 command is refused, the session goes on
     ├ LoginRefused  a login is refused, the client may try again
     ├ StoreError    a mailbox or message cannot be used
     │  ├ MailboxError  a mailbox's folder cannot be opened, or there is no such mailbox
     │  ├ MessageGone  a listed message is no longer there
     │  └ CommitError  some messages could not be removed at QUIT
     ├ BackendError  a backend cannot be used                soft failure or [SYS/TEMP]
     ├ MailcheckError  no usable answer: treated as "has mail"
     │  └ NoMailbox    there is no such mailbox: the server decides what to do
     ├ PdmError      a database module cannot be loaded or used
     └ Gone          the peer closed, timed out or misbehaved: the session ends
        ├ NulByte    a NUL from the network: drop the connection without an answer (spec 1.5)
        ├ ProxyHeader  a header of the PROXY protocol where none is expected
        └ NoTls      the peer's TLS is broken, or not what was agreed on
    Leave            not an error: a POP3 state hands its result to its caller

The text of an error is for administrators and the log.  Text for clients is in separate fields, because it
must never contain paths, errno or class names.
"""

import errno
import os


class PopularError(Exception):
    """The base class of all errors that POPular itself raises."""


class UsageError(PopularError):
    """The words are not a valid command line or control command (EX_USAGE, 64)."""


class StartError(PopularError):
    """The system refused something that a start needs: a port, a file, a right (EX_UNAVAILABLE, 69)."""


class CommandRefused(PopularError):
    """A POP3 command is refused; `text` goes to the client after `-ERR [code]`.

    `is_own_fault`: the client caused the error, so it counts towards `maxerrors`.
    """

    def __init__(self, text: str, *, code: str = "", is_own_fault: bool = True) -> None:
        super().__init__(text)
        self.text = text
        self.code = code
        self.is_own_fault = is_own_fault


class LoginRefused(PopularError):
    """A login is refused.

    `text` and `code` go to the client (RFC 2449, 3206); `why` is for the log only.
    `is_guess`: user or password was wrong.
    """

    def __init__(self, text: str, *, code: str, why: str, is_guess: bool = False) -> None:
        super().__init__(why)
        self.text = text
        self.code = code
        self.why = why
        self.is_guess = is_guess


class StoreError(PopularError):
    """A mailbox or a message cannot be used; subclasses say if it will stay so, else it may be usable later."""


class MailboxError(StoreError):
    """A folder of a mailbox cannot be opened: `path`, and the system's reason as an errno `number`.

    `no_such_mailbox`: it is missing although the spool is there, so trying again does not help.
    """

    def __init__(self, path: str, number: int, *, no_such_mailbox: bool = False) -> None:
        super().__init__(f"{path}: {os.strerror(number)}")
        self.path = path
        self.number = number
        self.no_such_mailbox = no_such_mailbox

    @property
    def is_missing(self) -> bool:
        """Tell whether the folder is missing."""
        return self.number == errno.ENOENT


class MessageGone(StoreError):
    """A listed message is no longer there, because another session has removed it."""


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

    `kind` is one of the failures that are counted for each backend (statefile.layout.FAILURES).
    """

    def __init__(self, why: str, kind: str = "protocol") -> None:
        super().__init__(why)
        self.kind = kind


class MailcheckError(PopularError):
    """A mail check got no usable answer."""


class NoMailbox(MailcheckError):
    """The answer to a mail check: there is no such mailbox."""


class PdmError(PopularError):
    """A database module cannot be loaded, or its arguments are wrong."""


class Gone(PopularError):
    """The peer is gone: it closed, timed out, or was dropped for misbehaving."""


class NulByte(Gone):
    """A NUL byte came from the network (spec 1.5): drop the connection at once, without an answer."""

    def __init__(self, length: int, data: bytes) -> None:
        super().__init__("NUL byte in input")
        self.length = length
        self.data = data


class ProxyHeader(Gone):
    """A load balancer began with a header of the PROXY protocol (version 1 or 2) where none is expected.

    The client would take any answer for that to its next command.
    """

    def __init__(self) -> None:
        super().__init__("header of the PROXY protocol")


class NoTls(Gone):
    """The peer's TLS is broken, or not what was agreed on; the text is OpenSSL's reason."""


class Leave(Exception):
    """A handler ends its POP3 state and hands `result` to the caller of the state."""

    def __init__(self, result: object = None) -> None:
        super().__init__()
        self.result = result
