"""The table of replies: code (RFC 5321), enhanced status code (RFC 3463) and text.

Used in the children of plmtpd.  Pure.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LmtpReply:
    """One reply; an MTA tries again later if `code` is 4xx, and returns the mail to its sender if it is 5xx."""

    code: int
    status: str    # enhanced status code; empty where it has none (RFC 2034)
    text: str      # printable ASCII, up to 400 octets

    @property
    def is_positive(self) -> bool:
        """Tell whether the command has succeeded, or more input is awaited."""
        return self.code < 400

    def line(self) -> bytes:
        """Return the line, with its end."""
        return f"{self.code} {self.status}{' ' if self.status else ''}{self.text}\r\n".encode("ascii", "replace")


class Replies:
    """All replies but the greeting and that to LHLO."""

    OK = LmtpReply(250, "2.0.0", "ok")
    SENDER_OK = LmtpReply(250, "2.1.0", "sender ok")
    RECIPIENT_OK = LmtpReply(250, "2.1.5", "recipient ok")
    CHUNK_OK = LmtpReply(250, "2.0.0", "chunk taken")
    DELIVERED = LmtpReply(250, "2.0.0", "delivered")
    NOT_VERIFIED = LmtpReply(252, "2.5.0", "send mail, and the answer to RCPT will tell")
    GO_ON = LmtpReply(354, "", "end with a line of a single dot")
    READY_FOR_TLS = LmtpReply(220, "2.0.0", "ready for TLS")
    BYE = LmtpReply(221, "2.0.0", "bye")

    ENDING = LmtpReply(421, "4.3.2", "the service ends, please connect again")
    TOO_MANY_ERRORS = LmtpReply(421, "4.7.0", "too many errors")

    LOOKUP_FAILED = LmtpReply(451, "4.3.0", "the user database does not answer, please try again later")
    STORE_FAILED = LmtpReply(451, "4.3.0", "the mailbox cannot take mail now, please try again later")
    MOVING = LmtpReply(451, "4.2.1", "the mailbox is being moved, please try again later")
    NO_SPACE = LmtpReply(452, "4.3.1", "no space left, please try again later")
    OVER_QUOTA_YET = LmtpReply(452, "4.2.2", "the mailbox is full")
    TOO_MANY_RECIPIENTS = LmtpReply(452, "4.5.3", "too many recipients")

    UNKNOWN_COMMAND = LmtpReply(500, "5.5.2", "unknown command")
    BAD_LINE = LmtpReply(500, "5.5.2", "a line may hold no control characters")
    LINE_TOO_LONG = LmtpReply(500, "5.5.2", "line too long")
    NOT_SMTP = LmtpReply(500, "5.5.1", "this is LMTP, so say LHLO")
    BAD_SYNTAX = LmtpReply(501, "5.5.4", "syntax error in arguments")
    BAD_SENDER = LmtpReply(501, "5.1.7", "syntax error in the address of the sender")
    BAD_RECIPIENT = LmtpReply(501, "5.1.3", "syntax error in the address of the recipient")
    NOT_IMPLEMENTED = LmtpReply(502, "5.5.1", "command not implemented")
    BAD_SEQUENCE = LmtpReply(503, "5.5.1", "not now: commands in a wrong order")
    NO_RECIPIENTS = LmtpReply(503, "5.5.1", "no valid recipients")
    UNKNOWN_USER = LmtpReply(550, "5.1.1", "no such user here")
    TO_BE_REMOVED = LmtpReply(550, "5.2.1", "the mailbox is marked for removal")
    NO_MAILBOX = LmtpReply(550, "5.1.1", "the user has no mailbox")
    NOT_UTF8 = LmtpReply(550, "5.6.7", "the address needs SMTPUTF8")
    ELSEWHERE = LmtpReply(550, "5.1.2", "the mail of this user is on another host")
    OVER_QUOTA = LmtpReply(552, "5.2.2", "the mailbox is full")
    TOO_LARGE = LmtpReply(552, "5.3.4", "the message is too large")
    BAD_PARAMETER = LmtpReply(555, "5.5.4", "unknown or wrong parameter")
